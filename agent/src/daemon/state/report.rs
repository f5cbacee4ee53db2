//! The plan and the last run, as `plan -o json` and `apply -o json` print them, as far as there is room.

use portwright_api::state::{
    BlockedState, PlanState, PlannedStep, Problem, ReportedStep, Round, RunState, StepOutcome, UnknownState,
    Waiting, limit,
};
use portwright_core::drive::{Outcome, StepReport};
use portwright_core::{Object, Step};

use super::Scene;
use super::room::{Room, number};
use crate::daemon::facts::{Cause, Run};

/// What is due or waits, and what is in the way.
pub(super) fn plan(scene: &mut Scene<'_>) -> PlanState {
    let facts = scene.facts;
    let room = &mut scene.room;
    let steps = room.fit("plan.steps", limit::STEPS, facts.plan.steps.iter().collect());
    let blocked = room.fit("plan.blocked", limit::OBSTACLES, facts.plan.blocked.iter().collect());
    let unknown = room.fit("plan.unknown", limit::OBSTACLES, facts.plan.unknown.iter().collect());
    let waiting = room.fit("plan.waiting", limit::WAITING, facts.waiting.iter().collect());
    PlanState {
        steps: steps.into_iter().map(|step| planned(room, step)).collect(),
        blocked: blocked
            .into_iter()
            .map(|blocked| BlockedState {
                object: room.text(&blocked.object.to_string()),
                reason: blocked.reason.to_string(),
                message: room.text(&blocked.message),
                hint: room.text(&blocked.hint),
            })
            .collect(),
        unknown: unknown
            .into_iter()
            .map(|unknown| UnknownState {
                object: unknown.object.to_string(),
                what: room.text(&unknown.what),
            })
            .collect(),
        waiting: waiting
            .into_iter()
            .map(|(object, why)| Waiting { object: object.to_string(), for_: room.text(why) })
            .collect(),
    }
}

fn planned(room: &Room, step: &Step) -> PlannedStep {
    let (from, to) = step.change.values();
    let disruption = serde_json::to_value(step.disruption).ok();
    PlannedStep {
        object: step.object.to_string(),
        action: step.change.action().to_owned(),
        from: room.value(from),
        to: room.value(to),
        disruption: disruption.as_ref().and_then(|word| word.as_str()).unwrap_or_default().to_owned(),
    }
}

/// The last run.
pub(super) fn run(scene: &mut Scene<'_>) -> Option<RunState> {
    let run: &Run = scene.facts.last_run.as_deref()?;
    let count =
        |wanted: StepOutcome| number(run.steps.iter().filter(|report| outcome(report).0 == wanted).count());
    let room = &mut scene.room;
    // Those that failed are of interest, then those that were not tried.
    let steps =
        room.fit_by("lastRun.steps", limit::STEPS, run.steps.iter().collect(), |report| outcome(report).0);
    Some(RunState {
        at: time(run.at),
        causes: causes(room, run.causes.iter()),
        done: count(StepOutcome::Done),
        failed: count(StepOutcome::Failed),
        skipped: count(StepOutcome::Skipped),
        steps: steps.into_iter().map(|report| reported(room, report)).collect(),
    })
}

fn reported(room: &Room, report: &StepReport) -> ReportedStep {
    let PlannedStep { object, action, from, to, disruption: _ } = planned(room, &report.step);
    let (outcome, why) = outcome(report);
    ReportedStep { object, action, from, to, outcome, why: why.map(|why| room.text(why)) }
}

fn outcome(report: &StepReport) -> (StepOutcome, Option<&str>) {
    match &report.outcome {
        Outcome::Done => (StepOutcome::Done, None),
        Outcome::Failed { why } => (StepOutcome::Failed, Some(why)),
        Outcome::Skipped { because } | Outcome::Stale { found: because } => {
            (StepOutcome::Skipped, Some(because))
        }
    }
}

/// The last round; none before the first.
pub(super) fn round(scene: &mut Scene<'_>) -> Option<Round> {
    let facts = scene.facts;
    (facts.sequence > 0).then(|| Round {
        sequence: u32::try_from(facts.sequence).unwrap_or(u32::MAX),
        at: time(facts.at),
        causes: causes(&mut scene.room, facts.causes.iter()),
    })
}

fn causes<'a>(room: &mut Room, causes: impl Iterator<Item = &'a Cause>) -> Vec<String> {
    room.fit("causes", limit::CAUSES, causes.map(ToString::to_string).collect())
}

/// What could not be read, and first of all that nobody is told of it.
pub(super) fn problems(scene: &mut Scene<'_>) -> Vec<Problem> {
    let facts = scene.facts;
    let room = &mut scene.room;
    let list = room.fit("problems", limit::PROBLEMS, facts.observed.problems.iter().collect());
    let problem = |problem: &portwright_core::observed::Problem| Problem {
        object: problem.object.to_string(),
        reason: room.text(&problem.reason),
    };
    let mut problems: Vec<Problem> = list.into_iter().map(problem).collect();
    if let Some(untold) = facts.untold.as_ref().filter(|untold| untold.outdated) {
        problems.truncate(limit::PROBLEMS.saturating_sub(1));
        problems.insert(0, Problem { object: Object::Node.to_string(), reason: room.text(&untold.why) });
    }
    problems
}

/// Unix seconds as RFC 3339.
pub(super) fn time(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    k8s_openapi::jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}
