//! Objects with versions, and the history that watches read.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::apply::Owners;
use super::path::Target;
use super::select::Selection;

/// Why a request cannot be done, as HTTP status and reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// 404.
    #[error("{0} not found")]
    NotFound(String),
    /// 409, because it exists.
    #[error("{0} already exists")]
    Exists(String),
    /// 409, because it has changed.
    #[error("{0} has been modified; the resource version is not the newest")]
    Conflict(String),
    /// 409, because others own fields that an apply would change.
    #[error("Apply failed with 1 conflict: {0}")]
    Owned(String),
    /// 410.
    #[error("too old resource version")]
    Gone,
    /// 422.
    #[error("{0}")]
    Invalid(String),
    /// 500, without a reason: what the real server has no better word for, although asking again does not help.
    #[error("{0}")]
    Server(String),
    /// 429: a disruption budget forbids an eviction.
    #[error("Cannot evict pod as it would violate the pod's disruption budget.")]
    Budget(String),
}

/// A change, as watches see it.
#[derive(Debug, Clone)]
pub struct Change {
    /// The version it made.
    pub version: u64,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub kind: &'static str,
    /// What it was about.
    pub target: Target,
    /// The object after it, or before its deletion.
    pub object: Value,
    /// The object before it, if there was one.
    pub before: Option<Value>,
    /// When it was made, by the server's clock.
    pub at: Instant,
}

impl Change {
    /// What a watch that selects so is told: an object that comes to match is added, one that no longer does is deleted.
    fn seen_by(&self, selection: &Selection) -> Option<(&'static str, &Value)> {
        let was = self.before.as_ref().is_some_and(|object| selection.matches(object));
        let is = self.kind != "DELETED" && selection.matches(&self.object);
        match (was, is) {
            (false, true) => Some(("ADDED", &self.object)),
            (true, true) => Some(("MODIFIED", &self.object)),
            (true, false) => Some(("DELETED", &self.object)),
            (false, false) => None,
        }
    }
}

/// Everything that is stored.
#[derive(Debug, Default)]
pub struct Store {
    version: u64,
    compacted: u64,
    objects: BTreeMap<Target, Value>,
    history: VecDeque<Change>,
    owners: Owners,
    /// Fields, as JSON pointers, that a resource's definition does not declare.
    undeclared: Vec<(String, String)>,
}

/// Leases are made by a replacement, too, unless it says which object it replaces.
const MADE_BY_REPLACEMENT: &str = "coordination.k8s.io/v1/leases";

/// Kinds whose status only writes to the status part change.
const STATUS_APART: [&str; 4] =
    ["/v1/nodes", "/v1/pods", "policy/v1/poddisruptionbudgets", "portwright.dev/v1alpha1/nodepolicies"];

impl Store {
    /// The newest version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Forgets the history.
    pub fn compact(&mut self) {
        // A change nobody watches makes every older version too old.
        self.version += 1;
        self.compacted = self.version;
        self.history.clear();
    }

    /// Takes a field, as a JSON pointer, out of a resource's definition.
    pub fn undeclare(&mut self, resource: &str, pointer: &str) {
        self.undeclared.push((resource.to_owned(), pointer.to_owned()));
    }

    /// Puts back what was taken out of definitions.
    pub fn declare_all(&mut self) {
        self.undeclared.clear();
    }

    /// Objects of a resource in a namespace (empty for all) with a name (empty for all) that are selected, in order.
    pub fn list(&self, target: &Target, selection: &Selection) -> Vec<&Value> {
        let objects = self.objects.iter().filter(|(key, _)| matches(target, key));
        objects.map(|(_, object)| object).filter(|object| selection.matches(object)).collect()
    }

    /// One object.
    pub fn get(&self, target: &Target) -> Result<Value, StoreError> {
        let key = Target { part: String::new(), ..target.clone() };
        self.objects.get(&key).cloned().ok_or_else(|| StoreError::NotFound(target.name.clone()))
    }

