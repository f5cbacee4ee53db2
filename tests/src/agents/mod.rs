//! Agents on simulated nodes: the real loop, the real device plugin and a node that only the kernel's rules are imitated of
//! ([`SimNode`]). Many of them fit into one process.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test's helper fails by panicking and writes its own files"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portwright::daemon::facts::{Cause, Facts};
use portwright::daemon::hands::{Hands, Recalled};
use portwright::daemon::kube::Cluster;
use portwright::daemon::memory::Memory;
use portwright::daemon::start::{Base, Outfit};
use portwright::daemon::turn;
use portwright::daemon::wish::Wish;
use portwright::pools::PoolSource;
use portwright::serve::wake::Wakes;
use portwright_core::drive::{Node, RunError};
use portwright_core::observed::Pf;
use portwright_core::sim::{SimError, SimNode};
use portwright_core::{Observed, PciAddress, Profiles, Step};
use portwright_device_plugin::{Paths, Registration};
use portwright_host::node::Supplement;
use portwright_host::root::Root;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A simulated node that a test and an agent share. What the agent remembers of ports survives the agent, as a state
/// directory does.
#[derive(Debug, Clone)]
pub struct Machine {
    node: Arc<Mutex<SimNode>>,
    last_good: Arc<Mutex<std::collections::BTreeMap<PciAddress, Pf>>>,
}

/// Looks at the machine after each observation and each step: what the test wants to know of a run.
pub type Watcher = Arc<dyn Fn(Option<&Step>) + Send + Sync>;

impl Machine {
    /// A machine around a node.
    pub fn new(node: SimNode) -> Machine {
        Machine { node: Arc::new(Mutex::new(node)), last_good: Arc::default() }
    }

    /// The node itself.
    pub fn node(&self) -> MutexGuard<'_, SimNode> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the loop has of a machine.
struct Grip {
    machine: Machine,
    watcher: Option<Watcher>,
    supplement: Supplement,
}

impl Node for Grip {
    type Error = SimError;

    fn observe(&mut self) -> Result<Observed, SimError> {
        let mut observed = self.machine.node().observe()?;
        (self.supplement)(&mut observed);
        Ok(observed)
    }

    fn run(&mut self, step: &Step) -> Result<(), RunError<SimError>> {
        if let Some(watcher) = &self.watcher {
            watcher(Some(step));
        }
        let done = self.machine.node().run(step);
        if let Some(watcher) = &self.watcher {
            watcher(None);
        }
        done
    }
}

impl Hands for Grip {
    fn remember(&mut self, observed: &Observed, verified: BTreeSet<PciAddress>) -> Result<(), String> {
        self.machine.node().remember();
        let mut last_good = self.machine.last_good.lock().unwrap_or_else(PoisonError::into_inner);
        last_good.extend(verified.into_iter().filter_map(|pf| Some((pf, observed.pf(pf)?.clone()))));
        Ok(())
    }

    fn hand(&self, _: BTreeSet<PciAddress>) -> Grip {
        Grip {
            machine: self.machine.clone(),
            watcher: self.watcher.clone(),
            supplement: Arc::clone(&self.supplement),
        }
    }

    fn recall(&self) -> Recalled {
        let last_good = self.machine.last_good.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Recalled { made: self.machine.node().state_dir.made_by_us.clone(), last_good }
    }
}

/// How to start an agent.
pub struct Start<'a> {
    /// A folder of its own: kubelet's folder, state and socket are in it.
    pub folder: &'a Path,
    /// Hardware profiles.
    pub profiles: Profiles,
    /// What is wanted.
    pub wish: watch::Receiver<Wish>,
    /// The cluster's word on disruption.
    pub turn: Option<turn::Handle>,
    /// The cluster that it tells; its wish and its turns are above.
    pub cluster: Option<Cluster>,
    /// Looks at steps.
    pub watcher: Option<Watcher>,
}

/// An agent that is ready to run.
pub struct Ready<F> {
    /// What it tells.
    pub facts: watch::Receiver<Arc<Facts>>,
    /// Wakes it: the simulated kernel makes no events.
    pub wakes: Arc<Wakes>,
    /// The agent itself, until it is stopped.
    pub run: F,
}

