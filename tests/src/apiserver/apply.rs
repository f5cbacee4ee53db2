//! Server-side apply: who applied which fields. A field that its only manager applies no longer goes; a field of somebody
//! else with another value is a conflict unless forced. Lists are atomic, as in kinds without list keys. Fields that other
//! kinds of writes change belong to who wrote them. `metadata.managedFields` is not shown.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::path::Target;
use super::store::StoreError;

/// A field: the keys that lead to it.
type Field = Vec<String>;

/// The fields of every manager of every object.
#[derive(Debug, Default)]
pub(super) struct Owners {
    objects: BTreeMap<Target, BTreeMap<String, BTreeSet<Field>>>,
}

impl Owners {
    /// Merges an applied configuration into an object.
    ///
    /// # Errors
    /// Others own a field that it would change, and it is not forced.
    pub(super) fn apply(
        &mut self,
        target: &Target,
        manager: &str,
        force: bool,
        object: &mut Value,
        applied: &Value,
    ) -> Result<(), StoreError> {
        if manager.is_empty() {
            return Err(StoreError::Invalid("fieldManager is required for apply patch".to_owned()));
        }
        let mut wanted = BTreeMap::new();
        leaves(applied, &mut Vec::new(), &mut wanted);
        let managers = self.objects.entry(key(target)).or_default();
        let changes = |field: &Field, value: &Value| at(object, field) != Some(value);
        let theirs: Vec<(String, Field)> = managers
            .iter()
            .filter(|(other, _)| *other != manager)
            .flat_map(|(other, fields)| fields.iter().map(|field| (other.clone(), field.clone())))
            .filter(|(_, field)| wanted.get(field).is_some_and(|value| changes(field, value)))
            .collect();
        if let Some((other, field)) = theirs.first().filter(|_| !force) {
            let what = format!("conflict with \"{other}\": .{}", field.join("."));
            return Err(StoreError::Owned(what));
        }
        for (other, field) in theirs {
            if let Some(fields) = managers.get_mut(&other) {
                fields.remove(&field);
            }
        }
        let mine: BTreeSet<Field> = wanted.keys().cloned().collect();
        let before = managers.insert(manager.to_owned(), mine.clone()).unwrap_or_default();
        for field in before.difference(&mine) {
            let shared = managers.values().any(|fields| fields.contains(field));
            // A list that became an object, or the other way round, is not two fields.
            let replaced = mine.iter().any(|new| new.starts_with(field) || field.starts_with(new));
            if !shared && !replaced {
                remove(object, field);
            }
        }
        for (field, value) in wanted {
            set(object, &field, value);
        }
        Ok(())
    }

    /// Notes what another kind of write has changed.
    pub(super) fn wrote(&mut self, target: &Target, manager: &str, before: &Value, after: &Value) {
        let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
        leaves(before, &mut Vec::new(), &mut old);
        leaves(after, &mut Vec::new(), &mut new);
        let differs = |field: &Field| old.get(field) != new.get(field);
        let managers = self.objects.entry(key(target)).or_default();
        for fields in managers.values_mut() {
            fields.retain(|field| !differs(field));
        }
        let changed = new.keys().filter(|field| differs(field)).cloned();
        managers.entry(manager.to_owned()).or_default().extend(changed);
    }

    /// Forgets an object that is gone.
    pub(super) fn forget(&mut self, target: &Target) {
        self.objects.remove(&key(target));
    }
}

fn key(target: &Target) -> Target {
    Target { part: String::new(), ..target.clone() }
}

