//! From what is wanted to a report: plan, show the plan, carry out what the policies permit, plan again.

use std::collections::BTreeSet;

use portwright_core::desired::Desired;
use portwright_core::drive::{self, Node, Progress, Report, StepReport};
use portwright_core::{Object, Observed, PciAddress, Plan, Profiles, plan};

use super::permit::permitted;
use super::report;
use crate::error::CliError;

/// What is wanted, and what is known of NICs.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The policies.
    pub desired: &'a Desired,
    /// The hardware profiles.
    pub profiles: &'a Profiles,
}

/// Who is told what while it goes on.
pub trait Audience {
    /// The plan, before anything happens. An error keeps it from happening.
    fn planned(&mut self, plan: &Plan) -> Result<(), CliError>;
    /// A run of so many steps begins, goes on, verifies.
    fn progress(&mut self, steps: usize, progress: &Progress<'_>);
    /// The run is over, and the node could not be observed again: what was done.
    fn unverified(&mut self, steps: &[StepReport]);
}

/// What came of it.
#[derive(Debug)]
pub struct Carried {
    /// The plan that was made first.
    pub first: Plan,
    /// What was done and what is left.
    pub report: Report,
    /// The node as it was seen last.
    pub last_seen: Observed,
}

impl Carried {
    /// The PFs that were looked at and on which nothing is left to do, in the way or unknown.
    pub fn verified(&self) -> BTreeSet<PciAddress> {
        verified(&self.report.after)
    }
}

/// The PFs that a plan looked at and on which nothing is left to do, in the way or unknown.
pub fn verified(plan: &Plan) -> BTreeSet<PciAddress> {
    let left = plan.steps.iter().map(|step| &step.object);
    let left = left.chain(plan.blocked.iter().map(|blocked| &blocked.object));
    let left: BTreeSet<PciAddress> =
        left.chain(plan.unknown.iter().map(|unknown| &unknown.object)).filter_map(Object::pf).collect();
    let looked_at = plan.subjects.iter().filter_map(|subject| subject.object.pf());
    looked_at.filter(|pf| !left.contains(pf)).collect()
}

/// Plans, applies and verifies once.
pub fn carry_out<N: Node>(
    node: &mut N,
    wish: &Wish<'_>,
    audience: &mut dyn Audience,
) -> Result<Carried, CliError> {
    let observed = node.observe().map_err(|source| CliError::Observe { source: Box::new(source) })?;
    let first = plan(&observed, wish.desired, wish.profiles);
    audience.planned(&first)?;
    let due = permitted(&first, wish.desired);
    if due.steps.is_empty() {
        let report = Report { steps: Vec::new(), after: first.clone() };
        return Ok(Carried { first, report, last_seen: observed });
    }
    let total = due.steps.len();
    let steps = drive::run_steps(node, &due, &mut |progress| audience.progress(total, &progress));
    audience.progress(total, &Progress::Verifies);
    let last_seen = match node.observe() {
        Ok(observed) => observed,
        Err(source) => {
            audience.unverified(&steps);
            return Err(CliError::Verify { source: Box::new(source) });
        }
    };
    let after = plan(&last_seen, wish.desired, wish.profiles);
    let mut report = Report { steps, after };
    report::name_what_was_not_read_back(&mut report);
    Ok(Carried { first, report, last_seen })
}
