//! What is followed while a turn is wanted: the own Node, the Leases of the pool in which a place is sought, and the pods of
//! the node while some are being evicted. Nothing is followed while nothing is wanted.

use std::pin::Pin;

use futures::{Stream, StreamExt as _};
use kube::api::{DynamicObject, PartialObjectMeta};
use kube::runtime::{WatchStreamExt as _, watcher};

use super::calls::{Calls, POOL_LABEL};
use super::pool::mark;

type Followed<K> = Pin<Box<dyn Stream<Item = Heard<K>> + Send>>;

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
    pub(super) node: Option<Followed<DynamicObject>>,
    /// A policy's Leases.
    pub(super) leases: Option<Followed<DynamicObject>>,
    /// The node's pods.
    pub(super) pods: Option<Followed<PodMeta>>,
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

async fn one<K>(stream: &mut Option<Followed<K>>) -> Heard<K> {
    if let Some(open) = stream {
        if let Some(heard) = open.next().await {
            return heard;
        }
        *stream = None;
    }
    std::future::pending().await
}

/// Follows the own Node.
pub(super) fn node(calls: &Calls) -> Followed<DynamicObject> {
    let only = watcher::Config::default().fields(&format!("metadata.name={}", calls.node));
    Box::pin(watcher(calls.nodes(), only.any_semantic()).default_backoff())
}

/// Follows a policy's Leases. The list may come from the API server's cache: whatever is done about a Lease names the version
/// that was seen.
pub(super) fn leases(calls: &Calls, policy: &str) -> Followed<DynamicObject> {
    let only = watcher::Config::default().labels(&format!("{POOL_LABEL}={}", mark(policy)));
    Box::pin(watcher(calls.leases(), only.any_semantic()).default_backoff())
}

/// Follows the pods of the node that have not ended, without their contents.
pub(super) fn pods(calls: &Calls) -> Followed<PodMeta> {
    let fields = format!("spec.nodeName={},status.phase!=Succeeded,status.phase!=Failed", calls.node);
    let only = watcher::Config::default().fields(&fields);
    Box::pin(watcher(calls.pods(), only).default_backoff())
}
