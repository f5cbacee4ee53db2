//! The pools as they are served: endpoints by resource name, and what they share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use portwright_core::PciAddress;
use portwright_core::drive::chain;
use portwright_core::observed::{Holder, Observed};
use portwright_core::pools::answer::Node;
use portwright_core::pools::config::DeviceType;
use portwright_core::pools::{Health, Pool, PoolDevice, Pools, ResourceName};
use portwright_core::usage::Use;
use portwright_host::deadline::Deadline;
use portwright_host::inventory::Observer;
use portwright_host::root::Root;
use portwright_host::write::WriteError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::allocations::{Allocation, Allocations, BY_UID};
use crate::endpoint::Endpoint;
use crate::files;
use crate::kubelet::{Paths, Registration};
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::service::Streams;
use crate::watch::FolderWatch;

/// How long Allocate waits for a device that is still held.
const FREE_WITHIN: Duration = Duration::from_secs(10);
/// How often holders are looked at meanwhile: that a process closes a file makes no event.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How to serve.
#[derive(Debug, Clone)]
pub struct Settings {
    /// kubelet's folder, `/var/lib/kubelet`.
    pub kubelet_dir: PathBuf,
    /// How to register.
    pub registration: Registration,
    /// Hand device nodes over by CDI.
    pub use_cdi: bool,
}

/// Why a pool cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// Its name is too long for a socket.
    #[error("pool {resource} cannot be served: {why}")]
    Name {
        /// The pool.
        resource: ResourceName,
        /// What is wrong.
        why: String,
    },
}

/// Says whether a device that was used before is free, and waits for it.
pub trait Gate: Send + Sync {
    /// Waits until the device can be handed out; the error says who has it or what is missing.
    fn ready<'a>(&'a self, device: &'a PoolDevice) -> BoxFuture<'a, Result<(), String>>;
}

/// What endpoints share.
pub struct Context {
    pub(crate) root: Root,
    pub(crate) paths: Paths,
    pub(crate) settings: Settings,
    pub(crate) ledger: Ledger,
    pub(crate) metrics: Metrics,
    pub(crate) gate: Box<dyn Gate>,
    cdi: Mutex<BTreeMap<ResourceName, BTreeMap<String, Vec<Node>>>>,
    /// Counts changes in kubelet's folders.
    pub(crate) kicks: watch::Sender<u64>,
    /// Counts when kubelet begins and ceases to listen to a pool.
    pub(crate) heard: watch::Sender<u64>,
}

impl Context {
    /// What is shared over a node's root.
    pub fn new(root: Root, settings: Settings, metrics: Metrics) -> Context {
        let gate = Box::new(HolderGate { root: root.clone() });
        Context {
            paths: Paths { folder: settings.kubelet_dir.clone() },
            ledger: Ledger::default(),
            cdi: Mutex::default(),
            kicks: watch::Sender::new(0),
            heard: watch::Sender::new(0),
            root,
            settings,
            metrics,
            gate,
        }
    }

    /// Replaces who says whether a device is free.
    pub fn with_gate(mut self, gate: Box<dyn Gate>) -> Context {
        self.gate = gate;
        self
    }

    /// What was handed out in the last minute, as if pods were known to have it: kubelet does not list it at once.
    pub fn handed_out(&self) -> Vec<Allocation> {
        let recent = self.ledger.recent().into_iter();
        let allocation = |(device, resource): (String, ResourceName)| Allocation {
            device,
            resource: resource.to_string(),
            namespace: BY_UID.to_owned(),
            pod: "just-allocated".to_owned(),
            container: String::new(),
        };
        recent.map(allocation).collect()
    }

    /// Adds devices to a pool's CDI specification.
    pub(crate) fn update_cdi(
        &self,
        resource: &ResourceName,
        kind: DeviceType,
        devices: BTreeMap<String, Vec<Node>>,
    ) -> Result<(), WriteError> {
        let mut all = self.cdi.lock().unwrap_or_else(PoisonError::into_inner);
        let known =
            all.entry(resource.clone()).or_insert_with(|| files::read_cdi(&self.root, resource, kind));
        known.extend(devices);
        files::write_cdi(&self.root, resource, kind, known)
    }

