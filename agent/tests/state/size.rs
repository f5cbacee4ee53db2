//! How much is told: everything that is told is in the definition, and the largest node fits.

use std::collections::BTreeSet;
use std::sync::Arc;

use portwright::daemon::facts::{Cause, Facts, Run};
use portwright_api::state::limit;
use portwright_core::drive::{Outcome, StepReport};
use portwright_core::{Blocked, Change, Disruption, Object, Reason, Step, VfRef};
use serde_json::Value;

use crate::conditions::variants;
use crate::{edit, node, pod, scenario, told};

/// 2,048 VFs, no two alike, every one with steps due, in the way and failed, and long words everywhere.
fn worst_case(words: usize) -> Facts {
    let long = |index: usize| format!("{index} {}", "x".repeat(words));
    let mut facts = node(2048);
    edit(&mut facts, |observed| {
        for (index, vf) in observed.pfs[0].vfs.iter_mut().enumerate() {
            vf.driver = Some(long(index));
            vf.holders = vec![pod(&long(index))];
        }
    });
    let vf = |index: u16| Object::Vf(VfRef { pf: "0000:3b:00.0".parse().unwrap(), index });
    for index in 0..2048_u16 {
        let text = long(index.into());
        let change = Change::RenameVf { from: text.clone(), to: text.clone() };
        let step = Step { object: vf(index), change, disruption: Disruption::Vf, force: false };
        facts.plan.steps.push(step);
        facts.plan.blocked.push(Blocked::new(vf(index), Reason::VfInUse, text.clone(), text.clone()));
        facts.waiting.insert(vf(index), text);
    }
    let steps = facts.plan.steps.iter().enumerate().map(|(index, step)| StepReport {
        step: step.clone(),
        outcome: if index == 2000 { Outcome::Failed { why: long(index) } } else { Outcome::Done },
    });
    facts.last_run = Some(Arc::new(Run {
        number: 1,
        at: 1,
        causes: BTreeSet::from([Cause::Start]),
        steps: steps.collect(),
    }));
    facts
}

#[test]
fn a_large_node_stays_small_and_what_is_left_out_is_told() {
    for (words, all_ranges) in [(20, true), (63, true), (2000, false)] {
        let content = told(&worst_case(words));
        let size = serde_json::to_vec(&content).unwrap().len();
        assert!(size <= limit::BYTES, "{words}: {size} bytes");
        assert_eq!(
            content.omitted.contains_key("pfs[].vfs"),
            !all_ranges,
            "{words}: {size} bytes, {:?}",
            content.omitted
        );
        let shown = |field: &str| 2048 - content.omitted.get(field).copied().unwrap_or_default() as usize;
        assert_eq!(content.pfs[0].vfs.len(), shown("pfs[].vfs"));
        assert_eq!(content.plan.steps.len(), shown("plan.steps"));
        assert_eq!(content.plan.blocked.len(), shown("plan.blocked"));
        assert_eq!(content.plan.waiting.len(), shown("plan.waiting"));
        let run = content.last_run.as_ref().unwrap();
        assert_eq!(run.steps.len(), shown("lastRun.steps"));
        assert_eq!((run.done, run.failed, run.skipped), (2047, 1, 0));
        assert!(run.steps.iter().any(|step| step.why.is_some()), "what failed is shown");
        assert_eq!((content.summary.pending, content.summary.blocked), (2048, 2048));
        assert!(content.pfs[0].conditions[0].message.starts_with("waiting for 2048 pods: "));
    }
}

/// Every field that is told is in the definition, and no list is longer than the API server takes.
#[test]
fn what_is_told_is_what_the_definition_describes() {
    let (_, yaml) =
        portwright_api::crds().into_iter().find(|(name, _)| name.starts_with("nodestates")).unwrap();
    let definition: Value = serde_saphyr::from_str(&yaml).unwrap();
    let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/status").unwrap();
    let mut seen = 0;
    for facts in
        variants().into_iter().map(|(_, facts)| facts).chain([worst_case(63), scenario("ovs-drift"), node(8)])
    {
        check(schema, &serde_json::to_value(told(&facts)).unwrap(), "status", &mut seen);
    }
    assert!(seen > 1000, "{seen}");
}

fn check(schema: &Value, value: &Value, at: &str, seen: &mut usize) {
    *seen += 1;
    if schema.get("x-kubernetes-preserve-unknown-fields").is_some() {
        return;
    }
    let kind = schema["type"].as_str().unwrap_or_else(|| panic!("{at} has no type"));
    match value {
        Value::Object(fields) => {
            assert_eq!(kind, "object", "{at}");
            for (name, below) in fields {
                let inner = schema["properties"].get(name).or(schema.get("additionalProperties"));
                check(
                    inner.unwrap_or_else(|| panic!("{at}.{name} is not described")),
                    below,
                    &format!("{at}.{name}"),
                    seen,
                );
            }
        }
        Value::Array(list) => {
            assert_eq!(kind, "array", "{at}");
            assert!(list.len() as u64 <= schema["maxItems"].as_u64().unwrap(), "{at} has {}", list.len());
            list.iter().for_each(|item| check(&schema["items"], item, &format!("{at}[]"), seen));
        }
        Value::String(text) => {
            assert_eq!(kind, "string", "{at}");
            let words = schema["enum"].as_array();
            assert!(words.is_none_or(|words| words.iter().any(|word| word == text)), "{at}: {text}");
        }
        Value::Number(_) => assert_eq!(kind, "integer", "{at}"),
        Value::Bool(_) => assert_eq!(kind, "boolean", "{at}"),
        Value::Null => panic!("{at} is null"),
    }
}
