//! The daemon's conversation with the cluster. [`source`] follows policies, the own node and its pods and says what is
//! wanted. Nothing here holds up the loop: each part is a task of its own that keeps what it
//! knows while the API server is slow or away, and comes back by itself.

pub mod client;
pub mod health;
pub mod kinds;
pub mod node;
pub mod pace;
pub mod policy;
pub mod selector;
pub mod source;
mod store;