    /// Takes devices that nobody has out of a pool's files.
    fn sweep(&self, pool: &Pool, held: &BTreeMap<String, ResourceName>) {
        let (resource, kind) = (&pool.spec.resource, pool.spec.device_type);
        files::sweep_device_info(&self.root, pool, held);
        let mut all = self.cdi.lock().unwrap_or_else(PoisonError::into_inner);
        let known =
            all.entry(resource.clone()).or_insert_with(|| files::read_cdi(&self.root, resource, kind));
        let before = known.len();
        known.retain(|id, _| held.contains_key(id));
        if known.len() != before
            && let Err(error) = files::write_cdi(&self.root, resource, kind, known)
        {
            tracing::warn!(%resource, error = chain(&error), "the CDI specification is not up to date");
        }
    }
}

/// Serves pools until it is stopped.
pub struct Plugin {
    context: Arc<Context>,
    stop: CancellationToken,
    endpoints: BTreeMap<ResourceName, Endpoint>,
    /// What was published last, without what is withheld now.
    published: Arc<Pools>,
    folders: tokio::task::JoinHandle<()>,
    connections: Connections,
}

/// Whether kubelet listens to each pool that is served. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Mutex<BTreeMap<ResourceName, Arc<Streams>>>>);

impl Connections {
    /// Pools that kubelet does not listen to.
    pub fn missing(&self) -> Vec<ResourceName> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|(_, streams)| !streams.is_open()).map(|(resource, _)| resource.clone()).collect()
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("pools", &self.endpoints.keys()).finish_non_exhaustive()
    }
}

impl Plugin {
    /// Begins to watch kubelet's folders. Nothing is served before the first [`Plugin::publish`].
    pub fn start(context: Context) -> Plugin {
        let context = Arc::new(context);
        let stop = CancellationToken::new();
        let (shared, stopped) = (Arc::clone(&context), stop.clone());
        let folders = tokio::spawn(async move {
            let mut watch = FolderWatch::new(vec![shared.paths.device_plugins(), shared.paths.registry()]);
            while stopped.run_until_cancelled(watch.changed()).await.is_some() {
                shared.kicks.send_modify(|count| *count = count.wrapping_add(1));
            }
        });
        Plugin {
            context,
            stop,
            endpoints: BTreeMap::new(),
            published: Arc::default(),
            folders,
            connections: Connections::default(),
        }
    }

    /// What endpoints share.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Serves the pools as they are now. A pool that never had a device is not begun; one that lost its last stays; one that
    /// is not wanted any more is ended; an unchanged one is left alone.
    pub async fn publish(&mut self, pools: impl Into<Arc<Pools>>) {
        self.published = pools.into();
        let wanted: BTreeSet<ResourceName> =
            self.published.pools.iter().map(|pool| pool.spec.resource.clone()).collect();
        let gone: Vec<ResourceName> =
            self.endpoints.keys().filter(|resource| !wanted.contains(resource)).cloned().collect();
        for resource in gone {
            if let Some(endpoint) = self.endpoints.remove(&resource) {
                tracing::info!(%resource, "the pool is served no more");
                endpoint.stop().await;
                self.context.metrics.forget(&resource);
            }
        }
        let withheld = self.context.ledger.withheld();
        for pool in &self.published.pools {
            let mut pool = pool.clone();
            let held_back = |device: &&mut PoolDevice| {
                device.candidate.address.is_some_and(|address| withheld.contains(&address))
            };
            for device in pool.devices.iter_mut().filter(held_back) {
                device.health = Health::Withheld { why: "it is being put in order".to_owned() };
            }
            let resource = pool.spec.resource.clone();
            self.context.metrics.size(&resource, pool.shown().count(), pool.healthy());
            match self.endpoints.get(&resource) {
                Some(endpoint) => endpoint.update(pool),
                None if pool.shown().next().is_none() => {}
                None => {
                    tracing::info!(%resource, devices = pool.devices.len(), "the pool is served");
                    self.context.metrics.begin(&resource);
                    let endpoint = Endpoint::start(Arc::clone(&self.context), pool);
                    self.endpoints.insert(resource, endpoint);
                }
            }
        }
        let streams =
            self.endpoints.iter().map(|(resource, endpoint)| (resource.clone(), endpoint.streams()));
        *self.connections.0.lock().unwrap_or_else(PoisonError::into_inner) = streams.collect();
    }

