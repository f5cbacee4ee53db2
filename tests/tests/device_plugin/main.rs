//! Pools from trees on disk to a kubelet on the other end of real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "tests fail by panicking, and make folders and sockets of their own"
)]

mod cases;
mod held;
mod hostile;
mod python;
mod refresh;
mod rig;
mod run;
mod serve;
mod storm;
