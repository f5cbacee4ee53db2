//! Why a device is in a pool or in none: for each pool and each rule, which condition took or refused it, with the value
//! that was found.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::assign::{Health, fit, place};
use super::candidate::Candidate;
use super::selector::Refusal;
use super::spec::{PoolSpec, ResourceName, Rule};

/// The answer for one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Device id.
    pub device: String,
    /// The pool that has it, if one has.
    pub pool: Option<String>,
    /// What is wrong with it there.
    pub unhealthy: Option<String>,
    /// Each pool's view, in the order in which they are asked.
    pub pools: Vec<PoolView>,
}

/// What one pool says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolView {
    /// Resource name.
    pub pool: String,
    /// Why the pool can have no such device, whatever its selectors say.
    pub unfit: Option<String>,
    /// Each selector's verdict; empty if the device is unfit.
    pub rules: Vec<RuleView>,
}

/// What one selector says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleView {
    /// Where the rule is written.
    pub rule: String,
    /// Whether it takes the device.
    pub takes: bool,
    /// The condition that refuses it.
    pub condition: Option<&'static str>,
    /// What the condition asks for.
    pub wanted: Option<String>,
    /// What the device has.
    pub found: Option<String>,
}

/// Explains one device.
pub fn explain(
    candidate: &Arc<Candidate>,
    specs: &[PoolSpec],
    held: &BTreeMap<String, ResourceName>,
) -> Explanation {
    let placed = place(candidate, specs, held.get(&candidate.id));
    let pool =
        placed.as_ref().and_then(|(number, _)| specs.get(*number)).map(|spec| spec.resource.to_string());
    let unhealthy = placed.and_then(|(_, device)| match device.health {
        Health::Healthy => None,
        Health::Unhealthy { why } | Health::Withheld { why } => Some(why),
    });
    let pools = specs.iter().map(|spec| view(candidate, spec)).collect();
    Explanation { device: candidate.id.clone(), pool, unhealthy, pools }
}

fn view(candidate: &Candidate, spec: &PoolSpec) -> PoolView {
    let unfit = fit(candidate, spec.device_type).err();
    let rules = if unfit.is_some() {
        Vec::new()
    } else {
        spec.rules.iter().enumerate().map(|(number, rule)| rule_view(candidate, spec, number, rule)).collect()
    };
    PoolView { pool: spec.resource.to_string(), unfit, rules }
}

fn rule_view(candidate: &Candidate, spec: &PoolSpec, number: usize, rule: &Rule) -> RuleView {
    let name = match rule {
        Rule::Selector(_) => format!("{}.selectors[{number}]", spec.origin),
        Rule::Group(group) => group.path.clone(),
    };
    match rule.take(candidate) {
        Ok(()) => RuleView { rule: name, takes: true, condition: None, wanted: None, found: None },
        Err(Refusal { condition, wanted, found }) => RuleView {
            rule: name,
            takes: false,
            condition: Some(condition),
            wanted: Some(wanted),
            found: Some(found),
        },
    }
}
