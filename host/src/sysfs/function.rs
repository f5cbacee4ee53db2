//! Reads one PCI function's folder (`sys/bus/pci/devices/<address>`).
//!
//! `sriov_numvfs` is never read: it takes the device lock that a write holds for seconds, and for ever if that write is
//! stuck. The `virtfn*` links say the same and never block. A VF's `driver_override` takes the VF's own lock, which the
//! removal or unbinding of a VF that somebody holds keeps; on a running host it is read later, of VFs that nobody holds.

use portwright_core::observed::Netdev;
use portwright_core::{Fact, PciAddress, PciId};

use super::netdev::{self, Detail, RawNetdev};
use super::{Reasons, parse};
use crate::root::{Dir, EntryKind, ReadError};

const CLASS: &str = "a PCI class such as `0x020000`";
const ID: &str = "a PCI ID such as `0x8086`";

/// A PCI function as its folder shows it. Of functions that are of no interest only class and IOMMU group are read.
#[derive(Debug, Default)]
pub(crate) struct RawFunction {
    pub(crate) class: Option<String>,
    pub(crate) vendor: PciId,
    pub(crate) device: PciId,
    pub(crate) driver: Option<String>,
    pub(crate) driver_override: Option<String>,
    pub(crate) numa_node: Option<u16>,
    pub(crate) iommu_group: Option<u32>,
    pub(crate) acpi_index: Option<u32>,
    /// It has an SR-IOV capability; 0 if firmware has switched it off or the number could not be read.
    pub(crate) total_vfs: Option<u16>,
    pub(crate) vf_device: Option<PciId>,
    pub(crate) autoprobe: Fact<bool>,
    /// VF numbers and where their links point to.
    pub(crate) vfs: Vec<(u16, PciAddress)>,
    /// It is a VF: the kernel shows a link to its PF.
    pub(crate) is_vf: bool,
    /// That link's target.
    pub(crate) pf: Option<PciAddress>,
    pub(crate) netdevs: Vec<RawNetdev>,
    pub(crate) rdma: Vec<String>,
    pub(crate) vdpa: Vec<String>,
    pub(crate) subfunctions: Vec<String>,
    /// What could not be read.
    pub(crate) reasons: Reasons,
    /// The first of these that keeps users from being seen: folder, IOMMU group, driver, netdevs or RDMA devices.
    pub(crate) unseen: Option<String>,
}

impl RawFunction {
    /// A network function (PCI class 02).
    pub(crate) fn is_network(&self) -> bool {
        self.class.as_deref().is_some_and(|class| class.starts_with("02"))
    }

    /// A PCI bridge (class 0604), which shares IOMMU groups without being a peer.
    pub(crate) fn is_bridge(&self) -> bool {
        self.class.as_deref().is_some_and(|class| class.starts_with("0604"))
    }

    /// A processing accelerator (PCI class 12).
    pub(crate) fn is_accelerator(&self) -> bool {
        self.class.as_deref().is_some_and(|class| class.starts_with("12"))
    }

    /// A function that is reported: with VFs, a VF, of the network class, or an accelerator.
    pub(crate) fn is_of_interest(&self) -> bool {
        self.total_vfs.is_some() || self.is_vf || self.is_network() || self.is_accelerator()
    }

    /// Notes that what could not be read since there were `before` reasons may hide who uses the function.
    fn hides_users(&mut self, before: usize) {
        self.unseen = self.unseen.take().or_else(|| self.reasons.0.get(before).cloned());
    }

    /// Its netdevs' values.
    pub(crate) fn values(&self) -> Vec<Netdev> {
        self.netdevs.iter().map(|raw| raw.netdev.clone()).collect()
    }
}

/// Which entries its folder has; only what exists is opened.
#[derive(Debug, Default)]
struct Has {
    class: bool,
    vendor: bool,
    device: bool,
    driver: bool,
    driver_override: bool,
    numa_node: bool,
    iommu_group: bool,
    acpi_index: bool,
    total_vfs: bool,
    vf_device: bool,
    autoprobe: bool,
    physfn: bool,
    net: bool,
    rdma: bool,
    virtfns: Vec<String>,
    virtio: Vec<String>,
    vdpa: Vec<String>,
    subfunctions: Vec<String>,
}

/// Whether reading may wait for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locks {
    /// Files on disk have none.
    None,
    /// The running kernel's: files that take a device's lock are left out.
    Kernel,
}

