//! `observe`: what is on this node.

use std::path::Path;

use portwright_core::Observed;
use portwright_host::inventory::Observer;
use portwright_host::root::Root;

use crate::cli::Global;
use crate::error::CliError;
use crate::node::{Keeping, OVSDB_WITHIN, SwitchPart, ovsdb};
use crate::output::{self, Exit};
use crate::pools::held;
use crate::{input, text};

/// Runs the verb.
pub fn run(global: &Global) -> Result<Exit, CliError> {
    let profiles = input::profiles(global.profiles.as_deref())?;
    let observed = observe(global)?;
    output::print(global.output, &observed, || text::observe::render(&observed, &profiles))?;
    Ok(Exit::Ok)
}

/// Looks at the node below the root that was given; the running kernel is asked only if that is `/`,
/// Open vSwitch if that is `/` or the operator says where it is.
pub fn observe(global: &Global) -> Result<Observed, CliError> {
    let observed = observer(global).observe();
    let mut observed = observed.map_err(|source| CliError::Observe { source: Box::new(source) })?;
    let switch = SwitchPart::new(ovsdb(global), OVSDB_WITHIN, &global.state_dir, Keeping::No);
    let mut switch = switch.map_err(CliError::of_ovs)?;
    switch.supplement(&mut observed);
    if let Some(ovs) = &mut observed.ovs {
        switch.count(ovs);
    }
    held::add_pods(&Root::new(&global.root), &held::kubelet_dir(global), &mut observed);
    Ok(observed)
}

/// What looks at the node.
pub fn observer(global: &Global) -> Observer {
    let live = global.root == Path::new("/");
    Observer::new(Root::new(&global.root), live, &global.state_dir)
}
