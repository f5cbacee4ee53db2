//! What the guest reports, and what it means: a scenario that was expected and did not report has failed.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The most machines that one boot's scenarios may use up.
const MACHINES: usize = 4;

/// One line of the guest.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// User space is up; seconds since the kernel started.
    Hello(f64),
    /// A scenario begins.
    Start(String),
    /// A scenario ended well, after so many seconds.
    Good(String, f64),
    /// A scenario failed, with its text, after so many seconds.
    Failed(String, String, f64),
    /// Something worth showing, such as a measurement.
    Note(String),
    /// The guest is done.
    End,
    /// A line that is none of ours.
    Garbage(String),
}

/// Reads one line.
pub(super) fn parse(line: &str) -> Event {
    let garbage = || Event::Garbage(line.to_owned());
    let Ok(value) = serde_json::from_str::<Value>(line) else { return garbage() };
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let seconds = value.get("seconds").and_then(Value::as_f64).unwrap_or_default();
    match text("event").as_str() {
        "hello" => Event::Hello(seconds),
        "start" => Event::Start(text("test")),
        "ok" => Event::Good(text("test"), seconds),
        "failed" => Event::Failed(text("test"), text("text"), seconds),
        "note" => Event::Note(text("text")),
        "end" => Event::End,
        _ => garbage(),
    }
}

/// How a scenario ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    Good,
    Failed(String),
}

/// Collects the results of one boot, which more than one machine may bring.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The scenarios in the order in which a machine runs them.
    order: Vec<String>,
    outcomes: BTreeMap<String, Option<Outcome>>,
    running: Option<String>,
    /// Whether the guest said that it was done.
    pub(super) complete: bool,
    /// Machines that have ended.
    machines: usize,
    /// Whether the machine that runs brought anything forward.
    moved: bool,
    /// Scenarios during which a machine broke down by itself; the empty name is the way to user space.
    excused: BTreeSet<String>,
}

impl Tally {
    /// A tally that expects these scenarios, in the order in which they run.
    pub(super) fn expecting(names: impl IntoIterator<Item = String>) -> Self {
        let order: Vec<String> = names.into_iter().collect();
        let outcomes = order.iter().map(|name| (name.clone(), None)).collect();
        Self { order, outcomes, ..Self::default() }
    }

    /// Takes in an event.
    pub(super) fn take(&mut self, event: &Event) {
        match event {
            Event::Start(name) => self.running = Some(name.clone()),
            Event::Good(name, _) => self.settle(name, Outcome::Good),
            Event::Failed(name, text, _) => self.settle(name, Outcome::Failed(text.clone())),
            Event::End => self.complete = true,
            Event::Hello(_) | Event::Note(_) | Event::Garbage(_) => {}
        }
    }

    fn settle(&mut self, name: &str, outcome: Outcome) {
        self.running = None;
        self.moved = true;
        self.outcomes.insert(name.to_owned(), Some(outcome));
    }

    /// The machine broke down by itself: whether what it was at may be tried again, which is so once for each scenario.
    pub(super) fn excuse(&mut self) -> bool {
        let fresh = self.excused.insert(self.running.clone().unwrap_or_default());
        if fresh {
            self.running = None;
            self.moved = true;
        }
        fresh
    }

    /// The machine ended: what it was at has failed.
    pub(super) fn blame(&mut self, end: &str) -> Option<Event> {
        let name = self.running.clone()?;
        let text = format!("no result: {end} while this scenario ran");
        let event = Event::Failed(name, text, 0.0);
        self.take(&event);
        Some(event)
    }

    /// The scenario at which another machine begins; none if all have reported, or nothing would come of it.
    pub(super) fn next(&mut self) -> Option<String> {
        self.machines += 1;
        let moved = std::mem::take(&mut self.moved);
        if self.complete || !moved || self.machines >= MACHINES {
            return None;
        }
        self.order.iter().find(|name| self.outcomes.get(*name) == Some(&None)).cloned()
    }

    /// How many machines have ended.
    pub(super) fn machines(&self) -> usize {
        self.machines
    }

    /// The scenarios without a result, each with why that is a failure.
    pub(super) fn missing(&self, end: &str) -> Vec<(String, String)> {
        let silent = self.outcomes.iter().filter(|(_, outcome)| outcome.is_none());
        silent.map(|(name, _)| (name.clone(), format!("no result: {end}"))).collect()
    }

