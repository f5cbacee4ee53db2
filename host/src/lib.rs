//! The only crate that touches sysfs, netlink, devlink, udev and drivers.

pub mod boot;
pub mod child;
pub mod deadline;
pub mod device_nodes;
pub mod devlink;
pub mod fuzz;
pub mod inventory;
pub mod journal;
pub mod lock;
pub mod netlink;
pub mod node;
mod proc;
mod program;
pub mod root;
pub mod run;
pub mod stuck;
mod sysfs;
pub mod uevent;
pub mod write;