/// Reads a function. What cannot be read is told in its reasons and left out. A VF's class and vendor are its PF's and not
/// read; if no PF turns out to have it, [`complete`] makes up for that.
pub(crate) fn read(dir: &mut Dir<'_>, locks: Locks) -> RawFunction {
    let mut function = RawFunction::default();
    let mut has = Has::default();
    if let Err(error) = dir.scan(|name, kind| has.note(name, kind)) {
        function.reasons.add(&error);
    }
    function.hides_users(0);
    function.is_vf = has.physfn;
    if function.is_vf {
        (has.class, has.vendor, has.total_vfs) = (false, false, false);
    }
    let reasons = &mut function.reasons;
    if has.class {
        let class = dir.parsed("class", CLASS, parse::class);
        function.class = reasons.take(class);
    }
    if has.iommu_group {
        let before = reasons.0.len();
        function.iommu_group = group(dir, reasons);
        function.hides_users(before);
    }
    has.driver_override &= locks == Locks::None;
    let reasons = &mut function.reasons;
    // A root complex shows the file, with 0, on every function with the capability.
    if has.total_vfs {
        let total = dir.parsed("sriov_totalvfs", "a number of VFs", parse::decimal);
        let total = reasons.take(total).unwrap_or_default();
        let counts = total > 0 || !has.virtfns.is_empty() || !reasons.0.is_empty();
        if counts || function.is_network() {
            function.total_vfs = Some(total);
        }
    }
    if function.is_of_interest() {
        identity(dir, &has, &mut function);
        if function.total_vfs.is_some() {
            virtual_functions(dir, &has, &mut function);
        }
        children(dir, has, &mut function);
    }
    function
}

impl Has {
    fn note(&mut self, name: &[u8], kind: EntryKind) {
        match name {
            b"class" => self.class = true,
            b"vendor" => self.vendor = true,
            b"device" => self.device = true,
            b"driver" => self.driver = true,
            b"driver_override" => self.driver_override = true,
            b"numa_node" => self.numa_node = true,
            b"iommu_group" => self.iommu_group = true,
            b"acpi_index" => self.acpi_index = true,
            b"sriov_totalvfs" => self.total_vfs = true,
            b"sriov_vf_device" => self.vf_device = true,
            b"sriov_drivers_autoprobe" => self.autoprobe = true,
            b"physfn" => self.physfn = true,
            b"net" => self.net = true,
            b"infiniband" => self.rdma = true,
            other => self.note_numbered(other, kind),
        }
    }

    /// Entries whose names carry a number.
    fn note_numbered(&mut self, name: &[u8], kind: EntryKind) {
        let Ok(name) = std::str::from_utf8(name) else { return };
        if name.starts_with("virtfn") && kind != EntryKind::Dir {
            self.virtfns.push(name.to_owned());
        } else if kind == EntryKind::File {
            // Everything below is a device in a folder of its own.
        } else if parse::numbered::<u32>(name, "virtio").is_some() {
            self.virtio.push(name.to_owned());
        } else if parse::numbered::<u32>(name, "vdpa").is_some() {
            self.vdpa.push(name.to_owned());
        } else if let Some((_, number)) = name.rsplit_once(".sf.")
            && parse::decimal::<u32>(number).is_some()
        {
            self.subfunctions.push(name.to_owned());
        }
    }
}

fn identity(dir: &Dir<'_>, has: &Has, function: &mut RawFunction) {
    let reasons = &mut function.reasons;
    if !function.is_vf {
        function.vendor = required(reasons, dir, has.vendor, "vendor", ID, id);
    }
    function.device = required(reasons, dir, has.device, "device", ID, id);
    if has.driver {
        let before = reasons.0.len();
        function.driver = reasons.take(dir.link_name("driver"));
        function.hides_users(before);
    }
    let reasons = &mut function.reasons;
    if has.driver_override {
        function.driver_override = reasons.take(driver_override(dir)).flatten();
    }
    if has.numa_node {
        let node = dir.parsed("numa_node", "a NUMA node or -1", parse::decimal_or_negative);
        function.numa_node = reasons.take(node).flatten();
    }
    if has.acpi_index {
        function.acpi_index = reasons.take(dir.parsed("acpi_index", "a number", parse::decimal));
    }
}

/// Reads what was left out of a VF, because no visible PF has it.
pub(crate) fn complete(dir: &Dir<'_>, function: &mut RawFunction) {
    let reasons = &mut function.reasons;
    function.class = reasons.take(dir.parsed("class", CLASS, parse::class));
    function.vendor = required(reasons, dir, true, "vendor", ID, id);
    function.pf = reasons.take(dir.link_name("physfn")).and_then(|name| name.parse().ok());
}

