//! `plan`: what would be done and what is in the way. Changes nothing.

use portwright_core::plan::{json, text};
use portwright_core::{Plan, plan};

use super::observe::observe;
use crate::cli::{Global, PlanArgs};
use crate::error::CliError;
use crate::input;
use crate::output::{self, Exit};

/// Runs the verb.
pub fn run(global: &Global, arguments: &PlanArgs) -> Result<Exit, CliError> {
    // What is wrong with files is said before the node is looked at.
    let profiles = input::profiles(global.profiles.as_deref())?;
    let desired = input::desired(&input::read_policies(&arguments.policies.files)?)?;
    let observed = match &arguments.observed {
        Some(path) => input::read_observed(path)?,
        None => observe(global)?,
    };
    let plan = plan(&observed, &desired, &profiles);
    output::print(global.output, &json::plan(&plan), || {
        format!("{} Nothing was changed.\n", text::render(&plan))
    })?;
    Ok(exit(&plan))
}

/// 2 if a wish depends on something nobody could read, 1 if there is anything to do or in the way, else 0.
pub fn exit(plan: &Plan) -> Exit {
    if !plan.unknown.is_empty() {
        Exit::CouldNotTell
    } else if plan.in_sync() {
        Exit::Ok
    } else {
        Exit::Differs
    }
}
