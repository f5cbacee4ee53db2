//! `cargo xtask test`: every check there is, in the order in which a failure is cheapest to find.

use anyhow::Result;

/// Runs everything. True if nothing failed.
pub(crate) fn run(_lab: bool) -> Result<bool> {
    anyhow::bail!("not there yet")
}
