//! What several tests need: a network namespace of their own, and `ip` as an independent oracle.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::disallowed_methods, reason = "tests drive the system's own tools")]

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// Puts the calling thread, and the children it starts, into a fresh network namespace.
pub(crate) fn fresh_netns() {
    assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces: run it as root");
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    sh("ip link set lo up");
}

/// Runs a shell command; its output is returned, its failure is the test's.
pub(crate) fn sh(command: &str) -> String {
    let output = Command::new("sh").arg("-ec").arg(command).output().unwrap();
    assert!(output.status.success(), "`{command}`: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
