//! What pools are wanted, whoever wants them: rules that take devices, and what is done for a device of the pool.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::candidate::Candidate;
use super::config::{AdditionalInfo, DeviceType, PluginConfig};
use super::selector::{DeviceSelector, Refusal, VdpaType};
use super::setting::settings;
use crate::desired::{Desired, DriverWish, PoolWish, Prefer};
use crate::id::PciAddress;
use crate::observed::Observed;
use crate::range::IndexSet;

/// Prefix of config.json pools that name none.
pub const CONFIG_PREFIX: &str = "intel.com";
/// Prefix of policy pools that name none.
pub const POLICY_PREFIX: &str = "portwright.dev";

/// A resource as pods ask for it: `<prefix>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResourceName {
    /// Domain.
    pub prefix: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.prefix, self.name)
    }
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSpec {
    /// What pods ask for.
    pub resource: ResourceName,
    /// Where it is written, for messages.
    pub origin: String,
    /// Which sort of device.
    pub device_type: DeviceType,
    /// Do not tell NUMA nodes.
    pub exclude_topology: bool,
    /// The first rule that takes a device decides what is done for it.
    pub rules: Vec<Rule>,
    /// Further values for containers.
    pub additional_info: AdditionalInfo,
    /// Which devices to prefer.
    pub prefer: Prefer,
    /// iommufd's device file in place of the VFIO group.
    pub iommufd: bool,
    /// No link on the PF is unhealthy.
    pub carrier: bool,
}

/// What takes devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// A selector object of config.json.
    Selector(Box<DeviceSelector>),
    /// A VF group of a policy on one PF.
    Group(GroupRule),
}

/// A VF group of a policy on the PF that follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRule {
    /// Where it is written.
    pub path: String,
    /// The PF.
    pub pf: PciAddress,
    /// VF numbers.
    pub vfs: IndexSet,
    /// Wanted driver.
    pub driver: DriverWish,
    /// Only with an RDMA device, and containers are given it.
    pub rdma: bool,
    /// Containers are given vhost-net.
    pub vhost_net: bool,
}

/// What is done for a device besides naming it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// RDMA character devices.
    pub rdma: bool,
    /// `/dev/vhost-net` and `/dev/net/tun`.
    pub vhost_net: bool,
    /// vDPA.
    pub vdpa: Option<Vdpa>,
}

/// Which vDPA device a pool has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vdpa {
    /// With a device file.
    Vhost,
    /// A netdev.
    Virtio,
}

impl Rule {
    /// Whether it takes the device, and if not, by which condition.
    pub fn take(&self, device: &Candidate) -> Result<(), Refusal> {
        match self {
            Rule::Selector(selector) => selector.take(device),
            Rule::Group(group) => group.take(device),
        }
    }

    /// As [`Rule::take`] without the conditions that a device cannot meet while a pod has it: its netdev and its RDMA
    /// device are then in the pod.
    pub fn take_held(&self, device: &Candidate) -> Result<(), Refusal> {
        match self {
            Rule::Selector(selector) => {
                let lenient = DeviceSelector {
                    link_types: Vec::new(),
                    p_keys: Vec::new(),
                    is_rdma: false,
                    vdpa_type: None,
                    ..(**selector).clone()
                };
                lenient.take(device)
            }
            Rule::Group(group) => GroupRule { rdma: false, ..group.clone() }.take(device),
        }
    }

    /// What is done for its devices.
    pub fn options(&self) -> Options {
        match self {
            Rule::Selector(selector) => Options {
                rdma: selector.is_rdma,
                vhost_net: selector.need_vhost_net,
                vdpa: match selector.vdpa_type {
                    Some(VdpaType::Vhost) => Some(Vdpa::Vhost),
                    Some(VdpaType::Virtio) => Some(Vdpa::Virtio),
                    Some(VdpaType::Other(_)) | None => None,
                },
            },
            Rule::Group(group) => Options { rdma: group.rdma, vhost_net: group.vhost_net, vdpa: None },
        }
    }

    /// What is wrong with a device that the rule takes; a VF group's members are members whatever their driver.
    pub fn unhealthy(&self, device: &Candidate) -> Option<String> {
        match self {
            Rule::Selector(_) => None,
            Rule::Group(group) => group.unhealthy(device),
        }
    }
}

