//! Tar archives whose bytes depend on their content only.

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

/// The image's one layer.
#[derive(Debug)]
pub(super) struct Layer {
    /// The archive as it is unpacked.
    pub(super) tar: Vec<u8>,
    /// The same, compressed.
    pub(super) gzip: Vec<u8>,
}

/// The layer that holds these programs in its root folder.
pub(super) fn of(programs: &[(&str, Vec<u8>)]) -> Result<Layer> {
    let mut sorted: Vec<_> = programs.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    let mut builder = Builder::new(Vec::new());
    for (name, bytes) in sorted {
        append(&mut builder, name, 0o755, bytes)?;
    }
    let tar = builder.into_inner().context("cannot end the layer")?;
    // No name and no time: the header says nothing of this machine.
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    gzip.write_all(&tar).context("cannot compress the layer")?;
    let gzip = gzip.finish().context("cannot compress the layer")?;
    Ok(Layer { tar, gzip })
}

/// A whole layout as one archive.
pub(super) fn archive(files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>> {
    let mut builder = Builder::new(Vec::new());
    for (name, bytes) in files {
        append(&mut builder, name, 0o644, bytes)?;
    }
    builder.into_inner().context("cannot end the archive")
}

fn append(builder: &mut Builder<Vec<u8>>, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_size(u64::try_from(bytes.len())?);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    builder.append_data(&mut header, name, bytes).with_context(|| format!("cannot archive {name}"))
}
