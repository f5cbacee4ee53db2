//! The downward-API volume `podnetinfo`: labels, annotations (with the network status that Multus writes) and
//! hugepage amounts as files for applications that set up their own devices.

use serde_json::{Value, json};

use super::Add;
use crate::pod::{Container, Named, Pod, VolumeMount};
use crate::quantity;

const VOLUME: &str = "podnetinfo";
const MOUNT_PATH: &str = "/etc/podnetinfo";
const NAME_VARIABLE: &str = "CONTAINER_NAME";

/// Whether the pod has the volume already: this injector or another has seen it.
pub(super) fn is_there(pod: &Pod) -> bool {
    pod.spec.volumes.iter().flatten().flatten().any(|volume| volume.name == VOLUME)
}

/// Adds the volume, its mounts and, with `hugepages`, the files and variables that go with hugepages.
pub(super) fn add(
    pod: &Pod,
    annotated: bool,
    hugepages: bool,
    patch: &mut Vec<Add>,
    warnings: &mut Vec<String>,
) {
    let mut items: Vec<Value> = Vec::new();
    if pod.metadata.labels.as_ref().is_some_and(|labels| !labels.is_empty()) {
        items.push(json!({"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}));
    }
    if annotated {
        items.push(json!({"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}}));
    }
    let mut mounted = false;
    for (index, container) in pod.spec.containers.iter().enumerate() {
        let Some(container) = container else { continue };
        let index = index.to_string();
        if hugepages {
            let files = hugepage_items(container);
            if !files.is_empty() {
                add_name_variable(container, &index, patch);
            }
            items.extend(files);
        }
        mounted |= add_mount(container, &index, patch, warnings);
    }
    if mounted {
        add_volume(pod, items, patch);
    }
}

/// Mounts the volume; false if something else is mounted there, which the API server would refuse.
fn add_mount(container: &Container, index: &str, patch: &mut Vec<Add>, warnings: &mut Vec<String>) -> bool {
    let mounts = container.volume_mounts.as_deref();
    let mut own = mounts.unwrap_or_default().iter().flatten();
    let there = |mount: &VolumeMount| mount.mount_path.trim_end_matches('/') == MOUNT_PATH;
    let mut named = own.clone().filter(|mount| mount.name == VOLUME).peekable();
    if let Some(first) = named.peek().copied() {
        let elsewhere = &first.mount_path;
        if !named.any(there) {
            warnings.push(format!(
                "container {:?} mounts a volume of its own named {VOLUME} at {elsewhere:?}; nothing is added at {MOUNT_PATH}",
                container.name
            ));
        }
        return true;
    }
    if own.any(there) {
        warnings.push(format!(
            "container {:?} has a volume of its own at {MOUNT_PATH}; {VOLUME} is not mounted there",
            container.name
        ));
        return false;
    }
    if mounts.is_none() {
        patch.push(Add::at(&["spec", "containers", index, "volumeMounts"], json!([])));
    }
    let mount = json!({"name": VOLUME, "readOnly": true, "mountPath": MOUNT_PATH});
    patch.push(Add::at(&["spec", "containers", index, "volumeMounts", "-"], mount));
    true
}

fn add_volume(pod: &Pod, items: Vec<Value>, patch: &mut Vec<Add>) {
    let volumes = pod.spec.volumes.as_deref();
    if is_there(pod) {
        return;
    }
    if volumes.is_none() {
        patch.push(Add::at(&["spec", "volumes"], json!([])));
    }
    let volume = json!({"name": VOLUME, "downwardAPI": {"items": items}});
    patch.push(Add::at(&["spec", "volumes", "-"], volume));
}

fn add_name_variable(container: &Container, index: &str, patch: &mut Vec<Add>) {
    let env = container.env.as_deref();
    let named = |variable: &Named| variable.name == NAME_VARIABLE;
    if env.unwrap_or_default().iter().flatten().any(named) {
        return;
    }
    if env.is_none() {
        patch.push(Add::at(&["spec", "containers", index, "env"], json!([])));
    }
    let variable = json!({"name": NAME_VARIABLE, "value": container.name});
    patch.push(Add::at(&["spec", "containers", index, "env", "-"], variable));
}

/// One file per page size and direction that the container asks for, in MiB.
fn hugepage_items(container: &Container) -> Vec<Value> {
    let Some(resources) = &container.resources else { return Vec::new() };
    let mut items = Vec::new();
    for (map, file, field) in
        [(&resources.requests, "request", "requests"), (&resources.limits, "limit", "limits")]
    {
        for (resource, amount) in map.iter().flatten() {
            let Some(size) = resource.strip_prefix("hugepages-") else { continue };
            if quantity::is_zero(&amount.0) {
                continue;
            }
            let size = size.strip_suffix('i').unwrap_or(size);
            items.push(json!({
                "path": format!("hugepages_{size}_{file}_{}", container.name),
                "resourceFieldRef": {
                    "containerName": container.name, "resource": format!("{field}.{resource}"), "divisor": "1Mi",
                },
            }));
        }
    }
    items
}