impl Ready<()> {
    /// Puts an agent together that runs until `stop`.
    pub fn new(
        machine: &Machine,
        start: Start<'_>,
        stop: CancellationToken,
    ) -> Ready<impl Future<Output = ()> + Send + use<>> {
        let outfit = Outfit {
            root: Root::new(start.folder),
            kubelet: Paths { folder: start.folder.join("kubelet") },
            registration: Registration::Legacy,
            use_cdi: false,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            pools: PoolSource::default(),
            profiles: start.profiles,
            memory: Memory::read(&state_dir(start.folder)),
            wish: Some(start.wish),
            turn: start.turn,
            observer: None,
            switch: None,
            vf_metrics: false,
            socket: Some(start.folder.join("agent.sock")),
            node: None,
        };
        let base = Base::new(outfit);
        let (facts, wakes) = (base.facts(), base.wakes());
        if let Some(cluster) = start.cluster {
            cluster.tell(&facts, &stop);
        }
        let grip = Grip { machine: machine.clone(), watcher: start.watcher, supplement: base.supplement() };
        let run = async move {
            base.run(grip, &stop).await.expect("the agent runs");
        };
        Ready { facts, wakes, run }
    }
}

/// An agent that runs.
pub struct Agent {
    /// What it tells.
    pub facts: watch::Receiver<Arc<Facts>>,
    /// Wakes it: the simulated kernel makes no events.
    pub wakes: Arc<Wakes>,
    /// The number of the last wake.
    asked: AtomicU64,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Agent {
    /// Starts an agent on a machine.
    pub fn start(machine: &Machine, start: Start<'_>) -> Agent {
        Agent::start_until(machine, start, CancellationToken::new())
    }

    /// The same with a token that the cluster's parts were given too.
    pub fn start_until(machine: &Machine, start: Start<'_>, stop: CancellationToken) -> Agent {
        let Ready { facts, wakes, run } = Ready::new(machine, start, stop.clone());
        Agent { facts, wakes, asked: AtomicU64::new(0), stop, task: tokio::spawn(run) }
    }

    /// Tells it that something has happened on its node.
    pub fn wake(&self) {
        let ticket = self.wakes.wake(Cause::Devices);
        self.asked.store(ticket, Ordering::SeqCst);
    }

    /// Whether facts were found after the last [`Agent::wake`]: a round that was under way then does not count.
    pub fn has_heard(&self) -> impl Fn(&Facts) -> bool + use<> {
        let asked = self.asked.load(Ordering::SeqCst);
        move |facts| facts.heard >= asked
    }

    /// Waits until it tells what is waited for.
    ///
    /// # Panics
    /// It does not within the time.
    pub async fn until(
        &mut self,
        what: &str,
        within: Duration,
        accept: impl Fn(&Facts) -> bool,
    ) -> Arc<Facts> {
        let waited = tokio::time::timeout(within, self.facts.wait_for(|facts| accept(facts))).await;
        let waited = waited.map(|facts| facts.map(|facts| Arc::clone(&facts)));
        match waited {
            Ok(Ok(facts)) => facts,
            Ok(Err(_)) => panic!("{what}: the agent has ended"),
            Err(_) => {
                let facts = Arc::clone(&self.facts.borrow());
                let plan = portwright_core::plan::text::render(&facts.plan);
                panic!(
                    "{what}: not within {within:?}: {plan}\nwaiting: {:?}\nlast run: {:?}",
                    facts.waiting, facts.last_run
                )
            }
        }
    }

    /// Stops it as SIGTERM does.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("the agent ends well");
    }

    /// Ends it as SIGKILL does: nothing is given back and nobody is told.
    pub async fn kill(self) {
        self.task.abort();
        drop(self.task.await);
        // What the cluster's parts do goes with the process.
        self.stop.cancel();
    }
}

/// Where an agent in this folder keeps its state.
pub fn state_dir(folder: &Path) -> PathBuf {
    folder.join("state")
}

/// A wish made of a policy document.
///
/// # Panics
/// The document is wrong.
pub fn wish(documents: &str) -> Wish {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("policy.yaml");
    std::fs::write(&path, documents).expect("a file is written");
    portwright::daemon::files::read(&[path]).unwrap_or_else(|error| panic!("{}", error.render()))
}

/// Whether nothing is left to do or in the way, nothing runs, and something was looked at.
pub fn in_sync(facts: &Facts) -> bool {
    facts.sequence > 0 && !facts.running && facts.plan.in_sync() && !facts.desired.documents.is_empty()
}
