//! Which pods have which devices: kubelet's pod resources, and its checkpoint where those cannot be asked or cannot be
//! trusted yet, which a [`Witness`] knows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portwright_core::PciAddress;
use portwright_core::drive::chain;
use portwright_core::observed::{Holder, Observed, Sight};
use portwright_core::pools::ResourceName;
use portwright_host::root::Root;
use portwright_proto::pod_resources::ListPodResourcesRequest;
use portwright_proto::pod_resources::pod_resources_lister_client::PodResourcesListerClient;
use serde::Deserialize;

use crate::kubelet::{self, KubeletError, Paths};
use crate::witness::Witness;

/// How long List may take. The look at the node waits for it; a kubelet that is well answers in milliseconds.
const LIST_WITHIN: Duration = Duration::from_secs(2);
/// One message per device, on big nodes some ten thousand.
const LARGEST_LIST: usize = 64 << 20;
/// 5,000 devices made 215 kB.
const LARGEST_CHECKPOINT: usize = 64 << 20;
/// Stands where a pod's namespace would, if only its UID is known.
pub const BY_UID: &str = "uid";

/// One device that a pod has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allocation {
    /// Device id.
    pub device: String,
    /// Resource, `<prefix>/<name>`.
    pub resource: String,
    /// Pod namespace; [`BY_UID`] if only the pod's UID is known.
    pub namespace: String,
    /// Pod name, or its UID.
    pub pod: String,
    /// Container.
    pub container: String,
}

/// All devices that pods have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allocations {
    /// Each of them.
    pub list: Vec<Allocation>,
    /// What the checkpoint has noted besides: devices of ordinary init containers, which List leaves out, and of pods that
    /// ended. It counts only for a device that somebody is seen to hold.
    pub noted: Vec<Allocation>,
    /// Why nothing can be said, although kubelet has given something out since boot: then every VF counts as in use.
    pub unknown: Option<String>,
}

impl Allocations {
    /// Resource by device id.
    pub fn by_device(&self) -> BTreeMap<String, ResourceName> {
        let entry = |allocation: &Allocation| {
            let (prefix, name) = allocation.resource.split_once('/')?;
            let resource = ResourceName { prefix: prefix.to_owned(), name: name.to_owned() };
            Some((allocation.device.clone(), resource))
        };
        self.list.iter().filter_map(entry).collect()
    }

    /// Adds pods to the holders of VFs, and of ports that are devices themselves or by their sub-functions. Any resource counts
    /// whose device ids are PCI addresses, or names of sub-functions.
    pub fn give(&self, observed: &mut Observed) {
        let (listed, noted) = (by_address(&self.list), by_address(&self.noted));
        for pf in &mut observed.pfs {
            let own = pf.address.to_string();
            let is_of = |device: &String| *device == own || pf.subfunctions.contains(device);
            let pods = self.list.iter().filter(|allocation| is_of(&allocation.device)).map(holder);
            pf.holders.extend(pods.collect::<Vec<_>>());
            pf.holders.sort();
            pf.holders.dedup();
        }
        for vf in observed.pfs.iter_mut().flat_map(|pf| &mut pf.vfs) {
            let evidence = if vf.holders.is_empty() { None } else { noted.get(&vf.address) };
            let pods = listed.get(&vf.address).or(evidence).into_iter().flatten();
            vf.holders.extend(pods.map(|allocation| holder(allocation)));
            vf.holders.sort();
            vf.holders.dedup();
        }
        if let (Some(why), Sight::Complete) = (&self.unknown, &observed.node.sight) {
            observed.node.sight = Sight::Partial { why: why.clone() };
        }
    }
}

fn holder(allocation: &Allocation) -> Holder {
    Holder::Pod {
        namespace: allocation.namespace.clone(),
        name: allocation.pod.clone(),
        container: allocation.container.clone(),
        resource: allocation.resource.clone(),
    }
}

fn by_address(list: &[Allocation]) -> BTreeMap<PciAddress, Vec<&Allocation>> {
    let mut found: BTreeMap<PciAddress, Vec<&Allocation>> = BTreeMap::new();
    for allocation in list {
        if let Ok(address) = allocation.device.parse() {
            found.entry(address).or_default().push(allocation);
        }
    }
    found
}

