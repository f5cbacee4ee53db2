//! Hardware profiles: what is known of a NIC family, as data. They never allow or forbid a NIC; an unknown one works with
//! the generic profile and is reported as untested hardware.
//!
//! Each fact names its source and how sure we are of it.

use serde::{Deserialize, Serialize};

use crate::id::{ParseError, PciId};
use crate::observed::Pf;

/// Name of the profile that fits when no other does.
pub const GENERIC: &str = "generic";

/// A fact with its origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sourced<T> {
    /// The fact.
    pub value: T,
    /// Where it comes from (kernel file, measurement, vendor document).
    pub source: String,
    /// How sure we are.
    pub confidence: Confidence,
}

/// How sure we are of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// Measured on the driver.
    Measured,
    /// Read in driver source.
    Source,
    /// Said by documentation.
    Documented,
    /// General knowledge, not checked.
    Assumed,
}

/// One NIC family. All tables are optional: what is absent is unknown and handled as the generic profile does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Profile {
    /// Short name, as the file is called.
    pub name: String,
    /// The family in words.
    pub summary: String,
    /// Whether portwright has been run on this family, and where; absent means untested.
    #[serde(default)]
    pub tested: Option<String>,
    /// IDs of the PFs that it was run on; empty means that the whole family was.
    #[serde(default)]
    pub tested_ids: Vec<VendorDevice>,
    /// PF drivers that it applies to.
    #[serde(default)]
    pub drivers: Vec<String>,
    /// PF IDs, `vendor:device`, that it applies to before any driver match.
    #[serde(default)]
    pub ids: Vec<VendorDevice>,
    /// The kernel's driver for its VFs.
    #[serde(default)]
    pub vf_driver: Option<Sourced<String>>,
    /// How VFs are made.
    #[serde(default)]
    pub configure: Option<Sourced<Configure>>,
    /// When the e-switch mode can be changed.
    #[serde(default)]
    pub eswitch_order: Option<Sourced<EswitchOrder>>,
    /// VF attributes that the PF's driver takes by netlink; absent means all are tried.
    #[serde(default)]
    pub vf_attributes: Option<Sourced<Vec<VfAttribute>>>,
    /// VF attributes that the driver refuses while the e-switch is in switchdev mode.
    #[serde(default)]
    pub switchdev_refuses: Option<Sourced<Vec<VfAttribute>>>,
    /// Whether VFs are made faster while the PF is down, and come out right. Some drivers refuse it (bnxt_en), so without
    /// the fact the PF is set up first.
    #[serde(default)]
    pub makes_vfs_down: Option<Sourced<bool>>,
    /// Whether VFs keep their traffic while the PF's MTU is changed. Some drivers reset the whole port (igb, ixgbe), so
    /// without the fact a change of the MTU waits for the users of its VFs.
    #[serde(default)]
    pub mtu_keeps_vfs: Option<Sourced<bool>>,
    /// Whether the driver takes VF rates only while the PF has carrier.
    #[serde(default)]
    pub rate_needs_carrier: Option<Sourced<bool>>,
    /// When an administrative MAC reaches a VF's netdev.
    #[serde(default)]
    pub mac_applies: Option<Sourced<MacApplies>>,
    /// How long a VF's netdev may take to appear after its driver was bound, in milliseconds.
    #[serde(default)]
    pub netdev_deadline_ms: Option<Sourced<u64>>,
    /// How long one write of `sriov_numvfs` may take before the PF counts as stuck, in milliseconds.
    #[serde(default)]
    pub numvfs_deadline_ms: Option<Sourced<u64>>,
    /// How long the PF may take to get carrier after it was set up, in milliseconds.
    #[serde(default)]
    pub carrier_deadline_ms: Option<Sourced<u64>>,
    /// Most VFs per PF, whatever `sriov_totalvfs` says.
    #[serde(default)]
    pub max_vfs: Option<Sourced<u16>>,
    /// How DPDK uses its VFs.
    #[serde(default)]
    pub dpdk: Option<Sourced<Dpdk>>,
    /// Whether VFs have RDMA.
    #[serde(default)]
    pub vf_rdma: Option<Sourced<bool>>,
    /// What to set outside of the kernel when the firmware offers no or too few VFs; a hint for the operator.
    #[serde(default)]
    pub firmware_hint: Option<Sourced<String>>,
    /// Further quirks that an operator should know, shown by `profiles match`.
    #[serde(default)]
    pub quirks: Vec<Sourced<String>>,
}

impl Profile {
    /// Where portwright was run on this very NIC; absent means untested hardware.
    pub fn tested_on(&self, pf: &Pf) -> Option<&str> {
        let ids = VendorDevice { vendor: pf.vendor, device: pf.device };
        let meant = self.tested_ids.is_empty() || self.tested_ids.contains(&ids);
        self.tested.as_deref().filter(|_| meant)
    }
}

/// `vendor:device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VendorDevice {
    /// PCI vendor ID.
    pub vendor: PciId,
    /// PCI device ID.
    pub device: PciId,
}

impl std::fmt::Display for VendorDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.vendor, self.device)
    }
}

