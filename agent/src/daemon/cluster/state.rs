//! Writes the NodeState: by server-side apply, only when it says something new, never faster than a bound, and with the
//! newest state whatever was missed. It belongs to the Node, so that it goes with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{DynamicObject, Patch, PatchParams};
use kube::runtime::utils::Backoff as _;
use portwright_api::{NodeState, NodeStateContent};
use serde_json::{Value as Json, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::ask::{AskError, Trouble, ask};
use super::client::Connection;
use super::contribution::{self, ANNOTATION, Contribution};
use super::kinds::{self, FIELD_MANAGER};
use super::node::NodeView;
use super::pace::{Bucket, Growing, lot_of};
use crate::daemon::facts::Facts;
use crate::daemon::wish::Untold;

/// Makes the content of a NodeState, and what is counted of each policy.
pub type Content = Arc<dyn Fn(&Facts) -> (NodeStateContent, BTreeMap<String, Contribution>) + Send + Sync>;

/// How fast; tests shorten it.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// So many writes at once,
    pub burst: u32,
    /// and then one per period.
    pub period: Duration,
    /// How often the same is written again, which repairs what somebody else deleted or changed.
    pub confirm: Duration,
    /// Pauses after failures.
    pub pauses: Growing,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            burst: 3,
            period: Duration::from_secs(5),
            confirm: Duration::from_secs(3600),
            pauses: Growing::new(Duration::from_secs(1), Duration::from_secs(60)),
        }
    }
}

/// The NodeState as the API server has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// What it says.
    pub content: Arc<NodeStateContent>,
    /// What it said before the first write of this process; none if there was none.
    pub before: Option<Arc<NodeStateContent>>,
    /// What it says about policies.
    pub contributions: Arc<BTreeMap<String, Contribution>>,
    /// Its resource version.
    pub version: String,
    /// UID of the Node that it belongs to.
    pub node: String,
    /// Whether this process wrote it; otherwise it was there before.
    pub ours: bool,
}

/// Writes the NodeState.
pub struct Publisher {
    connection: Connection,
    content: Content,
    pace: Pace,
    began: Instant,
    bucket: Bucket,
    last: Option<Arc<Written>>,
    /// Whether the API server was asked what there is.
    asked: bool,
}

/// So long after the start nothing is told before policies are known: it would be taken back at once.
const GRACE: Duration = Duration::from_secs(30);

/// What a round came to.
enum Round {
    /// Nothing is left to be written.
    Done,
    /// There is no token until then.
    Wait(Duration),
    /// Policies are not known yet; they need not be waited for any longer than that.
    Early(Duration),
}

impl Publisher {
    /// A publisher that has written nothing yet.
    pub fn new(connection: Connection, content: Content, pace: Pace) -> Publisher {
        let bucket = Bucket::new(pace.burst, pace.period);
        Publisher { connection, content, pace, began: Instant::now(), bucket, last: None, asked: false }
    }

    /// Writes until the loop or the source is gone; `written` tells the other publishers.
    pub async fn run(
        mut self,
        mut facts: watch::Receiver<Arc<Facts>>,
        mut node: watch::Receiver<Option<Arc<NodeView>>>,
        written: watch::Sender<Option<Arc<Written>>>,
    ) {
        let mut pauses = self.pace.pauses;
        let mut trouble = Trouble::default();
        // Agents that started together do not confirm together.
        let first = Instant::now() + self.pace.confirm + lot_of(self.pace.confirm);
        let (mut confirm, mut confirm_at) = (false, first);
        loop {
            let mut early = None;
            let (known, owner) = (facts.borrow_and_update().clone(), node.borrow_and_update().clone());
            if let Some(owner) = owner.filter(|_| known.sequence > 0) {
                match self.round(&known, &owner, confirm, &written).await {
                    Ok(Round::Done) => {
                        pauses.reset();
                        trouble.over("writing the NodeState");
                        self.connection.untold.send_if_modified(|known| known.take().is_some());
                        if std::mem::take(&mut confirm) {
                            confirm_at = Instant::now() + self.pace.confirm;
                        }
                    }
                    Ok(Round::Early(pause)) => early = Some(Instant::now() + pause),
                    Ok(Round::Wait(pause)) => {
                        sleep_until(Instant::now() + pause).await;
                        continue;
                    }
                    Err(error) => {
                        self.say(&error);
                        trouble.failed(&error);
                        sleep_until(Instant::now() + pauses.next().unwrap_or(self.pace.period)).await;
                        continue;
                    }
                }
            }
            tokio::select! {
                changed = facts.changed() => if changed.is_err() { return },
                changed = node.changed() => if changed.is_err() { return },
                () = sleep_until(early.unwrap_or(confirm_at)) => confirm = early.is_none(),
            }
        }
    }

