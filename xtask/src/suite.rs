//! `cargo xtask test`: every check there is, in the order in which a failure is cheapest to find.
//!
//! All of them run, also after a failure, so that one run shows everything that is wrong.

use crate::cli::LabArgs;
use crate::{codegen, lab, setup, sys, tidy};
use anyhow::{Context as _, Result};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

/// What all checks came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    passed: usize,
    failed: usize,
    /// What did not run, with its reason.
    skipped: Vec<String>,
    /// What failed, for the closing list.
    broken: Vec<String>,
}

impl Totals {
    /// Counts one check that is not made of tests.
    fn check(&mut self, name: &str, outcome: Result<bool>) {
        match outcome {
            Ok(true) => self.passed += 1,
            Ok(false) => self.fail(name),
            Err(error) => {
                sys::say(&format!("{name}: {error:#}"));
                self.fail(name);
            }
        }
    }

    fn fail(&mut self, name: &str) {
        self.failed += 1;
        self.broken.push(name.to_owned());
    }

    /// Takes in a line of the test harness.
    fn line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("test result: ") {
            self.passed += count(rest, " passed");
            self.failed += count(rest, " failed");
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.broken.push(name.to_owned());
        } else if let Some((name, reason)) =
            line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ignored"))
        {
            let reason = reason.trim_start_matches(", ");
            let reason = if reason.is_empty() { "no reason given" } else { reason };
            self.skipped.push(format!("{name}: {reason}"));
        }
    }
}

/// The number before a word: `3 passed; 1 failed` and ` failed` give 1.
fn count(text: &str, word: &str) -> usize {
    let before = text.split(word).next().filter(|before| before.len() < text.len()).unwrap_or_default();
    before
        .rsplit(|c: char| !c.is_ascii_digit())
        .next()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_default()
}

/// Runs everything. True if nothing failed.
pub(crate) fn run(with_lab: bool) -> Result<bool> {
    let strict = sys::env("CI").is_some_and(|value| value == "true");
    let started = sys::now();
    let mut totals = Totals::default();

    title("setup");
    totals.check("setup", setup::run(false));
    title("formatting");
    component(&mut totals, "fmt", &["fmt", "--all", "--", "--check"])?;
    title("lints");
    let mut clippy = vec!["clippy", "--quiet", "--workspace", "--all-targets"];
    if strict {
        clippy.extend(["--", "-D", "warnings"]);
    }
    component(&mut totals, "clippy", &clippy)?;
    title("tests");
    tests(&mut totals)?;
    title("tidy");
    totals.check("tidy", tidy::run());
    title("generated files");
    totals.check("codegen --check", codegen::run(true));
    title("lab");
    if with_lab {
        match lab::run(&LabArgs::default()) {
            Ok(summary) => {
                totals.passed += summary.passed;
                totals.failed += summary.failed;
                totals.skipped.extend(summary.left_out);
                totals.broken.extend(summary.broken);
            }
            Err(error) => totals.check("lab", Err(error)),
        }
    } else {
        totals.skipped.push("lab: left out with --no-lab".to_owned());
    }

    title(&format!("done in {}", sys::seconds(started.elapsed())));
    totals.broken.iter().for_each(|name| sys::out(&format!("failed: {name}")));
    totals.skipped.iter().for_each(|name| sys::out(&format!("skipped: {name}")));
    let Totals { passed, failed, skipped, .. } = &totals;
    sys::out(&format!("{passed} passed, {failed} failed, {} skipped", skipped.len()));
    Ok(*failed == 0)
}

fn title(text: &str) {
    sys::out(&format!("\n== {text}"));
}

/// Runs a part of the toolchain that may not be there; none is ever fetched.
fn component(totals: &mut Totals, name: &str, args: &[&str]) -> Result<()> {
    if sys::capture(sys::cargo()?.args([name, "--version"])).is_err() {
        totals.skipped.push(format!("cargo {name}: this toolchain has no {name}"));
        return Ok(());
    }
    let outcome = sys::succeeds(sys::cargo()?.args(args));
    totals.check(&format!("cargo {name}"), outcome);
    Ok(())
}

fn tests(totals: &mut Totals) -> Result<()> {
    let mut cargo = sys::cargo()?;
    cargo.args(["test", "--quiet", "--workspace", "--no-fail-fast"]);
    // The plain format: one line per test, with the reasons of ignored ones.
    cargo.args(["--", "--format", "pretty", "--color", "never"]);
    let failed_before = totals.failed;
    let good = stream(cargo, |line| totals.line(line))?;
    if !good && totals.failed == failed_before {
        totals.fail("cargo test (it did not get as far as a result)");
    }
    Ok(())
}

/// Runs a command, shows its stdout and hands each line on. True if it ended with 0.
fn stream(mut command: Command, mut each: impl FnMut(&str)) -> Result<bool> {
    command.stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", sys::shown(&command)))?;
    let stdout = child.stdout.take().context("no stdout")?;
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot read the output of a test")?;
        // What passed is counted; what did not is shown.
        if !line.ends_with(" ... ok") && !line.is_empty() && !line.starts_with("running ") {
            sys::out(&line);
        }
        each(&line);
    }
    Ok(child.wait().context("cannot wait for the tests")?.success())
}

#[cfg(test)]
mod tests {
    use super::Totals;

    #[test]
    fn lines_of_the_harness() {
        let mut totals = Totals::default();
        for line in [
            "test a::b ... ok",
            "test a::c ... ignored, needs a cluster",
            "test a::d ... FAILED",
            "test result: FAILED. 12 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured",
        ] {
            totals.line(line);
        }
        assert_eq!((totals.passed, totals.failed), (15, 1));
        assert_eq!(totals.skipped, ["a::c: needs a cluster"]);
        assert_eq!(totals.broken, ["a::d"]);
    }
}
