//! How a plan is carried out and verified, over any node: the real one, or the simulated one in tests.
//!
//! A failure stops the PF (or bridge) that it happened on, not the node. After the last step the node is observed and
//! planned again; an empty plan is the only definition of "done".

use crate::desired::Desired;
use crate::id::Object;
use crate::observed::Observed;
use crate::plan::{Plan, plan};
use crate::profile::Profiles;
use crate::step::{Change, Step};

/// A node: the only trait over the system. If `run` holds an interesting `if`, it belongs in [`plan`].
pub trait Node {
    /// Why something could not be observed or done.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Looks at the whole node.
    fn observe(&mut self) -> Result<Observed, Self::Error>;

    /// Carries out one step, after checking that its `from` still holds.
    fn run(&mut self, step: &Step) -> Result<(), RunError<Self::Error>>;

    /// Carries out steps that belong together ([`Step::joins`]): all or none, as far as the node can. One after the other
    /// unless the node has transactions.
    fn run_together(&mut self, steps: &[Step]) -> Result<(), RunError<Self::Error>> {
        steps.iter().try_for_each(|step| self.run(step))
    }
}

/// How a step did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum RunError<E: std::error::Error + 'static> {
    /// What the step expects is no longer there; the node is planned again.
    #[error("the node has changed since it was planned: {found}")]
    Stale {
        /// What was found instead.
        found: String,
    },
    /// Whoever watches over the run (a signal, a time limit) ended it before this step; nothing was tried.
    #[error("{because}")]
    Stopped {
        /// Because of what.
        because: String,
    },
    /// It was tried and failed.
    #[error("{0}")]
    Failed(#[source] E),
}

/// How one step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// Tried and failed: the whole chain of causes, once.
    Failed {
        /// The chain, joined by `: `.
        why: String,
    },
    /// Not tried.
    Skipped {
        /// Because of what.
        because: String,
    },
    /// Not tried, because the node was not as the plan expects it: it has to be planned again. That is nobody's failure.
    Stale {
        /// What was found instead.
        found: String,
    },
}

/// A step and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepReport {
    /// The step.
    pub step: Step,
    /// How it ended.
    pub outcome: Outcome,
}

/// What an apply did, and what is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The steps in the order of the plan.
    pub steps: Vec<StepReport>,
    /// The plan made afterwards; without steps and obstacles the node has converged.
    pub after: Plan,
}

impl Report {
    /// Whether every step was done and nothing is left to do or in the way.
    pub fn converged(&self) -> bool {
        self.after.steps.is_empty() && self.after.blocked.is_empty()
    }
}

