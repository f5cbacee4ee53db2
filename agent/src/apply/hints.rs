//! What to do about steps that fail: collected while they run, because a report keeps only what happened.

use portwright_core::drive::{Node, RunError};
use portwright_core::{Observed, Step};

/// A node whose errors' hints are kept.
pub struct Hinting<N: Node> {
    /// The node.
    pub node: N,
    hint_of: fn(&N::Error) -> Option<String>,
    hints: Vec<String>,
}

impl<N: Node> Hinting<N> {
    /// A node, and how its errors tell their hint.
    pub fn new(node: N, hint_of: fn(&N::Error) -> Option<String>) -> Hinting<N> {
        Hinting { node, hint_of, hints: Vec::new() }
    }

    /// The hints, each once, in the order in which they came up.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    fn keep(&mut self, error: &N::Error) {
        if let Some(hint) = (self.hint_of)(error).filter(|hint| !self.hints.contains(hint)) {
            self.hints.push(hint);
        }
    }
}

impl<N: Node> Node for Hinting<N> {
    type Error = N::Error;

    fn observe(&mut self) -> Result<Observed, N::Error> {
        let observed = self.node.observe();
        if let Err(error) = &observed {
            self.keep(error);
        }
        observed
    }

    fn run(&mut self, step: &Step) -> Result<(), RunError<N::Error>> {
        let ran = self.node.run(step);
        if let Err(RunError::Failed(error)) = &ran {
            self.keep(error);
        }
        ran
    }

    fn run_together(&mut self, steps: &[Step]) -> Result<(), RunError<N::Error>> {
        let ran = self.node.run_together(steps);
        if let Err(RunError::Failed(error)) = &ran {
            self.keep(error);
        }
        ran
    }
}
