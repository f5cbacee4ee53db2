//! How a run is told while it goes on, on stderr: a bar on a terminal, one plain line per step otherwise.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use portwright_core::drive::{Outcome, Progress, StepReport};

use crate::output;

/// Tells of a run.
#[derive(Debug)]
pub enum Teller {
    /// A terminal that is watched by somebody.
    Bar(ProgressBar),
    /// A file, a pipe, a log.
    Lines,
}

impl Teller {
    /// The teller that fits stderr.
    pub fn new(steps: usize) -> Teller {
        if !std::io::stderr().is_terminal() {
            return Teller::Lines;
        }
        let bar = ProgressBar::new(u64::try_from(steps).unwrap_or(u64::MAX));
        // A template that did not parse would leave the standard one: worse to look at, nothing else.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {pos}/{len} {elapsed} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Teller::Bar(bar)
    }

    /// Tells one thing.
    pub fn tell(&self, progress: &Progress<'_>) {
        match self {
            Teller::Bar(bar) => on_bar(bar, progress),
            Teller::Lines => {
                if let Some(line) = line(progress) {
                    output::stderr(&format!("{line}\n"));
                }
            }
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        match self {
            Teller::Bar(bar) => bar.finish_and_clear(),
            Teller::Lines => {}
        }
    }
}

fn on_bar(bar: &ProgressBar, progress: &Progress<'_>) {
    match progress {
        Progress::Begins(_, _, step) => bar.set_message(step.to_string()),
        Progress::Ended(position, _, report) => {
            bar.set_position(u64::try_from(*position).unwrap_or(u64::MAX));
            if let (Outcome::Failed { .. } | Outcome::Stale { .. }, Some(line)) =
                (&report.outcome, line(progress))
            {
                bar.println(line);
            }
        }
        Progress::Verifies => bar.set_message("verifying"),
    }
}

/// `[3/17] 0000:3b:00.0: set VFs 0 → 7: done`; the beginning of a step has no line of its own.
fn line(progress: &Progress<'_>) -> Option<String> {
    match progress {
        Progress::Begins(..) => None,
        Progress::Ended(position, total, report) => {
            Some(format!("[{position}/{total}] {}: {}", report.step, outcome(report)))
        }
        Progress::Verifies => Some("verifying".to_owned()),
    }
}

/// How a step ended, in words.
pub fn outcome(report: &StepReport) -> String {
    match &report.outcome {
        Outcome::Done => "done".to_owned(),
        Outcome::Failed { why } => format!("failed: {why}"),
        Outcome::Skipped { because } | Outcome::Stale { found: because } => format!("skipped: {because}"),
    }
}