impl GroupRule {
    fn take(&self, device: &Candidate) -> Result<(), Refusal> {
        let refuse = |condition, wanted: String, found: String| Err(Refusal { condition, wanted, found });
        if device.pf != Some(self.pf) || device.aux.is_some() {
            let found = device.pf.map_or_else(|| "no PF".to_owned(), |pf| pf.to_string());
            return refuse("PF", self.pf.to_string(), found);
        }
        let index = device.index.and_then(|index| u16::try_from(index).ok());
        if !index.is_some_and(|index| self.vfs.contains(index)) {
            let found = index.map_or_else(|| "no number".to_owned(), |index| index.to_string());
            return refuse("vfs", self.vfs.to_string(), found);
        }
        if self.rdma && device.rdma.is_empty() {
            return refuse("rdma", "an RDMA device".to_owned(), "none".to_owned());
        }
        Ok(())
    }

    fn unhealthy(&self, device: &Candidate) -> Option<String> {
        let found = device.driver.as_deref();
        let good = match (&self.driver, found) {
            (DriverWish::Named(wanted), found) => found == Some(wanted.as_str()),
            (DriverWish::Kernel, Some(found)) => !is_user_space(found),
            (DriverWish::Kernel, None) => false,
        };
        let wanted = match &self.driver {
            DriverWish::Named(wanted) => wanted.as_str(),
            DriverWish::Kernel => "the kernel's driver",
        };
        (!good).then(|| format!("driver is {}, {wanted} is wanted", found.unwrap_or("none")))
    }
}

/// Whether a driver hands its devices to programs.
fn is_user_space(driver: &str) -> bool {
    driver.contains("vfio") || driver.contains("uio")
}

/// The pools of a config.json.
pub fn of_config(config: &PluginConfig, prefix: Option<&str>) -> Vec<PoolSpec> {
    let prefix = prefix.unwrap_or(CONFIG_PREFIX);
    let spec = |pool: &super::config::ConfigPool| PoolSpec {
        resource: ResourceName {
            prefix: pool.prefix.clone().unwrap_or_else(|| prefix.to_owned()),
            name: pool.name.clone(),
        },
        origin: pool.path.clone(),
        device_type: pool.device_type,
        exclude_topology: pool.exclude_topology,
        rules: pool.selectors.iter().cloned().map(Box::new).map(Rule::Selector).collect(),
        additional_info: pool.additional_info.clone(),
        prefer: Prefer::Pack,
        iommufd: false,
        carrier: false,
    };
    config.pools.iter().map(spec).collect()
}

/// The pools of policies, for the PFs that follow them. A PF whose policies conflict is in no pool.
pub fn of_policies(observed: &Observed, desired: &Desired, prefix: Option<&str>) -> Vec<PoolSpec> {
    let settings: BTreeMap<&str, PoolWish> =
        settings(desired).into_iter().map(|(name, setting)| (name, setting.wish)).collect();
    let mut rules: BTreeMap<&str, (String, Vec<Rule>)> = BTreeMap::new();
    for (pf, document, entry) in crate::plan::bound(observed, desired) {
        for (number, group) in entry.groups.iter().enumerate() {
            let Some(name) = &group.pool else { continue };
            let setting = settings.get(name.as_str());
            let path = format!("{} {}.vfGroups[{number}]", document.name, entry.path);
            let rule = Rule::Group(GroupRule {
                path: path.clone(),
                pf: pf.address,
                vfs: group.vfs.clone(),
                driver: group.driver.clone(),
                rdma: setting.is_some_and(|pool| pool.rdma),
                vhost_net: setting.is_some_and(|pool| pool.vhost_net),
            });
            rules.entry(name).or_insert_with(|| (path, Vec::new())).1.push(rule);
        }
    }
    let spec = |(name, (origin, rules)): (&str, (String, Vec<Rule>))| {
        let setting = settings.get(name);
        let own = setting.and_then(|pool| pool.prefix.as_deref());
        PoolSpec {
            resource: ResourceName {
                prefix: own.or(prefix).unwrap_or(POLICY_PREFIX).to_owned(),
                name: name.to_owned(),
            },
            origin,
            device_type: DeviceType::NetDevice,
            exclude_topology: setting.is_some_and(|pool| pool.exclude_topology),
            rules,
            additional_info: AdditionalInfo::new(),
            prefer: setting.map(|pool| pool.prefer).unwrap_or_default(),
            iommufd: setting.is_some_and(|pool| pool.iommufd),
            carrier: setting.is_some_and(|pool| pool.carrier),
        }
    };
    rules.into_iter().map(spec).collect()
}

/// The first resource name that two pools have.
pub fn twice(specs: &[PoolSpec]) -> Option<(&PoolSpec, &PoolSpec)> {
    let mut seen: BTreeSet<&ResourceName> = BTreeSet::new();
    let again = specs.iter().find(|spec| !seen.insert(&spec.resource))?;
    let first = specs.iter().find(|spec| spec.resource == again.resource)?;
    Some((first, again))
}
