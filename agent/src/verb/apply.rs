//! `apply`: plan, show the plan, carry it out, verify once.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portwright_core::desired::Desired;
use portwright_core::drive::{Progress, StepReport, chain};
use portwright_core::plan::text;
use portwright_core::{Observed, Plan};
use portwright_host::child::Launcher;
use portwright_host::node::HostNode;
use portwright_host::root::Root;

use crate::apply::carry::{Audience, Carried, Wish, carry_out};
use crate::apply::hints::Hinting;
use crate::apply::progress::Teller;
use crate::apply::report;
use crate::apply::stop::{Stop, Stoppable};
use crate::cli::{ApplyArgs, Format, Global};
use crate::error::CliError;
use crate::node::{Keeping, NodeError, OVSDB_WITHIN, SwitchPart, WholeNode, ovsdb};
use crate::output::{self, Exit};
use crate::pools::held;
use crate::{input, state};

/// Runs the verb.
pub fn run(global: &Global, arguments: &ApplyArgs) -> Result<Exit, CliError> {
    // What is wrong with files is said before anything of the node is touched.
    let mut desired = input::desired(&input::read_policies(&arguments.policies.files)?)?;
    desired.allow_disruption = arguments.allow_disruption;
    apply(global, &desired, &BTreeSet::new(), arguments.timeout)
}

/// Plans, shows, applies and verifies once. `known_as`: addresses that the cluster knows the node by.
pub(super) fn apply(
    global: &Global,
    desired: &Desired,
    known_as: &BTreeSet<IpAddr>,
    timeout: Option<u64>,
) -> Result<Exit, CliError> {
    let profiles = input::profiles(global.profiles.as_deref())?;
    let node =
        HostNode::open(Root::new(&global.root), &global.state_dir, profiles.clone(), Launcher::default());
    let within = timeout.map_or(OVSDB_WITHIN, Duration::from_secs);
    let switch = SwitchPart::new(ovsdb(global), within, &global.state_dir, Keeping::Yes);
    let (node, switch) = (node.map_err(CliError::of_host)?, switch.map_err(CliError::of_ovs)?);
    let (pods, known_as) = (held::supplement(global), known_as.clone());
    let supplement = Arc::new(move |observed: &mut Observed| {
        pods(observed);
        observed.management.node_addresses.extend(known_as.iter().copied());
    });
    let node = WholeNode::new(node, switch, supplement);
    let node = Hinting::new(node, NodeError::hint);
    let stop = Stop::on_signals(timeout).map_err(|source| CliError::Signals { source })?;
    let mut node = Stoppable::new(node, stop);
    let wish = Wish { desired, profiles: &profiles };
    let mut operator = Operator { format: global.output, teller: None };
    let carried = carry_out(&mut node, &wish, &mut operator)?;
    operator.finish();
    keep(&mut node.node.node.host, &carried, &global.state_dir);
    let report = &carried.report;
    let as_json = report::to_json(&carried.first, report);
    output::print(global.output, &as_json, || report::to_text(report))?;
    for hint in node.node.hints() {
        output::stderr(&format!("hint: {hint}\n"));
    }
    Ok(report::exit(report))
}

/// Keeps the last good state of the PFs that were verified, and the report. The run is over: that something cannot be kept
/// is said, and is no failure of the run.
fn keep(node: &mut HostNode, carried: &Carried, state_dir: &Path) {
    if let Err(error) = node.remember(&carried.last_seen, carried.verified()) {
        output::stderr(&format!("warning: the last good state is not kept: {}\n", chain(&error)));
    }
    if !carried.report.steps.is_empty() {
        state::keep_report(state_dir, &report::to_json(&carried.first, &carried.report));
    }
}

/// Whoever typed the command.
#[derive(Debug)]
struct Operator {
    format: Format,
    teller: Option<Teller>,
}

impl Operator {
    fn finish(&mut self) {
        if let Some(teller) = self.teller.take() {
            teller.finish();
        }
    }
}

impl Audience for Operator {
    fn planned(&mut self, plan: &Plan) -> Result<(), CliError> {
        match self.format {
            Format::Text => output::stdout(&format!("{}\n\n", text::render(plan))),
            // In these the plan is a part of the one document that is printed at the end.
            Format::Json | Format::Yaml => Ok(()),
        }
    }

    fn progress(&mut self, steps: usize, progress: &Progress<'_>) {
        self.teller.get_or_insert_with(|| Teller::new(steps)).tell(progress);
    }

    fn unverified(&mut self, steps: &[StepReport]) {
        self.finish();
        output::stderr(&report::steps_to_text(steps));
    }
}