/// What is told while a plan is carried out.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A step begins; position from 1 and number of steps.
    Begins(usize, usize, &'a Step),
    /// A step has ended.
    Ended(usize, usize, &'a StepReport),
    /// The node is observed and planned again.
    Verifies,
}

/// Runs the steps of a plan in order. A failure skips the later steps of the same PF; a failure on the node itself (the
/// udev rule) skips all. So does a step that the node has outrun.
pub fn run_steps<N: Node>(node: &mut N, plan: &Plan, tell: &mut dyn FnMut(Progress<'_>)) -> Vec<StepReport> {
    let mut reports: Vec<StepReport> = Vec::with_capacity(plan.steps.len());
    let total = plan.steps.len();
    for group in plan.steps.chunk_by(|earlier, step| step.joins(earlier)) {
        let Some(first) = group.first() else { continue };
        let position = reports.len() + 1;
        let hindered =
            reports.iter().find(|earlier| hinders(earlier, first)).filter(|_| !puts_back(&reports, first));
        let outcome = match hindered {
            Some(earlier) => Outcome::Skipped { because: because(earlier) },
            None => {
                tell(Progress::Begins(position, total, first));
                let ran = if group.len() == 1 { node.run(first) } else { node.run_together(group) };
                match ran {
                    Ok(()) => Outcome::Done,
                    Err(RunError::Stopped { because }) => Outcome::Skipped { because },
                    Err(error @ RunError::Stale { .. }) => Outcome::Stale { found: chain(&error) },
                    Err(error @ RunError::Failed(_)) => Outcome::Failed { why: chain(&error) },
                }
            }
        };
        for (position, step) in (position..).zip(group) {
            let report = StepReport { step: step.clone(), outcome: outcome.clone() };
            tell(Progress::Ended(position, total, &report));
            reports.push(report);
        }
    }
    reports
}

/// Plans, applies and verifies once.
pub fn apply<N: Node>(
    node: &mut N,
    desired: &Desired,
    profiles: &Profiles,
    first: &Plan,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<Report, N::Error> {
    let steps = run_steps(node, first, tell);
    tell(Progress::Verifies);
    let after = plan(&node.observe()?, desired, profiles);
    Ok(Report { steps, after })
}

/// Whether an earlier step's end keeps a later one from being tried.
fn hinders(earlier: &StepReport, step: &Step) -> bool {
    let failed = matches!(earlier.outcome, Outcome::Failed { .. } | Outcome::Stale { .. });
    // What is done for the node is done for the sake of its PFs; a bridge does not need it.
    let for_all = earlier.step.object == Object::Node && step.object.bridge().is_none();
    failed && (for_all || earlier.step.object.goes_with(&step.object))
}

/// Whether a step puts back what an earlier one of the same run changed for a while: autoprobe around the making of VFs.
/// That is owed even after a failure in between; VFs that somebody else makes would be bound by no driver, silently.
fn puts_back(reports: &[StepReport], step: &Step) -> bool {
    let Change::SetAutoprobe { from: now, to: before } = step.change else { return false };
    reports.iter().any(|earlier| {
        earlier.step.object == step.object
            && earlier.outcome == Outcome::Done
            && earlier.step.change == Change::SetAutoprobe { from: before, to: now }
    })
}

fn because(earlier: &StepReport) -> String {
    let how =
        if matches!(earlier.outcome, Outcome::Stale { .. }) { "was out of date" } else { "failed before" };
    format!("`{}` {how}", earlier.step)
}

/// The chain of causes, each once, joined by `: `.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut last = text.clone();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if words != last {
            text.push_str(": ");
            text.push_str(&words);
        }
        last = words;
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::Disruption;

    /// Fails when the number of VFs is to be set; finds another number in place of that if it is told to.
    struct NoVfs(Vec<&'static str>, bool);

    impl Node for NoVfs {
        type Error = std::io::Error;

        fn observe(&mut self) -> Result<Observed, std::io::Error> {
            Ok(Observed::default())
        }

        fn run(&mut self, step: &Step) -> Result<(), RunError<std::io::Error>> {
            self.0.push(step.change.action());
            match step.change.action() {
                "set-num-vfs" if self.1 => Err(RunError::Stale { found: "2 VFs".to_owned() }),
                "set-num-vfs" => Err(RunError::Failed(std::io::Error::other("no space left"))),
                _ => Ok(()),
            }
        }
    }

    #[test]
    fn autoprobe_is_put_back_after_a_failure_and_nothing_else_is_tried() {
        let step = |change| Step {
            object: "0000:01:00.0".parse().unwrap(),
            change,
            disruption: Disruption::None,
            force: false,
        };
        let steps = vec![
            step(Change::SetAutoprobe { from: true, to: false }),
            step(Change::SetNumVfs { from: 0, to: 4 }),
            step(Change::SetAutoprobe { from: false, to: true }),
            step(Change::SetPfMtu { from: 9000, to: 1500 }),
        ];
        let plan = Plan { steps, ..Plan::default() };
        for stale in [false, true] {
            let mut node = NoVfs(Vec::new(), stale);
            let reports = run_steps(&mut node, &plan, &mut |_| {});
            assert_eq!(node.0, ["set-autoprobe", "set-num-vfs", "set-autoprobe"]);
            match &reports[1].outcome {
                Outcome::Failed { why } => assert!(!stale && why == "no space left", "{why}"),
                Outcome::Stale { found } => assert!(stale && found.ends_with(": 2 VFs"), "{found}"),
                other @ (Outcome::Done | Outcome::Skipped { .. }) => panic!("{other:?}"),
            }
            let Outcome::Skipped { because } = &reports[3].outcome else { panic!("{reports:?}") };
            assert_eq!(because.ends_with("was out of date"), stale, "{because}");
        }
    }
}
