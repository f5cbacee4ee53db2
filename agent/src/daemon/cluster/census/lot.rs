//! Who counts, and when: every agent decides for itself from what it sees of a policy's status, and a draw. Pure; times are
//! spans since the agent's start, never compared with another machine's.
//!
//! docs/decisions/0011-census-by-lot.md has the reasons and the arithmetic.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::daemon::cluster::contribution::Contribution;

/// No policy is counted again sooner.
pub const REST: Duration = Duration::from_secs(10);
/// After so long somebody who said that he counts has not done it.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The shortest draw.
const SOONEST: Duration = Duration::from_secs(1);
/// The width of a draw where nobody has counted yet.
const UNKNOWN: Duration = Duration::from_secs(10);
/// The width of a draw is a second per so many nodes, so that about as many agents come up per second.
const NODES_PER_SECOND: u32 = 20;
/// Agents that a policy does not select leave it to those that it does, but a policy that selects nobody is counted too.
const COURTESY: Duration = Duration::from_secs(30);

/// A policy's status, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// `status.observedGeneration`.
    pub counted_generation: Option<i64>,
    /// `status.matchedNodes`.
    pub nodes: Option<u32>,
    /// `status.censusVersion`: the resource version of the list of NodeStates that was counted.
    pub counted: Option<u64>,
    /// `status.censusStarted`: differs whenever somebody begins.
    pub started: Option<String>,
}

/// What is known of one policy.
#[derive(Debug, Clone, Default)]
struct Known {
    seen: Seen,
    /// When a result was seen first.
    counted_at: Option<Duration>,
    /// When an announcement was seen first.
    started_at: Option<Duration>,
    /// The version of the own NodeState that changed what it says about the policy; it must be part of a count.
    own: Option<u64>,
    /// When to look again whether a count is needed.
    look_at: Option<Duration>,
}

/// Draws a span below the one given.
pub type Draw<'a> = &'a mut dyn FnMut(Duration) -> Duration;

/// The agent's part in counting.
#[derive(Debug, Clone, Default)]
pub struct Lots {
    policies: BTreeMap<String, Known>,
    contributions: BTreeMap<String, Contribution>,
    written: bool,
}

impl Lots {
    /// The own NodeState was written in this version and says this about policies. The first one after a start counts as
    /// changed only where it says so.
    pub fn wrote(
        &mut self,
        now: Duration,
        contributions: &BTreeMap<String, Contribution>,
        version: u64,
        changed: bool,
        draw: Draw<'_>,
    ) {
        let before = std::mem::replace(&mut self.contributions, contributions.clone());
        let first = !std::mem::replace(&mut self.written, true);
        for (name, known) in &mut self.policies {
            let differs = before.get(name) != contributions.get(name);
            if (first && changed && contributions.contains_key(name)) || (!first && differs) {
                known.own = Some(version);
                known.draw(now, draw);
            }
        }
    }

    /// The policies are these now.
    pub fn policies(&mut self, now: Duration, policies: &BTreeMap<String, Seen>, draw: Draw<'_>) {
        self.policies.retain(|name, _| policies.contains_key(name));
        for (name, seen) in policies {
            let selected = self.contributions.contains_key(name);
            let known = self.policies.entry(name.clone()).or_default();
            let anew = known.seen.uid != seen.uid;
            if anew {
                *known = Known::default();
            }
            if seen.counted.is_some() && known.seen.counted != seen.counted {
                known.counted_at = Some(now);
            }
            if seen.started.is_some() && known.seen.started != seen.started {
                known.started_at = Some(now);
            }
            let edited = known.seen.generation != seen.generation;
            known.seen = seen.clone();
            if edited && seen.counted_generation != Some(seen.generation) {
                let later = if selected { Duration::ZERO } else { COURTESY };
                known.draw(now.saturating_add(later), draw);
            }
        }
    }

    /// When [`Lots::fire`] has something to decide; none if never.
    pub fn next(&self) -> Option<Duration> {
        self.policies.values().filter_map(|known| known.look_at).min()
    }

    /// Whether this is how the policy was seen last.
    #[cfg(test)]
    pub(super) fn has_seen(&self, policy: &str, seen: &Seen) -> bool {
        self.policies.get(policy).is_some_and(|known| known.seen == *seen)
    }

    /// A policy that is to be counted by this agent now. Others that are due and need not be counted are done with.
    pub fn fire(&mut self, now: Duration, draw: Draw<'_>) -> Option<String> {
        for (name, known) in &mut self.policies {
            if known.look_at.is_none_or(|at| at > now) {
                continue;
            }
            known.look_at = None;
            if !known.needed() {
                known.own = None;
                continue;
            }
            let Some(rest) = known.rest(now) else { return Some(name.clone()) };
            known.draw(now.saturating_add(rest), draw);
        }
        None
    }

    /// Counting failed, or somebody else was faster: look again later whether that was enough.
    pub fn lost(&mut self, now: Duration, policy: &str, draw: Draw<'_>) {
        if let Some(known) = self.policies.get_mut(policy) {
            known.draw(now, draw);
        }
    }
}

impl Known {
    fn draw(&mut self, from: Duration, draw: Draw<'_>) {
        let width = match self.seen.nodes {
            Some(nodes) => {
                Duration::from_secs(u64::from(nodes)).checked_div(NODES_PER_SECOND).unwrap_or_default()
            }
            None => UNKNOWN,
        };
        let width = width.max(Duration::from_secs(2)).saturating_sub(SOONEST);
        let at = from.saturating_add(SOONEST).saturating_add(draw(width));
        self.look_at = Some(self.look_at.map_or(at, |before| before.min(at)));
    }

    /// Whether the last count lacks what this agent knows.
    fn needed(&self) -> bool {
        let own = self.own.is_some_and(|own| self.seen.counted.is_none_or(|counted| counted < own));
        own || self.seen.counted_generation != Some(self.seen.generation)
    }

    /// How long the policy is to be left alone yet.
    fn rest(&self, now: Duration) -> Option<Duration> {
        let after = |at: Option<Duration>, rest: Duration| {
            at.and_then(|at| at.saturating_add(rest).checked_sub(now)).filter(|left| !left.is_zero())
        };
        let counting =
            self.started_at.filter(|started| self.counted_at.is_none_or(|counted| counted < *started));
        after(self.counted_at, REST).max(after(self.started_at, REST)).max(after(counting, PATIENCE))
    }
}
