//! Policy files: text in, typed policies out, with every mistake found and placed.

use std::collections::BTreeMap;

use portwright_core::desired::Document;
use serde_json::Value as Json;

use crate::crd::document_schema;
use crate::error::{FieldError, PolicyError, Position};
use crate::policy::{API_VERSION, KIND, NodePolicy};
use crate::schema::{self, Finding};
use crate::tree::{Node, Value, at_most, shortened};
use crate::{metadata, yaml};

/// Largest policy file in bytes.
pub const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;

/// A policy, the file it came from, and where its fields stand there.
#[derive(Debug, Clone)]
pub struct ReadPolicy {
    /// File name as it was given.
    pub file: String,
    /// The policy. It fits the schema; what [`crate::check`] looks at has not been looked at.
    pub policy: NodePolicy,
    tree: Node,
}

impl ReadPolicy {
    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.policy.metadata.name.as_deref().unwrap_or_default()
    }

    /// An error of a field, with its place in the file.
    pub fn locate(&self, error: FieldError) -> PolicyError {
        let position = self.tree.position_of(&error.path);
        placed(&self.file, Some(self.name()), (position, error))
    }
}

/// The text of a policy file: UTF-8 of at most [`MAX_FILE_BYTES`] bytes; a byte order mark is dropped.
pub fn decode<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, Box<PolicyError>> {
    if bytes.len() > MAX_FILE_BYTES {
        let what = format!("is {} bytes long; a policy file may have at most {MAX_FILE_BYTES}", bytes.len());
        let hint = "check that this is the file you meant, or split it";
        return Err(Box::new(PolicyError::file(file, what, hint)));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let lines = before.iter().filter(|byte| **byte == b'\n').count();
        let column = before.rsplit(|byte| *byte == b'\n').next().map_or(0, <[u8]>::len);
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX).saturating_add(1);
        Box::new(PolicyError {
            position: Some(Position { line: count(lines), column: count(column) }),
            ..PolicyError::file(file, "holds a byte that is not UTF-8", "save the file as UTF-8 text")
        })
    })
}

/// Every NodePolicy of a YAML or JSON file, or everything that is wrong with it. A Kubernetes `List` counts as its items.
pub fn read_policies(file_name: &str, text: &str) -> Result<Vec<NodePolicy>, Vec<PolicyError>> {
    read(file_name, text).map(|read| read.into_iter().map(|entry| entry.policy).collect())
}

/// As [`read_policies`], and keeps the places of all fields for errors found later.
pub fn read(file_name: &str, text: &str) -> Result<Vec<ReadPolicy>, Vec<PolicyError>> {
    decode(file_name, text.as_bytes()).map_err(|error| vec![*error])?;
    let trees = yaml::documents(file_name, text).map_err(|error| vec![*error])?;
    if trees.is_empty() {
        let hint = "a policy starts with `apiVersion: portwright.dev/v1alpha1` and `kind: NodePolicy`";
        return Err(vec![PolicyError::file(file_name, "holds no document", hint)]);
    }
    let (mut policies, mut errors) = (Vec::new(), Vec::new());
    for tree in trees.into_iter().flat_map(items_of_list) {
        match typed(&tree) {
            Ok(policy) => policies.push(ReadPolicy { file: file_name.to_owned(), policy, tree }),
            Err(findings) => {
                let name = tree.get("metadata").and_then(|m| m.get("name")).and_then(Node::text);
                errors.extend(findings.into_iter().map(|finding| placed(file_name, name, finding)));
            }
        }
    }
    errors.extend(duplicates(&policies));
    if errors.is_empty() { Ok(policies) } else { Err(errors) }
}

/// Policies of one name: which of them should count cannot be known, in one file or across files.
pub fn duplicates(policies: &[ReadPolicy]) -> Vec<PolicyError> {
    let mut first: BTreeMap<&str, &ReadPolicy> = BTreeMap::new();
    let mut errors = Vec::new();
    for entry in policies {
        if let Some(other) = first.get(entry.name()) {
            let place = other.tree.position_of("metadata.name");
            let what =
                format!("`{}` is already the name of the policy at {}:{place}", entry.name(), other.file);
            let error = FieldError::new("metadata.name", what);
            errors.push(entry.locate(error.hint("remove one of the two documents, or rename it")));
        } else {
            first.insert(entry.name(), entry);
        }
    }
    errors
}