/// Every field with its value. What identifies the object belongs to nobody.
fn leaves(value: &Value, path: &mut Field, found: &mut BTreeMap<Field, Value>) {
    const IDENTITY: [&str; 9] = [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "managedFields",
        "apiVersion",
        "kind",
    ];
    let identity = match path.as_slice() {
        [metadata, field] => metadata == "metadata" && IDENTITY.contains(&field.as_str()),
        [field] => field == "apiVersion" || field == "kind",
        _ => false,
    };
    match value {
        _ if identity => {}
        Value::Object(map) if !map.is_empty() || path.is_empty() => {
            for (name, value) in map {
                path.push(name.clone());
                leaves(value, path, found);
                path.pop();
            }
        }
        // Null in an applied configuration is as good as not there.
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            found.insert(path.clone(), value.clone());
        }
    }
}

fn at<'a>(object: &'a Value, field: &[String]) -> Option<&'a Value> {
    field.iter().try_fold(object, |value, name| value.get(name))
}

fn set(object: &mut Value, field: &[String], value: Value) {
    let Some((name, rest)) = field.split_first() else {
        *object = value;
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    if let Some(map) = object.as_object_mut() {
        set(map.entry(name.clone()).or_insert(Value::Null), rest, value);
    }
}

/// Removes a field, and what is empty without it.
fn remove(object: &mut Value, field: &[String]) {
    let (Some((name, rest)), Some(map)) = (field.split_first(), object.as_object_mut()) else { return };
    if rest.is_empty() {
        map.remove(name);
    } else if let Some(inner) = map.get_mut(name) {
        remove(inner, rest);
        if inner.as_object().is_some_and(Map::is_empty) {
            map.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Owners;
    use crate::apiserver::Target;

    struct Case {
        owners: Owners,
        target: Target,
        object: Value,
    }

    impl Case {
        fn new() -> Self {
            let target = Target::parse("/apis/portwright.dev/v1alpha1/nodestates/n").unwrap();
            Self { owners: Owners::default(), target, object: json!({"metadata": {"name": "n"}}) }
        }

        fn apply(&mut self, manager: &str, force: bool, applied: Value) -> bool {
            self.owners.apply(&self.target, manager, force, &mut self.object, &applied).is_ok()
        }
    }

    #[test]
    fn what_is_no_longer_applied_goes() {
        let mut case = Case::new();
        assert!(case.apply(
            "a",
            false,
            json!({"metadata": {"name": "n", "labels": {"x": "1"}}, "status": {"l": [1, 2], "m": 1}})
        ));
        assert!(
            case.apply("b", false, json!({"status": {"m": 1, "own": true}})),
            "the same value is no conflict"
        );
        assert!(case.apply("a", false, json!({"status": {"l": [3]}})));
        assert_eq!(
            case.object,
            json!({"metadata": {"name": "n"}, "status": {"l": [3], "m": 1, "own": true}})
        );
        assert!(case.apply("b", false, json!({"status": {"own": true}})));
        assert_eq!(case.object["status"], json!({"l": [3], "own": true}));
    }

    #[test]
    fn somebody_elses_value_is_a_conflict_unless_forced() {
        let mut case = Case::new();
        assert!(case.apply("a", false, json!({"spec": {"x": 1}})));
        assert!(!case.apply("b", false, json!({"spec": {"x": 2}})));
        assert_eq!(case.object["spec"]["x"], 1);
        assert!(case.apply("b", true, json!({"spec": {"x": 2}})));
        assert!(case.apply("a", false, json!({})), "it is not a's any more");
        assert_eq!(case.object["spec"]["x"], 2);
    }

    #[test]
    fn other_writes_own_what_they_change() {
        let mut case = Case::new();
        assert!(case.apply("a", false, json!({"spec": {"x": 1, "y": 1}})));
        let after = json!({"metadata": {"name": "n"}, "spec": {"x": 5, "y": 1}});
        let before = std::mem::replace(&mut case.object, after);
        case.owners.wrote(&case.target, "kubectl", &before, &case.object);
        assert!(!case.apply("a", false, json!({"spec": {"x": 1, "y": 1}})));
        assert!(case.apply("a", false, json!({"spec": {"y": 2}})));
        assert_eq!(case.object["spec"], json!({"x": 5, "y": 2}));
    }
}
