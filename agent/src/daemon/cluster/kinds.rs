//! The kinds of objects that the daemon speaks about. They are read as JSON: a field that a newer API server adds must
//! not make an object unreadable, and one generic reader is smaller than a type for every kind.

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, PartialObjectMeta, PatchParams};

/// Who writes in the API server's eyes (server-side apply, events).
pub const FIELD_MANAGER: &str = "portwright";

/// Our group and version.
const OURS: (&str, &str) = ("portwright.dev", "v1alpha1");

/// The definition of NodePolicies.
pub const POLICY_DEFINITION: &str = "nodepolicies.portwright.dev";

/// Parameters of a patch in our name.
pub fn patching() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// NodePolicies.
pub fn policies(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &resource(OURS, "NodePolicy", "nodepolicies"))
}

/// NodePolicies without what they say.
pub fn policy_metadata(client: &Client) -> Api<PartialObjectMeta<DynamicObject>> {
    Api::all_with(client.clone(), &resource(OURS, "NodePolicy", "nodepolicies"))
}

/// Definitions of kinds, of which we may see one.
pub fn definitions(client: &Client) -> Api<PartialObjectMeta<DynamicObject>> {
    let group = ("apiextensions.k8s.io", "v1");
    Api::all_with(client.clone(), &resource(group, "CustomResourceDefinition", "customresourcedefinitions"))
}

/// NodeStates.
pub fn states(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &resource(OURS, "NodeState", "nodestates"))
}

/// NodeStates without what they say: only names, annotations and labels.
pub fn state_metadata(client: &Client) -> Api<PartialObjectMeta<DynamicObject>> {
    Api::all_with(client.clone(), &resource(OURS, "NodeState", "nodestates"))
}

/// Nodes.
pub fn nodes(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &resource(("", "v1"), "Node", "nodes"))
}

/// Pods of all namespaces, without their contents.
pub fn pods(client: &Client) -> Api<PartialObjectMeta<DynamicObject>> {
    Api::all_with(client.clone(), &resource(("", "v1"), "Pod", "pods"))
}

/// Events about objects that belong to no namespace.
pub fn events(client: &Client) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), "default", &resource(("events.k8s.io", "v1"), "Event", "events"))
}

fn resource((group, version): (&str, &str), kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}
