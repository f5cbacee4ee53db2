//! The archive itself: gzip-compressed tar, readable by its owner only, in place when it is complete and not before.

use std::io::{self, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::Contents;

/// Folder that the archive unpacks into.
const FOLDER: &str = "portwright-bundle";

/// Writes the archive. The new file has a random name until it is complete, so that neither a reader sees half of it nor a
/// link prepared by somebody else in a shared folder is followed.
pub fn write(path: &Path, contents: &Contents, now: u64) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".portwright-bundle").tempfile_in(folder)?;
    let mut archive = tar::Builder::new(GzEncoder::new(&mut file, Compression::default()));
    for (name, text) in &contents.files {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(text.len()).unwrap_or(u64::MAX));
        header.set_mode(0o600);
        header.set_mtime(now);
        archive.append_data(&mut header, format!("{FOLDER}/{name}"), text.as_bytes())?;
    }
    archive.into_inner()?.finish()?.flush()?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
