//! The only crate that touches sysfs, netlink, devlink, udev and drivers.

pub mod deadline;
pub mod netlink;
pub mod inventory;
mod proc;
pub mod root;
mod sysfs;
pub mod uevent;
pub mod devlink;
pub mod write;
pub mod lock;
pub mod journal;
pub mod child;
pub mod stuck;
pub mod run;
pub mod node;
mod program;
