//! The newer way: kubelet finds sockets and asks them.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use portwright_device_plugin::watch::FolderWatch;
use portwright_proto::registration::registration_client::RegistrationClient;
use portwright_proto::registration::{InfoRequest, RegistrationStatus};
use tokio_util::sync::CancellationToken;

use super::{Kubelet, Shared, client, sockets};

/// What tells a socket from the one that replaces it.
type Identity = (u64, i64, i64);

/// Watches the folder.
pub(super) async fn start(kubelet: &Kubelet) -> io::Result<()> {
    let folder = kubelet.dir.join("plugins_registry");
    tokio::fs::create_dir_all(&folder).await?;
    let (shared, stop, tasks) = (Arc::clone(&kubelet.shared), kubelet.stop.clone(), kubelet.tasks.clone());
    kubelet.tasks.spawn(async move {
        let mut watch = FolderWatch::new(vec![folder.clone()]);
        let mut known: BTreeMap<PathBuf, (Identity, CancellationToken)> = BTreeMap::new();
        loop {
            let there: BTreeMap<PathBuf, Identity> = sockets(&folder)
                .into_iter()
                .filter_map(|path| Some((path.clone(), identity(&path)?)))
                .collect();
            // Removing the socket is a deregistration.
            known.retain(|path, (identity, end)| {
                let same = there.get(path) == Some(identity);
                if !same {
                    end.cancel();
                }
                same
            });
            for (path, identity) in there {
                if known.contains_key(&path) {
                    continue;
                }
                let end = stop.child_token();
                known.insert(path.clone(), (identity, end.clone()));
                let shared = Arc::clone(&shared);
                tasks.spawn(async move {
                    drop(end.run_until_cancelled(ask(shared, &path)).await);
                });
            }
            if stop.run_until_cancelled(watch.changed()).await.is_none() {
                return;
            }
        }
    });
    Ok(())
}

fn identity(path: &Path) -> Option<Identity> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.ino(), found.ctime(), found.ctime_nsec()))
}

/// Calls in kubelet's order.
async fn ask(shared: Arc<Shared>, socket: &Path) -> io::Result<()> {
    let mut registration = RegistrationClient::new(client::channel(socket).await?);
    let info = registration.get_info(InfoRequest {}).await.map_err(io::Error::other)?.into_inner();
    let good = info.r#type == "DevicePlugin" && info.supported_versions.iter().any(|one| one == "v1beta1");
    let refusal = shared.refuse.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let refusal = refusal.or_else(|| (!good).then(|| format!("{info:?}")));
    let status = |error: Option<String>| RegistrationStatus {
        plugin_registered: error.is_none(),
        error: error.unwrap_or_default(),
    };
    if let Some(text) = refusal {
        let told = registration.notify_registration_status(status(Some(text))).await;
        return told.map(drop).map_err(io::Error::other);
    }
    let endpoint = if info.endpoint.is_empty() { socket.to_owned() } else { PathBuf::from(info.endpoint) };
    let follow = client::follow(shared, info.name, &endpoint).await?;
    registration.notify_registration_status(status(None)).await.map_err(io::Error::other)?;
    drop(registration);
    follow.await;
    Ok(())
}
