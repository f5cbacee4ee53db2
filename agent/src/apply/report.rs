//! What an apply did and what is left: as a table, as JSON, as an exit code.

use portwright_core::drive::{Outcome, Report, StepReport};
use portwright_core::plan::{json, text};
use portwright_core::range::IndexSet;
use portwright_core::{Blocked, Object, Plan, Reason};
use serde_json::{Value, json};

use super::progress::outcome;
use crate::output::Exit;
use crate::text::table::table;

/// Adds what was done without an error and is wanted all the same by the plan made afterwards.
pub fn name_what_was_not_read_back(report: &mut Report) {
    let done = report.steps.iter().filter(|step| step.outcome == Outcome::Done).map(|step| &step.step);
    let again = done.filter(|step| {
        let same = |left: &&portwright_core::Step| {
            left.object == step.object && left.change.action() == step.change.action()
        };
        report.after.steps.iter().any(|left| same(&left))
    });
    let obstacles: Vec<Blocked> = again
        .map(|step| {
            Blocked::new(
                step.object.clone(),
                Reason::NotReadBack,
                format!("`{}` was done without an error, and the node does not show it", step.change.words()),
                match step.object.bridge() {
                    Some(_) => {
                        "look at the log of ovs-vswitchd, and for another program that manages this bridge"
                    }
                    None => "look at the kernel's log, and for another program that manages this port",
                },
            )
        })
        .collect();
    report.after.blocked.extend(obstacles);
}

/// 2 if what is left cannot be told, 1 if anything is left or in the way, else 0.
pub fn exit(report: &Report) -> Exit {
    if !report.after.unknown.is_empty() {
        Exit::CouldNotTell
    } else if report.converged() {
        Exit::Ok
    } else {
        Exit::Differs
    }
}

/// `{plan, steps: [{…, outcome, why}], after, converged}`.
pub fn to_json(plan: &Plan, report: &Report) -> Value {
    let steps: Vec<Value> = report.steps.iter().map(step_json).collect();
    json!({
        "plan": json::plan(plan),
        "steps": steps,
        "after": json::plan(&report.after),
        "converged": exit(report) == Exit::Ok,
    })
}

fn step_json(report: &StepReport) -> Value {
    let mut step = json::step(&report.step);
    let (outcome, why) = match &report.outcome {
        Outcome::Done => ("done", Value::Null),
        Outcome::Failed { why } => ("failed", json!(why)),
        Outcome::Skipped { because } | Outcome::Stale { found: because } => ("skipped", json!(because)),
    };
    if let Some(fields) = step.as_object_mut() {
        fields.insert("outcome".to_owned(), json!(outcome));
        fields.insert("why".to_owned(), why);
    }
    step
}

/// The report as an operator reads it.
pub fn to_text(report: &Report) -> String {
    let mut text = steps_to_text(&report.steps);
    // Without a run what is left is the plan itself, which has been shown.
    if !report.steps.is_empty() && !report.after.in_sync() {
        text.push_str("\nwhat is left\n");
        text.push_str(&text::render(&report.after));
        text.push_str("\n\n");
    }
    text.push_str(&summary(report));
    text
}

/// The steps as a table.
pub fn steps_to_text(steps: &[StepReport]) -> String {
    table(&["OBJECT", "CHANGE", "FROM", "TO", "RESULT"], joined(steps).into_iter().map(Row::cells))
}

/// `7 steps: 6 done, 1 failed. Not converged.`
fn summary(report: &Report) -> String {
    let count =
        |wanted: fn(&Outcome) -> bool| report.steps.iter().filter(|step| wanted(&step.outcome)).count();
    let done = count(|outcome| matches!(outcome, Outcome::Done));
    let failed = count(|outcome| matches!(outcome, Outcome::Failed { .. }));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped { .. } | Outcome::Stale { .. }));
    let steps = report.steps.len();
    let mut text = match steps {
        0 => "Nothing was changed".to_owned(),
        1 => format!("1 step: {done} done"),
        _ => format!("{steps} steps: {done} done"),
    };
    for (number, word) in [(failed, "failed"), (skipped, "skipped")] {
        if number > 0 {
            text.push_str(&format!(", {number} {word}"));
        }
    }
    text.push_str(match exit(report) {
        Exit::Ok => ". Converged.\n",
        Exit::Differs => ". Not converged.\n",
        Exit::CouldNotTell => ". Whether it converged cannot be told.\n",
    });
    text
}

/// Steps that differ in the VF only, in one line.
struct Row {
    object: Object,
    vfs: Vec<u16>,
    words: &'static str,
    from: String,
    to: String,
    result: String,
}

impl Row {
    fn of(report: &StepReport) -> Row {
        let (from, to) = report.step.change.texts();
        let (object, vfs) = match &report.step.object {
            Object::Vf(vf) => (Object::Pci(vf.pf), vec![vf.index]),
            other @ (Object::Node | Object::Policy(..) | Object::Pci(_) | Object::Named(_)) => {
                (other.clone(), Vec::new())
            }
        };
        let words = report.step.change.words();
        Row { object, vfs, words, from, to, result: outcome(report) }
    }

    fn takes(&self, other: &Row) -> bool {
        self.object == other.object
            && self.vfs.is_empty() == other.vfs.is_empty()
            && self.words == other.words
            && self.from == other.from
            && self.to == other.to
            && self.result == other.result
    }

    fn cells(self) -> Vec<String> {
        let object = match IndexSet::from_indexes(self.vfs.iter().copied()) {
            None => self.object.to_string(),
            Some(set) if self.vfs.len() == 1 => format!("{} VF {set}", self.object),
            Some(set) => format!("{} VFs {set}", self.object),
        };
        vec![object, self.words.to_owned(), self.from, self.to, self.result]
    }
}

fn joined(steps: &[StepReport]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for row in steps.iter().map(Row::of) {
        match rows.iter_mut().find(|earlier| !row.vfs.is_empty() && earlier.takes(&row)) {
            Some(earlier) => earlier.vfs.extend(row.vfs),
            None => rows.push(row),
        }
    }
    rows
}
