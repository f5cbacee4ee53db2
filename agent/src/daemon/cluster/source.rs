//! What is wanted, as the API server says it: the NodePolicies that select the own Node, the Node itself, and its pods
//! where a policy asks for them. What was known stays in force while the API server is away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{DynamicObject, PartialObjectMeta};
use kube::runtime::watcher;
use portwright_core::drive::chain;
use portwright_core::ovs::Pod;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::believed::Believed;
use super::census::Policies;
use super::chosen::Chosen;
use super::client::Connection;
use super::follow::{Events, follow};
use super::kinds;
use super::listing::{self, Listed, Listing};
use super::node::NodeView;
use super::pace::Growing;
use super::policy::Followed;
use super::store::Store;
use crate::daemon::wish::{Untold, Wish};

/// How long to wait for what; tests shorten it.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Between attempts.
    pub pauses: Growing,
    /// From when a policy disappears until a list may confirm that it is gone. When the definition of policies is deleted, the
    /// API server answers lists for a moment with none. So long also holds what the node's labels do not select any more.
    pub doubt: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { pauses: Growing::default(), doubt: Duration::from_secs(10) }
    }
}

/// Follows the cluster.
pub struct Source {
    connection: Connection,
    pauses: Growing,
    policies: Store<Followed>,
    /// Those in force: what is shown, and what is not yet known to be gone.
    believed: Believed,
    /// Those of them that are for this node.
    chosen: Chosen,
    nodes: Store<NodeView>,
    /// The Node as it was seen last, also after it was deleted.
    node: Option<Arc<NodeView>>,
    pods: Store<Pod>,
    pods_wanted: bool,
    /// Lists and watches that fail.
    failing: BTreeMap<String, String>,
    /// Since when what is said of that is something, and in the log.
    troubled: Option<Instant>,
    /// What the writer of the NodeState says.
    untold: Option<Untold>,
}

/// Where the results go.
#[derive(Debug)]
pub struct Outputs {
    /// For the loop.
    pub wish: watch::Sender<Wish>,
    /// For those who write to the Node; none while there is no such Node.
    pub node: watch::Sender<Option<Arc<NodeView>>>,
    /// All policies, selected or not, for counting.
    pub policies: watch::Sender<Policies>,
}

impl Source {
    /// A source that knows nothing yet.
    pub fn new(connection: Connection, patience: Patience) -> Source {
        Source {
            connection,
            pauses: patience.pauses,
            policies: Store::default(),
            believed: Believed::new(patience.doubt, patience.pauses),
            chosen: Chosen::new(patience.doubt),
            nodes: Store::default(),
            node: None,
            pods: Store::default(),
            pods_wanted: false,
            failing: BTreeMap::new(),
            troubled: None,
            untold: None,
        }
    }

    /// Follows until nobody listens any more.
    pub async fn run(mut self, outputs: Outputs) {
        let client = self.connection.client.clone();
        let node = self.connection.node.clone();
        let mut health = self.connection.health.subscribe();
        let mut untold = self.connection.untold.subscribe();
        let pauses = self.pauses;
        let mut policies = follow(kinds::policies(&client), watcher::Config::default(), pauses);
        let only = watcher::Config::default().fields(&format!("metadata.name={node}"));
        let mut nodes = follow(kinds::nodes(&client), only, pauses);
        let mut pods: Option<Events<PartialObjectMeta<DynamicObject>>> = None;
        let mut listing: Option<Listing> = None;
        loop {
            let ask_at = self.believed.ask_at().filter(|_| listing.is_none());
            let let_go_at = self.chosen.let_go_at().filter(|_| self.follows_node());
            let changed = tokio::select! {
                Some(event) = policies.next() => taken(event, "nodepolicies", |event| {
                    self.policies.take(event, |object| (name_of(&object), Followed::read(object)))
                }),
                Some(event) = nodes.next() => taken(event, "nodes", |event| {
                    self.nodes.take(event, |object| (name_of(&object), NodeView::read(&object)))
                }),
                Some(event) = next(&mut pods) => taken(event, "pods", |event| self.pods.take(event, pod)),
                () = until(ask_at) => {
                    listing = Some(listing::ask_for(client.clone()));
                    false
                }
                (asked, answer) = listing::answer(&mut listing) => {
                    listing = None;
                    self.confirm(asked, answer)
                }
                () = until(let_go_at) => true,
                Ok(()) = health.changed() => true,
                Ok(()) = untold.changed() => true,
                () = outputs.wish.closed() => return,
            };
            if !changed {
                continue;
            }
            self.failing = health.borrow_and_update().clone();
            self.untold = untold.borrow_and_update().clone();
            self.settle();
            if self.pods_wanted && pods.is_none() {
                let only = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
                pods = Some(follow(kinds::pods(&client), only, pauses));
            } else if !self.pods_wanted && pods.take().is_some() {
                self.pods = Store::default();
            }
            self.log();
            self.tell(&outputs);
        }
    }

    /// Takes in a list that was asked for because policies have disappeared.
    fn confirm(&mut self, asked: Instant, answer: Result<Listed, String>) -> bool {
        match answer {
            Ok(listed) => self.believed.confirm(&listed, asked, Instant::now()),
            Err(error) => {
                tracing::debug!(error, "policies that have disappeared hold");
                self.believed.postpone(Instant::now());
                false
            }
        }
    }

