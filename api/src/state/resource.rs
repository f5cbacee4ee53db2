//! The object around the content, and its definition. Written by hand: the derive knows only resources with a `spec`.

use std::borrow::Cow;

use k8s_openapi::ClusterResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::schema::{OptionalEnum, OptionalIntOrString, StructuralSchemaRewriter};
use schemars::generate::SchemaSettings;
use schemars::transform::AddNullable;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::{NodeStateContent, STATE_KIND};
use crate::policy::{API_VERSION, GROUP, VERSION};

const PLURAL: &str = "nodestates";

/// What one agent tells of its node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeState {
    /// `portwright.dev/v1alpha1`.
    #[serde(default = "api_version")]
    pub api_version: String,
    /// `NodeState`.
    #[serde(default = "kind")]
    pub kind: String,
    /// The node's name, and what the API server adds.
    pub metadata: ObjectMeta,
    /// What is told.
    #[serde(default)]
    pub status: NodeStateContent,
}

fn api_version() -> String {
    API_VERSION.to_owned()
}

fn kind() -> String {
    STATE_KIND.to_owned()
}

impl NodeState {
    /// The state of a node, as it is sent: with a name and nothing that the API server adds.
    pub fn new(node: &str, status: NodeStateContent) -> NodeState {
        let metadata = ObjectMeta { name: Some(node.to_owned()), ..ObjectMeta::default() };
        NodeState { api_version: api_version(), kind: kind(), metadata, status }
    }
}

impl Resource for NodeState {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        STATE_KIND.into()
    }

    fn group(_: &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version(_: &()) -> Cow<'_, str> {
        VERSION.into()
    }

    fn plural(_: &()) -> Cow<'_, str> {
        PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The CustomResourceDefinition.
pub(crate) fn definition() -> Json {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{PLURAL}.{GROUP}")},
        "spec": {
            "group": GROUP,
            "names": {
                "categories": ["portwright"],
                "kind": STATE_KIND,
                "plural": PLURAL,
                "shortNames": ["nst"],
                "singular": "nodestate",
            },
            "scope": "Cluster",
            "versions": [{
                "additionalPrinterColumns": columns(),
                "name": VERSION,
                "schema": {"openAPIV3Schema": {
                    "description": "What portwright's agent tells of its node.",
                    "properties": {"status": status_schema()},
                    "title": STATE_KIND,
                    "type": "object",
                }},
                "served": true,
                "storage": true,
            }],
        },
    })
}

/// The columns of `kubectl get`: they answer "is it done?".
fn columns() -> Json {
    let ready = |field: &str| format!(".status.conditions[?(@.type==\"Ready\")].{field}");
    json!([
        {"jsonPath": ready("status"), "name": "Ready", "type": "string"},
        {"jsonPath": ready("reason"), "name": "Reason", "type": "string"},
        {"jsonPath": ".status.summary.pending", "name": "Pending", "type": "integer"},
        {"jsonPath": ".status.summary.blocked", "name": "Blocked", "type": "integer"},
        {"jsonPath": ".status.summary.vfs", "name": "VFs", "type": "integer"},
        {"jsonPath": ".status.summary.vfsInUse", "name": "In use", "type": "integer"},
        {"jsonPath": ready("message"), "name": "Message", "priority": 1, "type": "string"},
        {"jsonPath": ".metadata.creationTimestamp", "name": "Age", "type": "date"},
    ])
}

/// The same settings that the derive uses for NodePolicy.
fn status_schema() -> Json {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let generator = settings
        .with_transform(AddNullable::default())
        .with_transform(StructuralSchemaRewriter)
        .with_transform(OptionalEnum)
        .with_transform(OptionalIntOrString)
        .into_generator();
    let mut schema = generator.into_root_schema_for::<NodeStateContent>();
    schema.remove("title");
    schema.insert("description".to_owned(), json!("What the agent tells; written by the agent alone."));
    schema.to_value()
}
