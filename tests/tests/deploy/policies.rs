//! The example policies are ones that the program and the API server take.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::read;
use crate::yaml::{documents, files};

#[test]
fn every_example_is_accepted_by_the_program() {
    let names = files("examples");
    assert!(names.len() >= 8);
    let mut policies = BTreeSet::new();
    for name in &names {
        let text = read(&format!("deploy/examples/{name}"));
        let loaded = portwright_api::load([(name.as_str(), text.as_str())]);
        let loaded = loaded.unwrap_or_else(|errors| panic!("{name}: {errors:?}"));
        assert_eq!(loaded.len(), 1);
        assert_eq!(format!("{}.yaml", loaded[0].name), *name, "a policy is named as its file");
        assert!(policies.insert(loaded[0].name.clone()));
        assert!(text.starts_with("# "), "{name} does not say what it is for");
    }
}

#[test]
fn no_example_wants_more_vfs_than_a_family_that_it_names_can_have() {
    let (profiles, mut limits) = (portwright::builtin::profiles().unwrap(), 0);
    for name in files("examples") {
        let text = read(&format!("deploy/examples/{name}"));
        let document = portwright_api::load([(name.as_str(), text.as_str())]).unwrap().remove(0);
        for entry in &document.nics {
            let named = profiles
                .iter()
                .filter(|profile| profile.drivers.iter().any(|driver| entry.select.drivers.contains(driver)));
            for profile in named {
                let Some(limit) = &profile.max_vfs else { continue };
                limits += 1;
                assert!(
                    entry.vfs <= Some(limit.value),
                    "{name}: {} has {} at most",
                    profile.name,
                    limit.value
                );
            }
        }
    }
    assert!(limits > 0, "no family has a limit");
}

#[test]
fn every_example_is_accepted_by_the_schema_of_the_definition() {
    let schema = policy_schema();
    for name in files("examples") {
        let document = &documents(&format!("deploy/examples/{name}"))[0];
        let mut wrong = Vec::new();
        check(&schema, document, "", &mut wrong);
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
    }
}

#[test]
fn the_schema_refuses_what_is_wrong() {
    let schema = policy_schema();
    let good = &documents("deploy/examples/dpdk.yaml")[0];
    let cases: [(&str, Value, &str); 5] = [
        ("/spec/nics/0/vfs", Value::from("eight"), "/spec/nics/0/vfs"),
        ("/spec/nics/0/mtu", Value::from(-1), "/spec/nics/0/mtu"),
        ("/spec/mode", Value::from("Sometimes"), "/spec/mode"),
        ("/spec/nics/0/vfGroups/0", serde_json::json!({}), "/spec/nics/0/vfGroups/0"),
        ("/spec/nics/0/selct", Value::from(1), "/spec/nics/0"),
    ];
    for (place, value, expected) in cases {
        let mut document = good.clone();
        match document.pointer_mut(place) {
            Some(there) => *there = value,
            None => {
                let (parent, key) = place.rsplit_once('/').unwrap();
                document.pointer_mut(parent).unwrap()[key] = value;
            }
        }
        let mut wrong = Vec::new();
        check(&schema, &document, "", &mut wrong);
        assert!(wrong.iter().any(|text| text.starts_with(expected)), "{place}: {wrong:?}");
    }
}

fn policy_schema() -> Value {
    let definition = documents("deploy/crds/portwright.dev.yaml")
        .into_iter()
        .find(|object| object["spec"]["names"]["kind"] == "NodePolicy")
        .unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// As much of the API server's structural schemas as ours uses, with unknown fields as `kubectl` refuses them. Patterns
/// and CEL rules are not evaluated here: the program's own reader, which is stricter, has looked at them.
fn check(schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    for (keyword, rule) in schema.as_object().unwrap() {
        let fits = match keyword.as_str() {
            "type" => is_of(rule.as_str().unwrap(), value),
            "x-kubernetes-int-or-string" => value.is_i64() || value.is_string(),
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_i64() >= rule.as_i64() || !value.is_number(),
            "maximum" => value.as_i64() <= rule.as_i64() || !value.is_number(),
            "maxItems" => value.as_array().is_none_or(|list| list.len() <= size(rule)),
            "minItems" => value.as_array().is_none_or(|list| list.len() >= size(rule)),
            "minLength" => value.as_str().is_none_or(|text| text.chars().count() >= size(rule)),
            "maxLength" => value.as_str().is_none_or(|text| text.chars().count() <= size(rule)),
            "required" => {
                rule.as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some())
            }
            // Members of such a list are told apart by these keys.
            "x-kubernetes-list-map-keys" => {
                let keys: Vec<&str> = rule.as_array().unwrap().iter().filter_map(Value::as_str).collect();
                let name = |item: &Value| keys.iter().map(|key| item[key].to_string()).collect::<Vec<_>>();
                let mut seen = BTreeSet::new();
                value.as_array().into_iter().flatten().all(|item| seen.insert(name(item)))
            }
            "x-kubernetes-list-type" => ["map", "set", "atomic"].contains(&rule.as_str().unwrap()),
            "items" => {
                for (number, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(rule, item, &format!("{at}/{number}"), wrong);
                }
                true
            }
            "properties" => check_properties(schema, value, at, wrong),
            "additionalProperties" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    check(rule, value, &format!("{at}/{name}"), wrong);
                }
                true
            }
            "default"
            | "description"
            | "format"
            | "nullable"
            | "pattern"
            | "title"
            | "x-kubernetes-validations" => true,
            other => panic!("{at}: the schema uses {other}, which this test does not know"),
        };
        if !fits {
            wrong.push(format!("{at}: {value} against {keyword} {rule}"));
        }
    }
}

fn check_properties(schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) -> bool {
    let known = schema["properties"].as_object().unwrap();
    let top = ["apiVersion", "kind", "metadata"];
    value.as_object().into_iter().flatten().fold(true, |good, (name, value)| match known.get(name) {
        Some(schema) => {
            check(schema, value, &format!("{at}/{name}"), wrong);
            good
        }
        None => good && at.is_empty() && top.contains(&name.as_str()),
    })
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "boolean" => value.is_boolean(),
        other => panic!("type {other}"),
    }
}

fn size(rule: &Value) -> usize {
    usize::try_from(rule.as_u64().unwrap()).unwrap()
}
