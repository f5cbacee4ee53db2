//! Files for others: device information for CNI plugins and CDI specifications for the container runtime. Both are below
//! `/var/run`, written whole, and kept as long as a pod has the device.

use std::collections::BTreeMap;
use std::path::PathBuf;

use portwright_core::pools::answer::{self, Node};
use portwright_core::pools::config::DeviceType;
use portwright_core::pools::{Pool, ResourceName};
use portwright_host::root::Root;
use portwright_host::write::{self, WriteError};
use serde_json::Value;

const DEVICE_INFO: &str = "var/run/k8s.cni.cncf.io/devinfo/dp";
const CDI: &str = "var/run/cdi";
/// A specification of 4,096 devices has about 1 MB.
const CDI_LIMIT: usize = 64 << 20;

/// Writes a device's information.
pub(crate) fn write_device_info(
    root: &Root,
    resource: &ResourceName,
    id: &str,
    content: &Value,
) -> Result<(), WriteError> {
    let path = root.join(DEVICE_INFO).join(answer::device_info_name(resource, id));
    write::replace_volatile(&path, content.to_string().as_bytes(), 0o444, 0o755)
}

/// Removes the information of a pool's devices that nobody has.
pub(crate) fn sweep_device_info(root: &Root, pool: &Pool, held: &BTreeMap<String, ResourceName>) {
    let resource = &pool.spec.resource;
    // A name that is the beginning of another's must not take the other's files: ids are compared too.
    let prefix = format!("{}-{}-", resource.prefix, resource.name);
    for name in root.names(DEVICE_INFO).unwrap_or_default() {
        let id = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix("-device.json"));
        let Some(id) = id.filter(|id| id.parse::<portwright_core::PciAddress>().is_ok()) else { continue };
        if !held.contains_key(id) {
            removed(write::remove(&root.join(DEVICE_INFO).join(&name)));
        }
    }
}

/// The nodes of a pool's devices in its CDI specification, as far as it can be read.
pub(crate) fn read_cdi(
    root: &Root,
    resource: &ResourceName,
    kind: DeviceType,
) -> BTreeMap<String, Vec<Node>> {
    let text = root.document(format!("{CDI}/{}", answer::cdi_file_name(resource, kind)), CDI_LIMIT);
    let spec: Value = text.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let node = |value: &Value| Some(Node { container: text(value, "path")?, host: text(value, "hostPath")? });
    let device = |value: &Value| {
        let nodes = value.pointer("/containerEdits/deviceNodes")?.as_array()?;
        Some((text(value, "name")?, nodes.iter().filter_map(node).collect()))
    };
    let devices = spec.get("devices").and_then(Value::as_array);
    devices.into_iter().flatten().filter_map(device).collect()
}

/// Writes a pool's CDI specification; one without devices is removed.
pub(crate) fn write_cdi(
    root: &Root,
    resource: &ResourceName,
    kind: DeviceType,
    devices: &BTreeMap<String, Vec<Node>>,
) -> Result<(), WriteError> {
    let path: PathBuf = root.join(CDI).join(answer::cdi_file_name(resource, kind));
    if devices.values().all(Vec::is_empty) {
        return write::remove(&path);
    }
    let spec = answer::cdi_spec(resource, kind, devices);
    write::replace_volatile(&path, spec.to_string().as_bytes(), 0o644, 0o755)
}

/// A file that stays behind is told and harms nobody.
fn removed(result: Result<(), WriteError>) {
    if let Err(error) = result {
        tracing::warn!(error = portwright_core::drive::chain(&error), "a file of ours stays behind");
    }
}
