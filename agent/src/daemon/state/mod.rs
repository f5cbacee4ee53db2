//! What is told of a node, made from what the loop knows: the content of NodeState and of `portwright status`. Pure: whoever
//! publishes compares with [`NodeStateContent::equal_but_for_time`] and writes only what differs.
//!
//! Each PF, pool, bridge and mirror gets a condition `Ready` ([`verdict`]); policies and the node sum them up ([`policy`]).
//! The words are [`portwright_core::Reason`] and [`word::Word`]. What would make the object too large is left out, and that
//! is told ([`room`]).

mod bridge;
mod pf;
mod policy;
mod pool;
mod report;
mod rival;
mod room;
mod verdict;
pub mod word;

use std::collections::BTreeMap;

use portwright_api::NodeStateContent;
use portwright_api::state::{BridgeState, Condition, ConditionStatus, PfState, READY, Summary, limit};
use portwright_core::Object;
use portwright_core::desired::{Document, Mode};
use portwright_core::plan::Subject;

pub(super) use self::policy::CONFLICTED;
use self::rival::Claim;
use self::room::{Room, number};
use self::verdict::{Verdict, judge};
use self::word::Word;
use super::cluster::contribution::{Contribution, contributions};
use super::facts::Facts;

/// Every limit is halved so often at most; then a NodeState is a few kilobytes whatever the node has.
const MOST_HALVINGS: u32 = 12;
/// The node's condition about where policies come from.
pub const POLICIES_CURRENT: &str = "PoliciesCurrent";

/// What is told of a node. `previous` is what was told last: conditions that are as they were keep their time.
pub fn node_state(facts: &Facts, previous: Option<&NodeStateContent>, node: &str) -> NodeStateContent {
    told(facts, previous, node).0
}

/// The same, and what the node adds to the count of each policy, also of those that there was no room for.
pub fn told(
    facts: &Facts,
    previous: Option<&NodeStateContent>,
    node: &str,
) -> (NodeStateContent, BTreeMap<String, Contribution>) {
    let (mut content, counted) = attempt(facts, node, 0);
    for halvings in 1..=MOST_HALVINGS {
        if size(&content) <= limit::BYTES {
            break;
        }
        (content, _) = attempt(facts, node, halvings);
    }
    if let Some(previous) = previous {
        content.keep_transition_times(previous);
    }
    (content, counted)
}

fn size(content: &NodeStateContent) -> usize {
    serde_json::to_vec(content).map_or(0, |text| text.len())
}

/// What everything is made from.
struct Scene<'a> {
    facts: &'a Facts,
    /// When the round ended.
    now: String,
    claims: BTreeMap<Object, Claim>,
    room: Room,
}

impl<'a> Scene<'a> {
    /// What the plan says of a PF or bridge as a whole.
    fn subject(&self, object: &Object) -> Option<&'a Subject> {
        self.facts.plan.subjects.iter().find(|subject| subject.object == *object)
    }

    fn document(&self, policy: &str) -> Option<&'a Document> {
        self.facts.desired.documents.iter().find(|document| document.name == policy)
    }

    /// Whether the policy lets steps be run.
    fn mode(&self, policy: Option<&str>) -> Mode {
        policy.and_then(|policy| self.document(policy)).map(|document| document.mode).unwrap_or_default()
    }

    /// The policy that a PF, bridge or mirror follows.
    fn follows(&self, object: &Object) -> Option<&str> {
        self.claims.get(object)?.follows.as_deref()
    }
}

