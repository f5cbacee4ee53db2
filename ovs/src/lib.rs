//! Open vSwitch on a node: the OVSDB client (module [`ovsdb`]), the switch as plain values ([`vswitch`]), the daemons'
//! control sockets ([`unixctl`]) and whether they are alive ([`liveness`]).

pub mod fuzz;
pub mod liveness;
pub mod node;
pub mod ovsdb;
pub mod unixctl;
pub mod vswitch;
