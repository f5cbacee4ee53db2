//! From wished networks and what is known of them to a patch.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::resources::{self, MARKER, Needs};
use super::target::Targets;
use super::{Add, Attachment, CONTAINER, Mutation, Networks, Refusal, Settings, Wish, podnetinfo, selector};
use crate::nad::Network;
use crate::pod::{Pod, ResourceClaim};
use crate::selection::NetworkName;
use crate::switches::Switches;

/// Decides what the pod lacks. `networks` holds what was looked up for `wish`; what is absent there does not exist.
///
/// # Errors
/// A network does not exist or cannot be used, selectors exclude each other, or the pod's own words make no sense.
pub fn inject(
    pod: &Pod,
    wish: Wish,
    networks: &Networks,
    switches: &Switches,
    settings: &Settings,
) -> Result<Mutation, Refusal> {
    let Wish { attachments, annotations, mut warnings, skipped } = wish;
    if skipped.is_some() {
        return Ok(Mutation { warnings, ..Mutation::default() });
    }
    let found = usable(&attachments, networks, settings, &mut warnings)?;

    let chosen = annotations.get(CONTAINER).map(String::as_str).or_else(|| pod.annotation(CONTAINER));
    let mut targets = Targets::read(pod, chosen, settings)?;
    let mut needs = Needs::new();
    let mut claims = BTreeSet::new();
    for (name, network) in &found {
        let slot = targets.of(name);
        if let Some(claim) = claimed(pod, name, network) {
            warnings.push(format!("network {name}: devices are left to resourceClaim {claim:?}"));
            claims.insert(claim);
            continue;
        }
        for resource in &network.resources {
            *needs.entry(resource.to_string()).or_default().entry(slot).or_default() += 1;
        }
    }
    for unused in targets.unused() {
        warnings.push(format!("{CONTAINER} names network {unused:?}, which the pod does not ask for"));
    }
    warn_of_claims(pod, &claims, &needs, &mut warnings);

    let planned = resources::plan(pod, &needs, switches.existing)?;
    let mut patch = Vec::new();
    let mut new_annotations = annotations;
    if let Some(marker) = &planned.marker {
        new_annotations.insert(MARKER.to_owned(), marker.clone());
    }
    let annotated =
        !new_annotations.is_empty() || pod.metadata.annotations.as_ref().is_some_and(|own| !own.is_empty());
    add_annotations(pod, new_annotations, &mut patch);
    planned.add_to(pod, &mut patch);
    warnings.extend(planned.warnings);
    if settings.podnetinfo && !needs.is_empty() {
        podnetinfo::add(pod, annotated, switches.hugepages, &mut patch, &mut warnings);
    }
    selector::add(pod, found.iter().map(|(name, network)| (*name, *network)), &mut patch)?;
    let needed = needs.into_iter().map(|(resource, shares)| (resource, shares.values().sum())).collect();
    Ok(Mutation { patch, warnings, needed })
}

/// The definitions behind the attachments, in their order, without those that may be missing.
fn usable<'a>(
    attachments: &'a [Attachment],
    networks: &'a Networks,
    settings: &Settings,
    warnings: &mut Vec<String>,
) -> Result<Vec<(&'a NetworkName, &'a Network)>, Refusal> {
    let mut found = Vec::new();
    for Attachment { network: name, key } in attachments {
        let Some(network) = networks.get(name).and_then(Option::as_ref) else {
            if settings.tolerate_missing {
                warnings
                    .push(format!("network {name} does not exist; the pod will wait for it when it starts"));
                continue;
            }
            return Err(Refusal::MissingNetwork { network: name.to_string(), key });
        };
        if let Some(problem) = &network.problem {
            return Err(Refusal::BadNetwork { network: name.to_string(), problem: problem.to_string() });
        }
        found.push((name, network.as_ref()));
    }
    Ok(found)
}

/// The pod's claim that stands for this network: one that bears the definition's name, or that of its resource.
fn claimed<'a>(pod: &'a Pod, name: &NetworkName, network: &Network) -> Option<&'a str> {
    let stands_for = |text: &str| {
        text == name.name
            || network
                .resources
                .iter()
                .any(|resource| resource.rsplit('/').next().is_some_and(|last| last == text))
    };
    pod.spec.resource_claims.iter().flatten().find_map(|claim| {
        let ResourceClaim { name, resource_claim_name, resource_claim_template_name } = claim;
        [name, resource_claim_name, resource_claim_template_name]
            .into_iter()
            .any(|text| stands_for(text))
            .then_some(name.as_str())
    })
}

/// A claim we cannot attribute may still be meant for a network; the user knows.
fn warn_of_claims(pod: &Pod, known: &BTreeSet<&str>, needs: &Needs, warnings: &mut Vec<String>) {
    let unknown =
        pod.spec.resource_claims.iter().flatten().find(|claim| !known.contains(claim.name.as_str()));
    if let Some(claim) = unknown.filter(|_| !needs.is_empty()) {
        warnings.push(format!(
            "resourceClaim {:?}: if it is for a network, name it as the network, or devices are asked for twice",
            claim.name
        ));
    }
}

fn add_annotations(pod: &Pod, annotations: BTreeMap<String, String>, patch: &mut Vec<Add>) {
    if annotations.is_empty() {
        return;
    }
    if pod.metadata.annotations.is_none() {
        let all: Map<String, Value> =
            annotations.into_iter().map(|(key, value)| (key, value.into())).collect();
        patch.push(Add::at(&["metadata", "annotations"], all.into()));
        return;
    }
    for (key, value) in annotations {
        patch.push(Add::at(&["metadata", "annotations", &key], value.into()));
    }
}
