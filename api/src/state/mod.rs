//! The NodeState resource: what an agent tells of its node. One per node, named as the node, written by that node's agent
//! alone.
//!
//! There is no `spec`, and `status` is a plain field, not a subresource: one server-side apply makes the object and fills
//! it, and `kubectl wait --for=condition=Ready nodestate/NAME` works all the same. Lists are replaced whole, so that the
//! API server keeps one entry per list, not per member, in `managedFields`.
//!
//! Whatever an older or newer agent has written is read: fields that are missing are empty, unknown ones are skipped.

#![allow(unreachable_pub, reason = "the schema derive repeats the type inside a function")]

mod condition;
mod inventory;
pub mod limit;
mod report;
mod resource;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use condition::{Condition, ConditionStatus, READY};
pub use inventory::{BridgeState, MirrorState, PfState, PolicyState, PoolState, Problem, VfRange};
pub use report::{
    BlockedState, PlanState, PlannedStep, ReportedStep, Round, RunState, StepOutcome, UnknownState, Waiting,
};
pub use resource::NodeState;
pub(crate) use resource::definition;

/// `kind` of the resource.
pub const STATE_KIND: &str = "NodeState";

/// `status` of a NodeState, and what `portwright status -o json` prints.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStateContent {
    /// Name of the node.
    pub node: String,
    /// Version of the agent.
    pub agent_version: String,
    /// The round of the agent's loop that found what is told here. Later rounds that found the same are not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_round: Option<Round>,
    /// Numbers and a sentence.
    pub summary: Summary,
    /// `Ready` of the node: everything that is wanted of it is in place, and nothing is in the way.
    #[schemars(length(max = limit::CONDITIONS))]
    pub conditions: Vec<Condition>,
    /// The policies that select this node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limit::POLICIES))]
    pub policies: Vec<PolicyState>,
    /// Functions with SR-IOV.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limit::PFS))]
    pub pfs: Vec<PfState>,
    /// Resource pools.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limit::POOLS))]
    pub pools: Vec<PoolState>,
    /// Open vSwitch bridges that policies want or once wanted, with their mirrors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limit::BRIDGES))]
    pub bridges: Vec<BridgeState>,
    /// What is due or waits, and what is in the way: as `portwright plan -o json` prints it.
    pub plan: PlanState,
    /// The last run of steps that did anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run: Option<RunState>,
    /// What could not be read of the node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limit::PROBLEMS))]
    pub problems: Vec<Problem>,
    /// What was left out so that the object stays small: field path, and how many of its members are not shown. The numbers
    /// in `summary` count all.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub omitted: BTreeMap<String, u32>,
}

/// Numbers of the whole node, and a sentence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Summary {
    /// Functions with SR-IOV.
    pub pfs: u32,
    /// Their VFs.
    pub vfs: u32,
    /// VFs that somebody uses.
    pub vfs_in_use: u32,
    /// Steps that are due or wait.
    pub pending: u32,
    /// Obstacles.
    pub blocked: u32,
    /// What is wanted and depends on something that nobody could read.
    pub unknown: u32,
    /// Objects of which something is due and waits: for a turn, for pods, or after a failure.
    pub waiting: u32,
    /// Whether steps are being carried out.
    pub running: bool,
}

