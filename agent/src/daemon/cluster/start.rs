//! Starts the cluster's parts: first what follows it, then, when there is a loop, what tells it.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::advertise::{self, Resources};
use super::census::{self, Policies};
use super::client::Connection;
use super::events;
use super::labels::{self, Prefix};
use super::node::NodeView;
use super::source::{Outputs, Patience, Source};
use super::state::{Content, Pace, Publisher};
use crate::daemon::facts::Facts;
use crate::daemon::wish::Wish;

/// What the cluster says.
#[derive(Debug, Clone)]
pub struct Following {
    /// What is wanted.
    pub wish: watch::Receiver<Wish>,
    /// The own Node; none while there is no such Node.
    pub node: watch::Receiver<Option<Arc<NodeView>>>,
    /// All policies, for counting.
    pub policies: watch::Receiver<Policies>,
}

/// What is told to the cluster, and how.
pub struct Telling {
    /// Makes the content of the NodeState.
    pub content: Content,
    /// Says which resources the node has; none if nothing is advertised.
    pub resources: Option<Resources>,
    /// The prefix of node labels, if there are to be any.
    pub labels: Option<Prefix>,
    /// How fast NodeStates are written.
    pub pace: Pace,
}

/// Follows the cluster until told to stop.
pub fn follow(connection: &Connection, patience: Patience, stop: &CancellationToken) -> Following {
    // Sessions to the API server are the node's lifeline also before it has answered.
    let first = Wish { api_servers: connection.api_servers.clone(), ..Wish::default() };
    let (wish, wishes) = watch::channel(first);
    let (node, nodes) = watch::channel(None);
    let (policies, all) = watch::channel(Policies::default());
    let source = Source::new(connection.clone(), patience).run(Outputs { wish, node, policies });
    spawn(source, stop);
    Following { wish: wishes, node: nodes, policies: all }
}

/// Tells the cluster what the loop knows until told to stop.
pub fn publish(
    connection: &Connection,
    following: &Following,
    facts: &watch::Receiver<Arc<Facts>>,
    telling: Telling,
    stop: &CancellationToken,
) {
    let Telling { content, resources, labels, pace } = telling;
    let Following { wish: _, node, policies } = following;
    let (state, written) = watch::channel(None);
    let publisher = Publisher::new(connection.clone(), content, pace);
    spawn(publisher.run(facts.clone(), node.clone(), state), stop);
    spawn(events::run(connection.clone(), written.clone(), node.clone()), stop);
    spawn(census::run(connection.clone(), written, policies.clone()), stop);
    if let Some(resources) = resources {
        spawn(advertise::run(connection.clone(), resources, facts.clone(), node.clone()), stop);
    }
    if let Some(prefix) = labels {
        spawn(labels::run(connection.clone(), prefix, facts.clone(), node.clone()), stop);
    }
}

/// A task that may be ended anywhere: each request of it is complete in itself.
fn spawn(task: impl Future<Output = ()> + Send + 'static, stop: &CancellationToken) {
    let stop = stop.clone();
    drop(tokio::spawn(async move {
        stop.run_until_cancelled_owned(task).await;
    }));
}
