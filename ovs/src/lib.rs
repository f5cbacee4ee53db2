//! OVSDB client (module [`ovsdb`]) and typed vswitch operations.

pub mod ovsdb;
