//! Data as an operator reads it: aligned columns, understandable without colour.

pub mod observe;
pub mod ovs;
pub mod profiles;
pub mod status;
pub mod table;