impl std::str::FromStr for VendorDevice {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse =
            || ParseError { text: text.to_owned(), expected: "a pair of PCI IDs such as `8086:10c9`" };
        let (vendor, device) = text.split_once(':').ok_or_else(refuse)?;
        Ok(VendorDevice {
            vendor: vendor.parse().map_err(|_| refuse())?,
            device: device.parse().map_err(|_| refuse())?,
        })
    }
}

impl Serialize for VendorDevice {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VendorDevice {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How VFs are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Configure {
    /// By writing `sriov_numvfs`.
    Sysfs,
    /// By a module parameter: the driver has no callback, a write gives ENOENT.
    ModuleParameter,
    /// By management software or firmware before the driver probes.
    External,
}

/// When the e-switch mode can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EswitchOrder {
    /// Only while there are no VFs (ice).
    WithoutVfs,
    /// With VFs that are bound to no driver (mlx5).
    VfsUnbound,
    /// At any time.
    Any,
}

/// VF attributes that a PF's driver takes by netlink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VfAttribute {
    /// Administrative MAC.
    Mac,
    /// VLAN id and priority, 802.1q.
    Vlan,
    /// VLAN protocol 802.1ad.
    VlanDot1ad,
    /// Source address check.
    SpoofCheck,
    /// Trust.
    Trust,
    /// Upper transmit rate.
    MaxRate,
    /// Guaranteed transmit rate.
    MinRate,
    /// Link state control.
    LinkState,
}

/// When an administrative MAC reaches a VF's netdev.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MacApplies {
    /// When the VF's driver probes.
    AtProbe,
    /// At once: the PF's driver resets the VF.
    AtOnce,
}

/// How DPDK uses VFs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dpdk {
    /// Through vfio-pci.
    VfioPci,
    /// On the kernel driver, through RDMA verbs.
    Bifurcated,
    /// Not at all.
    None,
}

/// All profiles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profiles {
    profiles: Vec<Profile>,
}

/// Why a profile applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MatchedBy {
    /// By the PF's IDs.
    Ids(VendorDevice),
    /// By the PF's driver.
    Driver(String),
    /// Nothing fits: untested hardware.
    Nothing,
}

impl std::fmt::Display for MatchedBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MatchedBy::Ids(ids) => write!(f, "matched by {ids}"),
            MatchedBy::Driver(_) => f.write_str("matched by driver"),
            MatchedBy::Nothing => f.write_str("untested hardware"),
        }
    }
}

/// A profile that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// The file is not what a profile looks like.
    #[error("{file}: {why}")]
    Syntax {
        /// File name.
        file: String,
        /// Parser's message with line and column.
        why: String,
    },
    /// The profile's name is not its file's.
    #[error("{file}: the profile calls itself `{name}`; name and file must agree")]
    Name {
        /// File name.
        file: String,
        /// Name inside.
        name: String,
    },
    /// Two profiles claim the same IDs or driver.
    #[error("{file}: `{claim}` is already claimed by profile `{other}`")]
    Claimed {
        /// File name.
        file: String,
        /// IDs or driver.
        claim: String,
        /// The other profile.
        other: String,
    },
}

impl Profiles {
    /// Reads profiles from (file name, TOML text) pairs. Every error is returned, not only the first.
    pub fn parse<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Profiles, Vec<ProfileError>> {
        let mut profiles: Vec<Profile> = Vec::new();
        let mut errors = Vec::new();
        for (file, text) in files {
            match toml::from_str::<Profile>(text) {
                Ok(profile) => {
                    errors.extend(problems(file, &profile, &profiles));
                    profiles.push(profile);
                }
                Err(error) => {
                    errors.push(ProfileError::Syntax { file: file.to_owned(), why: error.to_string() })
                }
            }
        }
        if errors.is_empty() { Ok(Profiles { profiles }) } else { Err(errors) }
    }

    /// The profiles, in the order of their files.
    pub fn iter(&self) -> impl Iterator<Item = &Profile> {
        self.profiles.iter()
    }

    /// The profile that applies to a PF and why: by IDs before by driver, else none (generic behaviour).
    pub fn find(&self, pf: &Pf) -> (Option<&Profile>, MatchedBy) {
        let ids = VendorDevice { vendor: pf.vendor, device: pf.device };
        if let Some(profile) = self.profiles.iter().find(|profile| profile.ids.contains(&ids)) {
            return (Some(profile), MatchedBy::Ids(ids));
        }
        if let Some(driver) = &pf.driver
            && let Some(profile) = self.profiles.iter().find(|profile| profile.drivers.contains(driver))
        {
            return (Some(profile), MatchedBy::Driver(driver.clone()));
        }
        (None, MatchedBy::Nothing)
    }
}

/// What is wrong with a profile beside those already read.
fn problems(file: &str, profile: &Profile, others: &[Profile]) -> Vec<ProfileError> {
    let mut errors = Vec::new();
    if file.strip_suffix(".toml").unwrap_or(file) != profile.name {
        errors.push(ProfileError::Name { file: file.to_owned(), name: profile.name.clone() });
    }
    for other in others {
        let claimed =
            |claim: String| ProfileError::Claimed { file: file.to_owned(), claim, other: other.name.clone() };
        errors
            .extend(profile.ids.iter().filter(|id| other.ids.contains(id)).map(|id| claimed(id.to_string())));
        errors
            .extend(profile.drivers.iter().filter(|d| other.drivers.contains(d)).map(|d| claimed(d.clone())));
    }
    errors
}
