//! A plan as JSON: `{steps: [{object, action, from, to, disruption, force}], blocked: [{object, reason, message, hint}],
//! unknown: [{object, what}], notes: [{object, policy, note}]}`.

use serde_json::{Value, json};

use super::{Plan, Subject};
use crate::step::Step;

/// One step.
pub fn step(step: &Step) -> Value {
    let (from, to) = step.change.values();
    json!({
        "object": step.object,
        "action": step.change.action(),
        "from": from,
        "to": to,
        "disruption": step.disruption,
        "force": step.force,
    })
}

/// The whole plan.
pub fn plan(plan: &Plan) -> Value {
    json!({
        "steps": plan.steps.iter().map(step).collect::<Vec<_>>(),
        "blocked": plan.blocked,
        "unknown": plan
            .unknown
            .iter()
            .map(|unknown| json!({"object": unknown.object, "what": unknown.what}))
            .collect::<Vec<_>>(),
        "notes": notes(plan),
    })
}

/// Remarks that are neither step nor obstacle, such as "untested hardware" and what is overridden or taken by force.
fn notes(plan: &Plan) -> Vec<Value> {
    let of = |subject: &Subject| {
        let (object, policy) = (subject.object.clone(), subject.policy.clone());
        let note = move |note: &String| json!({"object": object, "policy": policy, "note": note});
        subject.notes.iter().map(note).collect::<Vec<_>>()
    };
    plan.subjects.iter().flat_map(of).collect()
}
