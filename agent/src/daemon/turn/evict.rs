//! Which pods are asked to go, when, and what is told about it. No clock is read and nothing is asked here.
//!
//! Only the pods that are named are evicted, each UID once. A pod that comes back under the same name on this node, and is
//! still named some time later, holds an affected VF again: it is evicted again. DaemonSet pods are evicted like others,
//! because they are named for the VFs that they hold, although their DaemonSet starts them anew. Static pods cannot be evicted
//! through the API.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::api::{DynamicObject, PartialObjectMeta};
use tokio::time::Instant;

use super::PodName;
use super::error::TurnError;

/// How many names a sentence has at most.
const NAMED: usize = 5;

/// A pod of this node that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pod {
    uid: String,
    is_static: bool,
    daemon_set: Option<String>,
    ending: bool,
}

/// What has been done about a named pod.
#[derive(Debug, Clone)]
enum State {
    /// Its eviction was accepted.
    Accepted { uid: String },
    /// Its eviction was refused.
    Refused { why: Refusal, next: Instant, pause: Duration },
    /// It is not on this node any more.
    Gone { since: Instant },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Refusal {
    Budget,
    /// It is not the pod that we thought; the next event says which it is.
    Other(String),
}

/// The pods of this node and how far their eviction is.
#[derive(Debug)]
pub(super) struct Evictions {
    pods: BTreeMap<PodName, Pod>,
    coming: Option<BTreeMap<PodName, Pod>>,
    states: BTreeMap<PodName, State>,
    synced: bool,
    pace: Pace,
}

/// Spans of waiting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// After the first refusal; each further one doubles it.
    pub(super) least: Duration,
    /// The longest.
    pub(super) most: Duration,
    /// How long a pod that came back must have been named until it is evicted again.
    pub(super) again: Duration,
}

/// What is next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Evict this pod, if it still has this UID.
    Evict(PodName, String),
    /// Nothing until a pod changes or this time comes.
    Wait(Option<Instant>),
}

impl Evictions {
    /// Nothing known.
    pub(super) fn new(pace: Pace) -> Evictions {
        let (pods, states) = (BTreeMap::new(), BTreeMap::new());
        Evictions { pods, coming: None, states, synced: false, pace }
    }

    /// A list begins.
    pub(super) fn begin(&mut self) {
        self.coming = Some(BTreeMap::new());
    }

    /// A list is complete.
    pub(super) fn complete(&mut self) {
        if let Some(pods) = self.coming.take() {
            self.pods = pods;
        }
        self.synced = true;
    }

    /// A pod was seen.
    pub(super) fn see(&mut self, pod: &PartialObjectMeta<DynamicObject>) {
        let metadata = &pod.metadata;
        let annotations = metadata.annotations.as_ref();
        let owners = metadata.owner_references.iter().flatten();
        let seen = Pod {
            uid: metadata.uid.clone().unwrap_or_default(),
            is_static: annotations.is_some_and(|all| all.contains_key("kubernetes.io/config.mirror")),
            daemon_set: owners
                .into_iter()
                .find(|owner| owner.kind == "DaemonSet")
                .map(|owner| owner.name.clone()),
            ending: metadata.deletion_timestamp.is_some(),
        };
        self.coming.as_mut().unwrap_or(&mut self.pods).insert(name(pod), seen);
    }

    /// A pod is no more.
    pub(super) fn forget(&mut self, pod: &PartialObjectMeta<DynamicObject>) {
        self.pods.remove(&name(pod));
    }

    /// What to do for the wanted pods.
    pub(super) fn next(&mut self, wanted: &BTreeSet<PodName>, now: Instant) -> Next {
        self.states.retain(|pod, _| wanted.contains(pod));
        if !self.synced {
            return Next::Wait(None);
        }
        let mut soonest: Option<Instant> = None;
        for name in wanted {
            let due = match self.pods.get(name) {
                None => {
                    if !matches!(self.states.get(name), Some(State::Gone { .. })) {
                        self.states.insert(name.clone(), State::Gone { since: now });
                    }
                    continue;
                }
                Some(pod) if pod.is_static || pod.ending => continue,
                Some(pod) => match self.states.get(name) {
                    None => now,
                    Some(State::Accepted { uid }) if *uid == pod.uid => continue,
                    // It went and came back before we looked.
                    Some(State::Accepted { .. }) => {
                        self.states.insert(name.clone(), State::Gone { since: now });
                        now + self.pace.again
                    }
                    Some(State::Refused { next, .. }) => *next,
                    Some(State::Gone { since }) => *since + self.pace.again,
                },
            };
            if due <= now {
                return self.evict(name);
            }
            soonest = Some(soonest.map_or(due, |soonest| soonest.min(due)));
        }
        Next::Wait(soonest)
    }

