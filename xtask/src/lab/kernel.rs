//! The kernel that the lab boots: Debian's own 6.12 packages, downloaded with apt and only extracted.
//!
//! Once extracted, the version is kept (file `version` in the lab folder), so that later runs need no network and
//! do not change under a developer's feet; removing the folder takes the newest one again.

use super::modules::{self, Dependencies};
use crate::sys;
use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};

/// An extracted kernel.
#[derive(Debug, Clone)]
pub(super) struct Kernel {
    /// Such as `6.12.95+deb12-amd64`.
    pub(super) release: String,
    /// The lab folder, below cargo's target folder.
    pub(super) lab: PathBuf,
}

impl Kernel {
    /// The compressed kernel image.
    pub(super) fn image(&self) -> PathBuf {
        self.lab.join("kernel/boot").join(format!("vmlinuz-{}", self.release))
    }

    /// The folder with modules.dep.
    pub(super) fn modules(&self) -> PathBuf {
        self.lab.join("kernel").join(self.modules_path())
    }

    /// The same folder as a path below a root folder.
    pub(super) fn modules_path(&self) -> String {
        let below = if self.lab.join("kernel/usr/lib/modules").is_dir() { "usr/lib" } else { "lib" };
        format!("{below}/modules/{}", self.release)
    }

    /// Paths of the modules that the lab holds, relative to [`Kernel::modules`].
    pub(super) fn wanted_modules(&self) -> Result<Vec<String>> {
        let dependencies = Dependencies::parse(&sys::read(&self.modules().join("modules.dep"))?);
        let builtin = sys::read(&self.modules().join("modules.builtin"))?;
        Ok(dependencies.closure(modules::WANTED, &builtin)?.into_iter().collect())
    }
}

/// The extracted kernel in this lab folder, if there is one.
pub(super) fn extracted(lab: &Path) -> Option<Kernel> {
    let release = sys::read(&lab.join("version")).ok()?.trim().to_owned();
    let kernel = Kernel { release, lab: lab.to_path_buf() };
    kernel.image().is_file().then_some(kernel)
}

/// Releases that apt offers, newest first.
pub(super) fn offered() -> Vec<String> {
    if sys::program("apt-cache").is_none() {
        return Vec::new();
    }
    let names = sys::capture(sys::command("apt-cache").args(["pkgnames", "linux-image-6.12."]));
    releases(&names.unwrap_or_default())
}

/// Downloads and extracts the newest offered kernel, unless one is already there.
pub(super) fn provide(lab: &Path) -> Result<Kernel> {
    if let Some(kernel) = extracted(lab) {
        return Ok(kernel);
    }
    let release = offered().into_iter().next().context(
        "apt offers no linux-image-6.12.*-amd64-unsigned; run `cargo xtask setup` (and `apt-get update`)",
    )?;
    sys::say(&format!("lab: fetching kernel {release} (extracted below {}, not installed)", lab.display()));
    let kernel = Kernel { release: release.clone(), lab: lab.to_path_buf() };
    let debs = lab.join("debs");
    sys::remove(&lab.join("kernel"))?;
    let package = download(&debs, &format!("linux-image-{release}-unsigned"))?;
    extract(&package, &lab.join("kernel"))?;
    sys::run(sys::command("depmod").arg("-b").arg(depmod_base(&kernel)).arg(&release))?;
    sys::remove(&debs)?;
    sys::write(&lab.join("version"), format!("{release}\n").as_bytes())?;
    Ok(kernel)
}

/// depmod looks for lib/modules below its base folder.
fn depmod_base(kernel: &Kernel) -> PathBuf {
    let root = kernel.lab.join("kernel");
    if root.join("usr/lib/modules").is_dir() { root.join("usr") } else { root }
}

/// Downloads a package into a folder, returns the file. `what` may be `name` or `name=version`.
pub(super) fn download(folder: &Path, what: &str) -> Result<PathBuf> {
    sys::make_dir(folder)?;
    let name = what.split('=').next().unwrap_or(what);
    let mut apt = sys::command("apt-get");
    // Without the option apt complains that its unprivileged user cannot write here.
    apt.current_dir(folder).args(["-q", "-o", "APT::Sandbox::User=root", "download", what]);
    sys::capture(&mut apt)?;
    let file = sys::list(folder)?.into_iter().find(|file| {
        file.file_name().is_some_and(|have| have.to_string_lossy().starts_with(&format!("{name}_")))
    });
    file.with_context(|| format!("apt-get download {what} left no package in {}", folder.display()))
}

/// Extracts a package below a folder.
pub(super) fn extract(package: &Path, to: &Path) -> Result<()> {
    sys::make_dir(to)?;
    sys::run(sys::command("dpkg-deb").arg("-x").arg(package).arg(to))
}

/// The version of a package file, such as `6.12.95-1~bpo12+1`.
pub(super) fn offered_version(package: &str) -> Result<String> {
    let text = sys::capture(sys::command("apt-cache").args(["show", "--no-all-versions", package]))?;
    let version = text.lines().find_map(|line| line.strip_prefix("Version: "));
    match version {
        Some(version) => Ok(version.trim().to_owned()),
        None => bail!("apt-cache show {package} names no version"),
    }
}

/// Picks the plain amd64 kernels out of package names, newest first.
fn releases(names: &str) -> Vec<String> {
    let mut found: Vec<(u32, String)> = names
        .lines()
        .filter_map(|name| {
            let release = name.trim().strip_prefix("linux-image-")?.strip_suffix("-unsigned")?;
            let rest = release.strip_prefix("6.12.")?;
            let plain = rest.strip_suffix("-amd64")?;
            if plain.contains("cloud") || plain.contains("rt") {
                return None;
            }
            let number: String = plain.chars().take_while(char::is_ascii_digit).collect();
            Some((number.parse().ok()?, release.to_owned()))
        })
        .collect();
    found.sort();
    found.reverse();
    found.into_iter().map(|(_, release)| release).collect()
}

#[cfg(test)]
mod tests {
    use super::releases;

    #[test]
    fn plain_kernels_newest_first() {
        let names = "linux-image-6.12.95+deb12-amd64-unsigned\nlinux-image-6.12.117+deb12-amd64-unsigned\n\
                     linux-image-6.12.117+deb12-rt-amd64-unsigned\nlinux-image-6.12.117+deb12-cloud-amd64-unsigned\n\
                     linux-image-6.12.117+deb12-amd64-dbg\nlinux-image-6.12.9+deb13-amd64-unsigned\n";
        assert_eq!(releases(names), ["6.12.117+deb12-amd64", "6.12.95+deb12-amd64", "6.12.9+deb13-amd64"]);
    }
}
