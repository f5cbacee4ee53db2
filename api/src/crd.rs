//! Custom resource definitions and the policy's JSON schema, both made from the types. The definitions are committed in
//! deploy/crds and the schema in docs/schema; `xtask codegen --check` compares them with what this module makes.

use std::sync::LazyLock;

use kube::CustomResourceExt;
use serde_json::{Map, Value as Json, json};

use crate::policy::{API_VERSION, KIND, NodePolicy};
use crate::state;

/// Every custom resource definition: its name, and the YAML text.
pub fn crds() -> Vec<(&'static str, String)> {
    vec![
        ("nodepolicies.portwright.dev", yaml(&served(&NODE_POLICY))),
        ("nodestates.portwright.dev", yaml(&served(&state_definition()))),
    ]
}

/// All definitions as one multi-document YAML text: what `portwright crds` prints and deploy/crds/portwright.dev.yaml
/// holds.
pub fn crd_yaml() -> String {
    let documents: Vec<String> = crds().into_iter().map(|(_, text)| format!("---\n{text}")).collect();
    format!(
        "# Generated from the types of portwright-api by `cargo xtask codegen`; do not edit.\n{}",
        documents.concat()
    )
}

/// The text of docs/schema/nodepolicy.json.
pub fn json_schema_text() -> String {
    let mut text = serde_json::to_string_pretty(&json_schema()).unwrap_or_default();
    text.push('\n');
    text
}

/// JSON schema (2020-12) of a NodePolicy document for editors and docs: docs/schema/nodepolicy.json.
pub fn json_schema() -> Json {
    let mut schema = document_schema().clone();
    close(&mut schema);
    let name = json!({"type": "string", "maxLength": 253, "description": "Name of the policy."});
    let additions = [
        ("/properties/apiVersion", json!({"const": API_VERSION})),
        ("/properties/kind", json!({"const": KIND})),
        (
            "/properties/metadata",
            json!({"type": "object", "required": ["name"], "properties": {"name": name}}),
        ),
        ("/required", json!(["apiVersion", "kind", "metadata", "spec"])),
        ("/title", json!("portwright NodePolicy")),
        ("/$schema", json!("https://json-schema.org/draft/2020-12/schema")),
    ];
    for (pointer, value) in additions {
        put(&mut schema, pointer, value);
    }
    schema
}

/// The text of docs/schema/nodestate.json.
pub fn state_schema_text() -> String {
    let mut schema = state_definition()
        .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/status")
        .cloned()
        .unwrap_or(Json::Null);
    close(&mut schema);
    put(&mut schema, "/title", json!("portwright status -o json, and status of a NodeState"));
    put(&mut schema, "/$schema", json!("https://json-schema.org/draft/2020-12/schema"));
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

/// The schema that the API server enforces, of the whole document, but that it says where null may stand for "absent". What it leaves to the server itself (`apiVersion`,
/// `kind`, `metadata`) is there as fields that may be written.
pub(crate) fn document_schema() -> &'static Json {
    &DOCUMENT
}

static DOCUMENT: LazyLock<Json> = LazyLock::new(|| {
    let mut schema =
        NODE_POLICY.pointer("/spec/versions/0/schema/openAPIV3Schema").cloned().unwrap_or(Json::Null);
    put(&mut schema, "/properties/apiVersion", json!({"type": "string"}));
    put(&mut schema, "/properties/kind", json!({"type": "string"}));
    put(&mut schema, "/properties/metadata", json!({"type": "object"}));
    // What agents write there is of no concern to a reader: a document may have been exported from a cluster.
    put(
        &mut schema,
        "/properties/status",
        json!({"type": "object", "description": "Written by agents; ignored here."}),
    );
    schema
});

/// Sets a member of the object that a JSON pointer leads to.
fn put(json: &mut Json, pointer: &str, value: Json) {
    if let Some((parent, name)) = pointer.rsplit_once('/')
        && let Some(object) = json.pointer_mut(parent).and_then(Json::as_object_mut)
    {
        object.insert(name.to_owned(), value);
    }
}

