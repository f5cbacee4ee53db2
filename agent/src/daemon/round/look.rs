//! Looking: at the whole node, or only at the functions that events named.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Round;
use crate::daemon::facts::Cause;
use crate::daemon::hands::Hands;

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// The whole node.
    Whole,
    /// The functions that events named, in what was seen before.
    Functions,
}

impl Sight {
    /// How much has to be looked at for these reasons.
    pub fn of(causes: &BTreeSet<Cause>) -> Sight {
        let all = causes.iter().all(|cause| matches!(cause, Cause::Device(_)));
        if all { Sight::Functions } else { Sight::Whole }
    }
}

impl<N: Hands> Round<N> {
    /// Looks at the node.
    pub async fn look(&mut self, sight: Sight, causes: &BTreeSet<Cause>) -> Result<(), String> {
        if sight == Sight::Functions && self.refresh(causes) {
            return Ok(());
        }
        let (observed, recalled) = self.actor.look().await?;
        // What is the same stays where it is: at rest, memory that is never moved is not in pieces either.
        keep(&mut self.state.observed, observed);
        if self.state.recalled != recalled {
            self.state.recalled = recalled;
        }
        self.state.seen = true;
        Ok(())
    }

    /// Brings what was seen before up to date where that can be done function by function.
    fn refresh(&mut self, causes: &BTreeSet<Cause>) -> bool {
        let Some(observer) = self.observer.as_ref().filter(|_| self.state.seen) else { return false };
        let mut functions = causes.iter().filter_map(|cause| match cause {
            Cause::Device(function) => Some(*function),
            Cause::Start
            | Cause::Devices
            | Cause::Network
            | Cause::Switch
            | Cause::Wish
            | Cause::Config
            | Cause::Kubelet
            | Cause::Allocate
            | Cause::Timer
            | Cause::Again
            | Cause::Turn
            | Cause::Asked => None,
        });
        let seen = Arc::make_mut(&mut self.state.observed);
        functions.all(|function| observer.refresh(seen, function))
    }
}

/// Takes what is not the same.
pub(super) fn keep<T: PartialEq>(known: &mut Arc<T>, now: T) {
    if **known != now {
        *known = Arc::new(now);
    }
}
