//! `cargo xtask tidy`: the rules of this repository that no compiler checks.
//!
//! Each rule is a pure function of file names and texts in a module of its own; this one collects the files and prints
//! what the rules found.

mod edges;
mod files;
mod fixtures;
mod orphans;
mod reasons;
mod words;

use crate::sys;
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::collections::BTreeMap;

/// Every file of the repository that git knows or would take, by path from the workspace's root; binary ones left out.
pub(crate) type Files = BTreeMap<String, String>;

/// Checks every rule; prints one line per violation. True if there is none.
pub(crate) fn run() -> Result<bool> {
    let files = files()?;
    let metadata = sys::capture(sys::cargo()?.args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata printed no JSON")?;
    let mut problems = Vec::new();
    problems.extend(edges::check(&metadata));
    problems.extend(files::check(&files));
    problems.extend(orphans::check(&files));
    problems.extend(fixtures::check(&files));
    problems.extend(reasons::check(&files));
    problems.extend(words::check(&files));
    problems.iter().for_each(|problem| sys::out(&format!("tidy: {problem}")));
    files::notes(&files).iter().for_each(|note| sys::say(&format!("tidy: note: {note}")));
    sys::say(&format!("tidy: {} files, {} problems", files.len(), problems.len()));
    Ok(problems.is_empty())
}

fn files() -> Result<Files> {
    let root = sys::workspace()?;
    let mut git = sys::command("git");
    git.arg("-C").arg(&root).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let paths: Vec<String> = match sys::capture(&mut git) {
        Ok(list) => list.lines().map(str::to_owned).collect(),
        // An unpacked archive of the sources has no git.
        Err(_) => {
            let all = sys::walk(&root, &["target", ".git"])?;
            all.iter()
                .filter_map(|path| Some(path.strip_prefix(&root).ok()?.to_string_lossy().into_owned()))
                .collect()
        }
    };
    let mut files = Files::new();
    for path in paths {
        let full = root.join(&path);
        if !full.is_file() {
            continue;
        }
        if let Ok(text) = String::from_utf8(sys::read_bytes(&full)?) {
            files.insert(path, text);
        }
    }
    Ok(files)
}
