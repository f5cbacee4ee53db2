//! Network-attachment definitions (`k8s.cni.cncf.io/v1`), folded into the few facts that pods need of them.
//!
//! A cluster may have ten thousand of these, each with kilobytes of CNI configuration and managed fields, so only the
//! folded record is kept. What is wrong with a definition is part of the record: it concerns those pods that name it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::selection::is_subdomain;

/// The annotation whose labels a pod of this network must find on its node.
pub const NODE_SELECTOR: &str = "k8s.v1.cni.cncf.io/nodeSelector";
/// The prefix under which ovs-cni's marker and portwright advertise OVS bridges.
pub const BRIDGE_PREFIX: &str = "ovs-cni.network.kubevirt.io";

/// A label's key and value.
pub type Label = (Box<str>, Box<str>);

/// How definitions are read; fixed at start.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Annotation keys that hold resource names, in order.
    pub keys: Vec<String>,
    /// Whether resources are also derived from `spec.config`; the prefix is for pools named without one.
    pub derive: Option<String>,
}

/// What pods need to know of one network-attachment definition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Extended resources that one attachment takes one of each; a name may stand here twice.
    pub resources: Box<[Box<str>]>,
    /// Labels that the node must have.
    pub selector: Box<[Label]>,
    /// Why no pod can use this definition, if so.
    pub problem: Option<Box<str>>,
}

/// The object as the API server sends it, reduced to what is read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NetworkAttachmentDefinition {
    /// Standard metadata.
    #[serde(default)]
    pub metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    /// The CNI configuration.
    #[serde(default)]
    pub spec: Option<NadSpec>,
}

/// `spec` of a network-attachment definition.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NadSpec {
    /// CNI configuration or configuration list, as JSON text.
    #[serde(default)]
    pub config: Option<String>,
}

impl kube::Resource for NetworkAttachmentDefinition {
    type DynamicType = ();
    type Scope = k8s_openapi::NamespaceResourceScope;

    fn kind((): &()) -> std::borrow::Cow<'_, str> {
        "NetworkAttachmentDefinition".into()
    }

    fn group((): &()) -> std::borrow::Cow<'_, str> {
        "k8s.cni.cncf.io".into()
    }

    fn version((): &()) -> std::borrow::Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> std::borrow::Cow<'_, str> {
        "network-attachment-definitions".into()
    }

    fn meta(&self) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
        &mut self.metadata
    }
}

impl Network {
    /// Folds a definition into its record.
    pub fn read(definition: &NetworkAttachmentDefinition, reading: &Reading) -> Self {
        let none = BTreeMap::new();
        let annotations = definition.metadata.annotations.as_ref().unwrap_or(&none);
        let config = definition.spec.as_ref().and_then(|spec| spec.config.as_deref());
        Self::from_parts(annotations, config, reading)
    }

    /// The same from the parts that count: annotations and the text of `spec.config`.
    pub fn from_parts(
        annotations: &BTreeMap<String, String>,
        config: Option<&str>,
        reading: &Reading,
    ) -> Self {
        let mut network = Self::default();
        let mut resources: Vec<Box<str>> = Vec::new();
        for key in &reading.keys {
            for name in annotations.get(key).map_or("", String::as_str).split(',').map(str::trim) {
                if name.is_empty() {
                    continue;
                }
                if let Err(why) = check_resource_name(name) {
                    network.problem =
                        Some(format!("annotation {key}: {name:?} is no resource name ({why})").into());
                }
                resources.push(name.into());
            }
        }
        if let (Some(prefix), Some(config)) = (&reading.derive, config) {
            let bridge = format!("{BRIDGE_PREFIX}/");
            let pools: Vec<_> = resources.iter().filter(|name| !name.starts_with(&bridge)).cloned().collect();
            for Derived { name, is_pool } in derived(config, prefix) {
                let is_known = resources.iter().any(|known| **known == *name)
                    || is_pool && pools.iter().any(|known| last_part(known) == last_part(&name));
                if check_resource_name(&name).is_ok() && !is_known {
                    resources.push(name.into());
                }
            }
        }
        network.resources = resources.into();
        match annotations.get(NODE_SELECTOR).map(|text| parse_selector(text)) {
            None => {}
            Some(Ok(selector)) => network.selector = selector.into(),
            Some(Err(why)) => network.problem = Some(format!("annotation {NODE_SELECTOR}: {why}").into()),
        }
        network
    }
}

