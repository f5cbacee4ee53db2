//! The device manager's checkpoint.

use std::io;

use serde_json::json;

use super::Kubelet;

/// A device that a pod's container was given, as the checkpoint has it: until the pod has ended, also of ordinary init
/// containers that have.
#[derive(Debug, Clone)]
pub struct Noted {
    /// The pod's UID; its name is not in it.
    pub uid: String,
    /// Container.
    pub container: String,
    /// Resource.
    pub resource: String,
    /// Device id.
    pub device: String,
}

impl Kubelet {
    /// Writes a checkpoint with these entries, as kubelet does: another file in the place of the old one.
    pub async fn note(&self, entries: &[Noted]) -> io::Result<()> {
        let entry = |noted: &Noted| {
            json!({
                "PodUID": noted.uid, "ContainerName": noted.container, "ResourceName": noted.resource,
                "DeviceIDs": {"-1": [noted.device]}, "AllocResp": "",
            })
        };
        let entries: Vec<_> = entries.iter().map(entry).collect();
        let text = json!({"Data": {"PodDeviceEntries": entries, "RegisteredDevices": {}}, "Checksum": 1});
        let folder = self.dir.join("device-plugins");
        let new = folder.join(".checkpoint");
        tokio::fs::write(&new, text.to_string()).await?;
        tokio::fs::rename(new, folder.join("kubelet_internal_checkpoint")).await
    }
}
