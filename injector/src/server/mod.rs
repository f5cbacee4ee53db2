//! The server.
pub mod tls_policy;
