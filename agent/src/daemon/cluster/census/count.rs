//! Counting: what all NodeStates say about the policies, and the status that follows.

use std::collections::BTreeMap;

use portwright_api::NodePolicyStatus;
use portwright_api::state::{Condition, ConditionStatus, READY};

use crate::daemon::cluster::contribution::Contribution;

/// What was counted of one policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Count {
    /// Nodes that say that it selects them.
    pub nodes: u32,
    /// Nodes that have read this generation and have everything in place.
    pub ready: u32,
    /// Functions with SR-IOV that follow it.
    pub pfs: u32,
    /// Nodes that have read this generation and cannot use it.
    pub refusing: u32,
    /// Nodes that have not read this generation yet.
    pub behind: u32,
}

impl Count {
    /// Adds what one node says, if it is about this very policy.
    pub fn add(&mut self, uid: &str, generation: i64, contribution: &Contribution) {
        if contribution.uid != uid {
            return;
        }
        self.nodes = self.nodes.saturating_add(1);
        self.pfs = self.pfs.saturating_add(contribution.pfs);
        let counter = if contribution.generation != generation {
            &mut self.behind
        } else if !contribution.accepted {
            &mut self.refusing
        } else if contribution.ready {
            &mut self.ready
        } else {
            return;
        };
        *counter = counter.saturating_add(1);
    }

    /// The conditions that follow. Transition times are kept where nothing changes.
    fn conditions(&self, generation: i64, now: &str, before: &[Condition]) -> Vec<Condition> {
        let Count { nodes, ready, pfs: _, refusing, behind } = *self;
        let accepted = match (refusing, nodes.saturating_sub(behind)) {
            (0, 0) => {
                (ConditionStatus::Unknown, "Pending", "no node has read this generation yet".to_owned())
            }
            (0, read) => (
                ConditionStatus::True,
                "Accepted",
                format!("{read} of {nodes} nodes have read it and can use it"),
            ),
            (refusing, _) => (
                ConditionStatus::False,
                "Invalid",
                format!("{refusing} of {nodes} nodes cannot use it; their NodeStates say why"),
            ),
        };
        let done = if nodes == 0 {
            (ConditionStatus::Unknown, "NoNodes", "selects no node that has an agent".to_owned())
        } else if ready == nodes {
            (ConditionStatus::True, "InSync", format!("in place on {}", all(nodes)))
        } else {
            (
                ConditionStatus::False,
                "Pending",
                format!("in place on {ready} of {nodes} nodes; the NodeStates of the others say why"),
            )
        };
        [("Accepted", accepted), (READY, done)]
            .into_iter()
            .map(|(kind, (status, reason, message))| {
                let was = before.iter().find(|was| was.type_ == kind);
                let since = was.filter(|was| was.status == status && was.reason == reason);
                Condition {
                    type_: kind.to_owned(),
                    status,
                    reason: reason.to_owned(),
                    message,
                    last_transition_time: since
                        .map_or(now, |was| was.last_transition_time.as_str())
                        .to_owned(),
                    observed_generation: Some(generation),
                }
            })
            .collect()
    }

    /// The policy's status.
    pub fn status(
        &self,
        generation: i64,
        version: &str,
        now: &str,
        before: &NodePolicyStatus,
    ) -> NodePolicyStatus {
        NodePolicyStatus {
            matched_nodes: Some(self.nodes),
            ready_nodes: Some(self.ready),
            matched_pfs: Some(self.pfs),
            observed_generation: Some(generation),
            last_census: Some(now.to_owned()),
            census_version: Some(version.to_owned()),
            census_started: before.census_started.clone(),
            conditions: self.conditions(generation, now, &before.conditions),
        }
    }
}

fn all(nodes: u32) -> String {
    if nodes == 1 { "the one node".to_owned() } else { format!("all {nodes} nodes") }
}

/// Counts one policy over what all nodes say.
pub fn count<'a>(
    name: &str,
    uid: &str,
    generation: i64,
    nodes: impl IntoIterator<Item = &'a BTreeMap<String, Contribution>>,
) -> Count {
    let mut count = Count::default();
    for contribution in nodes.into_iter().filter_map(|node| node.get(name)) {
        count.add(uid, generation, contribution);
    }
    count
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use portwright_api::NodePolicyStatus;
    use portwright_api::state::ConditionStatus;

    use super::{Count, count};
    use crate::daemon::cluster::contribution::Contribution;
    use crate::daemon::state::word::Word;

    fn node(uid: &str, generation: i64, accepted: bool, ready: bool) -> BTreeMap<String, Contribution> {
        let contribution = Contribution { uid: uid.to_owned(), generation, pfs: 2, accepted, ready };
        BTreeMap::from([("p".to_owned(), contribution)])
    }

    #[test]
    fn only_this_policy_and_this_generation_count() {
        let nodes = [
            node("u", 3, true, true),
            node("u", 3, true, false),
            node("u", 2, true, true),
            node("u", 3, false, true),
            node("other", 3, true, true),
            BTreeMap::new(),
        ];
        let counted = count("p", "u", 3, &nodes);
        assert_eq!(counted, Count { nodes: 4, ready: 1, pfs: 8, refusing: 1, behind: 1 });
        let status = counted.status(3, "77", "now", &NodePolicyStatus::default());
        assert_eq!(
            (status.matched_nodes, status.ready_nodes, status.matched_pfs),
            (Some(4), Some(1), Some(8))
        );
        let said: Vec<_> = status.conditions.iter().map(|one| (one.type_.as_str(), one.status)).collect();
        assert_eq!(said, [("Accepted", ConditionStatus::False), ("Ready", ConditionStatus::False)]);
    }

    #[test]
    fn transition_times_stay_where_nothing_changes() {
        let all_ready = count("p", "u", 3, &[node("u", 3, true, true)]);
        let first = all_ready.status(3, "1", "10:00", &NodePolicyStatus::default());
        let second = all_ready.status(3, "2", "11:00", &first);
        assert!(second.conditions.iter().all(|one| one.last_transition_time == "10:00"), "{second:?}");
        let none = Count::default().status(3, "3", "12:00", &second);
        assert!(none.conditions.iter().any(|one| one.reason == Word::NoNodes.to_string()), "{none:?}");
        assert!(none.conditions.iter().all(|one| one.last_transition_time == "12:00"), "{none:?}");
    }
}
