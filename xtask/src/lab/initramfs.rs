//! The memory image that the lab boots: busybox, a few modules, iproute2 and the binaries under test.
//!
//! It is made anew for each run (a fraction of a second) and small, because the emulated machine copies it. Modules
//! are uncompressed and binaries stripped for the same reason.

use super::cpio::Archive;
use super::kernel::Kernel;
use super::modules;
use crate::sys;
use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Programs of the machine that the guest gets, with the libraries they load.
const TOOLS: &[&str] =
    &["ip", "devlink", "ethtool", "ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovs-appctl"];
/// The database that ovsdb-tool makes.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
const FOLDERS: &[&str] = &[
    "dev", "etc", "proc", "sys", "run", "tmp", "var", "var/lib", "var/log", "root", "lab", "bin", "sbin",
    "usr", "usr/bin", "usr/sbin", "lib", "lib64", "usr/lib",
];
/// Stable MAC addresses depend on it; fixed, so that runs can be compared.
const MACHINE_ID: &str = "0123456789abcdef0123456789abcdef\n";

/// Everything that goes in besides the system itself.
#[derive(Debug)]
pub(super) struct Contents<'a> {
    /// The first program, a shell script.
    pub(super) init: &'a Path,
    /// The netdevsim module.
    pub(super) netdevsim: &'a Path,
    /// Binaries that land in /usr/bin: ours, and what the timing scenario needs of a usual node.
    pub(super) binaries: &'a [PathBuf],
}

/// Writes the image, returns its path.
pub(super) fn write(kernel: &Kernel, contents: &Contents<'_>) -> Result<PathBuf> {
    let mut image = Image::default();
    for folder in FOLDERS {
        image.folder(folder)?;
    }
    image.archive.character_device("dev/console", 5, 1)?;
    image.archive.file("etc/machine-id", 0o444, MACHINE_ID.as_bytes())?;
    image.archive.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n")?;
    image.archive.file("etc/hostname", 0o644, b"lab-node\n")?;
    image.archive.file("init", 0o755, &sys::read_bytes(contents.init)?)?;
    image.busybox()?;
    for tool in TOOLS {
        let path =
            sys::program(tool).with_context(|| format!("no program {tool}; run `cargo xtask setup`"))?;
        image.program(&path, "usr/sbin")?;
    }
    image.file(SCHEMA, 0o644, &sys::read_bytes(Path::new(SCHEMA))?)?;
    image.modules(kernel, contents.netdevsim)?;
    for binary in contents.binaries {
        image.program(binary, "usr/bin")?;
    }
    let path = kernel.lab.join("initramfs.cpio");
    sys::write(&path, &image.archive.finish()?)?;
    Ok(path)
}

#[derive(Default)]
struct Image {
    archive: Archive,
    present: BTreeSet<String>,
}

