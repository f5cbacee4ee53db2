//! A plan as an operator reads it: one heading per PF, one line per change, VFs that get the same change in one line.

use super::{Plan, Subject};
use crate::blocked::Blocked;
use crate::id::Object;
use crate::ovs::{Part, Target};
use crate::range::IndexSet;
use crate::step::{Change, Disruption, Step};

/// Lines of one PF: words, from, to, remark.
struct Line {
    words: String,
    from: String,
    to: String,
    remark: &'static str,
}

/// The whole plan, ending in a summary without the sentence that says whether anything was changed.
pub fn render(plan: &Plan) -> String {
    let mut text = String::new();
    section(&mut text, plan, "node", "", &|object| *object == Object::Node);
    for subject in &plan.subjects {
        subject_section(&mut text, plan, subject);
    }
    let known = |object: &Object| {
        *object == Object::Node || plan.subjects.iter().any(|subject| belongs(object, &subject.object))
    };
    let mut others: Vec<&Object> =
        plan.blocked.iter().map(|blocked| &blocked.object).filter(|o| !known(o)).collect();
    others.sort();
    others.dedup_by(|one, other| one.goes_with(other));
    for object in others {
        let title = match object {
            Object::Policy(name, path) => format!("policy {name}, {path}"),
            Object::Node | Object::Pci(_) | Object::Vf(_) | Object::Named(_) => {
                object.bridge().map_or_else(|| object.to_string(), ToOwned::to_owned)
            }
        };
        section(&mut text, plan, &title, "", &|other| other.goes_with(object));
    }
    text.push_str(&summary(plan));
    text
}

/// `3 steps, 1 blocked.`
pub fn summary(plan: &Plan) -> String {
    let steps = plan.steps.len();
    let mut text =
        format!("{steps} {}, {} blocked", if steps == 1 { "step" } else { "steps" }, plan.blocked.len());
    if !plan.unknown.is_empty() {
        text.push_str(&format!(", {} unknown", plan.unknown.len()));
    }
    text.push('.');
    text
}

fn belongs(object: &Object, subject: &Object) -> bool {
    object.goes_with(subject)
}

fn subject_section(text: &mut String, plan: &Plan, subject: &Subject) {
    let name = match subject.object.bridge() {
        Some(bridge) => bridge.to_owned(),
        None => subject.object.to_string(),
    };
    let title = format!("{name} {}", subject.heading).trim_end().to_owned();
    let wrote = section(text, plan, &title, &subject.policy, &|object| belongs(object, &subject.object));
    if !wrote {
        text.push_str(&format!("{title}\n  in sync\n"));
    }
    for note in &subject.notes {
        text.push_str(&format!("  note: {note}\n"));
    }
}

/// Writes heading, steps, obstacles and unknowns of the objects that belong; false if there are none.
fn section(
    text: &mut String,
    plan: &Plan,
    title: &str,
    _policy: &str,
    mine: &dyn Fn(&Object) -> bool,
) -> bool {
    let lines = lines(plan.steps.iter().filter(|step| mine(&step.object)));
    let blocked: Vec<&Blocked> = plan.blocked.iter().filter(|blocked| mine(&blocked.object)).collect();
    let unknown: Vec<_> = plan.unknown.iter().filter(|unknown| mine(&unknown.object)).collect();
    if lines.is_empty() && blocked.is_empty() && unknown.is_empty() {
        return false;
    }
    text.push_str(&format!("{title}\n"));
    let width = |part: &dyn Fn(&Line) -> usize| lines.iter().map(part).max().unwrap_or_default();
    let (words, from, to) = (
        width(&|l| l.words.chars().count()),
        width(&|l| l.from.chars().count()),
        width(&|l| l.to.chars().count()),
    );
    for line in &lines {
        let row =
            format!("  {:words$}  {:>from$} → {:to$}      {}", line.words, line.from, line.to, line.remark);
        text.push_str(&format!("{}\n", row.trim_end()));
    }
    for blocked in blocked {
        let vf = match &blocked.object {
            Object::Vf(vf) if !blocked.message.starts_with("VF ") => format!("VF {}: ", vf.index),
            Object::Named(_) => part(&blocked.object).map(|part| format!("{part}: ")).unwrap_or_default(),
            Object::Vf(_) | Object::Node | Object::Policy(..) | Object::Pci(_) => String::new(),
        };
        text.push_str(&format!("  blocked {}: {vf}{}\n", blocked.reason, blocked.message));
        if !blocked.hint.is_empty() {
            text.push_str(&format!("           {}\n", blocked.hint));
        }
    }
    for unknown in unknown {
        text.push_str(&format!("  unknown: {} of {} cannot be read here\n", unknown.what, unknown.object));
    }
    true
}