    fn evict(&self, name: &PodName) -> Next {
        let Some(pod) = self.pods.get(name) else { return Next::Wait(None) };
        if let Some(daemon_set) = &pod.daemon_set {
            tracing::warn!(pod = %name, daemon_set, "a DaemonSet's pod is evicted; the DaemonSet will start it again");
        } else if matches!(self.states.get(name), Some(State::Gone { .. })) {
            tracing::warn!(pod = %name, "a pod came back under its name and is evicted again");
        }
        Next::Evict(name.clone(), pod.uid.clone())
    }

    /// Notes how an eviction went. `lot` draws a span below the one it is given.
    pub(super) fn note(
        &mut self,
        name: &PodName,
        uid: &str,
        outcome: &Result<(), TurnError>,
        now: Instant,
        lot: impl Fn(Duration) -> Duration,
    ) {
        let why = match outcome {
            Ok(()) => {
                self.states.insert(name.clone(), State::Accepted { uid: uid.to_owned() });
                return;
            }
            Err(error) if error.code() == Some(404) => {
                self.pods.remove(name);
                self.states.insert(name.clone(), State::Gone { since: now });
                return;
            }
            Err(error) if is_budget(error) => Refusal::Budget,
            Err(error) => Refusal::Other(error.words()),
        };
        let pause = match self.states.get(name) {
            Some(State::Refused { pause, .. }) => pause.saturating_mul(2).min(self.pace.most),
            _ => self.pace.least,
        };
        let next = now + pause + lot(pause.checked_div(2).unwrap_or_default());
        self.states.insert(name.clone(), State::Refused { why, next, pause });
    }

    /// What is still waited for, as a clause; none if no wanted pod is left.
    pub(super) fn text(&self, wanted: &BTreeSet<PodName>) -> Option<String> {
        if !self.synced {
            return (!wanted.is_empty()).then(|| "the node's pods are being listed".to_owned());
        }
        let (mut going, mut budgets, mut fixed) = (Vec::new(), Vec::new(), Vec::new());
        let (mut back, mut other) = (Vec::new(), Vec::new());
        for name in wanted {
            let Some(pod) = self.pods.get(name) else { continue };
            match self.states.get(name) {
                _ if pod.is_static => fixed.push(name),
                _ if pod.ending => going.push(name),
                None | Some(State::Accepted { .. }) => going.push(name),
                Some(State::Refused { why: Refusal::Budget, .. }) => budgets.push(name),
                Some(State::Refused { why: Refusal::Other(why), .. }) => other.push(why.clone()),
                Some(State::Gone { .. }) => back.push(name),
            }
        }
        let clauses = [
            clause(&going, "is being evicted", "are being evicted"),
            clause(&budgets, "is protected by a disruption budget", "are protected by disruption budgets"),
            clause(
                &fixed,
                "is a static pod, which only its manifest's removal ends",
                "are static pods, which only their manifests' removal ends",
            ),
            clause(&back, "has come back under its name", "have come back under their names"),
        ];
        let clauses: Vec<String> =
            clauses.into_iter().flatten().chain(other.into_iter().take(NAMED)).collect();
        (!clauses.is_empty()).then(|| clauses.join("; "))
    }
}

fn clause(names: &[&PodName], one: &str, many: &str) -> Option<String> {
    let listed: Vec<String> = names.iter().take(NAMED).map(ToString::to_string).collect();
    let more = names.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let verb = if names.len() == 1 { one } else { many };
    (!names.is_empty()).then(|| format!("{}{more} {verb}", listed.join(", ")))
}

fn name(pod: &PartialObjectMeta<DynamicObject>) -> PodName {
    PodName {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
    }
}

/// Whether a disruption budget is the reason. The same status is used for an overloaded server, which gives no such cause.
fn is_budget(error: &TurnError) -> bool {
    let TurnError::Ask { source: kube::Error::Api(status), .. } = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 429 && causes.into_iter().any(|cause| cause.reason == "DisruptionBudget")
}
