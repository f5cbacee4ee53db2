//! `cargo xtask setup`: what the lab and the tests need from the machine, and how to get it with apt.
//!
//! Kernel packages are never installed: the lab downloads and extracts them below the target folder, so here it only
//! matters that apt can see them.

use crate::{apt, lab, sys};
use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the derived entry goes; its own file, so that removing it undoes everything.
const BACKPORTS_FILE: &str = "/etc/apt/sources.list.d/portwright-backports.sources";
/// Policy hook that keeps packages from starting daemons; only ours if it starts with [`GUARD_TEXT`].
const GUARD_FILE: &str = "/usr/sbin/policy-rc.d";
const GUARD_TEXT: &str =
    "#!/bin/sh\n# portwright set-up: packages install without starting their daemons\nexit 101\n";

/// How to see that something is there.
enum Probe {
    /// A program of this name.
    Program(&'static str),
    /// A file that a library package brings.
    File(&'static str),
    /// A QEMU that emulates the Intel 82576.
    QemuWithIgb,
    /// A Linux 6.12 that apt offers, or one that the lab has already extracted.
    Kernel,
}

struct Need {
    probe: Probe,
    package: &'static str,
    why: &'static str,
}

const fn program(name: &'static str, package: &'static str, why: &'static str) -> Need {
    Need { probe: Probe::Program(name), package, why }
}

/// In the order in which a person would want to read them.
const NEEDS: &[Need] = &[
    Need { probe: Probe::QemuWithIgb, package: "qemu-system-x86", why: "boots the lab with SR-IOV cards" },
    Need { probe: Probe::Kernel, package: "", why: "the kernel that the lab boots" },
    program("busybox", "busybox-static", "user space of the lab"),
    program("depmod", "kmod", "module dependencies of the lab's kernel"),
    program("dpkg-deb", "dpkg", "extracts the kernel packages"),
    program("xz", "xz-utils", "unpacks kernel modules"),
    program("make", "make", "builds the netdevsim module"),
    program("gcc", "gcc", "builds the netdevsim module and links Rust"),
    Need {
        probe: Probe::File("/usr/include/linux/vfio.h"),
        package: "libc6-dev",
        why: "builds the lab's VFIO user",
    },
    program("strip", "binutils", "keeps the lab's memory image small"),
    program("ip", "iproute2", "reads links beside our own netlink code"),
    program("devlink", "iproute2", "reads e-switches beside our own netlink code"),
    program("ethtool", "ethtool", "reads permanent addresses in the lab"),
    program("ovsdb-server", "openvswitch-switch", "the database that the OVS tests talk to"),
    program("ovs-vswitchd", "openvswitch-switch", "the switch that the OVS tests talk to"),
    Need {
        probe: Probe::File("/usr/lib/python3/dist-packages/grpc/__init__.py"),
        package: "python3-grpcio",
        why: "another gRPC implementation that the pools are tested with",
    },
];

/// Reports what is missing and, unless only asked to check, installs it. True when nothing is missing at the end.
pub(crate) fn run(check: bool) -> Result<bool> {
    let codename = codename()?;
    let backports = wanted_backports(codename.as_deref())?;
    let missing = missing();
    if missing.is_empty() {
        sys::say("setup: nothing is missing");
        return Ok(true);
    }
    for need in &missing {
        sys::say(&format!("setup: missing {}", describe(need)));
    }
    if check {
        if let Some(entry) = &backports {
            sys::say(&format!("setup: would write {BACKPORTS_FILE}:\n{}", indent(entry)));
        }
        sys::say("hint: run `cargo xtask setup` as root to install what is missing");
        return Ok(false);
    }
    install(&missing, backports, codename.as_deref())?;
    let left = self::missing();
    for need in &left {
        sys::say(&format!("setup: still missing {}", describe(need)));
    }
    Ok(left.is_empty())
}

fn describe(need: &Need) -> String {
    let what = match need.probe {
        Probe::Program(name) => format!("program {name} (package {})", need.package),
        Probe::File(path) => format!("file {path} (package {})", need.package),
        Probe::QemuWithIgb => format!("qemu-system-x86_64 with an igb device (package {})", need.package),
        Probe::Kernel => "kernel packages linux-image-6.12.*-amd64-unsigned".to_owned(),
    };
    format!("{what}: {}", need.why)
}

fn missing() -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| !present(&need.probe)).collect()
}

fn present(probe: &Probe) -> bool {
    match probe {
        Probe::Program(name) => sys::program(name).is_some(),
        Probe::File(path) => Path::new(path).exists(),
        Probe::QemuWithIgb => sys::program("qemu-system-x86_64").is_some_and(|qemu| {
            sys::capture(sys::command(qemu).args(["-device", "help"])).is_ok_and(|text| has_igb(&text))
        }),
        Probe::Kernel => lab::kernel_available(),
    }
}

/// QEMU lists devices as `name "igb", bus PCI, …`.
fn has_igb(device_help: &str) -> bool {
    device_help.lines().any(|line| line.starts_with("name \"igb\","))
}

