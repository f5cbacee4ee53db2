//! Puts the daemon together: what the loop needs, who listens to events, who tells.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use portwright_core::{Observed, Profiles};
use portwright_device_plugin::allocations::{self, Allocations};
use portwright_device_plugin::metrics::Metrics;
use portwright_device_plugin::{Context, Paths, Plugin, Registration, Settings, Witness};
use portwright_host::inventory::Observer;
use portwright_host::node::Supplement;
use portwright_host::root::Root;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::facts::{Cause, Facts};
use super::gate::LoopGate;
use super::hands::{Actor, Hands};
use super::memory::Memory;
use super::mind::Mind;
use super::round::{Round, State};
use super::wish::Wish;
use super::{socket, turn};
use crate::error::CliError;
use crate::node::eye::Eye;
use crate::node::switch::SwitchPart;
use crate::pools::{PoolSource, PoolsError};
use crate::reconcile::Reconciler;
use crate::serve::http::{self, Shown};
use crate::serve::metrics::{self, DaemonMetrics};
use crate::serve::vf_metrics::VfMetrics;
use crate::serve::wake::{self, Wakes};

/// What a daemon is told when it starts.
pub struct Outfit {
    /// The host.
    pub root: Root,
    /// kubelet's folder.
    pub kubelet: Paths,
    /// How pools are registered.
    pub registration: Registration,
    /// Hand device nodes over by CDI.
    pub use_cdi: bool,
    /// Where metrics and health are served.
    pub listen: SocketAddr,
    /// Pools besides those of policies.
    pub pools: PoolSource,
    /// Hardware profiles.
    pub profiles: Profiles,
    /// The last good policies.
    pub memory: Memory,
    /// What is wanted; none if only pools are served and nothing is changed.
    pub wish: Option<watch::Receiver<Wish>>,
    /// The cluster, if there is one.
    pub turn: Option<turn::Handle>,
    /// Looks at single functions; none if only the whole node can be looked at.
    pub observer: Option<Observer>,
    /// Open vSwitch, if there may be one.
    pub switch: Option<Arc<Mutex<SwitchPart>>>,
    /// Count traffic per VF.
    pub vf_metrics: bool,
    /// Where `status` and `reconcile` ask.
    pub socket: Option<PathBuf>,
    /// The node's name in the cluster; none without one: then the host's own name is told.
    pub node: Option<String>,
}

/// A daemon that has everything but its node.
pub struct Base {
    outfit: Outfit,
    eye: Option<Eye>,
    wakes: Arc<Wakes>,
    facts: watch::Sender<Arc<Facts>>,
    allocations: watch::Sender<Arc<Allocations>>,
    plugin: Plugin,
    registry: Registry,
}

impl Base {
    /// Prepares a daemon; nothing is served and nobody listens yet.
    pub fn new(outfit: Outfit) -> Base {
        let (facts, wakes) = (watch::Sender::<Arc<Facts>>::default(), Arc::<Wakes>::default());
        let metrics = Metrics::default();
        let mut registry = Registry::with_prefix("portwright");
        metrics.register(&mut registry);
        let settings = Settings {
            kubelet_dir: outfit.kubelet.folder.clone(),
            registration: outfit.registration,
            use_cdi: outfit.use_cdi,
        };
        let mut context = Context::new(outfit.root.clone(), settings, metrics);
        if outfit.wish.is_some() {
            let gate = LoopGate { wakes: Arc::clone(&wakes), facts: facts.subscribe() };
            context = context.with_gate(Box::new(gate));
        }
        let plugin = Plugin::start(context);
        let eye = outfit.switch.is_some().then(Eye::closed);
        Base { outfit, eye, wakes, facts, allocations: watch::Sender::default(), plugin, registry }
    }

    /// Looks at Open vSwitch.
    pub fn eye(&self) -> Option<Eye> {
        self.eye.clone()
    }

    /// What the loop tells.
    pub fn facts(&self) -> watch::Receiver<Arc<Facts>> {
        self.facts.subscribe()
    }

    /// Wakes the loop.
    pub fn wakes(&self) -> Arc<Wakes> {
        Arc::clone(&self.wakes)
    }

    /// Adds to each observation what the kernel does not know: who has which device, and what the cluster knows of the node.
    pub fn supplement(&self) -> Supplement {
        let (root, kubelet) = (self.outfit.root.clone(), self.outfit.kubelet.folder.clone());
        let (context, tell) = (Arc::clone(self.plugin.context()), self.allocations.clone());
        let wish = self.outfit.wish.clone();
        let (remembered, witness) = (self.outfit.memory.node_addresses(), Witness::default());
        Arc::new(move |observed: &mut Observed| {
            let mut found = allocations::read_blocking(&root, &kubelet, &witness);
            let known = found.clone();
            found.list.extend(context.handed_out());
            found.give(observed);
            tell.send_replace(Arc::new(known));
            if let Some(wish) = &wish {
                let wish = wish.borrow();
                if !wish.synced {
                    observed.management.node_addresses.extend(remembered.iter().copied());
                }
                observed.management.node_addresses.extend(wish.node_addresses.iter().copied());
                observed.management.api_servers.extend(wish.api_servers.iter().copied());
            }
        })
    }

