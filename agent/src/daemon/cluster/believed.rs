//! Which policies are in force. One that is not shown any more may have been deleted, or its definition was, and with it
//! every policy of the cluster: that must not undo what all nodes have. So a policy that disappears stays in force until a
//! list that was asked for some time later has succeeded without it. While lists fail, it stays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::runtime::utils::Backoff as _;
use tokio::time::Instant;

use super::pace::Growing;
use super::policy::Followed;

/// Policies in force, and those of them that are not shown any more.
#[derive(Debug)]
pub(super) struct Believed {
    /// By name.
    pub(super) policies: BTreeMap<String, Followed>,
    /// Not shown any more; from when on a list without it is believed.
    missing: BTreeMap<String, Instant>,
    /// How long a disappearance is doubted.
    doubt: Duration,
    /// Pauses after lists that failed.
    pauses: Growing,
    not_before: Option<Instant>,
}

impl Believed {
    /// Nothing is in force yet.
    pub(super) fn new(doubt: Duration, pauses: Growing) -> Believed {
        Believed { policies: BTreeMap::new(), missing: BTreeMap::new(), doubt, pauses, not_before: None }
    }

    /// Takes in what is shown at `now`.
    pub(super) fn see(&mut self, shown: &BTreeMap<String, Followed>, now: Instant) {
        for (name, policy) in shown {
            self.missing.remove(name);
            if self.policies.get(name) != Some(policy) {
                self.policies.insert(name.clone(), policy.clone());
            }
        }
        for name in self.policies.keys().filter(|name| !shown.contains_key(*name)) {
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

    /// Takes in the names of a list that was asked for at `asked`. Returns whether something is no longer in force.
    pub(super) fn confirm(&mut self, listed: &BTreeSet<String>, asked: Instant, now: Instant) -> bool {
        self.pauses.reset();
        self.not_before = None;
        let due = self.missing.iter().filter(|(_, due)| **due <= asked);
        let due: Vec<String> = due.map(|(name, _)| name.clone()).collect();
        let mut changed = false;
        for name in due {
            if listed.contains(&name) {
                // It was made again, and the watch will show it.
                self.missing.insert(name, now + self.doubt);
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
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use kube::api::DynamicObject;
    use serde_json::json;
    use tokio::time::Instant;

    use super::Believed;
    use crate::daemon::cluster::pace::Growing;
    use crate::daemon::cluster::policy::Followed;

    const DOUBT: Duration = Duration::from_secs(10);

    fn shown(names: &[&str]) -> BTreeMap<String, Followed> {
        let followed = |name: &&str| {
            let object = json!({"kind": "NodePolicy", "apiVersion": "portwright.dev/v1alpha1", "metadata": {"name": name}, "spec": {}});
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            ((*name).to_owned(), Followed::read(object))
        };
        names.iter().map(followed).collect()
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
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
        assert!(!believed.confirm(&names(&["b"]), early, early), "asked too early");
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
        assert!(believed.confirm(&names(&["b"]), now, now));
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
        assert!(!believed.confirm(&names(&["a", "b"]), late, late));
        assert_eq!((holding(&believed), believed.ask_at()), (vec!["a", "b"], Some(late + DOUBT)));
    }
}