static NODE_POLICY: LazyLock<Json> = LazyLock::new(|| {
    let mut definition = serde_json::to_value(NodePolicy::crd()).unwrap_or(Json::Null);
    tighten(&mut definition);
    if let Some(status) = definition.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/status")
    {
        without_defaults(status);
    }
    definition
});

fn state_definition() -> Json {
    let mut definition = state::definition();
    tighten(&mut definition);
    without_defaults(&mut definition);
    definition
}

/// What agents write has defaults only so that it can be read whoever wrote it. The API server must not add them: it would
/// store more than was sent.
fn without_defaults(schema: &mut Json) {
    match schema {
        Json::Object(object) => {
            object.remove("default");
            object.values_mut().for_each(without_defaults);
        }
        Json::Array(items) => items.iter_mut().for_each(without_defaults),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

fn yaml(definition: &Json) -> String {
    crate::yaml::text(definition)
}

/// A definition as the API server must get it. A word that may also be null is refused there when it is null, whatever
/// its list of words says; without `nullable` the server drops the null, which is what a reader makes of it.
fn served(definition: &Json) -> Json {
    let mut definition = definition.clone();
    words_are_not_nullable(&mut definition);
    definition
}

fn words_are_not_nullable(schema: &mut Json) {
    match schema {
        Json::Object(object) => {
            if object.get("enum").is_some_and(Json::is_array) {
                object.remove("nullable");
            }
            object.values_mut().for_each(words_are_not_nullable);
        }
        Json::Array(items) => items.iter_mut().for_each(words_are_not_nullable),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

/// Integer formats of other languages' types are unknown to the API server, which warns about each. Their bounds are
/// written out as numbers instead.
fn tighten(schema: &mut Json) {
    match schema {
        Json::Object(object) => {
            if let Some((least, most)) = object.get("format").and_then(Json::as_str).and_then(bounds) {
                object.entry("minimum").or_insert_with(|| json!(least));
                object.entry("maximum").or_insert_with(|| json!(most));
                object.remove("format");
            }
            whole_bounds(object);
            if object.get("format").is_some_and(|format| format == "int64") {
                object.remove("format");
            }
            object.values_mut().for_each(tighten);
        }
        Json::Array(items) => items.iter_mut().for_each(tighten),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

fn bounds(format: &str) -> Option<(i64, i64)> {
    match format {
        "uint8" => Some((0, u8::MAX.into())),
        "uint16" => Some((0, u16::MAX.into())),
        "uint32" => Some((0, u32::MAX.into())),
        "int32" => Some((i32::MIN.into(), i32::MAX.into())),
        _ => None,
    }
}

/// Bounds of whole numbers are written without a fraction.
fn whole_bounds(object: &mut Map<String, Json>) {
    for key in ["minimum", "maximum"] {
        let text = object.get(key).filter(|n| !n.is_i64()).and_then(Json::as_f64).map(|n| format!("{n:.0}"));
        if let Some(whole) = text.and_then(|text| text.parse::<i64>().ok()) {
            object.insert(key.to_owned(), json!(whole));
        }
    }
}

/// Says what the API server's dialect leaves out: that other fields than those named are refused.
fn close(schema: &mut Json) {
    match schema {
        Json::Object(object) => {
            let fields = object.get("properties").is_some_and(Json::is_object);
            if fields && object.get("type").is_some_and(|kind| kind == "object") {
                object.entry("additionalProperties").or_insert(json!(false));
            }
            if object.remove("x-kubernetes-int-or-string").is_some() {
                object.insert("type".to_owned(), json!(["integer", "string"]));
            }
            for key in ["x-kubernetes-validations", "x-kubernetes-list-type", "x-kubernetes-list-map-keys"] {
                object.remove(key);
            }
            object.remove("nullable");
            object.remove("x-kubernetes-preserve-unknown-fields");
            object.values_mut().for_each(close);
        }
        Json::Array(items) => items.iter_mut().for_each(close),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}
