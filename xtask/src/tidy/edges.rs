//! Which crate may depend on which: the direction that ARCHITECTURE.md draws.

use serde_json::Value;

/// A crate and those of ours that it may depend on. `portwright-tests` may depend on all.
const ALLOWED: &[(&str, &[&str])] = &[
    ("portwright-core", &[]),
    ("portwright-proto", &[]),
    ("portwright-api", &["portwright-core"]),
    ("portwright-host", &["portwright-core"]),
    ("portwright-ovs", &["portwright-core"]),
    ("portwright-device-plugin", &["portwright-core", "portwright-host", "portwright-proto"]),
    (
        "portwright",
        &[
            "portwright-api",
            "portwright-core",
            "portwright-device-plugin",
            "portwright-host",
            "portwright-ovs",
        ],
    ),
    ("portwright-injector", &["portwright-api", "portwright-core"]),
    ("xtask", &[]),
];
const TESTS: &str = "portwright-tests";

/// Edges that are not allowed, and crates that nobody thought about.
pub(super) fn check(metadata: &Value) -> Vec<String> {
    let array =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let name = |value: &Value| value.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let packages = array(metadata, "packages");
    let members: Vec<String> = packages.iter().map(name).collect();
    let mut problems = Vec::new();
    for package in &packages {
        let from = name(package);
        if from == TESTS {
            continue;
        }
        let Some((_, allowed)) = ALLOWED.iter().find(|(crate_name, _)| *crate_name == from) else {
            problems.push(format!(
                "crate {from} has no place in the dependency direction; a new crate needs a decision record"
            ));
            continue;
        };
        for to in array(package, "dependencies").iter().map(name).filter(|to| members.contains(to)) {
            if !allowed.contains(&to.as_str()) {
                problems
                    .push(format!("{from} depends on {to}, which the dependency direction does not allow"));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::check;
    use serde_json::{Value, json};

    fn metadata(from: &str, to: &str) -> Value {
        json!({"packages": [
            {"name": from, "dependencies": [{"name": to}, {"name": "serde"}]},
            {"name": to, "dependencies": []},
        ]})
    }

    #[test]
    fn directions() {
        let cases = [
            ("portwright-api", "portwright-core", 0),
            ("portwright-core", "portwright-api", 1),
            ("portwright-host", "portwright-ovs", 1),
            ("portwright-injector", "portwright", 1),
            ("portwright-tests", "portwright", 0),
            ("portwright-surprise", "portwright-core", 1),
        ];
        for (from, to, problems) in cases {
            assert_eq!(check(&metadata(from, to)).len(), problems, "{from} -> {to}");
        }
    }
}