/// Reads `key=value[,key=value…]`; a key alone stands for the label with an empty value.
fn parse_selector(text: &str) -> Result<Vec<Label>, String> {
    let mut labels: BTreeMap<&str, &str> = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').map_or((part, ""), |(key, value)| (key.trim(), value.trim()));
        if !is_qualified(key) {
            return Err(format!("{key:?} is no label key"));
        }
        if !(value.is_empty() || is_name_part(value)) {
            return Err(format!("{value:?} is no label value"));
        }
        if labels.insert(key, value).is_some_and(|other| other != value) {
            return Err(format!("label {key} is asked for with two values"));
        }
    }
    Ok(labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
}

/// A resource that a CNI configuration implies.
struct Derived {
    name: String,
    /// A pool of devices; a bridge otherwise.
    is_pool: bool,
}

/// What a CNI configuration implies: the bridge of an ovs network, the pool that an sriov network names. Multus takes
/// devices only from the resource in the annotation, so an annotation that names a pool of the same last part is about
/// the same pool, whatever the prefixes are, and the one that counts.
fn derived(config: &str, pool_prefix: &str) -> Vec<Derived> {
    let Ok(config) = serde_json::from_str::<Value>(config) else { return Vec::new() };
    let plugins = config.get("plugins").and_then(Value::as_array);
    let single = std::slice::from_ref(&config);
    let mut found = Vec::new();
    for plugin in plugins.map_or(single, Vec::as_slice) {
        let field = |name: &str| plugin.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let kind = field("type");
        if kind == Some("ovs") {
            let bridge = field("bridge").map(|bridge| format!("{BRIDGE_PREFIX}/{bridge}"));
            found.extend(bridge.map(|name| Derived { name, is_pool: false }));
        }
        if matches!(kind, Some("ovs" | "sriov" | "ib-sriov")) {
            let pool = field("resourceName").map(|name| qualified(name, pool_prefix));
            found.extend(pool.map(|name| Derived { name, is_pool: true }));
        }
    }
    found
}

fn last_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn qualified(name: &str, prefix: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("{prefix}/{name}") }
}

/// The domain of an extended resource may have this many characters: the API server puts `requests.` before the name and
/// wants a qualified name still.
const LONGEST_DOMAIN: usize = 244;

/// Extended resources are `domain/name`. Nothing else is a device or a bridge: `cpu` and hugepages are the pod's own
/// business, and the API server refuses what it calls native or keeps for quotas.
fn check_resource_name(name: &str) -> Result<(), &'static str> {
    let Some((domain, _)) = name.split_once('/') else { return Err("write DOMAIN/NAME") };
    if !is_qualified(name) {
        return Err("letters, digits, '-', '_' and '.' around one '/'");
    }
    if name.contains("kubernetes.io/") {
        return Err("the domain kubernetes.io is for Kubernetes' own resources");
    }
    if name.starts_with("requests.") {
        return Err("a domain must not start with `requests.`");
    }
    if domain.len() > LONGEST_DOMAIN {
        return Err("a domain may have at most 244 characters");
    }
    Ok(())
}

/// `[domain/]name` as labels, annotations and resources have it.
fn is_qualified(text: &str) -> bool {
    match text.split_once('/') {
        Some((domain, name)) => is_subdomain(domain) && is_name_part(name),
        None => is_name_part(text),
    }
}

fn is_name_part(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.len() <= 63
        && text.starts_with(edge)
        && text.ends_with(edge)
        && text.chars().all(|c| edge(c) || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::check_resource_name;

    /// The API server's rules for extended resources (`IsExtendedResourceName`), so that a mistake is said with the
    /// definition's name and not by a refusal of the pod.
    #[test]
    fn only_extended_resources_are_resource_names() {
        let domain = |length: usize| {
            ["a".repeat(60), "b".repeat(60), "c".repeat(60), "d".repeat(length - 183)].join(".")
        };
        let (longest, too_long) = (domain(244), domain(245));
        for good in ["intel.com/x", "a/b", "ovs-cni.network.kubevirt.io/br-1", &format!("{longest}/x")] {
            assert_eq!(check_resource_name(good), Ok(()), "{good}");
        }
        for bad in [
            "x",
            "cpu",
            "memory",
            "ephemeral-storage",
            "hugepages-2Mi",
            "kubernetes.io/x",
            "a.kubernetes.io/x",
            "requests.example.com/x",
            "requests.x/y",
            "a/b/c",
            "/x",
            "x/",
            "A/x",
            &format!("{too_long}/x"),
        ] {
            assert!(check_resource_name(bad).is_err(), "{bad}");
        }
    }
}
