//! Keeps something of the Node as it should be, no matter who changed it: what is there is compared whenever it or the wish
//! has changed, and written if it differs.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kube::runtime::utils::Backoff as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::ask::{AskError, Trouble};
use super::node::NodeView;
use super::pace::{Bucket, Growing};
use crate::daemon::facts::Facts;

/// What is known of the wish and of the Node.
pub(super) struct Known {
    /// The loop's word.
    pub(super) facts: watch::Receiver<Arc<Facts>>,
    /// The Node, if there is one.
    pub(super) node: watch::Receiver<Option<Arc<NodeView>>>,
}

/// How often something is written.
pub(super) struct Pace {
    /// Whoever fights about a value gets an answer at once for a while, and then slowly.
    pub(super) bucket: Bucket,
    /// Between attempts that fail.
    pub(super) pauses: Growing,
    /// How long to wait for more changes before something is written.
    pub(super) debounce: Duration,
}

/// Compares and writes until the loop or the source is gone. `due` says what differs, if anything does; `what` is its name in the log.
pub(super) async fn keep<D, F>(
    what: &'static str,
    mut known: Known,
    mut pace: Pace,
    due: impl Fn(&Facts, &NodeView) -> Option<D>,
    write: impl Fn(D) -> F,
) where
    F: Future<Output = Result<(), AskError>>,
{
    let began = Instant::now();
    let mut trouble = Trouble::default();
    loop {
        let (facts, node) = (known.facts.borrow_and_update().clone(), known.node.borrow_and_update().clone());
        let differs = node.filter(|_| facts.sequence > 0).and_then(|node| due(&facts, &node));
        if let Some(differs) = differs {
            if let Err(pause) = pace.bucket.take(began.elapsed()) {
                tracing::warn!(what, "somebody else sets it again and again");
                sleep_until(Instant::now() + pause).await;
                continue;
            }
            match write(differs).await {
                Ok(()) => {
                    trouble.over(what);
                    pace.pauses.reset();
                }
                Err(error) => {
                    trouble.failed(&error);
                    sleep_until(Instant::now() + pace.pauses.next().unwrap_or(pace.debounce)).await;
                    continue;
                }
            }
        }
        tokio::select! {
            changed = known.facts.changed() => if changed.is_err() { return },
            changed = known.node.changed() => if changed.is_err() { return },
        }
        sleep_until(Instant::now() + pace.debounce).await;
    }
}
