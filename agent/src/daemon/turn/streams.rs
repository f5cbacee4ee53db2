//! What is followed while a turn is wanted: the own Node, the Leases of the pool in which a place is sought, and the pods of
//! the node while some are being evicted. Nothing is followed while nothing is wanted.

use futures::StreamExt as _;
use kube::api::{DynamicObject, PartialObjectMeta};
use kube::runtime::watcher;

use super::calls::{Calls, POOL_LABEL};
use super::pool::mark;
use crate::daemon::cluster::follow::{Events, follow};
use crate::daemon::cluster::pace::Growing;

/// Something of a followed resource: an event, or why it cannot be followed at the moment.
pub(super) type Heard<K> = Result<watcher::Event<K>, watcher::Error>;

/// A pod without its contents.
pub(super) type PodMeta = PartialObjectMeta<DynamicObject>;

/// What was heard.
pub(super) enum News {
    /// Of the own Node.
    Node(Heard<DynamicObject>),
    /// Of a Lease.
    Lease(Heard<DynamicObject>),
    /// Of a pod.
    Pod(Heard<PodMeta>),
}

/// The streams that are open.
#[derive(Default)]
pub(super) struct Streams {
    /// The own Node.
    pub(super) node: Option<Events<DynamicObject>>,
    /// A policy's Leases.
    pub(super) leases: Option<Events<DynamicObject>>,
    /// The node's pods.
    pub(super) pods: Option<Events<PodMeta>>,
}

impl Streams {
    /// Waits for the next thing on any of them.
    pub(super) async fn next(&mut self) -> News {
        let Streams { node, leases, pods } = self;
        tokio::select! {
            heard = one(node) => News::Node(heard),
            heard = one(leases) => News::Lease(heard),
            heard = one(pods) => News::Pod(heard),
        }
    }
}

async fn one<K>(stream: &mut Option<Events<K>>) -> Heard<K> {
    if let Some(open) = stream {
        if let Some(heard) = open.next().await {
            return heard;
        }
        *stream = None;
    }
    std::future::pending().await
}

/// Follows the own Node.
pub(super) fn node(calls: &Calls) -> Events<DynamicObject> {
    let only = watcher::Config::default().fields(&format!("metadata.name={}", calls.node));
    follow(calls.nodes(), only.any_semantic(), Growing::default())
}

/// Follows a policy's Leases. The list may come from the API server's cache: whatever is done about a Lease names the version
/// that was seen.
pub(super) fn leases(calls: &Calls, policy: &str) -> Events<DynamicObject> {
    let only = watcher::Config::default().labels(&format!("{POOL_LABEL}={}", mark(policy)));
    follow(calls.leases(), only.any_semantic(), Growing::default())
}

/// Follows the pods of the node that have not ended, without their contents.
pub(super) fn pods(calls: &Calls) -> Events<PodMeta> {
    let fields = format!("spec.nodeName={},status.phase!=Succeeded,status.phase!=Failed", calls.node);
    let only = watcher::Config::default().fields(&fields);
    follow(calls.pods(), only, Growing::default())
}
