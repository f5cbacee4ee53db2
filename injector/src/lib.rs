//! The admission webhook: pods with Multus annotations ask for what their networks need.
//!
//! [`mutate`] decides and is pure; everything else carries requests to it and answers back.

pub mod app;
pub mod certs;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod flags;
pub mod follow_switches;
pub mod following;
pub mod fuzz;
pub mod metrics;
pub mod mutate;
pub mod nad;
pub mod networks;
pub mod pod;
pub mod quantity;
pub mod review;
pub mod selection;
pub mod server;
pub mod start;
pub mod switches;
pub mod words;
