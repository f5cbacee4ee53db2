//! When to stop between two steps: on SIGINT, on SIGTERM, or when the time is over. Every prefix of a plan is a safe
//! place to stop, so nothing is undone.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use portwright_core::drive::{Node, RunError};
use portwright_core::{Change, Object, Observed, Step};
use portwright_host::deadline::Deadline;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::output;

/// Why no further step may begin, once there is a reason.
#[derive(Clone, Default)]
pub struct Stop {
    signalled: Arc<OnceLock<&'static str>>,
    deadline: Option<(Deadline, u64)>,
    asked: Option<Arc<Asked>>,
}

/// Says before each step why it may not begin, if it may not.
type Asked = dyn Fn(&Step) -> Option<String> + Send + Sync;

impl std::fmt::Debug for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stop")
            .field("signalled", &self.signalled)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

impl Stop {
    /// Stops when `timeout` seconds are over, and from now on at the first SIGINT or SIGTERM.
    pub fn on_signals(timeout: Option<u64>) -> io::Result<Stop> {
        let deadline = timeout.map(|seconds| (Deadline::after(Duration::from_secs(seconds)), seconds));
        let stop = Stop { signalled: Arc::default(), deadline, asked: None };
        let runtime = Builder::new_current_thread().enable_io().build()?;
        // Registered here and not in the thread: from the return of this function on no signal ends the process.
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        let signalled = Arc::clone(&stop.signalled);
        let wait = move || {
            let name = runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => "SIGINT",
                    _ = terminate.recv() => "SIGTERM",
                }
            });
            if signalled.set(name).is_ok() {
                output::stderr(&format!("{name}: stopping after the step that runs now\n"));
            }
            // The runtime lives on with this thread, so that a second signal does not end a step half-way.
            runtime.block_on(std::future::pending::<()>());
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
        Ok(stop)
    }

    /// Stops when `asked` says why: it is asked before each step.
    pub fn when(asked: impl Fn(&Step) -> Option<String> + Send + Sync + 'static) -> Stop {
        Stop { asked: Some(Arc::new(asked)), ..Stop::default() }
    }

    /// Why a step may not begin.
    fn forbids(&self, step: &Step) -> Option<String> {
        self.reason().or_else(|| self.asked.as_ref().and_then(|asked| asked(step)))
    }

    /// Why no further step may begin.
    pub fn reason(&self) -> Option<String> {
        if let Some(name) = self.signalled.get() {
            return Some(format!("stopped by {name}"));
        }
        let (deadline, seconds) = self.deadline?;
        deadline.expired().then(|| format!("the {seconds} s of `--timeout` are over"))
    }
}

/// A node on which no step begins once there is a reason to stop, but for those that put autoprobe back: VFs that
/// somebody else makes later would be bound by no driver.
#[derive(Debug)]
pub struct Stoppable<N> {
    /// The node.
    pub node: N,
    /// When to stop.
    stop: Stop,
    /// Changes of autoprobe that were made and not put back yet, by PF.
    owed: BTreeMap<Object, Change>,
}

impl<N> Stoppable<N> {
    /// Lets steps through to the node until there is a reason to stop.
    pub fn new(node: N, stop: Stop) -> Stoppable<N> {
        Stoppable { node, stop, owed: BTreeMap::new() }
    }

    /// Whether a step puts back what an earlier one changed for a while.
    fn is_owed(&self, step: &Step) -> bool {
        let Change::SetAutoprobe { from, to } = step.change else { return false };
        self.owed.get(&step.object) == Some(&Change::SetAutoprobe { from: to, to: from })
    }
}

impl<N: Node> Node for Stoppable<N> {
    type Error = N::Error;

    fn observe(&mut self) -> Result<Observed, N::Error> {
        self.node.observe()
    }

    fn run(&mut self, step: &Step) -> Result<(), RunError<N::Error>> {
        let owed = self.is_owed(step);
        if let Some(because) = self.stop.forbids(step).filter(|_| !owed) {
            return Err(RunError::Stopped { because });
        }
        self.node.run(step)?;
        if owed {
            self.owed.remove(&step.object);
        } else if let Change::SetAutoprobe { .. } = step.change {
            self.owed.insert(step.object.clone(), step.change.clone());
        }
        Ok(())
    }

    fn run_together(&mut self, steps: &[Step]) -> Result<(), RunError<N::Error>> {
        match steps.iter().find_map(|step| self.stop.forbids(step)) {
            Some(because) => Err(RunError::Stopped { because }),
            None => self.node.run_together(steps),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portwright_core::Disruption;

    /// Counts the steps that reach it.
    #[derive(Debug, Default)]
    struct Counting(usize);

    impl Node for Counting {
        type Error = io::Error;

        fn observe(&mut self) -> Result<Observed, io::Error> {
            Ok(Observed::default())
        }

        fn run(&mut self, _: &Step) -> Result<(), RunError<io::Error>> {
            self.0 += 1;
            Ok(())
        }
    }

    #[test]
    fn nothing_begins_once_the_time_is_over() {
        let change = Change::SetPfMtu { from: 1500, to: 9000 };
        let object = "0000:01:00.0".parse().unwrap();
        let step = Step { object, change, disruption: Disruption::None, force: false };

        let mut in_time = Stoppable::new(Counting::default(), Stop::default());
        assert!(in_time.run(&step).is_ok());
        assert_eq!(in_time.node.0, 1);

        let deadline = Some((Deadline::after(Duration::ZERO), 0));
        let stop = Stop { deadline, ..Stop::default() };
        let mut late = Stoppable::new(Counting::default(), stop);
        let because = late.run(&step).unwrap_err().to_string();
        assert!(because.contains("--timeout"), "{because}");
        assert_eq!(late.node.0, 0);
    }

    #[test]
    fn autoprobe_is_put_back_even_after_a_signal() {
        let object: Object = "0000:01:00.0".parse().unwrap();
        let step = |from: bool| Step {
            object: object.clone(),
            change: Change::SetAutoprobe { from, to: !from },
            disruption: Disruption::None,
            force: false,
        };
        let mut node = Stoppable::new(Counting::default(), Stop::default());
        assert!(node.run(&step(true)).is_ok());
        assert!(node.stop.signalled.set("SIGTERM").is_ok());
        assert!(node.run(&step(false)).is_ok(), "what was switched off is switched on again");
        assert!(node.run(&step(true)).is_err(), "but nothing new begins");
        assert_eq!(node.node.0, 2);
    }
}
