//! `metadata`: the name is needed and must be one that Kubernetes takes; fields that the API server adds are let through,
//! unknown ones are refused like everywhere else.

use crate::error::FieldError;
use crate::names;
use crate::schema::{Finding, closest};
use crate::tree::{Key, Node, Value};

/// Fields of Kubernetes' object metadata (`ObjectMeta` of `meta/v1`).
const FIELDS: &[&str] = &[
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// What is wrong with a document's metadata.
pub(crate) fn check(tree: &Node) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(metadata) = tree.get("metadata") else {
        let error = FieldError::new("metadata", "is missing");
        return vec![(tree.at, error.hint("give the policy a name: `metadata: {name: workers}`"))];
    };
    let Value::Map(entries) = &metadata.value else { return findings };
    for (key, _) in entries.iter().filter(|(key, _)| !FIELDS.contains(&key.text.as_str())) {
        findings.push(unknown(key));
    }
    match metadata.get("name").map(|node| (node.at, node.text())) {
        None => {
            let error = FieldError::new("metadata.name", "is missing");
            findings.push((metadata.at, error.hint("every policy has a name, also in a file")));
        }
        Some((at, None)) => {
            let found = metadata.get("name").map(Node::describe).unwrap_or_default();
            let error = FieldError::new("metadata.name", format!("expected text, found {found}"));
            findings.push((at, error.hint("put it in quotes")));
        }
        Some((at, Some(name))) => {
            if let Err(why) = names::subdomain(name) {
                findings.push((at, FieldError::new("metadata.name", why)));
            }
        }
    }
    if let Some(node) = metadata.get("namespace") {
        let error = FieldError::new("metadata.namespace", "a NodePolicy belongs to no namespace");
        findings.push((node.at, error.hint("remove the line")));
    }
    for field in ["labels", "annotations"] {
        let Some(Value::Map(entries)) = metadata.get(field).map(|node| &node.value) else { continue };
        for (key, node) in entries.iter().filter(|(_, node)| node.text().is_none()) {
            let what = format!("expected text, found {}", node.describe());
            let error = FieldError::new(format!("metadata.{field}[{}]", key.text), what);
            findings.push((node.at, error.hint("put it in quotes")));
        }
    }
    findings
}

fn unknown(key: &Key) -> Finding {
    let error = FieldError::new(format!("metadata.{}", key.text), "is not a field that exists here");
    let error = match closest(&key.text, FIELDS.iter().copied()) {
        Some(meant) => error.hint(format!("did you mean `{meant}`?")),
        None => error,
    };
    (key.at, error)
}