/// Reads, checks and converts all files of a command line: `(file name, text)`. On error everything that is wrong with
/// all of them, each with its place.
pub fn load<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<Document>, Vec<PolicyError>> {
    let (mut policies, mut errors) = (Vec::new(), Vec::new());
    for (file, text) in files {
        match read(file, text) {
            Ok(read) => policies.extend(read),
            Err(wrong) => errors.extend(wrong),
        }
    }
    // Duplicates within one file have been reported by `read`, whose policies are then not here.
    errors.extend(duplicates(&policies));
    let mut documents = Vec::new();
    for entry in &policies {
        match crate::convert(&entry.policy) {
            Ok(document) => documents.push(document),
            Err(wrong) => {
                let mut placed: Vec<PolicyError> =
                    wrong.into_iter().map(|error| entry.locate(error)).collect();
                placed.sort_by_key(|error| error.position);
                errors.extend(placed);
            }
        }
    }
    if errors.is_empty() { Ok(documents) } else { Err(errors) }
}

/// A policy from JSON that did not come from a file, such as an object of the API server.
pub fn policy_from_json(json: &Json) -> Result<NodePolicy, Vec<FieldError>> {
    typed(&Node::from_json(json)).map_err(|findings| findings.into_iter().map(|(_, error)| error).collect())
}

fn placed(file: &str, name: Option<&str>, (position, error): Finding) -> PolicyError {
    let FieldError { path, what, hint } = error;
    PolicyError {
        file: file.to_owned(),
        position: Some(position).filter(|place| place.line > 0),
        policy: name.map(|name| at_most(name, 253)).filter(|name| !name.is_empty()),
        // Parts of the file are quoted in both, and may be long.
        path: Some(at_most(&path, 200)).filter(|path| !path.is_empty()),
        what: at_most(&what, 400),
        hint,
    }
}

/// `kubectl get -o yaml` wraps several objects in a `List`.
fn items_of_list(tree: Node) -> Vec<Node> {
    let kind = tree.get("kind").and_then(Node::text);
    let list = kind == Some("List") || kind == Some("NodePolicyList");
    match tree.get("items").map(|items| &items.value) {
        Some(Value::List(items)) if list => items.clone(),
        Some(_) | None => vec![tree],
    }
}

fn typed(tree: &Node) -> Result<NodePolicy, Vec<Finding>> {
    is_policy(tree)?;
    let mut findings = schema::compare(document_schema(), tree, "");
    findings.extend(metadata::check(tree));
    if !findings.is_empty() {
        findings.sort_by_key(|(position, _)| *position);
        return Err(findings);
    }
    let mut json = tree.to_json();
    if let Some(fields) = json.as_object_mut() {
        fields.remove("status");
    }
    serde_json::from_value(json)
        .map_err(|error| vec![(tree.at, FieldError::new("spec", format!("cannot be read: {error}")))])
}

/// Whether the document is a NodePolicy at all; if not, its other fields are not worth a word.
fn is_policy(tree: &Node) -> Result<(), Vec<Finding>> {
    if !matches!(tree.value, Value::Map(_)) {
        let what = format!("expected a NodePolicy document, found {}", tree.describe());
        let hint = "a policy starts with `apiVersion: portwright.dev/v1alpha1` and `kind: NodePolicy`";
        return Err(vec![(tree.at, FieldError::new("", what).hint(hint))]);
    }
    let mut findings = Vec::new();
    for (field, expected) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        let error = match tree.get(field) {
            None => FieldError::new(field, format!("is missing; expected `{expected}`")),
            Some(node) if node.text() == Some(expected) => continue,
            Some(node) => match node.text() {
                Some(text) => FieldError::new(field, format!("`{}` is not `{expected}`", shortened(text))),
                None => FieldError::new(field, format!("expected `{expected}`, found {}", node.describe())),
            },
        };
        let hint = format!("this version reads {API_VERSION} {KIND} documents only");
        findings.push((tree.position_of(field), error.hint(hint)));
    }
    if findings.is_empty() { Ok(()) } else { Err(findings) }
}
