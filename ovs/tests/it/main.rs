//! The client against real `ovsdb-server` and `ovs-vswitchd` processes, and against servers that misbehave.
//! Each test starts its own servers in its own directory and network namespace and ends them by pid.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::let_underscore_must_use,
    clippy::cast_possible_truncation,
    clippy::integer_division,
    reason = "tests fail by panicking, and start the processes that they test"
)]

mod client;
mod differential;
mod faults;
mod harness;
mod hostile;
mod vswitch;
mod watch;
