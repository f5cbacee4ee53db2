//! The node as the loop has it: looked at and changed in tasks that may block, by one at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portwright_core::drive::{Node, Outcome, Progress, RunError, StepReport, chain, run_steps};
use portwright_core::lanes::{Course, Lane};
use portwright_core::observed::Pf;
use portwright_core::{Observed, PciAddress, Plan, Step};
use portwright_host::inventory::{ObserveError, Observer};
use portwright_host::node::Supplement;
use tokio::task::JoinHandle;

use crate::apply::stop::{Stop, Stoppable};
use crate::node::WholeNode;

/// A node whose agent remembers what it did.
pub trait Hands: Node + Send + 'static {
    /// Keeps PFs that were verified as their last good state.
    ///
    /// # Errors
    /// Why it could not be kept.
    fn remember(&mut self, observed: &Observed, verified: BTreeSet<PciAddress>) -> Result<(), String>;

    /// What is remembered.
    fn recall(&self) -> Recalled;

    /// Another hand on the same node, which carries out steps on these ports beside whatever is done on others. It goes by what
    /// was observed last.
    fn hand(&self, ports: BTreeSet<PciAddress>) -> Self;
}

/// What the agent remembers of PFs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recalled {
    /// PFs whose VFs we made since this boot.
    pub made: BTreeSet<PciAddress>,
    /// PFs as they were when they were last verified.
    pub last_good: BTreeMap<PciAddress, Pf>,
}

impl Hands for WholeNode {
    fn remember(&mut self, observed: &Observed, verified: BTreeSet<PciAddress>) -> Result<(), String> {
        self.host.remember(observed, verified).map_err(|error| chain(&error))
    }

    fn recall(&self) -> Recalled {
        let journal = self.host.journal();
        Recalled {
            made: journal.pfs().filter(|pf| journal.made_by_us(*pf)).collect(),
            last_good: journal.pfs().filter_map(|pf| Some((pf, journal.last_good(pf)?.clone()))).collect(),
        }
    }

    fn hand(&self, ports: BTreeSet<PciAddress>) -> WholeNode {
        WholeNode::hand(self, ports)
    }
}

/// A node that is only looked at.
pub struct Looking {
    observer: Observer,
    supplement: Supplement,
}

impl Looking {
    /// Looks with `observer`; `supplement` adds what the kernel does not know.
    pub fn new(observer: Observer, supplement: Supplement) -> Looking {
        Looking { observer, supplement }
    }
}

impl Node for Looking {
    type Error = ObserveError;

    fn observe(&mut self) -> Result<Observed, ObserveError> {
        let mut observed = self.observer.observe()?;
        (self.supplement)(&mut observed);
        Ok(observed)
    }

    fn run(&mut self, _: &Step) -> Result<(), RunError<ObserveError>> {
        Err(RunError::Stopped { because: "without a policy nothing is changed".to_owned() })
    }
}

impl Hands for Looking {
    fn remember(&mut self, _: &Observed, _: BTreeSet<PciAddress>) -> Result<(), String> {
        Ok(())
    }

    fn recall(&self) -> Recalled {
        Recalled::default()
    }

    fn hand(&self, _: BTreeSet<PciAddress>) -> Looking {
        Looking { observer: self.observer.clone(), supplement: Arc::clone(&self.supplement) }
    }
}

/// The node: for one at a time to look at, and with a hand for each lane of steps.
#[derive(Debug)]
pub struct Actor<N> {
    node: Arc<Mutex<N>>,
    /// A look that has not ended in time.
    late: Option<JoinHandle<Looked>>,
}

/// What a look gave.
type Looked = Result<(Observed, Recalled), String>;

/// A look takes milliseconds; one that takes so long waits for a lock of the kernel that a driver does not give back.
const LOOK_WITHIN: Duration = Duration::from_secs(15);

impl<N: Hands> Actor<N> {
    /// Takes the node.
    pub fn new(node: N) -> Actor<N> {
        Actor { node: Arc::new(Mutex::new(node)), late: None }
    }

    /// Looks at the whole node.
    ///
    /// # Errors
    /// The chain of causes; or the look does not end: it goes on, and the next one waits for it first.
    pub async fn look(&mut self) -> Looked {
        if let Some(late) = self.late.take() {
            // What it sees is older than the question.
            drop(self.in_time(late).await?);
        }
        let node = Arc::clone(&self.node);
        let look = tokio::task::spawn_blocking(move || {
            let mut node = locked(&node);
            let observed = node.observe().map_err(|error| chain(&error))?;
            Ok((observed, node.recall()))
        });
        self.in_time(look).await?
    }

    async fn in_time(&mut self, mut look: JoinHandle<Looked>) -> Result<Looked, String> {
        match tokio::time::timeout(LOOK_WITHIN, &mut look).await {
            Ok(looked) => looked.map_err(|error| error.to_string()),
            Err(_) => {
                self.late = Some(look);
                Err(format!(
                    "looking at the node has not ended within {} s: a driver may keep a lock of the kernel that every look at network links needs",
                    LOOK_WITHIN.as_secs()
                ))
            }
        }
    }

    /// Keeps PFs that were verified as their last good state.
    pub async fn remember(&self, observed: Arc<Observed>, verified: BTreeSet<PciAddress>) {
        let kept = self.blocking(move |node| node.remember(&observed, verified)).await;
        if let Err(why) = kept.and_then(|kept| kept) {
            tracing::warn!(why, "the last good state is not kept");
        }
    }

    /// Carries out a lane's steps. `stop` says before each step whether it may begin.
    pub fn carry_out(
        &self,
        course: Course,
        stop: Stop,
    ) -> impl Future<Output = (Lane, Vec<StepReport>)> + Send + use<N> {
        let Course { lane, steps, .. } = course;
        let ports = match lane {
            Lane::Port(port) => BTreeSet::from([port]),
            Lane::Node | Lane::Switch => BTreeSet::new(),
        };
        let hand = locked(&self.node).hand(ports);
        let plan = Arc::new(Plan { steps, ..Plan::default() });
        let planned = Arc::clone(&plan);
        let run = tokio::task::spawn_blocking(move || {
            let mut node = Stoppable::new(hand, stop);
            run_steps(&mut node, &plan, &mut |progress| tell(&progress))
        });
        async move {
            let reports = run.await.unwrap_or_else(|error| {
                tracing::error!(%lane, %error, "the run did not end well");
                // Which of them were carried out nobody knows: all have failed, so that they are not begun again at once.
                let failed = || Outcome::Failed { why: format!("the run did not end well: {error}") };
                planned
                    .steps
                    .iter()
                    .map(|step| StepReport { step: step.clone(), outcome: failed() })
                    .collect()
            });
            (lane, reports)
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut N) -> T + Send + 'static,
    ) -> Result<T, String> {
        let node = Arc::clone(&self.node);
        let done = tokio::task::spawn_blocking(move || work(&mut locked(&node))).await;
        done.map_err(|error| error.to_string())
    }
}

fn tell(progress: &Progress<'_>) {
    match progress {
        Progress::Begins(position, of, step) => tracing::info!(position, of, %step, "begins"),
        Progress::Ended(position, of, report) => {
            let outcome = crate::apply::progress::outcome(report);
            tracing::info!(position, of, step = %report.step, outcome, "ended");
        }
        Progress::Verifies => {}
    }
}

/// Every prefix of a plan is a safe place to stop, also for a panic.
fn locked<N>(node: &Mutex<N>) -> MutexGuard<'_, N> {
    node.lock().unwrap_or_else(PoisonError::into_inner)
}
