//! Which of the policies in force are for this node. One that the node's labels select acts at once. One that they do not
//! select any more holds for a while, as it was when they last did: whoever writes labels (node-feature-discovery, for one)
//! may take them away and set them again, and that must not undo what the node has.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::policy::Followed;

/// Policies that are for this node.
#[derive(Debug)]
pub(super) struct Chosen {
    policies: BTreeMap<String, Choice>,
    /// How long it is doubted that one is for this node no more.
    doubt: Duration,
}

/// A policy as it was when it was last selected.
#[derive(Debug)]
struct Choice {
    policy: Followed,
    /// Not selected any more: it holds until then.
    until: Option<Instant>,
}

impl Chosen {
    /// None is yet.
    pub(super) fn new(doubt: Duration) -> Chosen {
        Chosen { policies: BTreeMap::new(), doubt }
    }

    /// Takes in the policies in force and the Node's labels at `now`; `current` says whether the labels are known to be those
    /// of now. A policy that is not in force any more goes at once: that has been doubted already.
    pub(super) fn see(
        &mut self,
        policies: &BTreeMap<String, Followed>,
        labels: &BTreeMap<String, String>,
        current: bool,
        now: Instant,
    ) {
        self.policies.retain(|name, _| policies.contains_key(name));
        for (name, policy) in policies {
            if policy.selects(labels) {
                let known = self.policies.get_mut(name).filter(|choice| choice.policy == *policy);
                match known {
                    Some(choice) => choice.until = None,
                    None => {
                        let choice = Choice { policy: policy.clone(), until: None };
                        self.policies.insert(name.clone(), choice);
                    }
                }
            } else if let Some(choice) = self.policies.get_mut(name) {
                let until = *choice.until.get_or_insert_with(|| {
                    tracing::info!(
                        policy = name,
                        "the policy does not select this node any more; it holds for a while"
                    );
                    now + self.doubt
                });
                if current && until <= now {
                    tracing::info!(policy = name, "the policy is not for this node any more");
                    self.policies.remove(name);
                }
            }
        }
    }

    /// When the first of those that are not selected any more is let go; none if there is none.
    pub(super) fn let_go_at(&self) -> Option<Instant> {
        self.policies.values().filter_map(|choice| choice.until).min()
    }

    /// Those that hold.
    pub(super) fn policies(&self) -> impl Iterator<Item = (&String, &Followed)> {
        self.policies.iter().map(|(name, choice)| (name, &choice.policy))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use kube::api::DynamicObject;
    use serde_json::json;
    use tokio::time::Instant;

    use super::Chosen;
    use crate::daemon::cluster::policy::Followed;

    const DOUBT: Duration = Duration::from_secs(10);

    /// Policies of this priority, each for nodes of the zone that it is called after.
    fn policies(zones: &[&str], priority: i32) -> BTreeMap<String, Followed> {
        let followed = |zone: &&str| {
            let selector = json!({"matchLabels": {"zone": zone}});
            let object = json!({"kind": "NodePolicy", "apiVersion": "portwright.dev/v1alpha1", "metadata": {"name": zone},
                "spec": {"nodeSelector": selector, "priority": priority}});
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            ((*zone).to_owned(), Followed::read(object))
        };
        zones.iter().map(followed).collect()
    }

    fn zone(name: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("zone".to_owned(), name.to_owned())])
    }

    /// Names and priorities.
    fn holding(chosen: &Chosen) -> Vec<(&str, i32)> {
        let priority = |policy: &Followed| policy.policy.read.as_ref().unwrap().priority;
        chosen.policies().map(|(name, policy)| (name.as_str(), priority(policy))).collect()
    }

    #[test]
    fn what_labels_do_not_select_any_more_holds_for_a_while_and_what_they_select_at_once() {
        let (start, mut chosen) = (Instant::now(), Chosen::new(DOUBT));
        let both = policies(&["a", "b"], 1);
        chosen.see(&both, &zone("a"), true, start);
        assert_eq!((holding(&chosen), chosen.let_go_at()), (vec![("a", 1)], None));
        chosen.see(&both, &zone("b"), true, start);
        chosen.see(&both, &zone("b"), true, start + DOUBT / 2);
        assert_eq!(holding(&chosen), [("a", 1), ("b", 1)]);
        assert_eq!(chosen.let_go_at(), Some(start + DOUBT), "counted from the first time");
        chosen.see(&both, &zone("b"), true, start + DOUBT);
        assert_eq!((holding(&chosen), chosen.let_go_at()), (vec![("b", 1)], None));
    }

    #[test]
    fn labels_that_come_back_were_never_gone() {
        let (start, mut chosen) = (Instant::now(), Chosen::new(DOUBT));
        let a = policies(&["a"], 1);
        for flicker in 0..3 {
            let now = start + DOUBT * flicker;
            chosen.see(&a, &zone("a"), true, now);
            chosen.see(&a, &BTreeMap::new(), true, now + DOUBT / 2);
        }
        assert_eq!(holding(&chosen), [("a", 1)]);
    }

    #[test]
    fn while_labels_may_be_old_nothing_is_let_go() {
        let (start, mut chosen) = (Instant::now(), Chosen::new(DOUBT));
        let a = policies(&["a"], 1);
        chosen.see(&a, &zone("a"), true, start);
        chosen.see(&a, &BTreeMap::new(), false, start);
        chosen.see(&a, &BTreeMap::new(), false, start + DOUBT * 9);
        assert_eq!(holding(&chosen), [("a", 1)]);
        chosen.see(&a, &BTreeMap::new(), true, start + DOUBT * 9);
        assert_eq!(holding(&chosen), []);
    }

    #[test]
    fn a_policy_in_doubt_stays_as_it_was_and_one_that_is_deleted_goes() {
        let (start, mut chosen) = (Instant::now(), Chosen::new(DOUBT));
        chosen.see(&policies(&["a"], 1), &zone("a"), true, start);
        chosen.see(&policies(&["a"], 2), &zone("a"), true, start);
        chosen.see(&policies(&["a"], 3), &zone("b"), true, start);
        assert_eq!(holding(&chosen), [("a", 2)], "what it says now is for other nodes");
        chosen.see(&policies(&[], 3), &zone("b"), true, start);
        assert_eq!(holding(&chosen), []);
    }
}