    /// Merges what a manager applies into an object, which is made if it is not there. Returns the HTTP status too.
    pub fn apply(
        &mut self,
        target: &Target,
        manager: &str,
        force: bool,
        applied: &Value,
    ) -> Result<(u16, Value), StoreError> {
        let missing = self
            .undeclared
            .iter()
            .find(|(resource, pointer)| *resource == target.resource && applied.pointer(pointer).is_some());
        if let Some((_, pointer)) = missing {
            let field = pointer.replace('/', ".");
            return Err(StoreError::Server(format!(
                "failed to create typed patch object (/{}; {}): {field}: field not declared in schema",
                target.name,
                target.api_version(),
            )));
        }
        let uid = applied.pointer("/metadata/uid").filter(|uid| !uid.is_null());
        let found = match self.get(target) {
            Err(StoreError::NotFound(_)) if uid.is_none() && target.part.is_empty() => None,
            Err(StoreError::NotFound(_)) if target.part.is_empty() => {
                return Err(StoreError::Conflict(target.name.clone()));
            }
            found => Some(found?),
        };
        if uid.is_some() && uid != found.as_ref().and_then(|found| found.pointer("/metadata/uid")) {
            return Err(StoreError::Invalid("metadata.uid: Invalid value: field is immutable".to_owned()));
        }
        let applied = allowed(target, applied);
        let mut object = found.clone().unwrap_or_else(|| json!({"kind": applied.get("kind")}));
        self.owners.apply(target, manager, force, &mut object, &applied)?;
        match found {
            Some(found) if found == object => Ok((200, found)),
            Some(_) => Ok((200, self.replace(target, object)?)),
            None => Ok((201, self.put(target, object))),
        }
    }

    /// As [`Store::replace`], noting who it was and leaving alone what the target's part may not change. A write that
    /// changes nothing makes no version.
    pub fn replace_as(
        &mut self,
        target: &Target,
        manager: &str,
        mut object: Value,
    ) -> Result<Value, StoreError> {
        let uid = object.pointer("/metadata/uid").filter(|uid| !uid.is_null());
        let before = match self.get(target) {
            Err(StoreError::NotFound(name)) if target.resource == MADE_BY_REPLACEMENT => {
                return if uid.is_some() {
                    Err(StoreError::Conflict(name))
                } else {
                    Ok(self.put(target, object))
                };
            }
            found => found?,
        };
        if uid.is_some() && uid != before.pointer("/metadata/uid") {
            return Err(StoreError::Conflict(target.name.clone()));
        }
        if target.part.is_empty() && STATUS_APART.contains(&target.resource.as_str()) {
            copy_status(&before, &mut object);
        }
        if object == before {
            return Ok(before);
        }
        let after = self.replace(target, object)?;
        self.owners.wrote(target, manager, &before, &after);
        Ok(after)
    }

