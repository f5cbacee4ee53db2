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

mod asked;
mod cluster;
mod crash;
mod drift;
mod pools;
mod rig;
