//! The requests, each with a deadline. Objects are read as JSON, so that fields which a newer API server adds do not matter.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, PartialObjectMeta, Patch,
    PatchParams, PostParams, Preconditions,
};
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::PodName;
use super::error::TurnError;
use super::pool::{Seen, lease_name, mark};

/// The label with the policy's mark, which a policy's Leases are found by.
pub(super) const POOL_LABEL: &str = "portwright.dev/pool";

/// The label with the holder's mark, which a node's own Leases are found by.
pub(super) const HOLDER_LABEL: &str = "portwright.dev/holder";

/// This node's view of the API server.
#[derive(Clone)]
pub(super) struct Calls {
    client: Client,
    /// The own node.
    pub(super) node: String,
    /// The own Node's UID, as soon as it is known: when the Node is deleted, its Leases go with it.
    pub(super) node_uid: Option<String>,
    namespace: String,
    /// How long a Lease lasts after its last renewal.
    duration: Duration,
    /// How long a request may take.
    limit: Duration,
}

/// A Lease of this node.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// Which place.
    pub(super) slot: u32,
    uid: String,
    version: String,
    transitions: i64,
    acquired: Json,
    /// When the request was made whose success was the last confirmation.
    pub(super) confirmed: Instant,
}

/// What became of a renewal.
#[derive(Debug)]
pub(super) enum Renewal {
    /// The place is still ours.
    Confirmed(Held),
    /// Somebody else has it, or nobody.
    Lost,
}

impl Calls {
    /// Leases are in `namespace`.
    pub(super) fn new(
        client: Client,
        node: &str,
        namespace: &str,
        duration: Duration,
        limit: Duration,
    ) -> Calls {
        let node = node.to_owned();
        Calls { client, node, node_uid: None, namespace: namespace.to_owned(), duration, limit }
    }