    /// Creates an object.
    pub fn create(&mut self, target: &Target, object: Value) -> Result<Value, StoreError> {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err(StoreError::Invalid("metadata.name is required".to_owned()));
        }
        let target = Target { name, ..target.clone() };
        if self.objects.contains_key(&target) {
            return Err(StoreError::Exists(target.name));
        }
        Ok(self.put(&target, object))
    }

    /// Replaces an object, or its status if the target says so. A resource version in it must be the newest.
    pub fn replace(&mut self, target: &Target, object: Value) -> Result<Value, StoreError> {
        let old = self.get(target)?;
        let wanted = object.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
        if !wanted.is_empty()
            && Some(wanted) != old.pointer("/metadata/resourceVersion").and_then(Value::as_str)
        {
            return Err(StoreError::Conflict(target.name.clone()));
        }
        let new = if target.part == "status" {
            let mut new = old;
            if let Some(map) = new.as_object_mut() {
                map.insert("status".to_owned(), object.get("status").cloned().unwrap_or_default());
            }
            if target.resource == "/v1/nodes" {
                // Of a Node a write to the status part leaves only the spec alone, which kubelet makes use of.
                for field in ["labels", "annotations"] {
                    copy_field(&object, &mut new, field);
                }
            }
            new
        } else {
            object
        };
        Ok(self.put(&Target { part: String::new(), ..target.clone() }, new))
    }

    /// Stores an object whatever was there.
    pub fn put(&mut self, target: &Target, mut object: Value) -> Value {
        self.version += 1;
        let old = self.objects.get(target).cloned();
        let uid = old.as_ref().and_then(|old| old.pointer("/metadata/uid").cloned());
        let uid = uid.unwrap_or_else(|| json!(format!("00000000-0000-0000-0000-{:012}", self.version)));
        if let Some(map) = object.as_object_mut() {
            map.entry("apiVersion").or_insert_with(|| target.api_version().into());
            let metadata = map.entry("metadata").or_insert_with(|| json!({}));
            if let Some(metadata) = metadata.as_object_mut() {
                metadata.insert("name".to_owned(), target.name.clone().into());
                if !target.namespace.is_empty() {
                    metadata.insert("namespace".to_owned(), target.namespace.clone().into());
                }
                metadata.insert("uid".to_owned(), uid);
                metadata.insert("resourceVersion".to_owned(), self.version.to_string().into());
            }
        }
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        self.objects.insert(target.clone(), object.clone());
        self.record(kind, target, object.clone(), old);
        object
    }

    /// Deletes an object if it still has the UID and the resource version that are given.
    pub fn delete_if(&mut self, target: &Target, preconditions: &Value) -> Result<Value, StoreError> {
        let object = self.get(target)?;
        for field in ["uid", "resourceVersion"] {
            let wanted = preconditions.get(field).filter(|wanted| !wanted.is_null());
            if wanted.is_some_and(|wanted| object.pointer(&format!("/metadata/{field}")) != Some(wanted)) {
                return Err(StoreError::Conflict(target.name.clone()));
            }
        }
        self.delete(target)
    }

    /// Deletes an object.
    pub fn delete(&mut self, target: &Target) -> Result<Value, StoreError> {
        let mut object =
            self.objects.remove(target).ok_or_else(|| StoreError::NotFound(target.name.clone()))?;
        let before = object.clone();
        self.owners.forget(target);
        self.version += 1;
        if let Some(version) = object.pointer_mut("/metadata/resourceVersion") {
            *version = self.version.to_string().into();
        }
        self.record("DELETED", target, object.clone(), Some(before));
        Ok(object)
    }

    /// Changes of the target's objects after `version`, as kind and object.
    pub fn since(
        &self,
        target: &Target,
        selection: &Selection,
        version: u64,
    ) -> Result<Vec<(&'static str, Value)>, StoreError> {
        if version < self.compacted {
            return Err(StoreError::Gone);
        }
        let after = self.history.iter().filter(|change| change.version > version);
        let seen = after.filter(|change| matches(target, &change.target));
        Ok(seen
            .filter_map(|change| change.seen_by(selection))
            .map(|(kind, object)| (kind, object.clone()))
            .collect())
    }

    /// All changes of the target's objects since the last time that the history was forgotten.
    pub fn history(&self, target: &Target) -> Vec<Change> {
        self.history.iter().filter(|change| matches(target, &change.target)).cloned().collect()
    }

    fn record(&mut self, kind: &'static str, target: &Target, object: Value, before: Option<Value>) {
        let (version, at) = (self.version, Instant::now());
        self.history.push_back(Change { version, kind, target: target.clone(), object, before, at });
    }
}

/// The part of an applied configuration that a write to the target may change.
fn allowed(target: &Target, applied: &Value) -> Value {
    let mut applied = applied.clone();
    if let Some(map) = applied.as_object_mut() {
        if target.part == "status" {
            map.retain(|field, _| field == "status");
        } else if STATUS_APART.contains(&target.resource.as_str()) {
            map.remove("status");
        }
    }
    applied
}

fn copy_field(from: &Value, to: &mut Value, field: &str) {
    let value = from.pointer(&format!("/metadata/{field}")).cloned();
    if let Some(metadata) = to.get_mut("metadata").and_then(Value::as_object_mut) {
        match value {
            Some(value) => metadata.insert(field.to_owned(), value),
            None => metadata.remove(field),
        };
    }
}

fn copy_status(from: &Value, to: &mut Value) {
    if let Some(map) = to.as_object_mut() {
        match from.get("status") {
            Some(status) => map.insert("status".to_owned(), status.clone()),
            None => map.remove("status"),
        };
    }
}

fn matches(wanted: &Target, key: &Target) -> bool {
    wanted.resource == key.resource
        && (wanted.namespace.is_empty() || wanted.namespace == key.namespace)
        && (wanted.name.is_empty() || wanted.name == key.name)
}