    async fn round(
        &mut self,
        facts: &Facts,
        node: &NodeView,
        confirm: bool,
        written: &watch::Sender<Option<Arc<Written>>>,
    ) -> Result<Round, AskError> {
        if !self.asked {
            self.last = self.ask().await?.map(Arc::new);
            self.asked = true;
            written.send_replace(self.last.clone());
        }
        if let Some(left) = GRACE.checked_sub(self.began.elapsed()).filter(|_| !facts.synced) {
            return Ok(Round::Early(left));
        }
        let (mut content, counted) = (self.content)(facts);
        let last = self.last.as_deref();
        if let Some(last) = last {
            content.keep_transition_times(&last.content);
        }
        // What is said about policies that are not known is what was said before.
        let contributions = match last {
            Some(last) if !facts.synced => last.contributions.as_ref().clone(),
            Some(_) | None => counted,
        };
        let same = last.is_some_and(|last| {
            last.node == node.uid
                && last.content.equal_but_for_time(&content)
                && *last.contributions == contributions
        });
        if same && !confirm {
            return Ok(Round::Done);
        }
        if let Err(pause) = self.bucket.take(self.began.elapsed()) {
            return Ok(Round::Wait(pause));
        }
        let content = match last {
            // The very same, so that the API server finds nothing to change unless somebody else did.
            Some(last) if same => Arc::clone(&last.content),
            Some(_) | None => Arc::new(content),
        };
        let before = last.and_then(|last| last.before.clone());
        let version = self.write(&content, &contributions, node).await?;
        let now = Written {
            content,
            before,
            contributions: Arc::new(contributions),
            version,
            node: node.uid.clone(),
            ours: true,
        };
        let now = Arc::new(now);
        self.last = Some(Arc::clone(&now));
        written.send_replace(Some(now));
        Ok(Round::Done)
    }

    /// Passes on why nothing can be told, once: the words may differ with every attempt.
    fn say(&self, error: &AskError) {
        let missing = error.undeclared();
        let outdated = missing.is_some();
        let why = match missing {
            Some(field) => format!(
                "the definitions in the cluster are older than this agent (NodeState has no {field}), so that nothing of this \
                 node is told; apply deploy/crds of this version"
            ),
            None => portwright_core::drive::chain(error),
        };
        let is_new = self.connection.untold.send_if_modified(|known| {
            let is_new = known.as_ref().is_none_or(|known| known.outdated != outdated);
            if is_new {
                *known = Some(Untold { why: why.clone(), outdated });
            }
            is_new
        });
        if is_new && outdated {
            tracing::error!("{why}");
        }
    }

    /// The NodeState that is there from an earlier life.
    async fn ask(&self) -> Result<Option<Written>, AskError> {
        let name = self.connection.node.as_str();
        let api = kinds::states(&self.connection.client);
        let found = ask(format!("read NodeState {name}"), api.get_opt(name)).await?;
        Ok(found.map(read))
    }

    async fn write(
        &self,
        content: &NodeStateContent,
        contributions: &BTreeMap<String, Contribution>,
        node: &NodeView,
    ) -> Result<String, AskError> {
        let name = self.connection.node.as_str();
        let body = body(name, content, contributions, node);
        let api = kinds::states(&self.connection.client);
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let what = format!("write NodeState {name}");
        let answer = ask(what, api.patch_metadata(name, &parameters, &Patch::Apply(&body))).await?;
        Ok(answer.metadata.resource_version.unwrap_or_default())
    }
}

fn body(
    name: &str,
    content: &NodeStateContent,
    contributions: &BTreeMap<String, Contribution>,
    node: &NodeView,
) -> Json {
    let mut body = serde_json::to_value(NodeState::new(name, content.clone())).unwrap_or_default();
    if let Some(map) = body.as_object_mut() {
        let owner = json!({"apiVersion": "v1", "kind": "Node", "name": name, "uid": node.uid});
        let metadata = json!({
            "name": name,
            "annotations": {ANNOTATION: contribution::text(contributions)},
            "ownerReferences": [owner],
        });
        map.insert("metadata".to_owned(), metadata);
    }
    body
}

fn read(object: DynamicObject) -> Written {
    let metadata = object.metadata;
    let content: NodeStateContent = object
        .data
        .get("status")
        .and_then(|status| serde_json::from_value(status.clone()).ok())
        .unwrap_or_default();
    let content = Arc::new(content);
    let annotation = metadata.annotations.as_ref().and_then(|all| all.get(ANNOTATION));
    let owners = metadata.owner_references.unwrap_or_default();
    Written {
        before: Some(Arc::clone(&content)),
        content,
        contributions: Arc::new(annotation.map(|text| contribution::read(text)).unwrap_or_default()),
        version: metadata.resource_version.unwrap_or_default(),
        node: owners.into_iter().next().map(|owner| owner.uid).unwrap_or_default(),
        ours: false,
    }
}
