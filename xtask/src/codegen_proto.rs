//! Kubelet's messages: `proto/proto/*.proto` to `proto/src/generated/*.rs`. The compiler for them is a dependency of
//! the proto crate's tests only, so that no other build pays for it.

use crate::sys;
use anyhow::Result;

/// Writes the files, or with `check` compares them. True if they are (now) what the definitions generate.
pub(crate) fn run(check: bool) -> Result<bool> {
    let mut cargo = sys::cargo()?;
    cargo.args(["test", "--quiet", "-p", "portwright-proto", "--test", "generated"]);
    if !check {
        cargo.env("BLESS", "1");
    }
    let good = sys::succeeds(&mut cargo)?;
    if !good {
        sys::say("codegen: proto/src/generated is not what proto/proto generates\nhint: cargo xtask codegen");
    }
    Ok(good)
}
