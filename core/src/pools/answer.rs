//! The texts that a container is given: environment variables as sriov-network-device-plugin makes them, the device
//! information file for CNI plugins (NPWG Device Information Specification 1.1.0), and the CDI specification.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use super::assign::PoolDevice;
use super::config::{AdditionalInfo, DeviceType};
use super::spec::{ResourceName, Vdpa};

/// A device node that a container gets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Path on the host.
    pub host: String,
    /// Path in the container.
    pub container: String,
}

impl Node {
    /// The same path on both sides.
    pub fn same(path: impl Into<String>) -> Node {
        let path = path.into();
        Node { host: path.clone(), container: path }
    }
}

/// What was found of one device at the time of Allocate: its nodes, and what is told of them by provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Device nodes in the order in which they are given.
    pub nodes: Vec<Node>,
    /// Provider (`vfio`) to keys (`dev-mount`) and paths.
    pub info: BTreeMap<String, BTreeMap<String, String>>,
    /// RDMA devices, for the device information file.
    pub rdma: Vec<String>,
    /// Path of the vhost-vDPA file.
    pub vdpa_path: Option<String>,
}

impl Resolved {
    /// Adds what a provider tells.
    pub fn tell(&mut self, provider: &str, key: &str, value: impl Into<String>) {
        self.info.entry(provider.to_owned()).or_default().insert(key.to_owned(), value.into());
    }
}

/// Environment variables of a container that gets these devices, in the order of the request.
pub fn environment(
    resource: &ResourceName,
    device_type: DeviceType,
    additional: &AdditionalInfo,
    devices: &[(&PoolDevice, &Resolved)],
) -> BTreeMap<String, String> {
    let ids: Vec<&str> = devices.iter().map(|(device, _)| device.id()).collect();
    let mut info: BTreeMap<&str, BTreeMap<String, BTreeMap<String, String>>> = BTreeMap::new();
    for (device, resolved) in devices {
        let mut of_device = resolved.info.clone();
        let generic = of_device.entry("generic".to_owned()).or_default();
        generic.insert("deviceID".to_owned(), device.id().to_owned());
        if let Some(extra) = extra(additional, device, device_type) {
            of_device.insert("extra".to_owned(), extra);
        }
        info.insert(device.id(), of_device);
    }
    let info = serde_json::to_string(&info).unwrap_or_default();
    let name = variable(resource);
    let mut variables = BTreeMap::new();
    // Most shells cannot read a name with a hyphen: the same under one that they can.
    for name in BTreeSet::from([name.replace('-', "_"), name]) {
        variables.insert(format!("{name}_INFO"), info.clone());
        variables.insert(name, ids.join(","));
    }
    variables
}

/// `PCIDEVICE_<PREFIX>_<NAME>`: dots become `_`, hyphens stay.
pub fn variable(resource: &ResourceName) -> String {
    format!("PCIDEVICE_{}_{}", resource.prefix, resource.name).replace('.', "_").to_uppercase()
}