    /// The Leases' resource.
    pub(super) fn leases(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("coordination.k8s.io", "v1", "Lease");
        let resource = ApiResource::from_gvk_with_plural(&kind, "leases");
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// The Nodes' resource.
    pub(super) fn nodes(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("", "v1", "Node");
        Api::all_with(self.client.clone(), &ApiResource::from_gvk_with_plural(&kind, "nodes"))
    }

    /// Pods of all namespaces, without their contents.
    pub(super) fn pods(&self) -> Api<PartialObjectMeta<DynamicObject>> {
        let kind = GroupVersionKind::gvk("", "v1", "Pod");
        Api::all_with(self.client.clone(), &ApiResource::from_gvk_with_plural(&kind, "pods"))
    }

    async fn ask<T>(
        &self,
        verb: &'static str,
        object: impl FnOnce() -> String,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, TurnError> {
        match tokio::time::timeout(self.limit, request).await {
            Ok(answer) => answer.map_err(|source| TurnError::Ask { verb, object: object(), source }),
            Err(_) => Err(TurnError::Slow { verb, object: object(), limit: self.limit }),
        }
    }

    fn lease_text(&self, policy: &str, slot: u32) -> String {
        format!("Lease {}/{}", self.namespace, lease_name(policy, slot))
    }

    fn lease(&self, policy: &str, held: &Held) -> Result<DynamicObject, TurnError> {
        let owner = self.node_uid.as_ref();
        let owners: Vec<Json> = owner
            .map(|uid| json!({"apiVersion": "v1", "kind": "Node", "name": self.node, "uid": uid}))
            .into_iter()
            .collect();
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": lease_name(policy, held.slot),
                "namespace": self.namespace,
                "uid": some(&held.uid),
                "resourceVersion": some(&held.version),
                "labels": {
                    "app.kubernetes.io/managed-by": "portwright",
                    POOL_LABEL: mark(policy),
                    HOLDER_LABEL: mark(&self.node),
                },
                "annotations": {"portwright.dev/policy": policy},
                "ownerReferences": owners,
            },
            "spec": {
                "holderIdentity": self.node,
                // Whole seconds, and never less than what we go by.
                "leaseDurationSeconds": self.duration.as_millis().div_ceil(1000),
                "leaseTransitions": held.transitions,
                "acquireTime": held.acquired,
                "renewTime": time(),
            },
        });
        let object = || self.lease_text(policy, held.slot);
        serde_json::from_value(lease).map_err(|source| TurnError::Form { object: object(), source })
    }

    /// Creates the Lease of a slot.
    pub(super) async fn create(&self, policy: &str, slot: u32) -> Result<Held, TurnError> {
        let confirmed = Instant::now();
        let (uid, version) = (String::new(), String::new());
        let held = Held { slot, uid, version, transitions: 0, acquired: time(), confirmed };
        let lease = self.lease(policy, &held)?;
        let (api, params) = (self.leases(), PostParams::default());
        let answer =
            self.ask("create", || self.lease_text(policy, slot), api.create(&params, &lease)).await?;
        Ok(held.with(&answer))
    }

    /// Takes a Lease as it was seen: our own from before, or one that has expired.
    pub(super) async fn take(&self, policy: &str, slot: u32, seen: &Seen) -> Result<Held, TurnError> {
        let other = i64::from(seen.holder != self.node);
        let held = Held {
            slot,
            uid: seen.uid.clone(),
            version: seen.version.clone(),
            transitions: seen.transitions.saturating_add(other),
            acquired: time(),
            confirmed: Instant::now(),
        };
        self.write("take over", policy, held).await
    }

    async fn write(&self, verb: &'static str, policy: &str, held: Held) -> Result<Held, TurnError> {
        let lease = self.lease(policy, &held)?;
        let (name, params) = (lease_name(policy, held.slot), PostParams::default());
        let api = self.leases();
        let request = api.replace(&name, &params, &lease);
        let answer = self.ask(verb, || self.lease_text(policy, held.slot), request).await?;
        Ok(held.with(&answer))
    }

    /// Renews a Lease. If it has changed since we wrote it, it may be by a renewal of ours whose answer was lost.
    pub(super) async fn renew(&self, policy: &str, held: &Held) -> Result<Renewal, TurnError> {
        let fresh = Held { confirmed: Instant::now(), ..held.clone() };
        match self.write("renew", policy, fresh).await {
            Ok(held) => return Ok(Renewal::Confirmed(held)),
            Err(error) if error.code() == Some(404) => return Ok(Renewal::Lost),
            Err(error) if error.code() == Some(409) => {}
            Err(error) => return Err(error),
        }
        let found = self.read_lease(policy, held.slot).await?;
        let Some(seen) = found.map(|lease| Seen::read(&lease, Instant::now())) else {
            return Ok(Renewal::Lost);
        };
        if seen.holder != self.node {
            return Ok(Renewal::Lost);
        }
        let fresh = Held { uid: seen.uid, version: seen.version, confirmed: Instant::now(), ..held.clone() };
        self.write("renew", policy, fresh).await.map(Renewal::Confirmed)
    }

    /// The Lease of a slot, whoever made it; none if there is none.
    pub(super) async fn read_lease(
        &self,
        policy: &str,
        slot: u32,
    ) -> Result<Option<DynamicObject>, TurnError> {
        let (api, name) = (self.leases(), lease_name(policy, slot));
        self.ask("read", || self.lease_text(policy, slot), api.get_opt(&name)).await
    }

    /// Deletes a Lease if it is as it was when we wrote it last.
    pub(super) async fn release(&self, policy: &str, held: &Held) -> Result<(), TurnError> {
        self.delete(&lease_name(policy, held.slot), &held.uid, &held.version).await
    }

    /// Deletes a Lease if it is still as it was seen. That somebody else was there first is as good.
    pub(super) async fn delete(&self, name: &str, uid: &str, version: &str) -> Result<(), TurnError> {
        let preconditions =
            Preconditions { uid: Some(uid.to_owned()), resource_version: Some(version.to_owned()) };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let (api, object) = (self.leases(), || format!("Lease {}/{name}", self.namespace));
        match self.ask("delete", object, api.delete(name, &params)).await {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// All Leases of this node, of any policy.
    pub(super) async fn own_leases(&self) -> Result<Vec<DynamicObject>, TurnError> {
        let params = ListParams::default().labels(&format!("{HOLDER_LABEL}={}", mark(&self.node)));
        let api = self.leases();
        let object = || format!("Leases in {}", self.namespace);
        let list = self.ask("list", object, api.list(&params)).await?;
        let ours = |lease: &DynamicObject| Seen::read(lease, Instant::now()).holder == self.node;
        Ok(list.items.into_iter().filter(ours).collect())
    }

    /// The own Node; none if there is none.
    pub(super) async fn read_node(&self) -> Result<Option<DynamicObject>, TurnError> {
        let api = self.nodes();
        self.ask("read", || format!("Node {}", self.node), api.get_opt(&self.node)).await
    }

    /// Changes the own Node by a merge patch that carries the resource version which it was made for.
    pub(super) async fn patch_node(&self, patch: &Json) -> Result<DynamicObject, TurnError> {
        let (api, params) = (self.nodes(), PatchParams::default());
        let patch = Patch::Merge(patch);
        let request = api.patch(&self.node, &params, &patch);
        self.ask("patch", || format!("Node {}", self.node), request).await
    }

    /// Asks for a pod's eviction, if it is still the one with this UID. Its own grace period holds.
    ///
    /// The body is ours: the client library's eviction names its conditions in a way that the API server does not know, so
    /// that they would be left out.
    pub(super) async fn evict(&self, pod: &PodName, uid: &str) -> Result<(), TurnError> {
        let PodName { namespace, name } = pod;
        let object = || format!("Pod {namespace}/{name}");
        let eviction = json!({
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        });
        let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", "Pod"), "pods");
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &kind);
        let params = PostParams::default();
        let request = api.create_subresource::<Json, Json>("eviction", name, &params, &eviction);
        self.ask("evict", object, request).await.map(|_| ())
    }
}

impl Held {
    fn with(self, answer: &DynamicObject) -> Held {
        Held {
            uid: answer.metadata.uid.clone().unwrap_or_default(),
            version: answer.metadata.resource_version.clone().unwrap_or_default(),
            ..self
        }
    }
}

/// Whether a Lease has the label that a policy's Leases are listed by.
pub(super) fn is_listed(lease: &DynamicObject, policy: &str) -> bool {
    let labels = lease.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(POOL_LABEL)).is_some_and(|label| *label == mark(policy))
}

/// The time of day, for people who look at a Lease, and so that each renewal differs from the one before.
fn time() -> Json {
    serde_json::to_value(MicroTime(Timestamp::now())).unwrap_or_default()
}
