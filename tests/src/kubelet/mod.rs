//! A kubelet as device plugins see it: both ways of registration, the streams, pod resources. It does what kubelet 1.36 was
//! measured to do: it dials back before Register is answered, deletes the sockets in `device-plugins` when it starts, finds
//! sockets in `plugins_registry` by itself, and hangs up by closing connections.

mod checkpoint;
mod client;
mod pods;
pub mod raw;
mod registry;
mod watcher;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portwright_proto::device_plugin::Device;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use checkpoint::Noted;
pub use client::{Client, connect};
pub use pods::{Answer, Pod};

/// What the kubelet knows of one resource.
#[derive(Debug, Clone, Default)]
pub struct Resource {
    /// The device list as last sent.
    pub devices: Vec<Device>,
    /// Whether a stream is open.
    pub connected: bool,
    /// How often it was registered.
    pub registrations: u64,
    /// How many lists were sent.
    pub lists: u64,
    /// The plugin's socket.
    pub socket: PathBuf,
}

impl Resource {
    /// Ids of devices, those that are not healthy with a `!`.
    pub fn ids(&self) -> Vec<String> {
        let id = |device: &Device| {
            if device.health == "Healthy" { device.id.clone() } else { format!("!{}", device.id) }
        };
        self.devices.iter().map(id).collect()
    }
}

/// What all tasks share.
#[derive(Debug, Default)]
struct Shared {
    resources: Mutex<BTreeMap<String, Resource>>,
    changes: watch::Sender<u64>,
    refuse: Mutex<Option<String>>,
    pods: Mutex<Answer>,
}

impl Shared {
    fn resources(&self) -> MutexGuard<'_, BTreeMap<String, Resource>> {
        self.resources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody is connected any more.
    fn hang_up(&self) {
        self.resources().values_mut().for_each(|resource| resource.connected = false);
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn change(&self, resource: &str, act: impl FnOnce(&mut Resource)) {
        act(self.resources().entry(resource.to_owned()).or_default());
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// A running kubelet.
#[derive(Debug)]
pub struct Kubelet {
    dir: PathBuf,
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Kubelet {
    /// Starts in `dir` (`/var/lib/kubelet`). With `watcher` it has a `plugins_registry`.
    pub async fn start(dir: &Path, watcher: bool) -> io::Result<Kubelet> {
        let kubelet = Kubelet {
            dir: dir.to_owned(),
            shared: Arc::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        if watcher {
            // It is there before kubelet takes registrations.
            tokio::fs::create_dir_all(dir.join("plugins_registry")).await?;
        }
        registry::start(&kubelet).await?;
        pods::start(&kubelet).await?;
        if watcher {
            watcher::start(&kubelet).await?;
        }
        Ok(kubelet)
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it knows of a resource now.
    pub fn resource(&self, name: &str) -> Option<Resource> {
        self.shared.resources().get(name).cloned()
    }

    /// Names of all resources that were registered.
    pub fn names(&self) -> Vec<String> {
        self.shared.resources().keys().cloned().collect()
    }

    /// Waits until what it knows of a resource satisfies `good`; the error is what it knew last.
    pub async fn wait(
        &self,
        name: &str,
        within: Duration,
        mut good: impl FnMut(&Resource) -> bool,
    ) -> Result<Resource, Option<Resource>> {
        let mut changes = self.shared.changes.subscribe();
        let wait = async {
            loop {
                changes.borrow_and_update();
                if let Some(found) = self.resource(name).filter(|resource| good(resource)) {
                    return found;
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(within, wait).await.map_err(|_| self.resource(name))
    }

    /// Refuses registrations with this text from now on, or accepts them again.
    pub fn refuse(&self, text: Option<&str>) {
        *self.shared.refuse.lock().unwrap_or_else(PoisonError::into_inner) = text.map(str::to_owned);
    }

    /// What pod resources answers from now on.
    pub fn set_pods(&self, answer: Answer) {
        *self.shared.pods.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// A client of a resource's plugin.
    pub async fn client(&self, name: &str) -> io::Result<Client> {
        let socket = self.resource(name).map(|resource| resource.socket);
        let socket = socket.ok_or_else(|| io::Error::other(format!("{name} is not registered")))?;
        connect(&socket).await
    }

    /// Ends as a killed kubelet does: all connections close, sockets stay.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Sockets in a folder.
fn sockets(folder: &Path) -> Vec<PathBuf> {
    use std::os::unix::fs::FileTypeExt;
    #[allow(clippy::disallowed_methods, reason = "a test kubelet reads its own folder")]
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()))
        // As kubelet does.
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .map(|entry| entry.path())
        .collect()
}
