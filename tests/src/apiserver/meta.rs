//! Objects without their contents, for clients that ask for metadata only.

use serde_json::{Value, json};

/// Whether the `Accept` header asks for metadata only.
pub(super) fn wanted(accept: &str) -> bool {
    accept.contains("as=PartialObjectMetadata")
}

/// An object's metadata; what is no object of the API (a status) stays as it is.
pub(super) fn only(object: &Value) -> Value {
    let Some(metadata) = object.get("metadata").filter(|_| object.get("kind") != Some(&json!("Status")))
    else {
        return object.clone();
    };
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}

/// A list of metadata.
pub(super) fn only_list(list: &Value) -> Value {
    let items: Vec<Value> =
        list.get("items").and_then(Value::as_array).into_iter().flatten().map(only).collect();
    json!({
        "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
        "metadata": list.get("metadata"), "items": items,
    })
}