    /// Names of scenarios that failed or did not report.
    pub(super) fn broken(&self) -> impl Iterator<Item = &str> {
        self.outcomes
            .iter()
            .filter(|(_, outcome)| **outcome != Some(Outcome::Good))
            .map(|(name, _)| name.as_str())
    }

    /// (passed, failed), a missing result counted as failed.
    pub(super) fn counts(&self) -> (usize, usize) {
        let good = self.outcomes.values().filter(|outcome| **outcome == Some(Outcome::Good)).count();
        (good, self.outcomes.len() - good)
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, Tally, parse};

    #[test]
    fn lines() {
        let cases = [
            (r#"{"event":"hello","seconds":1.5}"#, Event::Hello(1.5)),
            (r#"{"event":"start","test":"a"}"#, Event::Start("a".to_owned())),
            (r#"{"event":"ok","test":"a","seconds":2.0}"#, Event::Good("a".to_owned(), 2.0)),
            (
                r#"{"event":"failed","test":"a","text":"x\ny","seconds":2.0}"#,
                Event::Failed("a".to_owned(), "x\ny".to_owned(), 2.0),
            ),
            (r#"{"event":"end"}"#, Event::End),
            ("{\"event\"", Event::Garbage("{\"event\"".to_owned())),
        ];
        for (line, want) in cases {
            assert_eq!(parse(line), want, "{line}");
        }
    }

    #[test]
    fn silence_is_failure() {
        let mut tally = Tally::expecting(["a", "b", "c"].map(str::to_owned));
        for line in [
            r#"{"event":"start","test":"a"}"#,
            r#"{"event":"ok","test":"a"}"#,
            r#"{"event":"start","test":"b"}"#,
        ] {
            tally.take(&parse(line));
        }
        assert_eq!(tally.counts(), (1, 2));
        let blamed = tally.blame("the machine stopped").expect("b ran");
        assert!(
            matches!(&blamed, Event::Failed(name, why, _) if name == "b" && why.contains("while this scenario ran")),
            "{blamed:?}"
        );
        assert_eq!(tally.missing("the machine stopped").len(), 1);
        assert_eq!(tally.counts(), (1, 2));
        assert!(!tally.complete);
    }

    fn tally(lines: &[&str]) -> Tally {
        let mut tally = Tally::expecting(["b", "a", "c"].map(str::to_owned));
        lines.iter().for_each(|line| tally.take(&parse(line)));
        tally
    }

    const B_GOOD: &str = r#"{"event":"ok","test":"b"}"#;
    const A_BEGINS: &str = r#"{"event":"start","test":"a"}"#;

    #[test]
    fn after_a_scenario_that_ended_its_machine_the_others_run_in_a_new_one() {
        let mut tally = tally(&[B_GOOD, A_BEGINS]);
        assert!(tally.blame("it stopped").is_some());
        assert_eq!(tally.next().as_deref(), Some("c"));
    }

    #[test]
    fn a_machine_that_broke_down_by_itself_is_replaced_once_for_each_scenario() {
        let mut tally = tally(&[B_GOOD, A_BEGINS]);
        assert!(tally.excuse());
        assert_eq!(tally.next().as_deref(), Some("a"), "the same again");
        tally.take(&parse(A_BEGINS));
        assert!(!tally.excuse(), "not a second time");
        assert!(tally.blame("it stopped").is_some());
        assert_eq!(tally.next().as_deref(), Some("c"));
        assert_eq!(tally.machines(), 2);
    }

    #[test]
    fn machines_that_bring_nothing_forward_are_not_tried_for_ever() {
        assert_eq!(tally(&[]).next(), None, "it never came up");
        assert_eq!(tally(&[r#"{"event":"end"}"#]).next(), None, "it said that it was done");
        assert_eq!(
            tally(&[B_GOOD, A_BEGINS, r#"{"event":"ok","test":"a"}"#, r#"{"event":"ok","test":"c"}"#]).next(),
            None
        );
        let mut tally = tally(&[]);
        let machines = (0..10).take_while(|_| {
            tally.moved = true;
            tally.next().is_some()
        });
        assert_eq!(machines.count(), super::MACHINES - 1);
    }
}
