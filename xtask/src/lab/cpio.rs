//! A writer of the "newc" cpio format, which the kernel unpacks as its first file system.
//!
//! Written here because it is forty lines, needs no root for device nodes and no further program on the machine.
//! Format: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.

use anyhow::{Context as _, Result};

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive in memory.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// A folder, mode 0755.
    pub(super) fn folder(&mut self, path: &str) -> Result<()> {
        self.entry(path, FOLDER | 0o755, &[], (0, 0))
    }

    /// A regular file; `mode` is its permission bits.
    pub(super) fn file(&mut self, path: &str, mode: u32, data: &[u8]) -> Result<()> {
        self.entry(path, FILE | mode, data, (0, 0))
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.entry(path, LINK | 0o777, target.as_bytes(), (0, 0))
    }

    /// A character device, mode 0600.
    pub(super) fn character_device(&mut self, path: &str, major: u32, minor: u32) -> Result<()> {
        self.entry(path, CHARACTER_DEVICE | 0o600, &[], (major, minor))
    }

    /// The finished archive. Several of them in a row are one archive to the kernel.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, &[], (0, 0))?;
        pad(&mut self.bytes, 512);
        Ok(self.bytes)
    }

    fn entry(&mut self, path: &str, mode: u32, data: &[u8], device: (u32, u32)) -> Result<()> {
        let path = path.trim_start_matches('/');
        let size = u32::try_from(data.len()).with_context(|| format!("{path} is too large for cpio"))?;
        let name_size =
            u32::try_from(path.len() + 1).with_context(|| format!("{path} is too long for cpio"))?;
        self.entries += 1;
        // inode, mode, uid, gid, links, mtime, size, device of the file (2), device it is (2), name size, checksum
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        pad(&mut self.bytes, 4);
        self.bytes.extend_from_slice(data);
        pad(&mut self.bytes, 4);
        Ok(())
    }
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn header_name_and_data_are_aligned() {
        let mut archive = Archive::default();
        archive.folder("/etc").expect("small");
        archive.file("etc/a", 0o644, b"hello").expect("small");
        let bytes = archive.finish().expect("small");
        assert_eq!(bytes.len() % 512, 0);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let at = text.find("etc/a").expect("the file is named");
        let header = at - 110;
        assert_eq!(header % 4, 0, "headers start at multiples of 4");
        assert_eq!(bytes.get(header..header + 6), Some(&b"070701"[..]));
        let hello = text.find("hello").expect("the data is there");
        assert_eq!(hello % 4, 0, "data starts at multiples of 4");
        assert_eq!(text.get(header + 54..header + 62), Some("00000005"), "file size");
        assert!(text.contains("TRAILER!!!"));
    }
}
