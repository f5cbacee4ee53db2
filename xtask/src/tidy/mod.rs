//! `cargo xtask tidy`.

use anyhow::Result;

pub(crate) fn run() -> Result<bool> {
    anyhow::bail!("not there yet")
}
