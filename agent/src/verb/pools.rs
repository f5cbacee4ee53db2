//! `pools`: what kubelet would be given, and why.

use portwright_core::management::management_path;
use portwright_core::pools::explain::explain;
use portwright_core::pools::{assign, candidates};
use portwright_device_plugin::{Witness, allocations};
use portwright_host::root::Root;

use super::observe::observe;
use crate::cli::Global;
use crate::error::CliError;
use crate::input;
use crate::output::{self, Exit};
use crate::pools::{PoolsArgs, PoolsError, Wanted, held, view};

/// Most devices that an error names.
const NAMED: usize = 20;

/// Runs the verb.
pub fn run(global: &Global, arguments: &PoolsArgs) -> Result<Exit, CliError> {
    let wanted = Wanted::read(&arguments.sources)?;
    // What pods have stays where it is; a node described in a file is taken as it is described.
    let (observed, held) = match &arguments.observed {
        Some(path) => (input::read_observed(path)?, Default::default()),
        None => {
            let root = Root::new(&global.root);
            let allocations =
                allocations::read_blocking(&root, &held::kubelet_dir(global), &Witness::default());
            (observe(global)?, allocations.by_device())
        }
    };
    let specs = wanted.specs(&observed)?;
    let candidates = candidates(&observed, &management_path(&observed));
    if let Some(device) = &arguments.explain {
        let Some(candidate) = candidates.iter().find(|candidate| candidate.id == *device) else {
            let there = candidates.iter().map(|candidate| candidate.id.clone()).take(NAMED).collect();
            return Err(PoolsError::NoDevice { device: device.clone(), there }.into());
        };
        let explanation = explain(candidate, &specs, &held);
        output::print(global.output, &explanation, || view::explanation(&explanation))?;
        return Ok(Exit::Ok);
    }
    let document = view::document(&assign(&candidates, &specs, &held), &wanted.warnings());
    output::print(global.output, &document, || view::render(&document))?;
    Ok(Exit::Ok)
}
