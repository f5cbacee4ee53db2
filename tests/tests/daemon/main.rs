//! The daemon's loop on simulated nodes, with a kubelet on the other end of real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    unreachable_pub,
    reason = "tests fail by panicking, and make folders and sockets of their own"
)]

#[path = "../../../ovs/tests/it/harness/mod.rs"]
#[allow(
    dead_code,
    clippy::let_underscore_must_use,
    clippy::integer_division,
    reason = "the servers of the OVSDB tests can do more than is needed here, and do it as tests do"
)]
mod harness;

mod absent;
mod asked;
mod away;
mod cluster;
mod containers;
mod crash;
mod drift;
mod hang;
mod large;
mod mirrors;
mod only_switch;
mod pools;
mod ready;
mod renamed;
mod rig;
mod selected;