/// `additionalInfo` of a device: its own entry over `*`. A sub-function goes by its parent's address, as upstream, or by
/// its own name.
fn extra(
    additional: &AdditionalInfo,
    device: &PoolDevice,
    device_type: DeviceType,
) -> Option<BTreeMap<String, String>> {
    if additional.is_empty() {
        return None;
    }
    let parent = match device_type {
        DeviceType::AuxNetDevice => device.candidate.address.map(|address| address.to_string()),
        DeviceType::NetDevice | DeviceType::Accelerator => None,
    };
    let keys = [Some("*"), parent.as_deref(), Some(device.id())];
    let mut merged: Option<BTreeMap<String, String>> = None;
    for entry in keys.into_iter().flatten().filter_map(|key| additional.get(key)) {
        merged.get_or_insert_default().extend(entry.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    merged
}

/// File name of a device's information.
pub fn device_info_name(resource: &ResourceName, id: &str) -> String {
    format!("{}-{}-{id}-device.json", resource.prefix, resource.name).replace('/', "-")
}

/// Content of a device's information; none for accelerators and sub-functions, as upstream.
pub fn device_info(device_type: DeviceType, device: &PoolDevice, resolved: &Resolved) -> Option<Value> {
    match device_type {
        DeviceType::NetDevice => {}
        DeviceType::Accelerator | DeviceType::AuxNetDevice => return None,
    }
    let candidate = &device.candidate;
    let mut content = serde_json::Map::new();
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            content.insert(key.to_owned(), Value::String(value));
        }
    };
    let kind = match (device.options.vdpa, &candidate.vdpa) {
        (Some(vdpa), Some(name)) => {
            put("parent-device", Some(name.clone()));
            put(
                "driver",
                Some(match vdpa {
                    Vdpa::Vhost => "vhost".to_owned(),
                    Vdpa::Virtio => "virtio".to_owned(),
                }),
            );
            put("path", resolved.vdpa_path.clone());
            "vdpa"
        }
        (Some(_), None) | (None, _) => {
            put("rdma-device", (!resolved.rdma.is_empty()).then(|| resolved.rdma.join(",")));
            if device.options.vhost_net && resolved.info.contains_key("vhost") {
                put("vhost-net", Some("/dev/vhost-net".to_owned()));
            }
            "pci"
        }
    };
    put("pci-address", Some(device.id().to_owned()));
    put("pf-pci-address", candidate.pf.map(|address| address.to_string()));
    put("representor-device", candidate.representor.clone());
    Some(json!({"type": kind, "version": "1.1.0", kind: content}))
}

/// `vendor/class` of a pool's CDI devices.
pub fn cdi_kind(resource: &ResourceName, device_type: DeviceType) -> String {
    let class = match device_type {
        DeviceType::NetDevice => "net-pci",
        DeviceType::Accelerator => "net-accel",
        DeviceType::AuxNetDevice => "net-sf",
    };
    format!("{}/{class}", resource.prefix)
}

/// File name of a pool's CDI specification.
pub fn cdi_file_name(resource: &ResourceName, device_type: DeviceType) -> String {
    format!("sriov-dp-{}-{}.json", cdi_kind(resource, device_type).replace('/', "-"), resource.name)
}

/// Annotation with a container's CDI devices, for runtimes that do not know the field. The key is the pool's own: two
/// pools of one prefix must both reach the container.
pub fn cdi_annotation(resource: &ResourceName, device_type: DeviceType, ids: &[&str]) -> (String, String) {
    let kind = cdi_kind(resource, device_type);
    let key: String = format!("{}_{}", resource.prefix, resource.name).replace('/', "_");
    // A key's name has at most 63 characters.
    let cut = key.char_indices().nth(63).map_or(key.len(), |(at, _)| at);
    let key = key.get(..cut).unwrap_or(&key).trim_end_matches(['.', '-', '_']).to_owned();
    let names: Vec<String> = ids.iter().map(|id| format!("{kind}={id}")).collect();
    (format!("cdi.k8s.io/{key}"), names.join(","))
}

/// CDI specification of devices with their nodes. Devices without any are left out, as an empty one would make the runtime
/// refuse all.
pub fn cdi_spec(
    resource: &ResourceName,
    device_type: DeviceType,
    devices: &BTreeMap<String, Vec<Node>>,
) -> Value {
    let node = |node: &Node| json!({"path": node.container, "hostPath": node.host, "permissions": "rw"});
    let with_nodes = devices.iter().filter(|(_, nodes)| !nodes.is_empty());
    let entries: Vec<Value> = with_nodes
        .map(|(id, nodes)| {
            let nodes: Vec<Value> = nodes.iter().map(node).collect();
            json!({"name": id, "containerEdits": {"deviceNodes": nodes}})
        })
        .collect();
    json!({"cdiVersion": "0.5.0", "kind": cdi_kind(resource, device_type), "devices": entries})
}