    /// Runs with this node until stopped.
    ///
    /// # Errors
    /// It cannot listen.
    pub async fn run<N: Hands>(self, node: N, stop: &CancellationToken) -> Result<(), CliError> {
        let Base { outfit, eye, wakes, facts, allocations, plugin, mut registry } = self;
        let acts = outfit.wish.is_some();
        if acts {
            tell_metrics(metrics::register(&mut registry, &facts.subscribe()), facts.subscribe());
        }
        if outfit.vf_metrics && outfit.root.is_host() {
            registry.register_collector(Box::new(VfMetrics::new(facts.subscribe())));
        }
        let (connections, told, since) = (plugin.connections(), facts.subscribe(), Instant::now());
        let shown = Shown { registry, connections, facts: told, follows: acts, since };
        let address = http::serve(outfit.listen, Arc::new(shown), stop.clone()).await;
        let what = format!("listen on {}", outfit.listen);
        let address = address.map_err(|source| PoolsError::System { what, source })?;
        tracing::info!(%address, "metrics and health are served");
        let name = outfit.node.clone().unwrap_or_else(|| node_name(&outfit.root));
        let socket = outfit.socket.as_deref().map(|path| {
            let wakes = Arc::clone(&wakes);
            let ask = move || wakes.wake(Cause::Asked);
            let made = socket::serve(path, &name, facts.subscribe(), ask, stop.clone());
            let what = format!("listen on `{}`", path.display());
            made.map(tokio::spawn).map_err(|source| PoolsError::System { what, source })
        });
        let socket = socket.transpose()?;
        wake::devices(&outfit.root, Arc::clone(&wakes), acts, stop.clone())?;
        if let Some(path) = outfit.pools.path() {
            let wakes = Arc::clone(&wakes);
            wake::files(std::slice::from_ref(path), stop.clone(), move || {
                wakes.wake(Cause::Config);
            });
        }
        if acts {
            follow_kubelet(&outfit.kubelet, plugin.heard(), &wakes, stop);
        }
        if let (Some(eye), Some(switch)) = (&eye, &outfit.switch) {
            eye.open(switch, Arc::clone(&wakes), stop.clone()).await;
        }
        // A daemon without policies is as one whose policies say nothing and never change.
        let (_keep, nothing) = watch::channel(Wish { synced: true, ..Wish::default() });
        let round = Round {
            actor: Actor::new(node),
            observer: outfit.observer,
            eye,
            mind: Mind::new(outfit.profiles, outfit.memory, acts),
            pools: outfit.pools,
            kubelet: outfit.kubelet,
            allocations: allocations.subscribe(),
            plugin,
            wish: outfit.wish.unwrap_or(nothing),
            turn: outfit.turn,
            facts,
            state: State::new(),
        };
        Reconciler { round, wakes, running: JoinSet::new() }.run(stop.clone()).await;
        if let Some(socket) = socket {
            // It has heard of the stop too, and puts its file away.
            drop(socket.await);
        }
        Ok(())
    }
}

/// What the node is called where no cluster names it.
fn node_name(root: &Root) -> String {
    root.document("proc/sys/kernel/hostname", 256).map(|name| name.trim().to_owned()).unwrap_or_default()
}

/// Pods come and go with writes in kubelet's folders, and kubelet itself with its connections.
fn follow_kubelet(
    kubelet: &Paths,
    mut heard: watch::Receiver<u64>,
    wakes: &Arc<Wakes>,
    stop: &CancellationToken,
) {
    let (waking, stopped) = (Arc::clone(wakes), stop.clone());
    tokio::spawn(async move {
        while let Some(Ok(())) = stopped.run_until_cancelled(heard.changed()).await {
            waking.wake(Cause::Kubelet);
        }
    });
    let pod_resources = kubelet.pod_resources();
    let folders = vec![kubelet.device_plugins(), pod_resources.parent().unwrap_or(&pod_resources).to_owned()];
    let wakes = Arc::clone(wakes);
    wake::folders_of(folders, stop.clone(), move || {
        wakes.wake(Cause::Kubelet);
    });
}

fn tell_metrics(metrics: DaemonMetrics, mut facts: watch::Receiver<Arc<Facts>>) {
    tokio::spawn(async move {
        while facts.changed().await.is_ok() {
            let now = Arc::clone(&facts.borrow_and_update());
            metrics.observe(&now);
        }
    });
}
