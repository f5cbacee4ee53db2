//! Rules about single files: lints are inherited, `main.rs` is thin, modules tell their story, ignored tests say why,
//! the README and the build server run the same command.

use super::Files;

const MAIN_LINES: usize = 40;
const MEDIAN_LINES: usize = 200;
const SOFT_CAP: usize = 400;

/// Whether a file is written by a generator, which says so in its first lines.
fn generated(text: &str) -> bool {
    text.lines().take(3).any(|line| line.contains("@generated"))
}

/// Violations.
pub(super) fn check(files: &Files) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in files {
        problems.extend(check_file(path, text));
    }
    let ci = files.get(".ci/run").map(|text| last_command(text));
    if ci != Some("cargo xtask test") {
        problems.push(".ci/run: its command must be `cargo xtask test`".to_owned());
    }
    let readme = files.get("README.md").map(String::as_str).unwrap_or_default();
    for command in ["cargo xtask demo", "cargo xtask test"] {
        if !readme.contains(command) {
            problems.push(format!("README.md: does not name `{command}`"));
        }
    }
    let median = median(files);
    if median > MEDIAN_LINES {
        problems.push(format!("the median source file has {median} lines, more than {MEDIAN_LINES}"));
    }
    problems
}

/// What is worth a look but no violation.
pub(super) fn notes(files: &Files) -> Vec<String> {
    let sources = files.iter().filter(|(path, text)| path.ends_with(".rs") && !generated(text));
    let long = sources.filter(|(_, text)| text.lines().count() > SOFT_CAP);
    long.map(|(path, text)| format!("{path} has {} lines (soft cap {SOFT_CAP})", text.lines().count()))
        .collect()
}

fn check_file(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if path.ends_with("Cargo.toml") && path != "Cargo.toml" && !inherits_lints(text) {
        problems.push(format!("{path}: lacks `[lints] workspace = true`"));
    }
    if !path.ends_with(".rs") || generated(text) {
        return problems;
    }
    let lines = text.lines().count();
    if path.ends_with("src/main.rs") && lines > MAIN_LINES {
        problems.push(format!("{path}: {lines} lines, a main.rs has at most {MAIN_LINES}"));
    }
    let first =
        text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#![")).unwrap_or_default();
    if !first.starts_with("//!") {
        problems.push(format!("{path}: does not open with what it is for (`//!`)"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim() == concat!("#[ign", "ore]") {
            problems.push(format!("{path}:{number}: an ignored test must say what it needs"));
        }
    }
    problems
}

fn inherits_lints(manifest: &str) -> bool {
    let after = manifest.split("[lints]").nth(1).unwrap_or_default();
    let section = after.split("\n[").next().unwrap_or_default();
    section.lines().any(|line| line.replace(' ', "") == "workspace=true")
}

/// The last line of a script that is neither empty nor a comment.
fn last_command(script: &str) -> &str {
    let mut commands =
        script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    commands.next_back().unwrap_or_default()
}

fn median(files: &Files) -> usize {
    let sources = files.iter().filter(|(path, text)| path.ends_with(".rs") && !generated(text));
    let mut lines: Vec<usize> = sources.map(|(_, text)| text.lines().count()).collect();
    lines.sort_unstable();
    lines.get(lines.len().div_ceil(2).saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{check_file, inherits_lints, last_command, median};
    use crate::tidy::Files;

    #[test]
    fn single_files() {
        let cases = [
            ("a/Cargo.toml", "[package]\n[lints]\nworkspace = true\n".to_owned(), 0),
            ("a/Cargo.toml", "[package]\n".to_owned(), 1),
            ("Cargo.toml", "[workspace]\n".to_owned(), 0),
            ("a/src/main.rs", format!("//! M.\n{}", "x\n".repeat(39)), 0),
            ("a/src/main.rs", format!("//! M.\n{}", "x\n".repeat(40)), 1),
            ("a/src/b.rs", "#![allow(x)]\n\n//! B.\n".to_owned(), 0),
            ("a/src/b.rs", "use x;\n".to_owned(), 1),
            ("a/src/b.rs", "// @generated\nuse x;\n".to_owned(), 0),
            ("a/src/b.rs", concat!("//! B.\n#[ign", "ore]\nfn t() {}\n").to_owned(), 1),
            ("a/src/b.rs", "//! B.\n#[ignore = \"needs root\"]\nfn t() {}\n".to_owned(), 0),
        ];
        for (path, text, problems) in cases {
            assert_eq!(check_file(path, &text).len(), problems, "{path}: {text}");
        }
    }

    #[test]
    fn helpers() {
        assert!(!inherits_lints("[lints]\n[other]\nworkspace = true\n"));
        assert_eq!(last_command("#!/bin/bash\nset -e\ncargo xtask test\n# end\n"), "cargo xtask test");
        let files = Files::from([1, 5, 9].map(|lines| (format!("{lines}.rs"), "x\n".repeat(lines))));
        assert_eq!(median(&files), 5);
    }
}
