//! The only crate that touches sysfs, netlink, devlink, udev and drivers.