    /// Draws the conclusions from what is known.
    fn settle(&mut self) {
        if self.policies.synced {
            self.believed.see(&self.policies.known, Instant::now());
        }
        if let Some(node) = self.nodes.known.get(self.connection.node.as_str())
            && self.node.as_deref() != Some(node)
        {
            let before = self.node.replace(Arc::new(node.clone()));
            if before.is_some_and(|before| before.uid != node.uid) {
                tracing::warn!(node = %self.connection.node, "the Node was made anew");
            }
        }
        if let Some(node) = &self.node {
            let current = self.follows_node();
            self.chosen.see(&self.believed.policies, &node.labels, current, Instant::now());
        }
        self.pods_wanted = self.chosen.policies().any(|(_, policy)| policy.needs_pods());
    }

    /// Whether the Node's labels are known to be those of now.
    fn follows_node(&self) -> bool {
        !self.failing.keys().any(|path| path.ends_with("/nodes"))
    }

    fn tell(&self, outputs: &Outputs) {
        let there = self.nodes.known.contains_key(self.connection.node.as_str());
        let node = self.node.clone().filter(|_| there);
        outputs.node.send_if_modified(|known| {
            let differs = *known != node;
            known.clone_from(&node);
            differs
        });
        if self.policies.synced {
            let counted =
                self.policies.known.iter().map(|(name, policy)| (name.clone(), policy.counted.clone()));
            let counted: Policies = Arc::new(counted.collect());
            outputs.policies.send_if_modified(|known| {
                let differs = *known != counted;
                *known = counted;
                differs
            });
        }
        // A mirror by pods cannot be judged without pods; if they cannot be listed, everything else must not wait for them.
        let waits =
            self.pods_wanted && !self.pods.synced && !self.failing.keys().any(|path| path.ends_with("/pods"));
        let synced = self.policies.synced && self.node.is_some() && !waits;
        let trouble = self.trouble();
        outputs.wish.send_if_modified(|known| {
            if !synced {
                // What was known, or nothing at all, stays.
                let differs = known.trouble != trouble || known.untold != self.untold;
                known.trouble = trouble;
                known.untold.clone_from(&self.untold);
                return differs;
            }
            let fresh = self.wish(trouble);
            let differs = *known != fresh;
            *known = fresh;
            differs
        });
    }

    fn wish(&self, trouble: Option<String>) -> Wish {
        Wish {
            synced: true,
            policies: self
                .chosen
                .policies()
                .map(|(name, policy)| (name.clone(), policy.policy.clone()))
                .collect(),
            trouble,
            pods: self.pods.synced.then(|| self.pods.known.clone()),
            node_addresses: self.node.as_ref().map(|node| node.addresses.clone()).unwrap_or_default(),
            api_servers: self.connection.api_servers.clone(),
            untold: self.untold.clone(),
        }
    }

    /// One line when the cluster fails as a source, and one when it is back.
    fn log(&mut self) {
        let node = self.connection.node.as_str();
        match (self.trouble(), self.troubled) {
            (Some(trouble), None) => {
                self.troubled = Some(Instant::now());
                tracing::warn!(node, trouble, "policies cannot be followed; what is known holds");
            }
            (None, Some(since)) => {
                self.troubled = None;
                let seconds = since.elapsed().as_secs();
                tracing::info!(node, seconds, "policies are followed again");
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    /// What is wrong with the cluster as a source.
    fn trouble(&self) -> Option<String> {
        let watched = |path: &str| {
            path.ends_with("/nodepolicies") || path.ends_with("/nodes") || path.ends_with("/pods")
        };
        let failing = self.failing.iter().filter(|(path, _)| watched(path));
        let mut parts: Vec<String> = failing
            .map(|(path, why)| {
                let resource = path.rsplit('/').next().unwrap_or_default();
                let hint = if resource == "nodepolicies" && why.contains("404") {
                    "; their definition is not installed, apply deploy/crds; the last good policies hold"
                } else {
                    ""
                };
                format!("the API server cannot be asked for {resource}: {why}{hint}")
            })
            .collect();
        parts.extend(self.believed.orphans());
        if self.nodes.synced && !self.nodes.known.contains_key(self.connection.node.as_str()) {
            parts.push(format!(
                "there is no Node `{}`; check --node-name and NODE_NAME, unless it is about to be made",
                self.connection.node
            ));
        }
        Some(parts.join("; ")).filter(|text| !text.is_empty())
    }
}

/// Waits until a time, or for ever.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Takes an event in. Failures are told as [`Wish::trouble`]; the log gets the detail for who looks for it.
fn taken<K>(
    event: watcher::Result<watcher::Event<K>>,
    what: &'static str,
    take: impl FnOnce(watcher::Event<K>) -> bool,
) -> bool {
    match event {
        Ok(event) => take(event),
        Err(error) => {
            tracing::debug!(what, error = chain(&error), "following is interrupted");
            false
        }
    }
}

/// The next event of a stream that may not be there, which then has none for ever.
async fn next<K>(events: &mut Option<Events<K>>) -> Option<watcher::Result<watcher::Event<K>>> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

fn name_of(object: &DynamicObject) -> String {
    object.metadata.name.clone().unwrap_or_default()
}

fn pod(object: PartialObjectMeta<DynamicObject>) -> (String, Pod) {
    let metadata = object.metadata;
    let pod = Pod {
        namespace: metadata.namespace.unwrap_or_default(),
        name: metadata.name.unwrap_or_default(),
        labels: metadata.labels.unwrap_or_default(),
        // Their statuses are not read: who has a device file open is then known by the VF alone.
        ..Pod::default()
    };
    (metadata.uid.unwrap_or_default(), pod)
}
