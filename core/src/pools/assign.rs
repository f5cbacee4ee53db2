//! Which device is in which pool: pools in their order, rules in theirs, the first that takes a device has it.
//!
//! A device that a pod holds stays where it was given from as long as it exists: its netdev and its RDMA device are in the
//! pod, so the conditions about them cannot be asked, and kubelet would count a device that is withdrawn while in use wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::candidate::Candidate;
use super::config::DeviceType;
use super::spec::{Options, PoolSpec, ResourceName, Rule};

/// All pools with their devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pools {
    /// In the order of their specifications.
    pub pools: Vec<Pool>,
}

/// A pool with its devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// What was wanted.
    pub spec: PoolSpec,
    /// In the order of their ids.
    pub devices: Vec<PoolDevice>,
}

/// A device of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolDevice {
    /// What it is.
    pub candidate: Arc<Candidate>,
    /// What is done for it.
    pub options: Options,
    /// Whether it can be used.
    pub health: Health,
}

/// Whether a device can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It can.
    Healthy,
    /// It cannot.
    Unhealthy {
        /// Why.
        why: String,
    },
    /// It is not shown to kubelet until it was put in order and looked at. Who asks for it meanwhile waits.
    Withheld {
        /// What is being done.
        why: String,
    },
}

impl PoolDevice {
    /// The id that kubelet knows it by.
    pub fn id(&self) -> &str {
        &self.candidate.id
    }

    /// Whether it can be used.
    pub fn is_healthy(&self) -> bool {
        self.health == Health::Healthy
    }
}

impl Pool {
    /// The device of an id.
    pub fn device(&self, id: &str) -> Option<&PoolDevice> {
        let found = self.devices.binary_search_by(|device| device.id().cmp(id));
        found.ok().and_then(|at| self.devices.get(at))
    }

    /// The devices that kubelet may see.
    pub fn shown(&self) -> impl Iterator<Item = &PoolDevice> {
        self.devices.iter().filter(|device| !matches!(device.health, Health::Withheld { .. }))
    }

    /// How many devices can be used.
    pub fn healthy(&self) -> usize {
        self.devices.iter().filter(|device| device.is_healthy()).count()
    }
}

/// Gives each candidate to the pool that takes it first. `held`: devices that pods have, and the resource that each was
/// given as.
pub fn assign(
    candidates: &[Arc<Candidate>],
    specs: &[PoolSpec],
    held: &BTreeMap<String, ResourceName>,
) -> Pools {
    let mut pools: Vec<Pool> =
        specs.iter().map(|spec| Pool { spec: spec.clone(), devices: Vec::new() }).collect();
    for candidate in candidates {
        if let Some((number, device)) = place(candidate, specs, held.get(&candidate.id))
            && let Some(pool) = pools.get_mut(number)
        {
            pool.devices.push(device);
        }
    }
    Pools { pools }
}

/// Where one candidate belongs: number of the pool, and what it is there. Work does not depend on other candidates.
pub fn place(
    candidate: &Arc<Candidate>,
    specs: &[PoolSpec],
    holder: Option<&ResourceName>,
) -> Option<(usize, PoolDevice)> {
    if let Some(resource) = holder
        && let Some((number, spec)) = specs.iter().enumerate().find(|(_, spec)| spec.resource == *resource)
    {
        return Some((number, held_device(candidate, spec)));
    }
    specs.iter().enumerate().find_map(|(number, spec)| {
        fit(candidate, spec.device_type).ok()?;
        let rule = spec.rules.iter().find(|rule| rule.take(candidate).is_ok())?;
        let options = rule.options();
        Some((
            number,
            PoolDevice { candidate: Arc::clone(candidate), options, health: health(candidate, spec, rule) },
        ))
    })
}

/// A device that a pod has.
fn held_device(candidate: &Arc<Candidate>, spec: &PoolSpec) -> PoolDevice {
    let taking = spec.rules.iter().find(|rule| rule.take(candidate).is_ok());
    let lenient = || spec.rules.iter().find(|rule| rule.take_held(candidate).is_ok());
    let candidate = Arc::clone(candidate);
    match taking.or_else(lenient) {
        Some(rule) => {
            let health = health(&candidate, spec, rule);
            PoolDevice { options: rule.options(), candidate, health }
        }
        None => {
            let refusal = spec.rules.iter().find_map(|rule| rule.take_held(&candidate).err());
            let why = refusal
                .map_or_else(|| "the pool has no rule any more".to_owned(), |refusal| refusal.to_string());
            let options = spec.rules.first().map(Rule::options).unwrap_or_default();
            PoolDevice { candidate, options, health: Health::Unhealthy { why } }
        }
    }
}

fn health(candidate: &Candidate, spec: &PoolSpec, rule: &Rule) -> Health {
    let no_link =
        || (spec.carrier && candidate.pf_carrier == Some(false)).then(|| "its PF has no link".to_owned());
    let no_driver = || candidate.driver.is_none().then(|| "no driver is bound to it".to_owned());
    match rule.unhealthy(candidate).or_else(no_driver).or_else(no_link) {
        Some(why) => Health::Unhealthy { why },
        None => Health::Healthy,
    }
}

/// Whether a pool of this type can have the device at all; if not, why.
pub(super) fn fit(candidate: &Candidate, device_type: DeviceType) -> Result<(), String> {
    if candidate.driver.is_none() {
        return Err("no driver is bound to it".to_owned());
    }
    match device_type {
        DeviceType::NetDevice => {
            if let Some(aux) = &candidate.aux {
                return Err(format!("it is an auxiliary device ({aux}), which `auxNetDevice` pools take"));
            }
            class(candidate, "02", "network")?;
            if candidate.has_vfs {
                return Err("it is a PF with VFs; its VFs are the devices".to_owned());
            }
            match &candidate.management {
                Some(why) => Err(format!("the node needs it: it {why}")),
                None => Ok(()),
            }
        }
        DeviceType::Accelerator => class(candidate, "12", "accelerator"),
        DeviceType::AuxNetDevice => {
            if candidate.aux.is_none() {
                return Err("it is no auxiliary device".to_owned());
            }
            class(candidate, "02", "network")?;
            if candidate.index.is_none() {
                return Err("it has no sfnum".to_owned());
            }
            if candidate.pf_name.is_none() {
                return Err("its PF has no netdev".to_owned());
            }
            Ok(())
        }
    }
}

fn class(candidate: &Candidate, wanted: &str, word: &str) -> Result<(), String> {
    match &candidate.class {
        Some(class) if class.starts_with(wanted) => Ok(()),
        Some(class) => Err(format!("its class is {class}, no {word} class ({wanted}xxxx)")),
        // A function whose class could not be read is known as a PF or VF all the same.
        None if wanted == "02" => Ok(()),
        None => Err("its class could not be read".to_owned()),
    }
}
