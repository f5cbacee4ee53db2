//! What the daemon has around its loop: what wakes it, what it logs, and what it shows over HTTP.

pub mod conditions;
pub mod http;
pub mod log;
pub mod metrics;
pub mod vf_metrics;
pub mod wake;
