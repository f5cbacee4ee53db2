//! The task: waits for a request, serves it, and afterwards takes away everything of ours that is left in the cluster. What
//! a crash has left is taken away in the same manner, as soon as the loop has decided for the first time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::calls::Calls;
use super::error::TurnError;
use super::node::NodeView;
use super::pool::Seen;
use super::serving::Serving;
use super::{Request, Settings, Turn};
use crate::daemon::cluster::pace::lot_of;

pub(super) struct Task {
    pub(super) calls: Calls,
    pub(super) settings: Arc<Settings>,
    pub(super) request: watch::Receiver<Option<Request>>,
    pub(super) turn: watch::Sender<Turn>,
    pub(super) stop: CancellationToken,
}

impl Task {
    pub(super) async fn run(mut self) {
        let mut tidy = false;
        self.first_decision().await;
        while !self.over() {
            let wanted = self.request.borrow_and_update().clone();
            match wanted {
                Some(wanted) => {
                    tidy = false;
                    self.serve(wanted).await;
                    self.tell(Turn::Idle);
                }
                None if !tidy => tidy = self.tidy_up().await,
                None => self.changed().await,
            }
        }
        if !tidy {
            // The process ends: what cannot be taken away now expires, or is taken away at the next start.
            let limit = self.settings.limit.saturating_mul(2);
            match tokio::time::timeout(limit, tidy_once(&self.calls)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(error = %error.words(), "something of this node's turn is left")
                }
                Err(_) => tracing::warn!("something of this node's turn is left: no answer in time"),
            }
        }
    }

    fn over(&self) -> bool {
        self.stop.is_cancelled() || self.request.has_changed().is_err()
    }

    /// Waits until the loop has said something for the first time. If it does not, nothing is wanted.
    async fn first_decision(&mut self) {
        let (stop, settle) = (self.stop.clone(), Instant::now() + self.settings.settle);
        tokio::select! {
            () = stop.cancelled() => {}
            // An error says that the loop has ended, which is seen afterwards.
            _ = self.request.changed() => {}
            () = tokio::time::sleep_until(settle) => {}
        }
    }

    async fn changed(&mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            // An error says that the loop has ended, which is seen afterwards.
            _ = self.request.changed() => {}
        }
    }

    fn tell(&self, turn: Turn) {
        self.turn.send_if_modified(|said| {
            let same = *said == turn;
            *said = turn;
            !same
        });
    }

    /// Serves a request until it is over.
    async fn serve(&mut self, wanted: Request) {
        let settings = Arc::clone(&self.settings);
        let (stop, mut request) = (self.stop.clone(), self.request.clone());
        let mut calls = self.calls.clone();
        let mut serving = Serving::new(&mut calls, &settings, wanted);
        loop {
            let (turn, due) = tokio::select! {
                () = stop.cancelled() => return,
                answer = serving.advance() => answer,
            };
            self.tell(turn);
            let timer = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = request.changed() => {
                    let wanted = request.borrow_and_update().clone();
                    match (changed, wanted) {
                        (Ok(()), Some(wanted)) => serving.want(wanted),
                        (Ok(()), None) | (Err(_), _) => return,
                    }
                }
                news = serving.hear() => serving.take(news),
                () = timer => {}
            }
        }
    }

    /// Takes away what is ours in the cluster, until that has succeeded or something else is wanted.
    async fn tidy_up(&mut self) -> bool {
        let mut pause = self.settings.retry;
        loop {
            match tidy_once(&self.calls).await {
                Ok(()) => return true,
                Err(error) => tracing::debug!(error = %error.words(), "tidying up is tried again"),
            }
            let again = Instant::now() + pause + lot_of(pause);
            pause = pause.saturating_mul(2).min(Duration::from_secs(60));
            let stop = self.stop.clone();
            tokio::select! {
                () = stop.cancelled() => return false,
                _ = self.request.changed() => return false,
                () = tokio::time::sleep_until(again) => {}
            }
        }
    }
}

/// Removes our cordon, our request to a drainer and our Leases, whoever made them: this process or one before it.
async fn tidy_once(calls: &Calls) -> Result<(), TurnError> {
    if let Some(node) = calls.read_node().await? {
        let mut view = NodeView::read(&node);
        if let Some(patch) = view.uncordon() {
            view = NodeView::read(&calls.patch_node(&patch).await?);
            tracing::info!(node = calls.node, "our cordon is removed");
        }
        if let Some(patch) = view.unask() {
            calls.patch_node(&patch).await?;
        }
    }
    for lease in calls.own_leases().await? {
        let seen = Seen::read(&lease, Instant::now());
        calls.delete(lease.metadata.name.as_deref().unwrap_or_default(), &seen.uid, &seen.version).await?;
    }
    Ok(())
}
