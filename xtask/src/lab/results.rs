//! What the guest reports, and what it means: a scenario that was expected and did not report has failed.

use serde_json::Value;
use std::collections::BTreeMap;

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

/// Collects the results of one boot.
#[derive(Debug, Default)]
pub(super) struct Tally {
    outcomes: BTreeMap<String, Option<Outcome>>,
    running: Option<String>,
    /// Whether the guest said that it was done.
    pub(super) complete: bool,
}

impl Tally {
    /// A tally that expects these scenarios.
    pub(super) fn expecting(names: impl IntoIterator<Item = String>) -> Self {
        Self { outcomes: names.into_iter().map(|name| (name, None)).collect(), ..Self::default() }
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
        self.outcomes.insert(name.to_owned(), Some(outcome));
    }

    /// The scenarios without a result, each with why that is a failure.
    pub(super) fn missing(&self, end: &str) -> Vec<(String, String)> {
        let why = |name: &str| match &self.running {
            Some(running) if running == name => format!("no result: {end} while this scenario ran"),
            Some(running) => format!("no result: {end} while {running} ran"),
            None => format!("no result: {end}"),
        };
        let silent = self.outcomes.iter().filter(|(_, outcome)| outcome.is_none());
        silent.map(|(name, _)| (name.clone(), why(name))).collect()
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
        let missing = tally.missing("the machine stopped");
        assert_eq!(missing.len(), 2);
        assert!(missing.iter().any(|(name, why)| name == "b" && why.contains("while this scenario ran")));
        assert!(missing.iter().any(|(name, why)| name == "c" && why.contains("while b ran")));
        assert!(!tally.complete);
    }
}
