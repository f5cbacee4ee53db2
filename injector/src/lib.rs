//! The admission webhook: pods with Multus annotations ask for what their networks need.
//!
//! [`mutate`] decides and is pure; everything else carries requests to it and answers back.

pub mod config;
pub mod flags;
pub mod mutate;
pub mod nad;
pub mod pod;
pub mod quantity;
pub mod review;
pub mod selection;
pub mod server;
pub mod switches;
