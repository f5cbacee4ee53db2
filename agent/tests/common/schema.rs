//! As much of JSON Schema (draft 2020-12) as docs/schema uses. An unknown keyword fails, so that nothing is left unchecked.

use serde_json::Value;

/// Everything in which a value differs from a schema, each with its place.
pub fn differences(root: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(root, root, value, "$", &mut found);
    found
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    for (keyword, rule) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => {}
            "$ref" => {
                let pointer = rule.as_str().unwrap().strip_prefix('#').unwrap();
                check(root, root.pointer(pointer).unwrap_or_else(|| panic!("{rule}")), value, at, found);
            }
            "type" => check_type(rule, value, at, found),
            "enum" => {
                if !rule.as_array().unwrap().contains(value) {
                    found.push(format!("{at}: {value} is not one of {rule}"));
                }
            }
            "const" if rule == value => {}
            "const" => found.push(format!("{at}: {value} is not {rule}")),
            "minimum" if value.as_i64() >= rule.as_i64() || !value.is_number() => {}
            "maximum" if value.as_i64() <= rule.as_i64() || !value.is_number() => {}
            "minimum" | "maximum" => found.push(format!("{at}: {value} is beyond {keyword} {rule}")),
            "properties" => check_properties(root, rule, value, at, found),
            "required" => check_required(rule, value, at, found),
            "additionalProperties" => check_additional(schema, value, at, found),
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, rule, item, &format!("{at}[{index}]"), found);
                }
            }
            "anyOf" | "oneOf" => check_choices(root, keyword, rule, value, at, found),
            other => panic!("{at}: the schema uses `{other}`, which this test does not know"),
        }
    }
}

fn check_type(rule: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{at}: type {other}"),
    };
    let fits = match rule {
        Value::Array(names) => names.iter().any(|name| is(name.as_str().unwrap())),
        name => is(name.as_str().unwrap()),
    };
    if !fits {
        found.push(format!("{at}: {value} is no {rule}"));
    }
}

fn check_properties(root: &Value, rule: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    for (name, inner) in rule.as_object().unwrap() {
        if let Some(inside) = value.get(name) {
            check(root, inner, inside, &format!("{at}.{name}"), found);
        }
    }
}

fn check_required(rule: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    for name in rule.as_array().unwrap().iter().map(|name| name.as_str().unwrap()) {
        if value.is_object() && value.get(name).is_none() {
            found.push(format!("{at}: `{name}` is missing"));
        }
    }
}

/// Only `false` is used: a field that the schema does not name is a field that nobody documented.
fn check_additional(schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    assert_eq!(schema.get("additionalProperties"), Some(&Value::Bool(false)));
    for name in value.as_object().into_iter().flat_map(|fields| fields.keys()) {
        if schema.pointer(&format!("/properties/{name}")).is_none() {
            found.push(format!("{at}: `{name}` is not documented"));
        }
    }
}

fn check_choices(
    root: &Value,
    keyword: &str,
    rule: &Value,
    value: &Value,
    at: &str,
    found: &mut Vec<String>,
) {
    let mut tries = Vec::new();
    for choice in rule.as_array().unwrap() {
        let mut wrong = Vec::new();
        check(root, choice, value, at, &mut wrong);
        tries.push(wrong);
    }
    let fitting = tries.iter().filter(|wrong| wrong.is_empty()).count();
    if fitting == 0 || (keyword == "oneOf" && fitting != 1) {
        found.push(format!("{at}: {value} fits {fitting} of the choices: {tries:?}"));
    }
}