fn install(missing: &[&Need], backports: Option<String>, codename: Option<&str>) -> Result<()> {
    if sys::program("apt-get").is_none() {
        bail!("this machine has no apt; install by hand what is listed above");
    }
    if sys::capture(sys::command("id").arg("-u"))?.trim() != "0" {
        bail!(
            "installing needs root; run `cargo xtask setup` as root, or install by hand what is listed above"
        );
    }
    if let Some(entry) = backports {
        sys::say(&format!("setup: writing {BACKPORTS_FILE}:\n{}", indent(&entry)));
        sys::write(Path::new(BACKPORTS_FILE), entry.as_bytes())?;
    }
    let guard = ServiceGuard::raise()?;
    let result = install_packages(missing, codename);
    guard.lower()?;
    result
}

fn install_packages(missing: &[&Need], codename: Option<&str>) -> Result<()> {
    apt_get(&["update".to_owned()])?;
    let is_qemu = |need: &&&Need| matches!(need.probe, Probe::QemuWithIgb);
    let mut packages: Vec<String> = missing
        .iter()
        .filter(|need| !is_qemu(need) && !need.package.is_empty())
        .map(|need| need.package.to_owned())
        .collect();
    packages.sort();
    packages.dedup();
    if !packages.is_empty() {
        let mut args = vec!["install".to_owned(), "--no-install-recommends".to_owned()];
        args.extend(packages);
        apt_get(&args)?;
    }
    if let Some(qemu) = missing.iter().find(is_qemu) {
        let mut args = vec!["install".to_owned(), "--no-install-recommends".to_owned()];
        if codename == Some("bookworm") {
            args.extend(["-t".to_owned(), "bookworm-backports".to_owned()]);
        }
        args.push(qemu.package.to_owned());
        apt_get(&args)?;
    }
    Ok(())
}

fn apt_get(args: &[String]) -> Result<()> {
    let mut command: Command = sys::command("apt-get");
    // Another apt may hold the lock for a while, for instance at the first boot of a cloud machine.
    command.args(["-q", "-y", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]).args(args);
    command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    // Data goes to stdout, and this is none.
    command.stdout(std::io::stderr());
    sys::say(&format!("setup: {}", sys::shown(&command)));
    sys::run(&mut command)
}

/// Keeps daemons from being started by package scripts while it is raised.
struct ServiceGuard {
    ours: bool,
}

impl ServiceGuard {
    /// Without systemd `RUNLEVEL=1` is enough, and a policy of the machine itself is left alone.
    fn raise() -> Result<Self> {
        let path = Path::new(GUARD_FILE);
        let leftover = path.exists() && sys::read(path).is_ok_and(|text| text == GUARD_TEXT);
        let ours = leftover || (Path::new("/run/systemd/system").exists() && !path.exists());
        if ours {
            sys::write(path, GUARD_TEXT.as_bytes())?;
            sys::run(sys::command("chmod").arg("0755").arg(path))?;
        }
        Ok(Self { ours })
    }

    fn lower(self) -> Result<()> {
        if self.ours { sys::remove(Path::new(GUARD_FILE)) } else { Ok(()) }
    }
}

/// `VERSION_CODENAME` of os-release(5).
fn codename() -> Result<Option<String>> {
    let path = Path::new("/etc/os-release");
    if !path.exists() {
        return Ok(None);
    }
    Ok(codename_in(&sys::read(path)?))
}

fn codename_in(os_release: &str) -> Option<String> {
    let value = os_release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(value.trim_matches('"').to_owned())
}

/// The entry that has to be added, if any: on Debian 12 whose sources lack backports.
fn wanted_backports(codename: Option<&str>) -> Result<Option<String>> {
    if codename != Some("bookworm") {
        return Ok(None);
    }
    let sources = machine_sources()?;
    if apt::carrying(&sources, "bookworm-backports").is_some() {
        return Ok(None);
    }
    let own = apt::carrying(&sources, "bookworm")
        .context("no enabled apt source carries the suite bookworm, so none can be derived for backports")?;
    Ok(Some(apt::entry(own, "bookworm-backports")))
}

fn machine_sources() -> Result<Vec<apt::Source>> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let folder = Path::new("/etc/apt/sources.list.d");
    if folder.is_dir() {
        files.extend(sys::list(folder)?);
    }
    let mut sources = Vec::new();
    for file in files.iter().filter(|file| file.is_file()) {
        let extension = file.extension().unwrap_or_default();
        if extension == "list" || extension == "sources" {
            sources.extend(apt::parse(&sys::read(file)?, extension == "sources"));
        }
    }
    Ok(sources)
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::{codename_in, has_igb};

    #[test]
    fn igb_is_recognised_and_igbvf_or_e1000_is_not() {
        assert!(has_igb(
            "Network devices:\nname \"e1000\", bus PCI\nname \"igb\", bus PCI, desc \"Intel 82576\"\n"
        ));
        assert!(!has_igb("name \"igbvf\", bus PCI\nname \"e1000\", bus PCI\n"));
        assert!(!has_igb(""));
    }

    #[test]
    fn codename_with_and_without_quotes() {
        assert_eq!(codename_in("ID=debian\nVERSION_CODENAME=bookworm\n").as_deref(), Some("bookworm"));
        assert_eq!(codename_in("VERSION_CODENAME=\"trixie\"\n").as_deref(), Some("trixie"));
        assert_eq!(codename_in("ID=void\n"), None);
    }
}
