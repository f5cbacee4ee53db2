//! A plan as JSON: `{steps: [{object, action, from, to, disruption}], blocked: [{object, reason, message, hint}], unknown:
//! [{object, what}]}`.

use serde_json::{Value, json};

use super::Plan;
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
    })
}
