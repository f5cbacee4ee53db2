//! `apply` over the simulated node: what is carried out, what is left alone, what the report says.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests fail by panicking and read the repository"
)]

mod common;

use common::schema::differences;
use common::{compare, folder, repository};
use portwright::apply::carry::{Audience, Carried, Wish, carry_out};
use portwright::apply::hints::Hinting;
use portwright::apply::report;
use portwright::apply::stop::{Stop, Stoppable};
use portwright::error::CliError;
use portwright::output::Exit;
use portwright_core::desired::{Desired, Mode};
use portwright_core::drive::{Node, Outcome, Progress, RunError, StepReport};
use portwright_core::sim::SimNode;
use portwright_core::{Change, Observed, Plan, Reason, Step};

/// Notes what it is told.
#[derive(Default)]
struct Notes {
    planned: usize,
    ended: usize,
    unverified: usize,
}

impl Audience for Notes {
    fn planned(&mut self, plan: &Plan) -> Result<(), CliError> {
        self.planned += plan.steps.len();
        Ok(())
    }

    fn progress(&mut self, _: usize, progress: &Progress<'_>) {
        if matches!(progress, Progress::Ended(..)) {
            self.ended += 1;
        }
    }

    fn unverified(&mut self, steps: &[StepReport]) {
        self.unverified += steps.len();
    }
}

fn node() -> SimNode {
    let text = std::fs::read_to_string(folder().join("fixtures/node.json")).unwrap();
    let observed: Observed = serde_json::from_str(&text).unwrap();
    SimNode::from_observed(&observed)
}

fn desired(policy: &str) -> Desired {
    let text = std::fs::read_to_string(folder().join("fixtures").join(policy)).unwrap();
    let documents = portwright_api::load([(policy, text.as_str())]).unwrap();
    Desired { documents, ..Desired::default() }
}

fn apply<N: Node>(node: &mut N, desired: &Desired) -> (Carried, Notes) {
    let profiles = portwright::builtin::profiles().unwrap();
    let mut notes = Notes::default();
    let carried = carry_out(node, &Wish { desired, profiles: &profiles }, &mut notes).unwrap();
    (carried, notes)
}

#[test]
fn a_bare_nic_converges_and_a_second_apply_changes_nothing() {
    let mut node = node();
    let wish = desired("workers.yaml");
    let (carried, notes) = apply(&mut node, &wish);
    assert_eq!(report::exit(&carried.report), Exit::Ok, "{:#?}", carried.report.after);
    assert_eq!(notes.ended, carried.report.steps.len());
    assert_eq!(notes.planned, carried.first.steps.len());
    assert!(node.violations().is_empty(), "{:?}", node.violations());
    compare(&folder().join("fixtures/workers.report.txt"), &report::to_text(&carried.report));

    let (again, notes) = apply(&mut node, &wish);
    assert_eq!(report::exit(&again.report), Exit::Ok);
    assert_eq!((again.report.steps.len(), notes.ended), (0, 0));
    assert_eq!(report::to_text(&again.report), "Nothing was changed. Converged.\n");
}

#[test]
fn a_policy_that_only_plans_ends_as_plan_does_and_touches_nothing() {
    let mut node = node();
    let before = node.observe().unwrap();
    let mut wish = desired("workers.yaml");
    for document in &mut wish.documents {
        document.mode = Mode::Plan;
    }
    let (carried, notes) = apply(&mut node, &wish);
    assert_eq!(report::exit(&carried.report), Exit::Differs);
    assert!(!carried.first.steps.is_empty());
    assert_eq!((carried.report.steps.len(), notes.ended, node.writes), (0, 0, 0));
    assert_eq!(node.observe().unwrap(), before);
}

#[test]
fn what_is_blocked_or_unknown_decides_the_exit_code() {
    let (blocked, _) = apply(&mut node(), &desired("resize.yaml"));
    assert_eq!(report::exit(&blocked.report), Exit::Differs);
    let reasons: Vec<Reason> = blocked.report.after.blocked.iter().map(|blocked| blocked.reason).collect();
    assert!(reasons.contains(&Reason::VfInUse) && reasons.contains(&Reason::PfMissing), "{reasons:?}");
}

#[test]
fn the_report_is_documented_json() {
    let schema = std::fs::read_to_string(repository().join("docs/schema/apply.json")).unwrap();
    let schema = serde_json::from_str(&schema).unwrap();
    for policy in ["workers.yaml", "resize.yaml"] {
        let (carried, _) = apply(&mut node(), &desired(policy));
        let found = differences(&schema, &report::to_json(&carried.first, &carried.report));
        assert!(found.is_empty(), "{policy}: {found:#?}");
    }
}

