//! The own Node, as far as the daemon needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kube::api::DynamicObject;
use serde_json::Value as Json;

/// What the API server says about the own Node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeView {
    /// `metadata.uid`: another one means that the Node was made anew.
    pub uid: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// `status.capacity`.
    pub capacity: BTreeMap<String, String>,
    /// `status.allocatable`.
    pub allocatable: BTreeMap<String, String>,
    /// `status.addresses`, names left out.
    pub addresses: BTreeSet<IpAddr>,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
}

impl NodeView {
    /// Reads an object; what is not there or of another type is left out.
    pub fn read(node: &DynamicObject) -> NodeView {
        let amounts = |path: &str| {
            let amounts = node.data.pointer(path).and_then(Json::as_object);
            let pairs = amounts.into_iter().flatten();
            pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
        };
        let addresses = node.data.pointer("/status/addresses").and_then(Json::as_array);
        let address = |entry: &Json| entry.get("address")?.as_str()?.parse().ok();
        let metadata = &node.metadata;
        NodeView {
            uid: metadata.uid.clone().unwrap_or_default(),
            labels: metadata.labels.clone().unwrap_or_default(),
            annotations: metadata.annotations.clone().unwrap_or_default(),
            capacity: amounts("/status/capacity"),
            allocatable: amounts("/status/allocatable"),
            addresses: addresses.into_iter().flatten().filter_map(address).collect(),
            unschedulable: node.data.pointer("/spec/unschedulable") == Some(&Json::Bool(true)),
        }
    }
}
