//! `cargo xtask bench`: runs the bench programs that the crates hold, in release mode.
//!
//! They are found through cargo's metadata, so a crate that adds one needs no change here.

use crate::sys;
use anyhow::{Context as _, Result};
use serde_json::Value;

/// Runs the programs whose `package/name` contains one of the words (all, if there are none). True if all ended well.
pub(crate) fn run(only: &[String]) -> Result<bool> {
    let metadata = sys::capture(sys::cargo()?.args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata printed no JSON")?;
    let programs: Vec<(String, String)> = programs(&metadata)
        .into_iter()
        .filter(|(package, name)| {
            only.is_empty() || only.iter().any(|word| format!("{package}/{name}").contains(word.as_str()))
        })
        .collect();
    if programs.is_empty() {
        sys::say("bench: no bench program matches");
        return Ok(only.is_empty());
    }
    let mut good = true;
    for (package, name) in programs {
        sys::out(&format!("\n== {package}/{name}"));
        good &= sys::succeeds(sys::cargo()?.args(["bench", "--quiet", "-p", &package, "--bench", &name]))?;
    }
    Ok(good)
}

/// (package, name) of every bench target of the workspace.
fn programs(metadata: &Value) -> Vec<(String, String)> {
    let packages = metadata.get("packages").and_then(Value::as_array).into_iter().flatten();
    let text =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut found = Vec::new();
    for package in packages {
        for target in package.get("targets").and_then(Value::as_array).into_iter().flatten() {
            let kinds = target.get("kind").and_then(Value::as_array).into_iter().flatten();
            if kinds.into_iter().any(|kind| kind == "bench") {
                found.push((text(package, "name"), text(target, "name")));
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::programs;
    use serde_json::json;

    #[test]
    fn only_bench_targets_are_programs() {
        let metadata = json!({"packages": [{"name": "a", "targets": [
            {"name": "a", "kind": ["lib"]}, {"name": "speed", "kind": ["bench"]}]}]});
        assert_eq!(programs(&metadata), [("a".to_owned(), "speed".to_owned())]);
    }
}
