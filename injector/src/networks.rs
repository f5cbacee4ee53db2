//! The networks of the cluster: a cache that follows the API server, and a live look-up for what it lacks.
//!
//! The cache makes answers fast and keeps them coming while the API server is away. It may lag behind (a pod can be
//! created right after its network), so a name that it does not know is asked for once, together for all requests that
//! wait for it. Only "does not exist" is a fact about the pod; any other failure is ours to report as such.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _, Shared};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::cluster::Watches;
use crate::following::Following;
use crate::metrics::{Metrics, Reason};
use crate::nad::{Network, NetworkAttachmentDefinition, Reading};
use crate::selection::NetworkName;

/// How long one live look-up may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);
/// Live look-ups at once; more wait, within the time of the requests that want them.
const LOOKUPS: usize = 64;
/// Definitions per page of the first list.
const PAGE: u32 = 500;

type Answer = Result<Option<Arc<Network>>, Arc<LookupError>>;
type Waiting = Shared<BoxFuture<'static, Answer>>;

/// Why a definition could not be looked up. It may well exist.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The API server's answer.
    #[error("cannot look up network-attachment-definition {network}")]
    Api {
        /// What was looked up.
        network: NetworkName,
        /// What the API server, or the way to it, said.
        #[source]
        source: kube::Error,
    },
    /// No answer in time.
    #[error("cannot look up network-attachment-definition {network}: the API server did not answer within {} s", LOOKUP_TIMEOUT.as_secs())]
    Timeout {
        /// What was looked up.
        network: NetworkName,
    },
    /// The task that looked it up is gone: the process is ending.
    #[error("the look-up was abandoned")]
    Abandoned,
}

/// Definitions by name.
pub struct NetworkCache {
    client: Client,
    reading: Reading,
    metrics: Arc<Metrics>,
    known: RwLock<BTreeMap<NetworkName, Arc<Network>>>,
    waiting: Mutex<BTreeMap<NetworkName, Waiting>>,
    lookups: Semaphore,
    synced: watch::Sender<bool>,
}

impl NetworkCache {
    /// An empty cache; [`NetworkCache::follow`] fills it.
    pub fn new(client: Client, reading: Reading, metrics: Arc<Metrics>) -> Self {
        Self {
            client,
            reading,
            metrics,
            known: RwLock::default(),
            waiting: Mutex::default(),
            lookups: Semaphore::new(LOOKUPS),
            synced: watch::Sender::new(false),
        }
    }

    /// Becomes true once the first list is complete.
    pub fn synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    /// Follows the API server for ever; a failure is logged once and retried with growing delay.
    pub async fn follow(self: Arc<Self>, watches: Watches) {
        let api: Api<NetworkAttachmentDefinition> = Api::all(self.client.clone());
        let config = watcher::Config::default().page_size(PAGE);
        let what = "network-attachment-definitions";
        let mut following = Following::new(api, config, &watches, what, "known ones stay in use");
        let mut fresh = BTreeMap::new();
        while let Some(event) = following.next().await {
            self.apply(event, &mut fresh);
        }
    }

    fn apply(
        &self,
        event: watcher::Event<NetworkAttachmentDefinition>,
        fresh: &mut BTreeMap<NetworkName, Arc<Network>>,
    ) {
        match event {
            watcher::Event::Init => fresh.clear(),
            watcher::Event::InitApply(definition) => {
                fresh.insert(name_of(&definition), Arc::new(Network::read(&definition, &self.reading)));
            }
            watcher::Event::InitDone => {
                // What was known stays in use until the new list is complete.
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = std::mem::take(fresh);
                self.metrics.networks_synced.set(1);
                self.synced.send_replace(true);
            }
            watcher::Event::Apply(definition) => {
                let network = Arc::new(Network::read(&definition, &self.reading));
                let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
                known.insert(name_of(&definition), network);
            }
            watcher::Event::Delete(definition) => {
                self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&name_of(&definition));
            }
        }
        let count = self.known.read().unwrap_or_else(PoisonError::into_inner).len();
        self.metrics.networks.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The record of a definition that is in the cache.
    pub fn cached(&self, name: &NetworkName) -> Option<Arc<Network>> {
        let cached = self.known.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if cached.is_some() {
            self.count("cached");
        }
        cached
    }

    /// The record of a definition that is not; `None` if the API server says that it does not exist.
    ///
    /// # Errors
    /// The API server could not be asked.
    pub async fn look_up(self: &Arc<Self>, name: &NetworkName) -> Answer {
        let answer = self.ask_together(name).await;
        self.count(match &answer {
            Ok(Some(_)) => "live",
            Ok(None) => "missing",
            Err(_) => "error",
        });
        answer
    }

    fn count(&self, reason: &'static str) {
        self.metrics.lookups.get_or_create(&Reason { reason }).inc();
    }

    /// Joins the look-up that is under way for this name, or starts one.
    fn ask_together(self: &Arc<Self>, name: &NetworkName) -> Waiting {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(under_way) = waiting.get(name) {
            return under_way.clone();
        }
        let (sender, receiver) = oneshot::channel();
        let answer: BoxFuture<'static, Answer> = receiver
            .map(|received| received.unwrap_or_else(|_| Err(Arc::new(LookupError::Abandoned))))
            .boxed();
        let answer = answer.shared();
        waiting.insert(name.clone(), answer.clone());
        let (this, name) = (Arc::clone(self), name.clone());
        // A task of its own: that the first request gives up must not fail the others.
        tokio::spawn(async move {
            let result = this.ask(&name).await.map_err(Arc::new);
            this.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            // Nobody may be waiting any more, which is fine.
            sender.send(result).ok();
        });
        answer
    }

    async fn ask(&self, name: &NetworkName) -> Result<Option<Arc<Network>>, LookupError> {
        // The semaphore is never closed.
        let _place = self.lookups.acquire().await;
        let api: Api<NetworkAttachmentDefinition> = Api::namespaced(self.client.clone(), &name.namespace);
        let asked = tokio::time::timeout(LOOKUP_TIMEOUT, api.get_opt(&name.name)).await;
        let found = asked
            .map_err(|_| LookupError::Timeout { network: name.clone() })?
            .map_err(|source| LookupError::Api { network: name.clone(), source })?;
        Ok(found.map(|definition| Arc::new(Network::read(&definition, &self.reading))))
    }
}

fn name_of(definition: &NetworkAttachmentDefinition) -> NetworkName {
    NetworkName { namespace: definition.namespace().unwrap_or_default(), name: definition.name_any() }
}
