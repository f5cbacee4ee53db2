//! Builds the kernel's netdevsim module, which Debian leaves out, from Debian's packages of the same version.
//!
//! Only `drivers/net/netdevsim` is taken from the source package. Headers and kbuild are extracted, not installed;
//! the one absolute path in them is rewritten. The result is kept as long as the kernel stays the same.

use super::kernel::{self, Kernel};
use crate::sys;
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};

/// The module for this kernel, built if it is not there yet.
pub(super) fn provide(kernel: &Kernel) -> Result<PathBuf> {
    let module = kernel.lab.join(format!("netdevsim-{}.ko", kernel.release));
    if module.is_file() {
        return Ok(module);
    }
    sys::say("lab: building the netdevsim module");
    let scratch = kernel.lab.join("netdevsim-build");
    sys::remove(&scratch)?;
    let built = build(kernel, &scratch).context("cannot build netdevsim")?;
    sys::run(sys::command("strip").arg("--strip-debug").arg(&built))?;
    sys::rename(&built, &module)?;
    sys::remove(&scratch)?;
    Ok(module)
}

fn build(kernel: &Kernel, scratch: &Path) -> Result<PathBuf> {
    let base = kernel.release.strip_suffix("-amd64").context("not an amd64 kernel")?;
    let version = kernel::offered_version(&format!("linux-image-{}-unsigned", kernel.release))?;
    let debs = scratch.join("debs");
    let root = scratch.join("root");
    let packages = [
        format!("linux-headers-{base}-amd64"),
        format!("linux-headers-{base}-common"),
        format!("linux-kbuild-{base}"),
    ];
    for package in &packages {
        kernel::extract(&kernel::download(&debs, package)?, &root)?;
    }
    let headers = root.join(format!("usr/src/linux-headers-{base}-amd64"));
    let common = root.join(format!("usr/src/linux-headers-{base}-common/Makefile"));
    sys::write(&headers.join("Makefile"), format!("include {}\n", common.display()).as_bytes())?;

    let source = kernel::download(&debs, &format!("linux-source-6.12={version}"))?;
    let module = scratch.join("netdevsim");
    sys::make_dir(&module)?;
    unpack_source(&source, &module)?;
    let mut make = sys::command("make");
    make.arg("-C").arg(&headers).arg(format!("M={}", module.display())).args([
        "-j2",
        "--silent",
        "CC=gcc",
        "CONFIG_NETDEVSIM=m",
        // Without these two, pahole would be needed; nobody inspects types in the lab.
        "CONFIG_DEBUG_INFO_BTF=",
        "CONFIG_DEBUG_INFO_BTF_MODULES=",
        "modules",
    ]);
    sys::capture(&mut make)?;
    Ok(module.join("netdevsim.ko"))
}

/// The package holds a tar inside a tar; a shell pipe unpacks it without 1.5 GB on disk.
fn unpack_source(package: &Path, to: &Path) -> Result<()> {
    let script = "set -e; dpkg-deb --fsys-tarfile \"$1\" | tar xO ./usr/src/linux-source-6.12.tar.xz \
                  | xz -dc -T0 | tar x -C \"$2\" --strip-components=4 linux-source-6.12/drivers/net/netdevsim";
    sys::run(sys::command("sh").arg("-c").arg(script).arg("unpack").arg(package).arg(to))
}
