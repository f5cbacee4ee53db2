//! Turns: which nodes are disrupted at once, and what becomes of pods and cordons, against a real API server's behaviour.
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

mod agents;
mod cordons;
mod drainer;
mod evictions;
mod fifty;
mod places;
mod policies;
mod rig;
