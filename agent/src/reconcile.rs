//! The loop: wait until something may have changed, look at the node, think, publish, act, tell. It keeps nothing that it
//! could not find out again, so it does not matter which wake was lost or came twice. Work that may block is done elsewhere:
//! while the steps of one port run, the loop goes on, and acts on other ports.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::daemon::facts::{Cause, Facts};
use crate::daemon::hands::Hands;
use crate::daemon::round::{Round, Running, Sight};
use crate::serve::wake::{Heard, Wakes};

/// The one timer: pods end without an event for us, and no event source is believed to be perfect.
const SLOW: Duration = Duration::from_secs(30);

/// Steps make many events of their own. While some run, events of devices and links wait so long for more.
const SETTLES: Duration = Duration::from_millis(100);

/// The loop's state.
#[derive(Debug)]
pub struct Reconciler<N> {
    /// What a round is made of.
    pub round: Round<N>,
    /// Wakes it.
    pub wakes: Arc<Wakes>,
    /// The steps that are being carried out.
    pub running: Running,
}

impl<N: Hands> Reconciler<N> {
    /// Runs until stopped: the step that runs is finished, kubelet is left to see that the pools end.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut slow = tokio::time::interval(SLOW);
        slow.set_missed_tick_behavior(MissedTickBehavior::Delay);
        slow.reset();
        self.wakes.wake(Cause::Start);
        loop {
            let mut ended = None;
            let cause = tokio::select! {
                () = stop.cancelled() => break,
                () = self.wakes.woken() => None,
                cause = self.round.changed() => Some(cause),
                Some(end) = self.running.join_next() => {
                    ended = Some(end);
                    None
                }
                _ = slow.tick() => Some(Cause::Timer),
            };
            if ended.is_none() && cause.is_none() && !self.running.is_empty() && self.wakes.only_kernel() {
                ended = timeout(SETTLES, self.running.join_next()).await.ok().flatten();
            }
            if let Some(Ok(end)) = ended {
                self.round.ended(end);
                self.wakes.wake(Cause::Again);
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
        // Between two steps they see that the agent stops.
        while self.running.join_next().await.is_some() {}
        self.round.end().await;
    }

    /// Looks once and does what follows.
    async fn pass(&mut self, heard: Heard, stop: &CancellationToken) {
        // What was seen before has changed in more than what events tell while steps run.
        let sight = if self.running.is_empty() { Sight::of(&heard.causes) } else { Sight::Whole };
        self.round.prepare(&heard.causes);
        let mut trouble = self.round.look(sight, &heard.causes).await.err();
        if trouble.is_none() {
            self.round.think();
            trouble = self.round.publish().await.err();
        }
        if trouble.is_none() && self.round.has_work() {
            // Nobody acts on a part of the picture.
            if sight != Sight::Whole {
                trouble = self.round.look(Sight::Whole, &heard.causes).await.err();
                self.round.think();
            }
            if trouble.is_none() && self.round.has_work() {
                self.round.begin(&heard.causes, stop, &mut self.running).await;
            }
        }
        self.round.tell(heard, trouble).await;
    }
}
