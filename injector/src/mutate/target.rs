//! Which container asks for a network's devices.
//!
//! Multus collects the devices of all containers of a pod, so for the network any container will do; for the
//! application it is the one that gets the device files and the `PCIDEVICE_…` variables. That is the first container
//! unless a service mesh put its proxy there, or unless the pod says which.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Refusal, Settings};
use crate::pod::{Container, Pod};
use crate::selection::NetworkName;

/// Names the container that gets the devices, or, as a JSON object, one per network.
pub const CONTAINER: &str = "portwright.dev/container";

/// Where a container stands in the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    /// Index in `spec.containers`.
    App(usize),
    /// Index in `spec.initContainers`, for those that keep running.
    Init(usize),
}

impl Slot {
    /// The list's name and the index as pointer tokens.
    pub(super) fn tokens(self) -> (&'static str, String) {
        match self {
            Self::App(index) => ("containers", index.to_string()),
            Self::Init(index) => ("initContainers", index.to_string()),
        }
    }
}

/// Containers whose devices Multus will see, in the order in which they are looked at.
pub(super) fn running(pod: &Pod) -> impl Iterator<Item = (Slot, &Container)> {
    let apps = pod.spec.containers.iter().enumerate().filter_map(|(i, c)| Some((Slot::App(i), c.as_ref()?)));
    let sidecars =
        pod.spec.init_containers.iter().enumerate().filter_map(|(i, c)| Some((Slot::Init(i), c.as_ref()?)));
    apps.chain(sidecars.filter(|(_, container)| container.is_restartable()))
}

/// The pod's choice of containers.
pub(super) struct Targets {
    fallback: Slot,
    by_network: BTreeMap<String, Slot>,
    used: BTreeSet<String>,
}

impl Targets {
    /// Reads the pod's annotation; `annotation` is its effective value.
    pub(super) fn read(pod: &Pod, annotation: Option<&str>, settings: &Settings) -> Result<Self, Refusal> {
        let mut targets =
            Self { fallback: first(pod, settings), by_network: BTreeMap::new(), used: BTreeSet::new() };
        let Some(text) = annotation.map(str::trim).filter(|text| !text.is_empty()) else {
            return Ok(targets);
        };
        if !text.starts_with('{') {
            targets.fallback = find(pod, text)?;
            return Ok(targets);
        }
        let bad = |problem: String| Refusal::BadContainerAnnotation { problem };
        let map: BTreeMap<String, Value> = serde_json::from_str(text)
            .map_err(|error| bad(format!("no JSON object of network: container: {error}")))?;
        for (network, container) in map {
            let Some(container) = container.as_str() else {
                return Err(bad(format!("the container of network {network:?} must be a string")));
            };
            let slot = find(pod, container)?;
            targets.by_network.insert(network, slot);
        }
        Ok(targets)
    }

    /// The container for one network; it may be named with or without its namespace.
    pub(super) fn of(&mut self, network: &NetworkName) -> Slot {
        for key in [network.to_string(), network.name.clone()] {
            if let Some(slot) = self.by_network.get(&key) {
                self.used.insert(key);
                return *slot;
            }
        }
        self.fallback
    }

    /// Networks that the annotation names and the pod does not have.
    pub(super) fn unused(&self) -> impl Iterator<Item = &str> {
        self.by_network.keys().filter(|key| !self.used.contains(*key)).map(String::as_str)
    }
}

/// The first container that is no known sidecar, or the first of all.
fn first(pod: &Pod, settings: &Settings) -> Slot {
    let apps = || pod.spec.containers.iter().enumerate().filter_map(|(i, c)| Some((i, c.as_ref()?)));
    let own = apps().find(|(_, container)| !settings.sidecars.contains(&container.name));
    Slot::App(own.or_else(|| apps().next()).map_or(0, |(index, _)| index))
}

fn find(pod: &Pod, name: &str) -> Result<Slot, Refusal> {
    if let Some((slot, _)) = running(pod).find(|(_, container)| container.name == name) {
        return Ok(slot);
    }
    let known: Vec<&str> = running(pod).map(|(_, container)| container.name.as_str()).collect();
    Err(Refusal::BadContainerAnnotation {
        problem: format!("the pod has no running container {name:?}; it has {}", known.join(", ")),
    })
}
