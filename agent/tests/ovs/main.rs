//! `apply` on real ovsdb-server and ovs-vswitchd processes, each test with its own directory and network namespaces:
//! packets through bridges and mirrors, hand edits, ownership, and the faults of docs/ovs-faults.md.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::let_underscore_must_use,
    clippy::disallowed_methods,
    clippy::too_many_lines,
    clippy::integer_division,
    clippy::expect_used,
    reason = "tests fail by panicking, start daemons and wait for them"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../../../ovs/tests/it/harness/mod.rs"]
mod harness;

mod daemon;
mod ending;
mod faults;
mod health;
mod ownership;
mod packets;
mod repair;
mod rig;
mod settings;
mod traffic;
mod verbs;