/// Breaks a simulated node.
struct Broken {
    node: SimNode,
    /// Fails steps of this action.
    fails: &'static str,
    /// Says "done" to steps of this action and does nothing.
    ignores: &'static str,
    /// Cannot be observed any more after so many times.
    sees: usize,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot write `sriov_numvfs`")]
struct Refused(#[source] std::io::Error);

impl Node for Broken {
    type Error = Refused;

    fn observe(&mut self) -> Result<Observed, Refused> {
        self.sees = self.sees.checked_sub(1).ok_or_else(refused)?;
        Ok(self.node.observe().unwrap())
    }

    fn run(&mut self, step: &Step) -> Result<(), RunError<Refused>> {
        if step.change.action() == self.fails {
            return Err(RunError::Failed(refused()));
        }
        if step.change.action() != self.ignores {
            self.node.run(step).unwrap();
        }
        Ok(())
    }
}

fn refused() -> Refused {
    Refused(std::io::Error::from_raw_os_error(28))
}

fn broken(fails: &'static str, ignores: &'static str, sees: usize) -> Broken {
    Broken { node: node(), fails, ignores, sees }
}

#[test]
fn a_failure_names_its_cause_once_and_skips_the_rest_of_the_port() {
    let (carried, _) = apply(&mut broken("set-num-vfs", "", 2), &desired("workers.yaml"));
    assert_eq!(report::exit(&carried.report), Exit::Differs);
    let text = report::to_text(&carried.report);
    assert!(
        text.contains("failed: cannot write `sriov_numvfs`: No space left on device (os error 28)\n"),
        "{text}"
    );
    assert!(text.contains("skipped: `0000:3b:00.0: set VFs 0 → 7` failed before"), "{text}");
    assert!(text.contains(" 1 failed, ") && text.ends_with(" Not converged.\n"), "{text}");
}

#[test]
fn what_was_done_and_does_not_show_is_not_read_back() {
    let (carried, _) = apply(&mut broken("", "set-vf-trust", 2), &desired("workers.yaml"));
    let blocked: Vec<_> =
        carried.report.after.blocked.iter().filter(|blocked| blocked.reason == Reason::NotReadBack).collect();
    assert_eq!(blocked.len(), 3, "{:#?}", carried.report.after);
    assert!(blocked[0].message.contains("`set trust`"), "{blocked:#?}");
}

#[test]
fn a_run_that_cannot_be_verified_says_what_was_done() {
    let profiles = portwright::builtin::profiles().unwrap();
    let mut notes = Notes::default();
    let wish = desired("workers.yaml");
    let wish = Wish { desired: &wish, profiles: &profiles };
    let error = carry_out(&mut broken("", "", 1), &wish, &mut notes).unwrap_err();
    assert!(matches!(error, CliError::Verify { .. }), "{error}");
    assert!(notes.unverified > 0);
}

/// Stops after the first step that makes VFs.
struct StopsAfterVfs {
    node: SimNode,
    stopped: bool,
}

impl Node for StopsAfterVfs {
    type Error = portwright_core::sim::SimError;

    fn observe(&mut self) -> Result<Observed, Self::Error> {
        self.node.observe()
    }

    fn run(&mut self, step: &Step) -> Result<(), RunError<Self::Error>> {
        if self.stopped {
            return Err(RunError::Stopped { because: "stopped by SIGINT".to_owned() });
        }
        self.stopped = matches!(step.change, Change::SetNumVfs { .. });
        self.node.run(step)
    }
}

#[test]
fn a_stop_leaves_the_rest_untried_and_the_next_apply_converges() {
    let wish = desired("workers.yaml");
    let mut node = StopsAfterVfs { node: node(), stopped: false };
    let (carried, _) = apply(&mut node, &wish);
    let skipped = carried
        .report
        .steps
        .iter()
        .filter(|step| step.outcome == Outcome::Skipped { because: "stopped by SIGINT".to_owned() });
    assert!(skipped.count() > 3);
    assert_eq!(report::exit(&carried.report), Exit::Differs);
    let mut rest = Stoppable::new(node.node, Stop::default());
    let (rest, _) = apply(&mut rest, &wish);
    assert_eq!(report::exit(&rest.report), Exit::Ok, "{:#?}", rest.report);
}

#[test]
fn what_to_do_about_a_failure_is_told_once() {
    let hint_of =
        |refused: &Refused| refused.0.raw_os_error().map(|errno| format!("errno {errno} means no space"));
    let mut node = Hinting::new(broken("set-vf-trust", "", 2), hint_of);
    apply(&mut node, &desired("workers.yaml"));
    assert_eq!(node.hints(), ["errno 28 means no space"]);
}

#[test]
fn only_ports_on_which_nothing_is_left_count_as_verified() {
    let (converged, _) = apply(&mut node(), &desired("workers.yaml"));
    let verified: Vec<String> = converged.verified().iter().map(ToString::to_string).collect();
    assert_eq!(verified, ["0000:3b:00.0"]);
    for policy in ["resize.yaml", "unknown.yaml"] {
        let (left, _) = apply(&mut node(), &desired(policy));
        assert!(left.verified().is_empty(), "{policy}: {:?}", left.verified());
    }
}
