//! `cargo xtask demo`: the main job, shown in the lab in plain words.

use crate::lab;
use anyhow::Result;

/// Boots the lab's guided tour. True if it went as it should.
pub(crate) fn run() -> Result<bool> {
    lab::demo()
}
