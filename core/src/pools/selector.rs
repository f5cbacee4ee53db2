//! Which devices a pool takes: every present, non-empty list narrows (AND), members of a list are alternatives (OR). The
//! answer names the condition that refused a device and the value it found, for `pools --explain`.

use super::candidate::Candidate;
use super::range::FunctionRange;

/// One selector object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceSelector {
    /// PCI vendor IDs, four lower-case hexadecimal digits.
    pub vendors: Vec<String>,
    /// PCI device IDs, likewise.
    pub devices: Vec<String>,
    /// Bound drivers.
    pub drivers: Vec<String>,
    /// PCI addresses `dddd:bb:dd.f`.
    pub pci_addresses: Vec<String>,
    /// `acpi_index` values.
    pub acpi_indexes: Vec<String>,
    /// Auxiliary device types.
    pub aux_types: Vec<String>,
    /// PF netdev names with function numbers.
    pub pf_names: Vec<FunctionRange>,
    /// PF PCI addresses with function numbers.
    pub root_devices: Vec<FunctionRange>,
    /// Link-layer encapsulations (`ether`, `infiniband`).
    pub link_types: Vec<String>,
    /// DDP packages.
    pub ddp_profiles: Vec<String>,
    /// InfiniBand partition keys.
    pub p_keys: Vec<String>,
    /// RDMA is wanted: a filter, and adds RDMA nodes.
    pub is_rdma: bool,
    /// Adds `/dev/vhost-net` and `/dev/net/tun`; no filter.
    pub need_vhost_net: bool,
    /// vDPA type.
    pub vdpa_type: Option<VdpaType>,
}

/// `vdpaType`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VdpaType {
    /// Bound to vhost_vdpa.
    Vhost,
    /// Bound to virtio_vdpa.
    Virtio,
    /// Any other text: accepted, matches nothing.
    Other(String),
}

impl VdpaType {
    /// Reads the text of a configuration.
    pub fn read(text: &str) -> VdpaType {
        match text {
            "vhost" => VdpaType::Vhost,
            "virtio" => VdpaType::Virtio,
            other => VdpaType::Other(other.to_owned()),
        }
    }

    /// As a configuration writes it.
    pub fn as_str(&self) -> &str {
        match self {
            VdpaType::Vhost => "vhost",
            VdpaType::Virtio => "virtio",
            VdpaType::Other(text) => text,
        }
    }
}

/// The condition that refused a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// Which condition (`drivers`).
    pub condition: &'static str,
    /// What it asks for.
    pub wanted: String,
    /// What the device has.
    pub found: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} wants {}, found {}", self.condition, self.wanted, self.found)
    }
}

fn list(condition: &'static str, wanted: &[String], found: Option<&str>) -> Result<(), Refusal> {
    if wanted.is_empty() || found.is_some_and(|found| wanted.iter().any(|text| text == found)) {
        return Ok(());
    }
    Err(Refusal { condition, wanted: wanted.join(" or "), found: found.unwrap_or("none").to_owned() })
}

fn ranges(
    condition: &'static str,
    wanted: &[FunctionRange],
    name: Option<&str>,
    index: Option<u32>,
) -> Result<(), Refusal> {
    if wanted.is_empty() {
        return Ok(());
    }
    let entry = name.and_then(|name| wanted.iter().find(|range| range.name.eq_ignore_ascii_case(name)));
    if entry.is_some_and(|range| range.holds(index)) {
        return Ok(());
    }
    let number = index.map_or_else(|| "no number".to_owned(), |index| format!("number {index}"));
    let names: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    Err(Refusal {
        condition,
        wanted: names.join(" or "),
        found: name.map_or_else(|| "no PF".to_owned(), |name| format!("{name} {number}")),
    })
}

impl DeviceSelector {
    /// Whether the device is taken; if not, by which condition it is refused. Conditions that make no sense for the device's
    /// type are not asked, as in the original.
    pub fn take(&self, device: &Candidate) -> Result<(), Refusal> {
        list("vendors", &self.vendors, Some(&device.vendor))?;
        list("devices", &self.devices, Some(&device.device))?;
        list("drivers", &self.drivers, device.driver.as_deref())?;
        if device.aux.is_none() {
            list("pciAddresses", &self.pci_addresses, Some(&device.id))?;
            list("acpiIndexes", &self.acpi_indexes, device.acpi_index.as_deref())?;
        }
        list("auxTypes", if device.aux.is_some() { &self.aux_types } else { &[] }, device.aux.as_deref())?;
        if device.accelerator {
            return Ok(());
        }
        ranges("pfNames", &self.pf_names, device.pf_name.as_deref(), device.index)?;
        let pf = device.pf.map(|pf| pf.to_string());
        ranges("rootDevices", &self.root_devices, pf.as_deref(), device.index)?;
        list("linkTypes", &self.link_types, device.link_type.as_deref())?;
        if device.aux.is_none() {
            list("ddpProfiles", &self.ddp_profiles, device.ddp_profile.as_deref())?;
            list("pKeys", &self.p_keys, device.p_key.as_deref())?;
        }
        if self.is_rdma && device.rdma.is_empty() {
            return Err(Refusal {
                condition: "isRdma",
                wanted: "an RDMA device".to_owned(),
                found: "none".to_owned(),
            });
        }
        match &self.vdpa_type {
            Some(kind) if device.aux.is_none() => {
                list("vdpaType", &[kind.as_str().to_owned()], device.vdpa_type.as_deref())
            }
            Some(_) | None => Ok(()),
        }
    }
}