/// Reads the driver that the function is pinned to. On a running host this takes the function's lock.
pub(crate) fn driver_override(dir: &Dir<'_>) -> Result<Option<String>, ReadError> {
    dir.parsed("driver_override", "a driver's name", parse::driver_override)
}

/// A PCI ID as sysfs writes it.
fn id(text: &str) -> Option<PciId> {
    text.strip_prefix("0x").and_then(|digits| digits.parse().ok())
}

/// A value that every function has; its absence is a reason too.
fn required<T: Default>(
    reasons: &mut Reasons,
    dir: &Dir<'_>,
    there: bool,
    name: &str,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> T {
    if !there {
        reasons.0.push(format!("{} does not exist", dir.path().join(name).display()));
        return T::default();
    }
    reasons.take(dir.parsed(name, expected, parse)).unwrap_or_default()
}

/// What only a PF has.
fn virtual_functions(dir: &Dir<'_>, has: &Has, function: &mut RawFunction) {
    let reasons = &mut function.reasons;
    if has.vf_device {
        let id = dir.parsed("sriov_vf_device", "a PCI ID of hexadecimal digits", |text| text.parse().ok());
        function.vf_device = reasons.take(id);
    }
    if has.autoprobe {
        function.autoprobe = reasons.fact(dir.parsed("sriov_drivers_autoprobe", "0 or 1", parse::flag));
    }
    for name in &has.virtfns {
        let Some(index) = parse::numbered(name, "virtfn") else {
            reasons.0.push(format!("{} is not the link of a VF number", dir.path().join(name).display()));
            continue;
        };
        let Some(target) = reasons.take(dir.link_name(name)) else { continue };
        match target.parse() {
            Ok(address) => function.vfs.push((index, address)),
            Err(error) => reasons.0.push(format!("{}: {error}", dir.path().join(name).display())),
        }
    }
    function.vfs.sort_unstable();
}

/// Devices that live in the function's folder.
fn children(dir: &Dir<'_>, has: Has, function: &mut RawFunction) {
    let detail = if function.is_vf { Detail::Virtual } else { Detail::Full };
    let before = function.reasons.0.len();
    if has.rdma {
        function.rdma = names(dir, "infiniband", &mut function.reasons);
        function.hides_users(before);
    }
    // A virtio function's netdev belongs to the virtio device inside it.
    let inside = has.virtio.into_iter().map(|virtio| format!("{virtio}/net"));
    for folder in has.net.then(|| "net".to_owned()).into_iter().chain(inside) {
        netdevs(dir, &folder, detail, function);
    }
    function.vdpa = has.vdpa;
    function.vdpa.sort();
    function.subfunctions = has.subfunctions;
    function.subfunctions.sort();
}

fn netdevs(dir: &Dir<'_>, folder: &str, detail: Detail, function: &mut RawFunction) {
    let before = function.reasons.0.len();
    let reasons = &mut function.reasons;
    let net = reasons.take(dir.dir(folder));
    let net = net.map(|mut net| (entries(&mut net, reasons), net));
    // A netdev that is not listed may be in use; one that has an odd value is seen.
    function.hides_users(before);
    let Some((found, net)) = net else { return };
    let reasons = &mut function.reasons;
    for name in found {
        if let Some(mut folder) = reasons.take(net.dir(&name)) {
            function.netdevs.push(netdev::read(&mut folder, &name, detail, reasons));
        }
    }
}

fn names(dir: &Dir<'_>, folder: &str, reasons: &mut Reasons) -> Vec<String> {
    reasons.take(dir.dir(folder)).map(|mut dir| entries(&mut dir, reasons)).unwrap_or_default()
}

/// The names in a folder, sorted; those that are not UTF-8 are reasons.
fn entries(dir: &mut Dir<'_>, reasons: &mut Reasons) -> Vec<String> {
    let mut names = Vec::new();
    let mut odd = Vec::new();
    let listed = dir.scan(|name, kind| match std::str::from_utf8(name) {
        Ok(name) if kind != EntryKind::File => names.push(name.to_owned()),
        Ok(_) => {}
        Err(_) => odd.push(String::from_utf8_lossy(name).into_owned()),
    });
    if let Err(error) = listed {
        reasons.add(&error);
    }
    for name in odd {
        reasons.0.push(format!("the name of {} is not UTF-8", dir.path().join(name).display()));
    }
    names.sort();
    names
}

fn group(dir: &Dir<'_>, reasons: &mut Reasons) -> Option<u32> {
    let name = reasons.take(dir.link_name("iommu_group"))?;
    let group = parse::decimal(&name);
    if group.is_none() {
        reasons
            .0
            .push(format!("{}/iommu_group points to `{name}`, which is no number", dir.path().display()));
    }
    group
}