impl NodeStateContent {
    /// The node's `Ready` condition.
    pub fn ready(&self) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == READY)
    }

    /// Whether two states say the same, whenever they were found: the last round and the times of transitions are left out.
    /// Who publishes compares with this, so that a round that found nothing new writes nothing.
    pub fn equal_but_for_time(&self, other: &NodeStateContent) -> bool {
        self.timeless() == other.timeless()
    }

    fn timeless(&self) -> NodeStateContent {
        let mut content = NodeStateContent { last_round: None, ..self.clone() };
        for condition in content.conditions_mut() {
            condition.last_transition_time.clear();
        }
        content
    }

    /// All conditions with what they are about: `node`, `policy/NAME`, `0000:3b:00.0`, `pool/PREFIX/NAME`, `bridge/NAME`,
    /// `bridge/NAME/mirror/NAME`.
    pub fn all_conditions(&self) -> Vec<(String, &Condition)> {
        // In the order of `conditions_mut`.
        let mut lists: Vec<(String, &[Condition])> = vec![("node".to_owned(), &self.conditions)];
        lists.extend(
            self.policies.iter().map(|one| (format!("policy/{}", one.name), one.conditions.as_slice())),
        );
        lists.extend(self.pfs.iter().map(|one| (one.address.clone(), one.conditions.as_slice())));
        lists.extend(
            self.pools.iter().map(|one| (format!("pool/{}", one.resource), one.conditions.as_slice())),
        );
        for bridge in &self.bridges {
            let name = format!("bridge/{}", bridge.name);
            let mirror = |one: &'_ MirrorState| format!("{name}/mirror/{}", one.name);
            let mirrors: Vec<_> =
                bridge.mirrors.iter().map(|one| (mirror(one), one.conditions.as_slice())).collect();
            lists.push((name.clone(), &bridge.conditions));
            lists.extend(mirrors);
        }
        lists
            .into_iter()
            .flat_map(|(object, list)| list.iter().map(move |condition| (object.clone(), condition)))
            .collect()
    }

    fn conditions_mut(&mut self) -> impl Iterator<Item = &mut Condition> {
        let bridges = self.bridges.iter_mut().flat_map(|bridge| {
            let mirrors = bridge.mirrors.iter_mut().flat_map(|mirror| &mut mirror.conditions);
            bridge.conditions.iter_mut().chain(mirrors)
        });
        self.conditions
            .iter_mut()
            .chain(self.policies.iter_mut().flat_map(|policy| &mut policy.conditions))
            .chain(self.pfs.iter_mut().flat_map(|pf| &mut pf.conditions))
            .chain(self.pools.iter_mut().flat_map(|pool| &mut pool.conditions))
            .chain(bridges)
    }

    /// Keeps the time of every transition that is none: status and reason are what they were before.
    pub fn keep_transition_times(&mut self, previous: &NodeStateContent) {
        let before: BTreeMap<(String, String), &Condition> = previous
            .all_conditions()
            .into_iter()
            .map(|(object, condition)| ((object, condition.type_.clone()), condition))
            .collect();
        let kept: Vec<Option<String>> = self
            .all_conditions()
            .into_iter()
            .map(|(object, condition)| {
                let was = before.get(&(object, condition.type_.clone()))?;
                let same = was.status == condition.status && was.reason == condition.reason;
                same.then(|| was.last_transition_time.clone())
            })
            .collect();
        for (condition, time) in self.conditions_mut().zip(kept) {
            if let Some(time) = time {
                condition.last_transition_time = time;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(reason: &str, time: &str) -> Condition {
        Condition {
            type_: READY.to_owned(),
            status: ConditionStatus::False,
            reason: reason.to_owned(),
            message: format!("{reason} {time}"),
            last_transition_time: time.to_owned(),
            observed_generation: None,
        }
    }

    /// Every sort of object once, all with one condition.
    fn content(reason: &str, time: &str) -> NodeStateContent {
        let conditions = || vec![condition(reason, time)];
        let mirror = MirrorState { name: "m".to_owned(), conditions: conditions(), ..MirrorState::default() };
        let bridge = BridgeState {
            name: "b".to_owned(),
            mirrors: vec![mirror],
            conditions: conditions(),
            ..BridgeState::default()
        };
        NodeStateContent {
            conditions: conditions(),
            policies: vec![PolicyState {
                name: "p".to_owned(),
                conditions: conditions(),
                ..PolicyState::default()
            }],
            pfs: vec![PfState {
                address: "0000:3b:00.0".to_owned(),
                conditions: conditions(),
                ..PfState::default()
            }],
            pools: vec![PoolState {
                resource: "a/b".to_owned(),
                conditions: conditions(),
                ..PoolState::default()
            }],
            bridges: vec![bridge],
            ..NodeStateContent::default()
        }
    }

    #[test]
    fn a_transition_is_a_change_of_status_or_reason() {
        let before = content("Pending", "10:00");
        let mut same = content("Pending", "11:00");
        same.keep_transition_times(&before);
        let all = same.all_conditions();
        let objects: Vec<&str> = all.iter().map(|(object, _)| object.as_str()).collect();
        assert_eq!(
            objects,
            ["node", "policy/p", "0000:3b:00.0", "pool/a/b", "bridge/b", "bridge/b/mirror/m"]
        );
        assert!(
            all.iter().all(|(_, one)| one.last_transition_time == "10:00" && one.message == "Pending 11:00")
        );
        let mut other = content("Waiting", "11:00");
        other.keep_transition_times(&before);
        assert!(other.all_conditions().iter().all(|(_, one)| one.last_transition_time == "11:00"));
    }

    #[test]
    fn time_alone_is_no_difference() {
        let round = |sequence| Some(Round { sequence, at: sequence.to_string(), ..Round::default() });
        let one = NodeStateContent { last_round: round(1), ..content("Pending", "") };
        let mut two = NodeStateContent { last_round: round(2), ..content("Pending", "") };
        for condition in two.conditions_mut() {
            condition.last_transition_time = "later".to_owned();
        }
        assert!(one != two && one.equal_but_for_time(&two));
        two.summary.pending = 1;
        assert!(!one.equal_but_for_time(&two));
    }

    #[test]
    fn what_another_version_wrote_is_read() {
        let text = r#"{"metadata": {"name": "n1"}, "status": {"later": {"x": 1}, "pfs": [{"address": "0000:3b:00.0", "y": 2}]}}"#;
        let state: NodeState = serde_json::from_str(text).unwrap();
        assert_eq!(
            (state.api_version.as_str(), state.kind.as_str()),
            ("portwright.dev/v1alpha1", "NodeState")
        );
        assert_eq!(state.status.pfs[0].address, "0000:3b:00.0");
        let empty: NodeState = serde_json::from_str(r#"{"metadata": {"name": "n1"}}"#).unwrap();
        assert_eq!(empty.status, NodeStateContent::default());
        let sent = serde_json::to_value(NodeState::new("n1", NodeStateContent::default())).unwrap();
        assert_eq!(sent["apiVersion"], "portwright.dev/v1alpha1");
        assert_eq!(sent["metadata"], serde_json::json!({"name": "n1"}));
    }
}
