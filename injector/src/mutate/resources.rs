//! Resource requests: how much of what is added to which container.

use std::collections::BTreeMap;

use serde_json::Value;

use super::target::{Slot, running};
use super::{Add, Refusal, podnetinfo};
use crate::pod::{Container, Pod};
use crate::quantity;
use crate::switches::Existing;

/// Remembers, in mode [`Existing::Add`], how much was added already: a JSON object of resource → count.
pub const MARKER: &str = "portwright.dev/injected";

/// How much of each resource each container is to get, from the pod's networks.
pub(super) type Needs = BTreeMap<String, BTreeMap<Slot, u64>>;

/// What one container's entry for a resource becomes: `(request, limit)`.
type Sets = BTreeMap<Slot, BTreeMap<String, (u64, u64)>>;

/// What [`plan`] found out.
#[derive(Default)]
pub(super) struct Planned {
    sets: Sets,
    /// The marker annotation's new value, if it has to change.
    pub(super) marker: Option<String>,
    pub(super) warnings: Vec<String>,
}

/// Decides what each container's amounts become.
///
/// # Errors
/// An amount that has to be added to is no whole number.
pub(super) fn plan(pod: &Pod, needs: &Needs, existing: Existing) -> Result<Planned, Refusal> {
    let mut planned = Planned::default();
    let mut marker = read_marker(pod, existing, &mut planned.warnings);
    let mut marker_changed = false;
    for (resource, shares) in needs {
        let total: u64 = shares.values().sum();
        let present = running(pod).any(|(_, container)| container.amounts(resource) != (None, None));
        if existing == Existing::Skip {
            if present {
                warn_if_short(pod, resource, total, &mut planned.warnings);
            } else {
                for (slot, count) in shares {
                    planned.set(*slot, resource, (*count, *count));
                }
            }
            continue;
        }
        let mut have: u64 = 0;
        for (_, container) in running(pod) {
            have = have.saturating_add(amounts(container, resource)?.0);
        }
        let done = match existing {
            Existing::TopUp => have,
            // A marker that claims more than is there was copied from elsewhere.
            Existing::Add => marker.get(resource).copied().unwrap_or(0).min(have),
            Existing::Skip => total,
        };
        let mut missing = total.saturating_sub(done);
        if missing > 0 && existing == Existing::Add {
            if have >= total && pod.annotation(MARKER).is_none() && podnetinfo::is_there(pod) {
                planned.warnings.push(format!(
                    "{resource}: another injector may have added {total} of {have}; --existing-resources=add adds as many"
                ));
            }
            marker.insert(resource.clone(), total);
            marker_changed = true;
        }
        for (slot, share) in shares {
            let more = missing.min(*share);
            missing -= more;
            if more > 0 {
                let (request, limit) =
                    container_at(pod, *slot).map_or(Ok((0, 0)), |c| amounts(c, resource))?;
                planned.set(*slot, resource, (request.saturating_add(more), limit.saturating_add(more)));
            }
        }
    }
    if marker_changed {
        planned.marker = serde_json::to_string(&marker).ok();
    }
    Ok(planned)
}

impl Planned {
    fn set(&mut self, slot: Slot, resource: &str, amounts: (u64, u64)) {
        self.sets.entry(slot).or_default().insert(resource.to_owned(), amounts);
    }

    /// Writes the operations, making absent maps first.
    pub(super) fn add_to(&self, pod: &Pod, patch: &mut Vec<Add>) {
        for (slot, resources) in &self.sets {
            let (list, index) = slot.tokens();
            let at = |rest: &[&str], value: Value| {
                let mut tokens = vec!["spec", list, index.as_str(), "resources"];
                tokens.extend_from_slice(rest);
                Add::at(&tokens, value)
            };
            let own = container_at(pod, *slot).and_then(|container| container.resources.as_ref());
            if own.is_none() {
                patch.push(at(&[], Value::Object(serde_json::Map::new())));
            }
            let maps = [
                ("requests", own.is_some_and(|own| own.requests.is_some())),
                ("limits", own.is_some_and(|own| own.limits.is_some())),
            ];
            for (name, _) in maps.iter().filter(|(_, present)| !present) {
                patch.push(at(&[name], Value::Object(serde_json::Map::new())));
            }
            for (resource, (request, limit)) in resources {
                patch.push(at(&["requests", resource], request.to_string().into()));
                patch.push(at(&["limits", resource], limit.to_string().into()));
            }
        }
    }
}

fn container_at(pod: &Pod, slot: Slot) -> Option<&Container> {
    match slot {
        Slot::App(index) => pod.spec.containers.get(index)?.as_ref(),
        Slot::Init(index) => pod.spec.init_containers.get(index)?.as_ref(),
    }
}

/// `(request, limit)`; where one is absent the API server's defaulting makes it the other.
fn amounts(container: &Container, resource: &str) -> Result<(u64, u64), Refusal> {
    let count = |text: &str| {
        quantity::whole(text).ok_or_else(|| Refusal::BadAmount {
            container: container.name.clone(),
            resource: resource.to_owned(),
            amount: crate::review::shorten(text, 40),
        })
    };
    let (request, limit) = container.amounts(resource);
    let request = request.or(limit).map_or(Ok(0), count)?;
    let limit = limit.map_or(Ok(request), count)?;
    Ok((request, limit))
}

fn warn_if_short(pod: &Pod, resource: &str, needed: u64, warnings: &mut Vec<String>) {
    let have: u64 = running(pod)
        .filter_map(|(_, container)| amounts(container, resource).ok())
        .fold(0, |sum, (request, _)| sum.saturating_add(request));
    if have < needed {
        warnings
            .push(format!("{resource}: the pod asks for {have}, its networks need {needed}; left as it is"));
    }
}

fn read_marker(pod: &Pod, existing: Existing, warnings: &mut Vec<String>) -> BTreeMap<String, u64> {
    let Some(text) = pod.annotation(MARKER).filter(|_| existing == Existing::Add) else {
        return BTreeMap::new();
    };
    serde_json::from_str(text).unwrap_or_else(|_| {
        warnings
            .push(format!("{MARKER} is the injector's own annotation; its value is unreadable and not used"));
        BTreeMap::new()
    })
}