impl Image {
    /// A folder and those above it, once.
    fn folder(&mut self, path: &str) -> Result<()> {
        let mut so_far = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if !so_far.is_empty() {
                so_far.push('/');
            }
            so_far.push_str(part);
            if self.present.insert(so_far.clone()) {
                self.archive.folder(&so_far)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &str, mode: u32, data: &[u8]) -> Result<()> {
        let path = path.trim_start_matches('/');
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder)?;
        }
        if self.present.insert(path.to_owned()) {
            self.archive.file(path, mode, data)?;
        }
        Ok(())
    }

    fn busybox(&mut self) -> Result<()> {
        let busybox = sys::program("busybox").context("no program busybox; run `cargo xtask setup`")?;
        let applets = sys::capture(sys::command(&busybox).arg("--list"))?;
        self.file("bin/busybox", 0o755, &sys::read_bytes(&busybox)?)?;
        for applet in applets.lines().map(str::trim) {
            // The real ip of iproute2 is what the scenarios trust.
            if !applet.is_empty() && !applet.contains('/') && applet != "busybox" && !TOOLS.contains(&applet)
            {
                self.archive.link(&format!("bin/{applet}"), "busybox")?;
            }
        }
        // The kernel itself calls modprobe by this name.
        self.archive.link("sbin/modprobe", "../bin/busybox")
    }

    /// A program and the libraries that it is linked with, these under their own paths.
    fn program(&mut self, path: &Path, folder: &str) -> Result<()> {
        let name = path.file_name().context("a program without a name")?.to_string_lossy().into_owned();
        self.file(&format!("{folder}/{name}"), 0o755, &sys::read_bytes(path)?)?;
        // A static program makes ldd fail, and has nothing to add.
        let libraries = sys::capture(sys::command("ldd").arg(path)).unwrap_or_default();
        for library in linked(&libraries) {
            self.file(&library, 0o755, &sys::read_bytes(Path::new(&library))?)?;
        }
        Ok(())
    }

    fn modules(&mut self, kernel: &Kernel, netdevsim: &Path) -> Result<()> {
        let folder = format!("lib/modules/{}", kernel.release);
        let mut index = String::new();
        let dependencies = sys::read(&kernel.modules().join("modules.dep"))?;
        for module in kernel.wanted_modules()? {
            let name = modules::uncompressed(&module)?;
            self.file(&format!("{folder}/{name}"), 0o644, &unpacked(kernel, &module)?)?;
            let line = dependencies.lines().find(|line| line.split(':').next() == Some(&module));
            index.push_str(&line.unwrap_or_default().replace(".ko.xz", ".ko").replace(".ko.zst", ".ko"));
            index.push('\n');
        }
        self.file(&format!("{folder}/extra/netdevsim.ko"), 0o644, &sys::read_bytes(netdevsim)?)?;
        let psample = index.lines().filter_map(|line| line.split(':').next());
        let psample = psample.filter(|path| path.ends_with("/psample.ko")).collect::<String>();
        index.push_str(&format!("extra/netdevsim.ko: {psample}\n"));
        self.file(&format!("{folder}/modules.dep"), 0o644, index.as_bytes())?;
        let builtin = sys::read_bytes(&kernel.modules().join("modules.builtin"))?;
        self.file(&format!("{folder}/modules.builtin"), 0o644, &builtin)
    }
}

/// A module's bytes, unpacked once and kept beside the kernel.
fn unpacked(kernel: &Kernel, module: &str) -> Result<Vec<u8>> {
    let kept = kernel.lab.join(format!("modules-{}", kernel.release)).join(modules::uncompressed(module)?);
    if !kept.is_file() {
        let packed = kernel.modules().join(module);
        let copy = kept.with_extension("ko.packing");
        let tool = match packed.extension().and_then(|extension| extension.to_str()) {
            Some("xz") => "xz",
            Some("zst") => "zstd",
            _ => "cat",
        };
        sys::write(&copy, &[])?;
        let args: &[&str] = if tool == "cat" { &[] } else { &["-dc"] };
        let output = sys::command(tool).args(args).arg(&packed).output()?;
        anyhow::ensure!(output.status.success(), "cannot unpack {}", packed.display());
        sys::write(&copy, &output.stdout)?;
        sys::rename(&copy, &kept)?;
    }
    sys::read_bytes(&kept)
}

/// Paths in the output of ldd: `name => /path (0x…)` and the loader's own `/path (0x…)`.
fn linked(ldd: &str) -> Vec<String> {
    let path = |line: &str| {
        let right = line.split("=>").last()?.split_whitespace().next()?;
        right.starts_with('/').then(|| right.to_owned())
    };
    ldd.lines().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::linked;

    #[test]
    fn libraries_of_ldd() {
        let text = "\tlinux-vdso.so.1 (0x00007)\n\tlibmnl.so.0 => /lib/x/libmnl.so.0 (0x1)\n\t/lib64/ld.so.2 (0x2)\n";
        assert_eq!(linked(text), ["/lib/x/libmnl.so.0", "/lib64/ld.so.2"]);
        assert!(linked("\tstatically linked\n").is_empty());
    }
}
