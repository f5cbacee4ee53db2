//! One archive for a bug report: what was seen, what was wanted, what was planned, what the journal remembers.
//!
//! It holds no environment, no command line but the words that matter for SR-IOV, nothing of pods beside the names of those
//! that hold VFs. What could not be collected is said in `problems.json`, never a reason to write nothing.

mod archive;
mod kernel;

use std::path::{Path, PathBuf};

use portwright_core::plan::{json, text};
use portwright_core::{Observed, Profiles, plan};
use portwright_host::root::Root;
use serde_json::{Value, json};

pub use self::archive::write;
use crate::cli::{BundleArgs, Global};
use crate::error::CliError;
use crate::verb::observe::observe;
use crate::verb::profiles::of_pf;
use crate::{input, output};

/// Largest file of the state directory that is taken, in bytes.
const LARGEST_STATE: u64 = 1024 * 1024;

/// Names in the archive and contents.
#[derive(Debug, Default)]
pub struct Contents {
    /// Files in the order of the archive.
    pub files: Vec<(String, String)>,
    problems: Vec<Value>,
}

impl Contents {
    fn add(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.files.push((name.into(), text.into()));
    }

    fn add_json(&mut self, name: &str, value: &impl serde::Serialize) {
        match output::json(value) {
            Ok(text) => self.add(name, text),
            Err(error) => self.problem(name, &error),
        }
    }

    fn problem(&mut self, what: &str, error: &dyn std::error::Error) {
        let reason = portwright_core::drive::chain(error);
        self.problems.push(json!({"object": what, "reason": reason}));
    }
}

/// Collects everything that can be had. Only what the operator named (policies, profiles) must be in order.
pub fn collect(global: &Global, arguments: &BundleArgs) -> Result<Contents, CliError> {
    let profiles = input::profiles(global.profiles.as_deref())?;
    let policies = input::read_policies(&arguments.files)?;
    let mut contents = Contents::default();
    contents.add_json("versions.json", &kernel::versions(&Root::new("/")));
    let observed = match observe(global) {
        Ok(observed) => Some(observed),
        Err(error) => {
            contents.problem("observe", &error);
            None
        }
    };
    for (number, policy) in (1..).zip(&policies) {
        contents.add(format!("policies/{number}.yaml"), policy.text.clone());
    }
    if let Some(observed) = &observed {
        add_observed(&mut contents, observed, &profiles);
        if !policies.is_empty() {
            add_plan(&mut contents, observed, &profiles, &policies);
        }
    }
    add_state(&mut contents, &global.state_dir);
    let problems = std::mem::take(&mut contents.problems);
    contents.add_json("problems.json", &problems);
    Ok(contents)
}

fn add_observed(contents: &mut Contents, observed: &Observed, profiles: &Profiles) {
    contents.add_json("observed.json", observed);
    contents.add("observed.txt", crate::text::observe::render(observed, profiles));
    let matches: Vec<_> = observed.pfs.iter().map(|pf| of_pf(pf, profiles)).collect();
    contents.add_json("profiles.json", &matches);
    contents.problems.extend(observed.problems.iter().map(|problem| json!(problem)));
}

/// A policy that cannot be used may be what the report is about, so it is no reason to stop.
fn add_plan(contents: &mut Contents, observed: &Observed, profiles: &Profiles, policies: &[input::TextFile]) {
    match input::desired(policies) {
        Ok(desired) => {
            let plan = plan(observed, &desired, profiles);
            contents.add_json("plan.json", &json::plan(&plan));
            contents.add("plan.txt", text::render(&plan));
        }
        Err(error) => contents.add("plan.txt", error.render()),
    }
}

/// Journal and last report: the JSON files of the state directory and of the folders directly in it.
fn add_state(contents: &mut Contents, state_dir: &Path) {
    let found: Vec<PathBuf> = match input::json_files(state_dir) {
        Ok(found) => found,
        Err(error) => {
            contents.problem("state", &error);
            return;
        }
    };
    for path in found {
        let name = path.strip_prefix(state_dir).unwrap_or(&path).display().to_string();
        match input::read_text(&path, LARGEST_STATE) {
            Ok(text) => contents.add(format!("state/{name}"), text),
            Err(error) => contents.problem("state", &error),
        }
    }
}
