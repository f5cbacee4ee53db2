//! Which policies are in force. One that is not shown any more may have been deleted, or its definition was, and with it
//! every policy of the cluster: that must not undo what all nodes have. So a policy that disappears stays in force until a
//! list that was asked for some time later has succeeded without it. While lists fail, it stays; and also if it went with its
//! definition, until it is applied again: then it can be deleted so that it counts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::runtime::utils::Backoff as _;
use tokio::time::Instant;

use super::listing::Listed;
use super::pace::Growing;
use super::policy::Followed;

/// Policies in force, and those of them that are not shown any more.
#[derive(Debug)]
pub(super) struct Believed {
    /// By name.
    pub(super) policies: BTreeMap<String, Followed>,
    /// Not shown any more; from when on a list without it is believed.
    missing: BTreeMap<String, Instant>,
    /// Not shown any more, because their definition was deleted. Another one has been made since.
    orphans: BTreeSet<String>,
    /// How long a disappearance is doubted.
    doubt: Duration,
    /// Pauses after lists that failed.
    pauses: Growing,
    not_before: Option<Instant>,
}

impl Believed {
    /// Nothing is in force yet.
    pub(super) fn new(doubt: Duration, pauses: Growing) -> Believed {
        Believed {
            policies: BTreeMap::new(),
            missing: BTreeMap::new(),
            orphans: BTreeSet::new(),
            doubt,
            pauses,
            not_before: None,
        }
    }

    /// Takes in what is shown at `now`.
    pub(super) fn see(&mut self, shown: &BTreeMap<String, Followed>, now: Instant) {
        for (name, policy) in shown {
            self.missing.remove(name);
            self.orphans.remove(name);
            if self.policies.get(name) != Some(policy) {
                self.policies.insert(name.clone(), policy.clone());
            }
        }
        let hidden = |name: &&String| !shown.contains_key(*name) && !self.orphans.contains(*name);
        for name in self.policies.keys().filter(hidden) {
            self.missing.entry(name.clone()).or_insert_with(|| {
                tracing::info!(
                    policy = name,
                    "the policy is not there any more; it holds until a list confirms that"
                );
                now + self.doubt
            });
        }
    }

    /// When a list is to be asked for; none if nothing is in doubt.
    pub(super) fn ask_at(&self) -> Option<Instant> {
        let due = self.missing.values().min().copied()?;
        Some(self.not_before.map_or(due, |earliest| earliest.max(due)))
    }

    /// What is to be said of policies that went with their definition.
    pub(super) fn orphans(&self) -> Option<String> {
        let names: Vec<&str> = self.orphans.iter().map(String::as_str).collect();
        (!names.is_empty()).then(|| {
            format!(
                "the definition of policies was deleted and made anew, and {} went with it; what they want stays as it is until \
                 they are applied again",
                names.join(", ")
            )
        })
    }

    /// Takes in a list that was asked for at `asked`. Returns whether there is something to say that was not said.
    pub(super) fn confirm(&mut self, listed: &Listed, asked: Instant, now: Instant) -> bool {
        self.pauses.reset();
        self.not_before = None;
        let due = self.missing.iter().filter(|(_, due)| **due <= asked);
        let due: Vec<String> = due.map(|(name, _)| name.clone()).collect();
        let mut changed = false;
        for name in due {
            let created = self.policies.get(&name).and_then(|policy| policy.created);
            if listed.names.contains(&name) {
                // It was made again, and the watch will show it.
                self.missing.insert(name, now + self.doubt);
            } else if listed.outlives(created) {
                tracing::warn!(
                    policy = name,
                    "the policy went with its definition, which was made anew; it holds"
                );
                self.missing.remove(&name);
                changed |= self.orphans.insert(name);
            } else {
                tracing::info!(policy = name, "the policy is gone");
                self.missing.remove(&name);
                changed |= self.policies.remove(&name).is_some();
            }
        }
        changed
    }

