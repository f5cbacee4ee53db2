//! The injector against a real API server's behaviour and real sockets: one process per run, one injector per test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    clippy::integer_division,
    clippy::cast_possible_truncation,
    unreachable_pub,
    reason = "tests fail by panicking"
)]

mod answers;
mod api_server;
mod certificates;
mod defects;
mod drain;
mod hostile;
mod overload;
mod rig;