/// Why the checkpoint says nothing.
#[derive(Debug, thiserror::Error)]
enum CheckpointError {
    #[error("cannot look at kubelet's checkpoint {}", path.display())]
    Metadata {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot read kubelet's checkpoint")]
    Read {
        #[source]
        source: portwright_host::root::ReadError,
    },
    #[error("kubelet's checkpoint is not what kubelet writes")]
    Format {
        #[source]
        source: serde_json::Error,
    },
}

/// Reads both sources. Whoever reads more than once does so with the same witness.
pub async fn read(root: &Root, kubelet_dir: &Path, witness: &Witness) -> Allocations {
    let paths = Paths { folder: kubelet_dir.to_owned() };
    let socket = kubelet::identity(&paths.pod_resources());
    let settled = witness.settled(root, socket);
    let listed = match socket {
        Some(_) => Some(list(&paths).await),
        None => None,
    };
    // Another kubelet may have answered than the one that was looked at.
    let settled = settled && kubelet::identity(&paths.pod_resources()) == socket;
    let checkpoint = || checkpoint(root, &paths, witness);
    match listed {
        Some(Ok(list)) if settled => {
            // A checkpoint that cannot be read takes nothing from a List that can.
            let noted = checkpoint().ok().flatten().unwrap_or_default();
            Allocations { list, noted, unknown: None }
        }
        Some(Ok(mut list)) => {
            let checkpoint = checkpoint();
            list.extend(checkpoint.as_ref().ok().cloned().flatten().unwrap_or_default());
            let unknown = checkpoint.err().map(|error| {
                format!("kubelet has just started and may not tell its pods yet, and {}", chain(&error))
            });
            Allocations { list: sorted(list), noted: Vec::new(), unknown }
        }
        refused => match checkpoint() {
            Ok(list) => Allocations { list: sorted(list.unwrap_or_default()), ..Allocations::default() },
            Err(error) => {
                let refused = refused.and_then(Result::err).map(|error| chain(&error));
                let refused =
                    refused.unwrap_or_else(|| "kubelet's pod-resources socket is not there".to_owned());
                unknown(format!("{refused}, and {}", chain(&error)))
            }
        },
    }
}

/// As [`read`], from where no runtime is.
pub fn read_blocking(root: &Root, kubelet_dir: &Path, witness: &Witness) -> Allocations {
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(read(root, kubelet_dir, witness)),
            Err(error) => unknown(format!("kubelet cannot be asked: {error}")),
        }
    };
    // A thread of its own: whoever calls may be inside a runtime, which must not be entered twice.
    let joined = std::thread::scope(|scope| scope.spawn(work).join());
    joined.unwrap_or_else(|_| unknown("kubelet cannot be asked".to_owned()))
}

fn unknown(why: String) -> Allocations {
    Allocations { unknown: Some(why), ..Allocations::default() }
}

fn sorted(mut list: Vec<Allocation>) -> Vec<Allocation> {
    list.sort();
    list.dedup();
    list
}

/// Asks kubelet.
async fn list(paths: &Paths) -> Result<Vec<Allocation>, KubeletError> {
    let socket = paths.pod_resources();
    let call = async {
        let channel = kubelet::connect(&socket).await?;
        let mut client = PodResourcesListerClient::new(channel).max_decoding_message_size(LARGEST_LIST);
        let answer = client.list(ListPodResourcesRequest {}).await;
        answer.map_err(|status| KubeletError::Refused {
            what: "to list pod resources".to_owned(),
            status: Box::new(status),
        })
    };
    let answer = match tokio::time::timeout(LIST_WITHIN, call).await {
        Ok(answer) => answer?.into_inner(),
        Err(_) => return Err(KubeletError::Silent { socket: socket.clone(), within: LIST_WITHIN }),
    };
    let mut found = Vec::new();
    for pod in answer.pod_resources {
        for container in pod.containers {
            for devices in container.devices {
                found.extend(devices.device_ids.into_iter().map(|device| Allocation {
                    device,
                    resource: devices.resource_name.clone(),
                    namespace: pod.namespace.clone(),
                    pod: pod.name.clone(),
                    container: container.name.clone(),
                }));
            }
        }
    }
    Ok(sorted(found))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Checkpoint {
    data: Data,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    pod_device_entries: Option<Vec<Entry>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "PodUID")]
    pod_uid: String,
    container_name: String,
    resource_name: String,
    /// Ids by NUMA node; one with several nodes is under each of them.
    #[serde(rename = "DeviceIDs")]
    device_ids: Option<BTreeMap<String, Option<Vec<String>>>>,
}

/// Reads the checkpoint; nothing if there is none of this boot.
fn checkpoint(
    root: &Root,
    paths: &Paths,
    witness: &Witness,
) -> Result<Option<Vec<Allocation>>, CheckpointError> {
    let path = paths.checkpoint();
    let found = match std::fs::metadata(&path) {
        Ok(found) => Some(found),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => return Err(CheckpointError::Metadata { path, source }),
    };
    if !witness.of_this_boot(root, found.as_ref()) {
        return Ok(None);
    }
    // An absolute path replaces the root, so that the folder may be anywhere.
    let text = root.document(&path, LARGEST_CHECKPOINT).map_err(|source| CheckpointError::Read { source })?;
    parse_checkpoint(&text).map(Some).map_err(|source| CheckpointError::Format { source })
}

