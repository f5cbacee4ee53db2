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
    Refused { uid: String, why: Refusal, next: Instant, pause: Duration },
    /// It is not on this node any more.
    Gone { since: Instant },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Refusal {
    Budget,
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
                    Some(State::Refused { uid, next, .. }) if *uid == pod.uid => *next,
                    // It went and came back before we looked.
                    Some(State::Accepted { .. } | State::Refused { .. }) => {
                        self.states.insert(name.clone(), State::Gone { since: now });
                        now + self.pace.again
                    }
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
            Err(error) if error.code() == Some(409) => {
                // Another pod has the name by now; the next event says more about it.
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
        self.states.insert(name.clone(), State::Refused { uid: uid.to_owned(), why, next, pause });
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use kube::api::PartialObjectMeta;
    use serde_json::{Value as Json, json};
    use tokio::time::Instant;

    use super::super::PodName;
    use super::super::error::TurnError;
    use super::{Evictions, Next, Pace};

    const PACE: Pace =
        Pace { least: Duration::from_secs(5), most: Duration::from_secs(60), again: Duration::from_secs(30) };

    fn evictions(pods: &[(&str, &str, Json)]) -> Evictions {
        let mut evictions = Evictions::new(PACE);
        evictions.begin();
        for (name, uid, more) in pods {
            see(&mut evictions, name, uid, more);
        }
        evictions.complete();
        evictions
    }

    fn see(evictions: &mut Evictions, name: &str, uid: &str, more: &Json) {
        let mut metadata = json!({"namespace": "web", "name": name, "uid": uid});
        metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let pod: PartialObjectMeta<_> = serde_json::from_value(json!({"metadata": metadata})).unwrap();
        evictions.see(&pod);
    }

    fn named(names: &[&str]) -> BTreeSet<PodName> {
        names.iter().map(|name| PodName { namespace: "web".to_owned(), name: (*name).to_owned() }).collect()
    }

    fn refused(code: u16, cause: &str) -> TurnError {
        let status = json!({"code": code, "message": "no", "details": {"causes": [{"reason": cause}]}});
        let source = kube::Error::Api(serde_json::from_value(status).unwrap());
        TurnError::Ask { verb: "evict", object: "Pod web/a".to_owned(), source }
    }

    fn due(next: &Next) -> Option<(&str, &str)> {
        match next {
            Next::Evict(pod, uid) => Some((&pod.name, uid)),
            Next::Wait(_) => None,
        }
    }

    #[test]
    fn only_named_pods_go_and_each_is_asked_once() {
        let mut pods = evictions(&[("a", "1", json!({})), ("b", "2", json!({})), ("c", "3", json!({}))]);
        let (wanted, now) = (named(&["a", "b", "gone"]), Instant::now());
        for expected in [("a", "1"), ("b", "2")] {
            let next = pods.next(&wanted, now);
            assert_eq!(due(&next), Some(expected));
            let Next::Evict(pod, uid) = next else { return };
            pods.note(&pod, &uid, &Ok(()), now, |_| Duration::ZERO);
        }
        assert_eq!(pods.next(&wanted, now), Next::Wait(None));
        assert_eq!(pods.text(&wanted).unwrap(), "web/a, web/b are being evicted");
        see(&mut pods, "a", "1", &json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}));
        assert_eq!(pods.next(&wanted, now + PACE.most), Next::Wait(None), "it is ending");
        assert_eq!(pods.text(&named(&["gone"])), None);
    }

    #[test]
    fn a_pod_that_came_back_is_another_one() {
        let mut pods = evictions(&[("a", "1", json!({}))]);
        let (wanted, now) = (named(&["a"]), Instant::now());
        let (pod, uid) = (wanted.first().unwrap().clone(), "1");
        pods.next(&wanted, now);
        pods.note(&pod, uid, &Ok(()), now, |_| Duration::ZERO);
        see(&mut pods, "a", "2", &json!({}));
        assert_eq!(pods.next(&wanted, now), Next::Wait(Some(now + PACE.again)));
        assert_eq!(pods.text(&wanted).unwrap(), "web/a has come back under its name");
        assert_eq!(due(&pods.next(&wanted, now + PACE.again)), Some(("a", "2")), "it is still named");
        // The name was taken back in between, so the loop has seen that the pod went.
        pods.next(&named(&[]), now);
        assert_eq!(due(&pods.next(&wanted, now)), Some(("a", "2")));
        // Its UID was another one when the eviction arrived.
        pods.note(&pod, "2", &Err(refused(409, "")), now, |_| Duration::ZERO);
        assert_eq!(due(&pods.next(&wanted, now)), None);
    }

    #[test]
    fn a_budget_is_waited_for_ever_longer_and_named() {
        let mut pods = evictions(&[("a", "1", json!({}))]);
        let (wanted, mut now) = (named(&["a"]), Instant::now());
        let pod = wanted.first().unwrap().clone();
        for pause in [5, 10, 20, 40, 60, 60] {
            assert_eq!(due(&pods.next(&wanted, now)), Some(("a", "1")));
            pods.note(&pod, "1", &Err(refused(429, "DisruptionBudget")), now, |_| Duration::ZERO);
            now += Duration::from_secs(pause);
            assert_eq!(pods.next(&wanted, now - Duration::from_secs(1)), Next::Wait(Some(now)));
        }
        assert_eq!(pods.text(&wanted).unwrap(), "web/a is protected by a disruption budget");
        pods.note(&pod, "1", &Err(refused(429, "")), now, |_| Duration::ZERO);
        assert_eq!(
            pods.text(&wanted).unwrap(),
            "cannot evict Pod web/a: no",
            "an overloaded server is no budget"
        );
        pods.note(&pod, "1", &Err(refused(404, "")), now, |_| Duration::ZERO);
        assert_eq!(pods.text(&wanted), None);
    }

    #[test]
    fn static_pods_stay_and_daemon_sets_pods_go() {
        let owner = json!({"ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "net", "uid": "9"}]});
        let fixed = json!({"annotations": {"kubernetes.io/config.mirror": "x"}});
        let mut pods = evictions(&[("fixed", "1", fixed), ("net-x", "2", owner)]);
        let wanted = named(&["fixed", "net-x"]);
        assert_eq!(due(&pods.next(&wanted, Instant::now())), Some(("net-x", "2")));
        let text = pods.text(&named(&["fixed"])).unwrap();
        assert!(text.contains("web/fixed is a static pod"), "{text}");
    }

    #[test]
    fn nothing_goes_before_the_list_is_complete_and_many_names_are_cut() {
        let names: Vec<String> = (0..8).map(|number| format!("p{number}")).collect();
        let wanted = named(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let mut pods = Evictions::new(PACE);
        pods.begin();
        for name in &names {
            see(&mut pods, name, "1", &json!({}));
        }
        assert_eq!(pods.next(&wanted, Instant::now()), Next::Wait(None));
        assert_eq!(pods.text(&wanted).unwrap(), "the node's pods are being listed");
        pods.complete();
        assert!(pods.text(&wanted).unwrap().ends_with("web/p4 and 3 more are being evicted"));
    }
}