    /// Changes whenever kubelet begins or ceases to listen to a pool.
    pub fn heard(&self) -> watch::Receiver<u64> {
        self.context.heard.subscribe()
    }

    /// Whether kubelet listens.
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Takes devices of these functions out of what kubelet sees and refuses to hand them out, until it is called with a
    /// set that does not name them. For the time in which a step touches them.
    pub async fn withhold(&mut self, addresses: BTreeSet<PciAddress>) {
        self.context.ledger.withhold(addresses);
        self.publish(Arc::clone(&self.published)).await;
    }

    /// The same together with new pools.
    pub async fn publish_without(&mut self, pools: Arc<Pools>, addresses: BTreeSet<PciAddress>) {
        self.context.ledger.withhold(addresses);
        self.publish(pools).await;
    }

    /// Devices that pods have, by what kubelet says and by our own hand-outs of the last minute. What does not exist any
    /// more is forgotten.
    pub fn held(
        &self,
        allocations: &Allocations,
        exists: impl Fn(&str) -> bool,
    ) -> BTreeMap<String, ResourceName> {
        self.context.ledger.retain(&exists);
        let mut held = allocations.by_device();
        self.context.ledger.note_used(held.keys().cloned());
        // A pod that ended may have left a process: whoever gets the device next is looked at first.
        let noted = allocations.noted.iter().filter(|noted| exists(&noted.device));
        self.context.ledger.note_used(noted.map(|noted| noted.device.clone()));
        held.extend(self.context.ledger.recent());
        held
    }

    /// Notes VFs that somebody is seen to have: whoever gets one of them next is made to wait until it is let go, also if the
    /// pod that had it was deleted while nobody of ours was there to see.
    pub fn note_used(&self, observed: &Observed) {
        let vfs = observed.pfs.iter().flat_map(|pf| &pf.vfs);
        let used = vfs.filter(|vf| !vf.holders.is_empty());
        self.context.ledger.note_used(used.map(|vf| vf.address.to_string()));
    }

    /// Tells the metrics what pods have and removes the files of devices that nobody has. Only for complete knowledge.
    pub fn settle(&self, held: &BTreeMap<String, ResourceName>) {
        self.context.ledger.settle(held);
        for pool in &self.published.pools {
            let resource = &pool.spec.resource;
            self.context.metrics.allocated(resource, self.context.ledger.allocated(resource));
            self.context.sweep(pool, held);
        }
    }

    /// Ends all endpoints; kubelet is left to see it.
    pub async fn stop(mut self) {
        self.stop.cancel();
        for (_, endpoint) in std::mem::take(&mut self.endpoints) {
            endpoint.stop().await;
        }
        self.folders.abort();
    }
}

/// Looks at processes and network namespaces.
struct HolderGate {
    root: Root,
}

impl HolderGate {
    /// Who has the function now.
    async fn holders(&self, address: PciAddress) -> Result<Vec<Holder>, String> {
        let observer = Observer::new(self.root.clone(), self.root.is_host(), PathBuf::new());
        let looked = tokio::task::spawn_blocking(move || observer.holders()).await;
        let found = looked.map_err(|error| error.to_string())?.map_err(|error| chain(&error))?;
        Ok(found.0.get(&address).cloned().unwrap_or_default())
    }
}

impl Gate for HolderGate {
    fn ready<'a>(&'a self, device: &'a PoolDevice) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let Some(address) = device.candidate.address.filter(|_| device.candidate.aux.is_none()) else {
                return Ok(());
            };
            let deadline = Deadline::after(FREE_WITHIN);
            let mut looks = tokio::time::interval(LOOK_EVERY);
            loop {
                looks.tick().await;
                let holders = self.holders(address).await?;
                let Some(holder) = holders.into_iter().next() else { return Ok(()) };
                if deadline.expired() {
                    let who = Use::Held(holder);
                    return Err(format!(
                        "it {who} since before; waited {} s; {}",
                        FREE_WITHIN.as_secs(),
                        who.hint()
                    ));
                }
            }
        })
    }
}
