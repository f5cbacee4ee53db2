//! Serves pools of devices to kubelet; a library that the agent runs as a task.
//!
//! [`Plugin::publish`] takes the pools as they are now. Each pool has an endpoint ([`endpoint`]) that owns a socket, makes
//! kubelet know it and keeps doing so whatever happens to sockets, folders and kubelet. What kubelet asks on it is answered
//! from the last published pools and, for device nodes, from sysfs at that moment ([`allocate`]). Which pods have which
//! devices is read in [`allocations`].

pub mod allocate;
pub mod allocations;
mod authority;
mod endpoint;
mod files;
mod kubelet;
mod ledger;
pub mod metrics;
mod plugin;
mod service;
pub mod watch;
mod witness;

pub use kubelet::{Paths, Registration, socket_name};
pub use plugin::{Connections, Context, Gate, Plugin, PluginError, Settings};
pub use witness::Witness;