/// Joins steps that differ in the VF only.
fn lines<'a>(steps: impl Iterator<Item = &'a Step>) -> Vec<Line> {
    let mut groups: Vec<(&Step, Vec<u16>)> = Vec::new();
    for step in steps {
        let index = match &step.object {
            Object::Vf(vf) => Some(vf.index),
            Object::Node | Object::Policy(..) | Object::Pci(_) | Object::Named(_) => None,
        };
        match groups
            .iter_mut()
            .find(|(first, indexes)| alike(first, step) && indexes.is_empty() == index.is_none())
        {
            Some((_, indexes)) if index.is_some() => indexes.extend(index),
            Some(_) | None => groups.push((step, index.into_iter().collect())),
        }
    }
    groups.into_iter().map(|(step, indexes)| line(step, indexes)).collect()
}

/// Whether two steps can share a line.
fn alike(one: &Step, other: &Step) -> bool {
    if one.change.action() != other.change.action() || one.disruption != other.disruption {
        return false;
    }
    match (&one.change, &other.change) {
        // Every VF has a MAC of its own; they share a line if none had one before.
        (Change::SetVfMac { from: None, .. }, Change::SetVfMac { from: None, .. }) => true,
        (one, other) => one == other,
    }
}

/// A part of a bridge in words: `port mon0`.
fn part(object: &Object) -> Option<String> {
    match Target::of(object)? {
        Target::Bridge(_, Part::Port(port)) => Some(format!("port {port}")),
        Target::Bridge(_, Part::Mirror(mirror)) => Some(format!("mirror {mirror}")),
        Target::Switch | Target::Bridge(_, Part::Itself) => None,
    }
}

fn line(step: &Step, indexes: Vec<u16>) -> Line {
    let count = indexes.len();
    let (from, mut to) = step.change.texts();
    if let (Change::SetVfMac { .. }, true) = (&step.change, count > 1) {
        to = format!("{count} stable addresses");
    }
    let words = match IndexSet::from_indexes(indexes) {
        None => match part(&step.object) {
            None => step.change.words().to_owned(),
            Some(part) if step.change.words().contains(' ') => format!("{} of {part}", step.change.words()),
            Some(part) => format!("{} {part}", step.change.words()),
        },
        Some(set) => {
            let (verb, noun) = step.change.words().split_once(' ').unwrap_or((step.change.words(), ""));
            let vfs = if count == 1 { format!("VF {set}") } else { format!("VFs {set}") };
            if noun.is_empty() { format!("{verb} {vfs}") } else { format!("{verb} {noun} of {vfs}") }
        }
    };
    let remark = match (step.disruption, count) {
        (Disruption::None, _) => "",
        (Disruption::Vf, 0 | 1) => "disrupts traffic of this VF",
        (Disruption::Vf, _) => "disrupts traffic of these VFs",
        (Disruption::Pf, _) => "disrupts traffic on this port",
        (Disruption::Bridge, _) if step.object == Target::Switch.object() => {
            "disrupts traffic of all bridges"
        }
        (Disruption::Bridge, _) => "disrupts traffic of this bridge",
        (Disruption::NodePath, _) => "disrupts the node's own network",
    };
    Line { words, from, to, remark }
}