fn attempt(facts: &Facts, node: &str, halvings: u32) -> (NodeStateContent, BTreeMap<String, Contribution>) {
    let scene =
        Scene { facts, now: report::time(facts.at), claims: BTreeMap::new(), room: Room::new(halvings) };
    let scene = &mut Scene { claims: rival::claims(&scene), ..scene };
    let pfs = pf::states(scene);
    let bridges = bridge::states(scene);
    let pools = pool::states(scene);
    let policies = policy::states(scene, &pfs, &bridges);
    let of_pools = pools.iter().filter(|(_, matters)| *matters);
    let of_pools = of_pools.map(|(pool, _)| (format!("pool/{}", pool.resource), pool.conditions.as_slice()));
    let ready = node_ready(scene, &pfs, &bridges, of_pools.collect());
    let conditions = vec![ready.ready(scene), current(scene).condition(scene, POLICIES_CURRENT, None)];
    let counted = contributions(&policies);
    // Everything was judged: what is left out is what is well, as long as there is room for the rest.
    let room = &mut scene.room;
    let pools = pools.into_iter().map(|(pool, _)| pool).collect();
    let policies = room.fit_by("policies", limit::POLICIES, policies, |one| is_ready(&one.conditions));
    let pfs = room.fit_by("pfs", limit::PFS, pfs, |one| is_ready(&one.conditions));
    let pools = room.fit_by("pools", limit::POOLS, pools, |one| is_ready(&one.conditions));
    let bridges = room.fit_by("bridges", limit::BRIDGES, bridges, |one| {
        is_ready(&one.conditions) && one.mirrors.iter().all(|mirror| is_ready(&mirror.conditions))
    });
    let content = NodeStateContent {
        node: node.to_owned(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        last_round: report::round(scene),
        summary: summary(facts),
        conditions,
        policies,
        pfs,
        pools,
        bridges,
        plan: report::plan(scene),
        last_run: report::run(scene),
        problems: report::problems(scene),
        omitted: std::mem::take(&mut scene.room.omitted),
    };
    (content, counted)
}

/// Whether `Ready` holds.
fn is_ready(conditions: &[Condition]) -> bool {
    conditions.iter().any(|one| one.type_ == READY && one.status == ConditionStatus::True)
}

fn summary(facts: &Facts) -> Summary {
    let observed = &facts.observed;
    Summary {
        pfs: number(observed.pfs.len()),
        vfs: observed.pfs.iter().map(|pf| u32::from(pf.num_vfs())).sum(),
        vfs_in_use: observed.pfs.iter().map(|pf| pf::in_use(observed, pf)).sum(),
        pending: number(facts.plan.steps.len()),
        blocked: number(facts.plan.blocked.len()),
        unknown: number(facts.plan.unknown.len()),
        waiting: number(facts.waiting.len()),
        running: facts.running,
    }
}

/// Whether everything that is wanted of the node is in place.
fn node_ready(
    scene: &Scene<'_>,
    pfs: &[PfState],
    bridges: &[BridgeState],
    pools: Vec<(String, &[Condition])>,
) -> Verdict {
    if scene.facts.sequence == 0 {
        return Verdict::unknown(Word::NotObserved, "the node was not looked at yet");
    }
    if let Some(trouble) = &scene.facts.trouble {
        return Verdict::unknown(
            Word::NotObserved,
            format!("the last round could not be completed: {trouble}"),
        );
    }
    let mirrors = bridges.iter().flat_map(|bridge| {
        let object = |name: &str| format!("bridge/{}/mirror/{name}", bridge.name);
        bridge.mirrors.iter().map(move |mirror| (object(&mirror.name), mirror.conditions.as_slice()))
    });
    let mut parts: Vec<(String, &[Condition])> = Vec::new();
    parts.extend(pfs.iter().map(|pf| (pf.address.clone(), pf.conditions.as_slice())));
    parts.extend(
        bridges.iter().map(|bridge| (format!("bridge/{}", bridge.name), bridge.conditions.as_slice())),
    );
    parts.extend(mirrors);
    parts.extend(pools);
    let mut not = worst(parts.iter().map(|(object, list)| (object.as_str(), *list)));
    let total = parts.len() + scene.facts.policies.len() + 1;
    // A policy counts for itself only by what no object stands for.
    for (name, fact) in &scene.facts.policies {
        let own = policy::own(scene, name, fact);
        not.extend(summed(&own, own.len()).map(|verdict| (format!("policy/{name}"), verdict)));
    }
    let own = own(scene);
    if !own.holds() {
        not.push(("node".to_owned(), own));
    }
    summed(&not, total).unwrap_or_else(|| Verdict::yes(Word::InSync, "everything that is wanted is in place"))
}

/// What concerns the node and no PF or bridge of it.
fn own(scene: &Scene<'_>) -> Verdict {
    let itself = |object: &Object| match object {
        Object::Node => true,
        Object::Named(_) => object.bridge().is_none(),
        Object::Policy(..) | Object::Pci(_) | Object::Vf(_) => false,
    };
    let documents = &scene.facts.desired.documents;
    let acts = documents.is_empty() || documents.iter().any(|document| document.mode == Mode::Apply);
    judge(scene, if acts { Mode::Apply } else { Mode::Plan }, &itself)
}

/// The objects that are not ready.
fn worst<'a>(parts: impl Iterator<Item = (&'a str, &'a [Condition])>) -> Vec<(String, Verdict)> {
    parts
        .flat_map(|(object, list)| list.iter().map(move |condition| (object, condition)))
        .filter(|(_, condition)| condition.type_ == READY && condition.status != ConditionStatus::True)
        .map(|(object, condition)| {
            let Condition { status, reason, message, .. } = condition.clone();
            (object.to_owned(), Verdict { status, reason, message })
        })
        .collect()
}

/// One verdict over objects that are not ready; none if there are none. What needs a hand counts before what goes on by
/// itself, and that before what nobody can tell.
fn summed(not: &[(String, Verdict)], total: usize) -> Option<Verdict> {
    let by_itself = [Word::PlanOnly, Word::Waiting, Word::Pending].map(|word| word.to_string());
    let rank =
        |verdict: &Verdict| (verdict.status != ConditionStatus::False, by_itself.contains(&verdict.reason));
    let (object, first) = not.iter().min_by_key(|(_, verdict)| rank(verdict))?;
    let message = format!("{object}: {}", first.message);
    let message = match (not.len(), total) {
        (1, 0 | 1) => message,
        (1, _) => format!("1 of {total} objects is not ready; {message}"),
        (count, _) => format!("{count} of {total} objects are not ready; {message}"),
    };
    Some(Verdict { message, ..first.clone() })
}

fn current(scene: &Scene<'_>) -> Verdict {
    match &scene.facts.source_trouble {
        None => Verdict::yes(Word::Current, "the source of policies can be read"),
        Some(why) => Verdict::no(Word::SourceLost, format!("the last good policies hold: {why}")),
    }
}
