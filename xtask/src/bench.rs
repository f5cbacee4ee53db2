//! `cargo xtask bench`: runs the bench programs that the crates hold, in release mode, or as the agent ships where its memory
//! is measured.
//!
//! They are found through cargo's metadata, so a crate that adds one needs no change here.

use crate::sys;
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::path::Path;

/// Runs the programs whose `package/name` contains one of the words (all, if there are none). True if all ended well.
///
/// `peer` is another injector, for the program that measures ours.
pub(crate) fn run(only: &[String], peer: Option<&Path>) -> Result<bool> {
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
        let mut bench = sys::cargo()?;
        bench.args(["bench", "--quiet", "-p", &package, "--bench", &name]);
        if (package.as_str(), name.as_str()) == ("portwright-tests", "idle") {
            // Memory is that of the program that ships, so it is built in the same way.
            bench.args(["--profile", SMALL, "--target", TARGET]).env("RUSTFLAGS", STATIC);
        }
        if (package.as_str(), name.as_str()) == ("portwright", "binary") {
            for binary in release_binaries(&["portwright"])? {
                bench.env("PORTWRIGHT_BINARY", binary);
            }
        }
        if let Some(peer) =
            peer.filter(|_| (package.as_str(), name.as_str()) == ("portwright-tests", "injector"))
        {
            bench.arg("--").arg("--peer").arg(peer.canonicalize().context("--peer")?);
        }
        good &= sys::succeeds(&mut bench)?;
    }
    if only.is_empty() || only.iter().any(|word| LONG_TESTS.contains(word.as_str())) {
        sys::out(&format!("\n== {LONG_TESTS}"));
        good &= long_tests()?;
    }
    Ok(good)
}

/// What the tests that are too long for `cargo xtask test` are called on the command line.
const LONG_TESTS: &str = "long-tests";

/// Runs every test that is ignored as `long: run by cargo xtask bench`, with optimisation.
fn long_tests() -> Result<bool> {
    let mut good = true;
    for package in ["portwright-core", "portwright-tests"] {
        let mut test = sys::cargo()?;
        test.args([
            "test",
            "--quiet",
            "--profile",
            "lab",
            "-p",
            package,
            "--",
            "--ignored",
            "--nocapture",
            "at_length",
        ]);
        good &= sys::succeeds(&mut test)?;
    }
    Ok(good)
}

/// What programs ship for.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Packed relocations are half a megabyte less of a program that is loaded anywhere; glibc knows them since 2.36. Functions that
/// have become the same code are one: an eighth of a megabyte, and nothing tells functions by their addresses.
const STATIC: &str =
    "-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs -C link-arg=-Wl,--icf=all";
/// The agent's profile.
const SMALL: &str = "small";

/// Builds programs as they ship: static, with fat LTO, the agent for size. A target of its own keeps the flags away from build
/// scripts. The programs' files, in the order of the packages.
pub(crate) fn release_binaries(packages: &[&str]) -> Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    for package in packages {
        let profile = if *package == "portwright" { SMALL } else { "release" };
        let mut build = sys::cargo()?;
        // A package and its program have the same name.
        build.args([
            "build",
            "--quiet",
            "--profile",
            profile,
            "--target",
            TARGET,
            "-p",
            package,
            "--bin",
            package,
        ]);
        sys::run(build.env("RUSTFLAGS", STATIC))?;
        files.push(sys::target()?.join(TARGET).join(profile).join(package));
    }
    Ok(files)
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
