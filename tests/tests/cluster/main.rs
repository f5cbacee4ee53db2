//! The daemon's conversation with a cluster, through the real client and against the test API server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::integer_division,
    clippy::cast_possible_truncation,
    unreachable_pub,
    reason = "tests fail by panicking"
)]

mod count;
mod definitions;
mod events;
mod node;
mod publish;
mod real;
mod rig;
mod source;
mod told;
