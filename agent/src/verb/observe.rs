//! `observe`: what is on this node.

use portwright_core::Observed;

use crate::cli::Global;
use crate::error::CliError;
use crate::output::{self, Exit};
use crate::{input, text};

/// Runs the verb.
pub fn run(global: &Global) -> Result<Exit, CliError> {
    let profiles = input::profiles(global.profiles.as_deref())?;
    let observed = observe(global)?;
    output::print(global.output, &observed, || text::observe::render(&observed, &profiles))?;
    Ok(Exit::Ok)
}

/// Looks at the node.
pub fn observe(_global: &Global) -> Result<Observed, CliError> {
    Ok(Observed::default())
}
