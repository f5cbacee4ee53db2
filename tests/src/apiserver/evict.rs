//! The Eviction subresource: budgets are counted as the real server counts them, from `status.disruptionsAllowed` of the
//! PodDisruptionBudgets whose `matchLabels` select the pod. Nothing here fills that status or gives it back: the test does.

use serde_json::{Value, json};

use super::path::Target;
use super::store::{Store, StoreError};

/// What becomes of an evicted pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ending {
    /// It is gone at once.
    #[default]
    AtOnce,
    /// It gets a deletion timestamp and stays until the test, in kubelet's place, deletes it.
    Marked,
}

/// Evicts the pod that the target names, if its budgets and the eviction's own conditions allow it.
pub(super) fn evict(
    store: &mut Store,
    target: &Target,
    eviction: &Value,
    ending: Ending,
) -> Result<Value, StoreError> {
    if eviction.get("kind").and_then(Value::as_str) != Some("Eviction") {
        return Err(StoreError::Invalid("an eviction is of kind Eviction".to_owned()));
    }
    let pod_target = Target { part: String::new(), ..target.clone() };
    let mut pod = store.get(&pod_target)?;
    let uid = eviction.pointer("/deleteOptions/preconditions/uid").filter(|uid| !uid.is_null());
    if uid.is_some() && uid != pod.pointer("/metadata/uid") {
        return Err(StoreError::Conflict(target.name.clone()));
    }
    let done =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        return Ok(done);
    }
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    if phase != "Succeeded" && phase != "Failed" && phase != "Pending" {
        count(store, &pod_target, &pod)?;
    }
    match ending {
        Ending::AtOnce => store.delete(&pod_target)?,
        Ending::Marked => {
            let grace = pod.pointer("/spec/terminationGracePeriodSeconds").cloned().unwrap_or(json!(30));
            if let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.insert("deletionTimestamp".to_owned(), json!("2026-01-01T00:00:00Z"));
                metadata.insert("deletionGracePeriodSeconds".to_owned(), grace);
            }
            store.put(&pod_target, pod)
        }
    };
    Ok(done)
}

/// Takes one disruption from the pod's budget.
fn count(store: &mut Store, pod_target: &Target, pod: &Value) -> Result<(), StoreError> {
    let budgets = Target {
        resource: "policy/v1/poddisruptionbudgets".to_owned(),
        namespace: pod_target.namespace.clone(),
        name: String::new(),
        part: String::new(),
    };
    let labels = pod.pointer("/metadata/labels");
    let selects = |budget: &&Value| {
        let wanted = budget.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
        wanted.is_some_and(|wanted| {
            wanted.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
        })
    };
    let found: Vec<Value> =
        store.list(&budgets, &Default::default()).into_iter().filter(selects).cloned().collect();
    let mut budget = match <[Value; 1]>::try_from(found) {
        Ok([budget]) => budget,
        Err(none) if none.is_empty() => return Ok(()),
        Err(_) => {
            return Err(StoreError::Server(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
                    .to_owned(),
            ));
        }
    };
    let name = budget.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let allowed = budget.pointer("/status/disruptionsAllowed").and_then(Value::as_u64).unwrap_or(0);
    let Some(left) = allowed.checked_sub(1) else {
        return Err(StoreError::Budget(format!("The disruption budget {name} allows no disruption now")));
    };
    if let Some(value) = budget.pointer_mut("/status/disruptionsAllowed") {
        *value = left.into();
    }
    store.put(&Target { name, ..budgets }, budget);
    Ok(())
}
