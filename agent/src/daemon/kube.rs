//! The daemon in a cluster: what follows the API server before the loop begins, and what tells it afterwards.

use std::sync::{Arc, Mutex, PoisonError};

use portwright_core::advertise;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cluster::client::{self, ConnectError, Connection};
use super::cluster::labels::Prefix;
use super::cluster::source::Patience;
use super::cluster::start::{Following, Telling, follow, publish};
use super::cluster::state::Pace;
use super::facts::Facts;
use super::state::told;
use super::turn;
use super::wish::Wish;

/// A cluster that is followed.
pub struct Cluster {
    connection: Connection,
    following: Following,
    labels: Option<Prefix>,
    pace: Pace,
}

impl Cluster {
    /// Follows the API server; it may be away.
    ///
    /// # Errors
    /// The node's name is not known, or there is no way to the API server.
    pub async fn follow(
        node_name: Option<&str>,
        labels: Option<Prefix>,
        stop: &CancellationToken,
    ) -> Result<Cluster, ConnectError> {
        let connection = client::connect(node_name).await?;
        Ok(Cluster::new(connection, Patience::default(), Pace::default(), labels, stop))
    }

    /// The same with a connection that is already there; `pace` is that of NodeStates.
    pub fn new(
        connection: Connection,
        patience: Patience,
        pace: Pace,
        labels: Option<Prefix>,
        stop: &CancellationToken,
    ) -> Cluster {
        let following = follow(&connection, patience, stop);
        Cluster { connection, following, labels, pace }
    }

    /// What is wanted.
    pub fn wish(&self) -> watch::Receiver<Wish> {
        self.following.wish.clone()
    }

    /// The name of the own Node.
    pub fn node(&self) -> &str {
        self.connection.node.as_str()
    }

    /// Asks for turns among the nodes; Leases are in `namespace`. What it has is given back when the loop ends, which is
    /// later than the moment it is told to stop: a step may still run.
    pub fn turns(&self, namespace: &str, settings: turn::Settings) -> turn::Handle {
        let never = CancellationToken::new();
        turn::start(self.connection.client.clone(), self.node(), namespace, settings, never)
    }

    /// Tells the cluster what the loop knows.
    pub fn tell(self, facts: &watch::Receiver<Arc<Facts>>, stop: &CancellationToken) {
        let node = self.node().to_owned();
        let previous = Mutex::new(None);
        let content = move |facts: &Facts| {
            let mut previous = previous.lock().unwrap_or_else(PoisonError::into_inner);
            let told = told(facts, previous.as_ref(), &node);
            *previous = Some(told.0.clone());
            told
        };
        let telling = Telling {
            content: Arc::new(content),
            resources: Some(Arc::new(resources)),
            labels: self.labels,
            pace: self.pace,
        };
        publish(&self.connection, &self.following, facts, telling, stop);
    }
}

/// The bridges that the node offers, as resources. While policies are not known nothing is said of them.
fn resources(facts: &Facts) -> Option<std::collections::BTreeMap<String, u64>> {
    if facts.trouble.is_some() || !facts.synced {
        return None;
    }
    let resources = advertise::resources(&facts.observed, &facts.desired, &facts.plan);
    for warning in &resources.warnings {
        tracing::debug!(warning, "a bridge cannot be advertised");
    }
    Some(resources.offered.into_iter().map(|(name, capacity)| (name, u64::from(capacity))).collect())
}
