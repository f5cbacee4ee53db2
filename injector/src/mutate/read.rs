//! From a pod to the networks it wants.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Attachment, INJECT, MIRROR, Refusal, Settings, Skipped, Wish, namespace_of};
use crate::pod::Pod;
use crate::selection::{self, DEFAULT_NETWORK, Element, NETWORKS, NetworkName};
use crate::switches::Switches;

/// Finds out what a pod wants: its own annotations, overridden by user-defined injections that its labels ask for.
///
/// # Errors
/// An annotation can never work, or names a network the pod may not use.
pub fn read(
    pod: &Pod,
    request_namespace: &str,
    switches: &Switches,
    settings: &Settings,
) -> Result<Wish, Refusal> {
    let mut wish = Wish { skipped: skipped(pod), ..Wish::default() };
    if wish.skipped.is_some() {
        if wish.skipped == Some(Skipped::HostNetwork)
            && pod.annotation(NETWORKS).is_some_and(|text| !text.is_empty())
        {
            wish.warnings.push(format!("{NETWORKS} has no effect on a pod with hostNetwork"));
        }
        return Ok(wish);
    }
    if let Some(other) = pod.annotation(INJECT).filter(|text| *text != "true") {
        wish.warnings.push(format!("{INJECT}: {other:?} has no meaning; \"false\" opts out"));
    }
    wish.annotations = injected_annotations(pod, switches, &mut wish.warnings);

    let namespace = namespace_of(pod, request_namespace);
    let default_namespace =
        if settings.default_network_in_pod_namespace { namespace } else { &settings.multus_namespace };
    let mut gateways = Vec::new();
    for (key, fallback) in [(DEFAULT_NETWORK, default_namespace), (NETWORKS, namespace)] {
        let injected = wish.annotations.get(key).map(String::as_str);
        let text = injected.or_else(|| pod.annotation(key)).unwrap_or_default();
        let found = selection::parse(text).map_err(|problem| Refusal::BadAnnotation { key, problem })?;
        if key == DEFAULT_NETWORK && found.elements.len() > 1 {
            return Err(Refusal::SeveralDefaults { count: found.elements.len() });
        }
        wish.warnings.extend(found.warnings);
        for Element { namespace: own, name, interface: _, gateways: more } in found.elements {
            gateways.extend(more);
            let in_namespace = if own.is_empty() { fallback.to_owned() } else { own };
            let network = NetworkName { namespace: in_namespace, name };
            if key == NETWORKS {
                check_isolation(&network, namespace, settings)?;
            }
            wish.attachments.push(Attachment { network, key });
        }
    }
    check_gateways(&gateways)?;
    Ok(wish)
}

fn skipped(pod: &Pod) -> Option<Skipped> {
    if pod.annotation(INJECT) == Some("false") {
        Some(Skipped::OptOut)
    } else if pod.annotation(MIRROR).is_some() {
        Some(Skipped::Mirror)
    } else if pod.spec.host_network {
        Some(Skipped::HostNetwork)
    } else if pod.spec.containers.iter().all(Option::is_none) {
        Some(Skipped::NoContainers)
    } else {
        None
    }
}

/// Annotations of all injections whose label the pod carries as `true`, in the order of their labels; only those that
/// differ from what the pod has.
fn injected_annotations(
    pod: &Pod,
    switches: &Switches,
    warnings: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let mut merged: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    let Some(labels) = &pod.metadata.labels else { return BTreeMap::new() };
    for (label, annotations) in &switches.injections {
        if !labels.get(label).is_some_and(|value| value.0.eq_ignore_ascii_case("true")) {
            continue;
        }
        for (key, value) in annotations {
            if let Some((other, _)) = merged.insert(key, (label, value)).filter(|(_, old)| old != value) {
                warnings.push(format!("labels {other} and {label} both set annotation {key}; {label} wins"));
            }
        }
    }
    merged
        .into_iter()
        .filter(|(key, (_, value))| pod.annotation(key) != Some(*value))
        .map(|(key, (_, value))| (key.to_owned(), value.to_owned()))
        .collect()
}

fn check_isolation(network: &NetworkName, pod_namespace: &str, settings: &Settings) -> Result<(), Refusal> {
    let Some(global) = &settings.isolation else { return Ok(()) };
    if network.namespace == pod_namespace || global.contains(&network.namespace) {
        return Ok(());
    }
    Err(Refusal::Isolated { network: network.to_string(), pod_namespace: pod_namespace.to_owned() })
}

/// Multus sets one IPv4 and one IPv6 default gateway at most, over all networks of a pod.
fn check_gateways(gateways: &[Option<IpAddr>]) -> Result<(), Refusal> {
    let is_v4 = |ip: &Option<IpAddr>| match ip {
        Some(IpAddr::V4(_)) => true,
        Some(IpAddr::V6(ip)) => ip.to_ipv4_mapped().is_some(),
        None => false,
    };
    let v4 = gateways.iter().filter(|ip| is_v4(ip)).count();
    for (family, count) in [("IPv4", v4), ("IPv6", gateways.len() - v4)] {
        if count > 1 {
            return Err(Refusal::SeveralGateways { family, count });
        }
    }
    Ok(())
}
