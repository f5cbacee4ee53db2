//! Pools: how many devices, how many of them can be given out, how many pods have.

use std::collections::BTreeSet;

use portwright_api::state::PoolState;
use portwright_core::Object;
use portwright_core::pools::spec::Rule;
use portwright_core::pools::{Health, Pool};

use super::Scene;
use super::room::number;
use super::verdict::Verdict;
use super::word::Word;

/// All pools, each with whether the node is not ready while the pool is not: a pool of config.json may have no device here,
/// because that file is the same on all nodes.
pub(super) fn states(scene: &Scene<'_>) -> Vec<(PoolState, bool)> {
    let facts = scene.facts;
    facts.pools.pools.iter().map(|pool| (state(scene, pool), matters(pool))).collect()
}

fn matters(pool: &Pool) -> bool {
    !pool.devices.is_empty() || pool.spec.rules.iter().any(|rule| matches!(rule, Rule::Group(_)))
}

fn state(scene: &Scene<'_>, pool: &Pool) -> PoolState {
    let resource = pool.spec.resource.to_string();
    let held: BTreeSet<&str> = scene
        .facts
        .allocations
        .list
        .iter()
        .filter(|allocation| allocation.resource == resource)
        .map(|allocation| allocation.device.as_str())
        .collect();
    PoolState {
        origin: pool.spec.origin.clone(),
        devices: number(pool.devices.len()),
        healthy: number(pool.healthy()),
        allocated: number(held.len()),
        conditions: vec![verdict(scene, pool).ready(scene)],
        resource,
    }
}

fn verdict(scene: &Scene<'_>, pool: &Pool) -> Verdict {
    if scene.facts.unconnected.contains(&pool.spec.resource) {
        return Verdict::no(Word::NotRegistered, "kubelet does not listen to it");
    }
    let object = Object::Named(format!("pool/{}", pool.spec.resource));
    if let Some(blocked) = scene.facts.plan.blocked.iter().find(|blocked| blocked.object == object) {
        return Verdict::no(blocked.reason, blocked.message.clone());
    }
    if pool.devices.is_empty() {
        return Verdict::no(
            Word::NoDevices,
            "no device of this node is in it; `portwright pools --explain ADDRESS` says why",
        );
    }
    let first = pool.devices.iter().find_map(|device| match &device.health {
        Health::Healthy => None,
        Health::Unhealthy { why } | Health::Withheld { why } => Some(format!("{}: {why}", device.id())),
    });
    match first {
        None => Verdict::yes(Word::InSync, "all devices can be given out"),
        Some(first) => {
            let total = pool.devices.len();
            let bad = total.saturating_sub(pool.healthy());
            Verdict::no(Word::Unhealthy, format!("{bad} of {total} devices cannot be given out; {first}"))
        }
    }
}