fn parse_checkpoint(text: &str) -> Result<Vec<Allocation>, serde_json::Error> {
    let checkpoint: Checkpoint = serde_json::from_str(text)?;
    let mut found = Vec::new();
    for entry in checkpoint.data.pod_device_entries.unwrap_or_default() {
        for device in entry.device_ids.into_iter().flatten().filter_map(|(_, ids)| ids).flatten() {
            found.push(Allocation {
                device,
                resource: entry.resource_name.clone(),
                namespace: BY_UID.to_owned(),
                pod: entry.pod_uid.clone(),
                container: entry.container_name.clone(),
            });
        }
    }
    Ok(sorted(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_checkpoint_knows_counts_where_somebody_is_seen() {
        use portwright_core::observed::{Pf, Vf};
        let allocation = |device: &str| Allocation {
            device: device.to_owned(),
            resource: "intel.com/net".to_owned(),
            namespace: BY_UID.to_owned(),
            pod: "f459bd14".to_owned(),
            container: "init".to_owned(),
        };
        let noted = vec![allocation("0000:3b:02.0"), allocation("0000:3b:02.1")];
        let allocations = Allocations { noted, ..Allocations::default() };
        let held = Holder::Namespace {
            netns: "net:[1]".to_owned(),
            pid: Some(7),
            command: None,
            netdev: None,
            container: None,
        };
        let vf = |address: &str, holders: Vec<Holder>| Vf {
            address: address.parse().unwrap(),
            holders,
            ..serde_json::from_value(serde_json::json!({"index": 0, "address": address})).unwrap()
        };
        let vfs = vec![vf("0000:3b:02.0", vec![held]), vf("0000:3b:02.1", Vec::new())];
        let pf: Pf = serde_json::from_value(
            serde_json::json!({"address": "0000:3b:00.0", "vendor": "8086", "device": "1592", "totalVfs": 8}),
        )
        .unwrap();
        let mut observed = Observed { pfs: vec![Pf { vfs, ..pf }], ..Observed::default() };
        allocations.give(&mut observed);
        let pods = |vf: &Vf| vf.holders.iter().filter(|one| matches!(one, Holder::Pod { .. })).count();
        let counts: Vec<usize> = observed.pfs[0].vfs.iter().map(pods).collect();
        assert_eq!(counts, [1, 0], "an init container that runs, and a pod that ended");
    }

    #[test]
    fn a_port_or_a_sub_function_that_a_pod_has_makes_the_port_held() {
        use portwright_core::observed::Pf;
        let pod = |device: &str, pod: &str| Allocation {
            device: device.to_owned(),
            resource: "intel.com/pf".to_owned(),
            namespace: "default".to_owned(),
            pod: pod.to_owned(),
            container: "main".to_owned(),
        };
        let list = vec![
            pod("0000:3b:00.0", "web-0"),
            pod("mlx5_core.sf.2", "web-1"),
            pod("mlx5_core.sf.9", "web-2"),
        ];
        let allocations = Allocations { list, ..Allocations::default() };
        let pf: Pf = serde_json::from_value(serde_json::json!({"address": "0000:3b:00.0", "vendor": "15b3",
            "device": "1017", "totalVfs": 8, "subfunctions": ["mlx5_core.sf.2"]}))
        .unwrap();
        let mut observed = Observed { pfs: vec![pf], ..Observed::default() };
        allocations.give(&mut observed);
        let name = |held: &Holder| match held {
            Holder::Pod { name, .. } => name.clone(),
            Holder::Namespace { .. } | Holder::File { .. } => String::new(),
        };
        let names: Vec<String> = observed.pfs[0].holders.iter().map(name).collect();
        assert_eq!(names, ["web-0", "web-1"]);
    }

    #[test]
    fn the_checkpoint_is_read_as_kubelet_writes_it() {
        let text = r#"{"Data":{"PodDeviceEntries":[{"PodUID":"f459bd14","ContainerName":"c","ResourceName":"kb.local/dev",
            "DeviceIDs":{"0":["d0"],"1":["d0","d1"],"-1":null},"AllocResp":"CgwK"}],
            "RegisteredDevices":{"kb.local/dev":["d0"]}},"Checksum":1300336740}"#;
        let found = parse_checkpoint(text).unwrap();
        let short: Vec<_> = found.iter().map(|one| (one.device.as_str(), one.pod.as_str())).collect();
        assert_eq!(short, [("d0", "f459bd14"), ("d1", "f459bd14")]);
        let empty = r#"{"Data":{"PodDeviceEntries":null,"RegisteredDevices":{}},"Checksum":1}"#;
        assert!(parse_checkpoint(empty).unwrap().is_empty());
        for bad in ["", "{}", "null", "[]", r#"{"Data":{"PodDeviceEntries":[{}]}}"#, "{\"Data\":"] {
            assert!(parse_checkpoint(bad).is_err(), "{bad}");
        }
    }
}
