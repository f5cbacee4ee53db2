//! The only crate that touches sysfs, netlink, devlink, udev and drivers.

pub mod deadline;
pub mod netlink;
pub mod root;
mod sysfs;
pub mod uevent;
