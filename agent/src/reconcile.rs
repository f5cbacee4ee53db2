//! The loop: wait until something may have changed, look at the node, think, publish, act, tell. It keeps nothing that it
//! could not find out again, so it does not matter which wake was lost or came twice. Work that may block is done elsewhere:
//! while steps run, the loop goes on looking and publishing.

use std::sync::Arc;
use std::time::Duration;

use portwright_core::drive::StepReport;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::daemon::facts::{Cause, Facts};
use crate::daemon::hands::Hands;
use crate::daemon::round::{Round, Sight};
use crate::serve::wake::{Heard, Wakes};

/// The one timer: pods end without an event for us, and no event source is believed to be perfect.
const SLOW: Duration = Duration::from_secs(30);

/// The loop's state.
#[derive(Debug)]
pub struct Reconciler<N> {
    /// What a round is made of.
    pub round: Round<N>,
    /// Wakes it.
    pub wakes: Arc<Wakes>,
    /// The steps that are being carried out.
    pub running: Option<JoinHandle<Vec<StepReport>>>,
}

impl<N: Hands> Reconciler<N> {
    /// Runs until stopped: the step that runs is finished, kubelet is left to see that the pools end.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut slow = tokio::time::interval(SLOW);
        slow.set_missed_tick_behavior(MissedTickBehavior::Delay);
        slow.reset();
        self.wakes.wake(Cause::Start);
        loop {
            let mut finished = None;
            let cause = tokio::select! {
                () = stop.cancelled() => break,
                () = self.wakes.woken() => None,
                cause = self.round.changed() => Some(cause),
                reports = ended(&mut self.running) => {
                    finished = Some(reports);
                    Some(Cause::Again)
                }
                _ = slow.tick() => Some(Cause::Timer),
            };
            if let Some(reports) = finished {
                self.running = None;
                self.round.ended(reports);
            }
            if let Some(cause) = cause {
                self.wakes.wake(cause);
            }
            let heard = self.wakes.take();
            if !heard.causes.is_empty() {
                let span = tracing::info_span!("reconcile", causes = %Facts::list(&heard.causes));
                self.pass(heard, &stop).instrument(span).await;
            }
        }
        if let Some(running) = self.running.take() {
            // Between two steps it sees that the agent stops.
            drop(running.await);
        }
        self.round.end().await;
    }

    /// Looks once and does what follows.
    async fn pass(&mut self, heard: Heard, stop: &CancellationToken) {
        let sight = if self.running.is_some() { Sight::Beside } else { Sight::of(&heard.causes) };
        self.round.prepare(&heard.causes);
        let mut trouble = self.round.look(sight, &heard.causes).await.err();
        if trouble.is_none() {
            // Half-way through a plan nothing is to be learned about what is wanted; only the pools are kept true.
            if sight != Sight::Beside {
                self.round.think();
            }
            trouble = self.round.publish().await.err();
        }
        if trouble.is_none() && self.running.is_none() && self.round.has_work() {
            // Nobody acts on a part of the picture.
            if sight != Sight::Whole {
                trouble = self.round.look(Sight::Whole, &heard.causes).await.err();
                self.round.think();
            }
            if trouble.is_none() && self.round.has_work() {
                self.running = self.round.begin(&heard.causes, stop).await;
            }
        }
        self.round.tell(heard, trouble, self.running.is_some()).await;
    }
}

/// Waits for the end of the steps that run.
async fn ended(running: &mut Option<JoinHandle<Vec<StepReport>>>) -> Vec<StepReport> {
    match running {
        Some(running) => running.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the run did not end well");
            Vec::new()
        }),
        None => std::future::pending().await,
    }
}
