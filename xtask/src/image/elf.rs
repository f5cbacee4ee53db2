//! Whether a program can run where nothing else is: read from its ELF headers (elf(5)).

use anyhow::{Context as _, Result, bail};

/// `PT_INTERP`: the program wants a loader, which an empty image does not have.
const INTERPRETER: u32 = 3;

/// The architecture of a static 64-bit program, as OCI images name it (Go's GOARCH).
pub(super) fn static_program(bytes: &[u8]) -> Result<&'static str> {
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        bail!("is no 64-bit little-endian program");
    }
    let architecture = match half(bytes, 18)? {
        62 => "amd64",
        183 => "arm64",
        other => bail!("is for a machine of ELF number {other}"),
    };
    let table = usize::try_from(long(bytes, 32)?)?;
    let (size, number) = (usize::from(half(bytes, 54)?), usize::from(half(bytes, 56)?));
    for header in 0..number {
        let kind = word(bytes, table.saturating_add(header.saturating_mul(size)))?;
        if kind == INTERPRETER {
            bail!("is not static: it would not start in an empty image");
        }
    }
    Ok(architecture)
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let part = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    part.copied().context("is cut off within its headers")
}

fn half(bytes: &[u8], at: usize) -> Result<u16> {
    part(bytes, at).map(u16::from_le_bytes)
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    part(bytes, at).map(u32::from_le_bytes)
}

fn long(bytes: &[u8], at: usize) -> Result<u64> {
    part(bytes, at).map(u64::from_le_bytes)
}