    /// A list has failed: everything holds, and it is asked for again later.
    pub(super) fn postpone(&mut self, now: Instant) {
        self.not_before = Some(now + self.pauses.next().unwrap_or(self.doubt));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use kube::api::DynamicObject;
    use serde_json::json;
    use tokio::time::Instant;

    use super::Believed;
    use crate::daemon::cluster::listing::Listed;
    use crate::daemon::cluster::pace::Growing;
    use crate::daemon::cluster::policy::Followed;

    const DOUBT: Duration = Duration::from_secs(10);

    fn shown(names: &[&str]) -> BTreeMap<String, Followed> {
        let followed = |name: &&str| {
            let object = json!({"kind": "NodePolicy", "apiVersion": "portwright.dev/v1alpha1", "metadata": {"name": name, "creationTimestamp": "2026-03-01T09:00:00Z"}, "spec": {}});
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            ((*name).to_owned(), Followed::read(object))
        };
        names.iter().map(followed).collect()
    }

    fn listed(names: &[&str]) -> Listed {
        Listed { names: names.iter().map(|name| (*name).to_owned()).collect(), ..Listed::default() }
    }

    fn holding(believed: &Believed) -> Vec<&str> {
        believed.policies.keys().map(String::as_str).collect()
    }

    #[test]
    fn only_a_list_of_later_makes_a_policy_gone() {
        let start = Instant::now();
        let mut believed = Believed::new(DOUBT, Growing::default());
        believed.see(&shown(&["a", "b"]), start);
        assert_eq!(believed.ask_at(), None);
        believed.see(&shown(&["b"]), start);
        believed.see(&shown(&["b"]), start + DOUBT / 2);
        assert_eq!(believed.ask_at(), Some(start + DOUBT), "counted from the first time");
        let early = start + DOUBT / 2;
        assert!(!believed.confirm(&listed(&["b"]), early, early), "asked too early");
        assert_eq!(holding(&believed), ["a", "b"]);
        // Lists fail: it holds for as long as they do.
        let mut now = start + DOUBT;
        for _ in 0..20 {
            believed.postpone(now);
            let next = believed.ask_at().unwrap();
            assert!(next > now);
            now = next;
        }
        assert_eq!(holding(&believed), ["a", "b"]);
        assert!(believed.confirm(&listed(&["b"]), now, now));
        assert_eq!((holding(&believed), believed.ask_at()), (vec!["b"], None));
    }

    #[test]
    fn what_comes_back_was_never_gone() {
        let start = Instant::now();
        let mut believed = Believed::new(DOUBT, Growing::default());
        believed.see(&shown(&["a", "b"]), start);
        believed.see(&shown(&[]), start);
        believed.see(&shown(&["a"]), start + DOUBT / 2);
        // The list knows `b` before the watch does.
        let late = start + DOUBT;
        assert!(!believed.confirm(&listed(&["a", "b"]), late, late));
        assert_eq!((holding(&believed), believed.ask_at()), (vec!["a", "b"], Some(late + DOUBT)));
    }

    #[test]
    fn what_went_with_its_definition_holds_until_it_is_shown_again() {
        let start = Instant::now();
        let mut believed = Believed::new(DOUBT, Growing::default());
        believed.see(&shown(&["a", "b"]), start);
        believed.see(&shown(&[]), start);
        let late = start + DOUBT;
        let anew = Listed { defined: Some("2026-03-01T10:00:00Z".parse().unwrap()), ..Listed::default() };
        assert!(believed.confirm(&anew, late, late));
        believed.see(&shown(&[]), late);
        assert_eq!((holding(&believed), believed.ask_at()), (vec!["a", "b"], None), "nobody is asked again");
        assert!(believed.orphans().unwrap().contains("a, b went with it"));
        believed.see(&shown(&["a"]), late);
        assert!(believed.orphans().unwrap().contains("b went with it"));
        believed.see(&shown(&["a", "b"]), late);
        assert_eq!(believed.orphans(), None);
        // Now they are deleted one by one, and the definition stands.
        believed.see(&shown(&["a"]), late);
        let later = late + DOUBT;
        let before = Listed { defined: Some("2026-03-01T08:00:00Z".parse().unwrap()), ..listed(&["a"]) };
        assert!(believed.confirm(&before, later, later));
        assert_eq!(holding(&believed), ["a"]);
    }
}
