//! Policies: whether each can be used, whether another wants the same, and whether what it wants is in place.

use portwright_api::state::{BridgeState, Condition, PfState, PolicyState};
use portwright_core::{Object, Reason};

use super::Scene;
use super::rival::Claim;
use super::room::number;
use super::verdict::Verdict;
use super::word::Word;
use crate::daemon::facts::PolicyFact;

/// The document can be used.
pub(super) const ACCEPTED: &str = "Accepted";
/// Another policy of the same priority wants the same thing.
pub(in crate::daemon) const CONFLICTED: &str = "Conflicted";
/// Things that a message names.
const NAMED: usize = 3;

/// All policies.
pub(super) fn states(scene: &Scene<'_>, pfs: &[PfState], bridges: &[BridgeState]) -> Vec<PolicyState> {
    scene.facts.policies.iter().map(|(name, fact)| state(scene, name, fact, pfs, bridges)).collect()
}

fn state(
    scene: &Scene<'_>,
    name: &str,
    fact: &PolicyFact,
    pfs: &[PfState],
    bridges: &[BridgeState],
) -> PolicyState {
    let mine = |policy: &Option<String>| policy.as_deref() == Some(name);
    let my_pfs: Vec<&PfState> = pfs.iter().filter(|pf| mine(&pf.policy)).collect();
    let my_bridges: Vec<&BridgeState> = bridges.iter().filter(|bridge| mine(&bridge.policy)).collect();
    let my_mirrors: Vec<_> = bridges
        .iter()
        .flat_map(|bridge| bridge.mirrors.iter().map(move |mirror| (bridge, mirror)))
        .filter(|(_, mirror)| mine(&mirror.policy))
        .collect();
    let of_pfs = my_pfs.iter().map(|pf| (pf.address.clone(), pf.conditions.as_slice()));
    let of_bridges =
        my_bridges.iter().map(|bridge| (format!("bridge/{}", bridge.name), bridge.conditions.as_slice()));
    let of_mirrors = my_mirrors.iter().map(|(bridge, mirror)| {
        (format!("bridge/{}/mirror/{}", bridge.name, mirror.name), mirror.conditions.as_slice())
    });
    let parts: Vec<(String, &[Condition])> = of_pfs.chain(of_bridges).chain(of_mirrors).collect();
    let verdicts = [
        (ACCEPTED, accepted(fact)),
        (CONFLICTED, conflicted(scene, name)),
        (portwright_api::state::READY, ready(scene, name, fact, &parts)),
    ];
    let conditions =
        verdicts.map(|(type_, verdict)| verdict.condition(scene, type_, fact.generation)).to_vec();
    PolicyState {
        name: name.to_owned(),
        uid: fact.uid.clone(),
        observed_generation: fact.generation,
        followed: fact.followed,
        pfs: number(my_pfs.len()),
        bridges: number(my_bridges.len()),
        mirrors: number(my_mirrors.len()),
        conditions,
    }
}

fn accepted(fact: &PolicyFact) -> Verdict {
    let Some(problem) = &fact.problem else {
        return Verdict::yes(Word::Accepted, "the policy is followed");
    };
    let so = if fact.followed { "the last good one is followed" } else { "nothing of it is followed" };
    Verdict::no(Word::Invalid, format!("{so}; {}", one_line(problem)))
}

/// One mistake a line becomes a sentence.
fn one_line(problem: &str) -> String {
    problem.trim_end().replace('\n', "; ")
}

/// True is bad here: somebody has to decide. It is so on both policies, whichever of them is followed meanwhile.
fn conflicted(scene: &Scene<'_>, name: &str) -> Verdict {
    let text = |(object, claim): (&Object, &Claim)| {
        let others = claim.equals(name);
        if others.is_empty() {
            return None;
        }
        let follows = match &claim.follows {
            Some(policy) => format!("it follows `{policy}`, which was there first"),
            None => "it follows neither".to_owned(),
        };
        let others = others.join("`, `");
        Some(format!("`{others}` wants {object} with the same priority {}; {follows}", claim.top()))
    };
    let texts: Vec<String> = scene.claims.iter().filter_map(text).collect();
    if texts.is_empty() {
        return Verdict::no(Word::Exclusive, "no policy of the same priority wants the same thing");
    }
    Verdict { reason: Reason::PolicyConflict.to_string(), ..Verdict::yes(Word::Exclusive, listed(&texts)) }
}

/// What is not as the policy wants it and no object stands for: an entry that selects nothing, for one.
pub(super) fn own(scene: &Scene<'_>, name: &str, fact: &PolicyFact) -> Vec<(String, Verdict)> {
    let mut missing: Vec<(String, Verdict)> = Vec::new();
    let problem = match (&fact.problem, fact.followed) {
        (Some(problem), true) => Some(("the last good one is followed", problem.as_str())),
        (Some(problem), false) => Some(("it is not followed", problem.as_str())),
        (None, true) => None,
        (None, false) => Some(("it is not followed", "it was not read yet")),
    };
    missing.extend(problem.map(|(so, why)| (so.to_owned(), Verdict::no(Word::Invalid, one_line(why)))));
    for blocked in &scene.facts.plan.blocked {
        if let Object::Policy(policy, path) = &blocked.object
            && policy == name
        {
            missing.push((path.clone(), Verdict::no(blocked.reason, blocked.message.clone())));
        }
    }
    let denied = scene.claims.iter().filter(|(_, claim)| claim.denies(name));
    missing.extend(denied.map(|(object, claim)| {
        let why = match &claim.follows {
            Some(policy) => format!("follows `{policy}`, which has the same priority and was there first"),
            None if claim.equals(name).is_empty() => "two entries of this policy want it".to_owned(),
            None => "policies of the same priority want it, so none is followed".to_owned(),
        };
        (object.to_string(), Verdict::no(Reason::PolicyConflict, why))
    }));
    missing
}

fn ready(scene: &Scene<'_>, name: &str, fact: &PolicyFact, parts: &[(String, &[Condition])]) -> Verdict {
    if let Some(trouble) = &scene.facts.trouble {
        let why = format!("the last round could not be completed: {trouble}");
        return Verdict::unknown(Word::NotObserved, why);
    }
    let mut missing = own(scene, name, fact);
    let total = parts.len() + missing.len();
    let not = super::worst(parts.iter().map(|(object, list)| (object.as_str(), *list)));
    missing.extend(not);
    if let Some(verdict) = super::summed(&missing, total) {
        return verdict;
    }
    let overridden = scene.claims.iter().filter(|(_, claim)| claim.overrides(name));
    let overridden: Vec<String> = overridden
        .map(|(object, claim)| match &claim.follows {
            Some(policy) => format!("{object} follows `{policy}`, which has a higher priority"),
            None => format!("policies of higher priority want {object}"),
        })
        .collect();
    match (overridden.is_empty(), total) {
        (false, _) => Verdict::yes(Word::Overridden, listed(&overridden)),
        (true, 0) => Verdict::yes(Word::InSync, "it wants nothing of this node"),
        (true, 1) => Verdict::yes(Word::InSync, "the one object that it describes is as wanted"),
        (true, count) => {
            Verdict::yes(Word::InSync, format!("all {count} objects that it describes are as wanted"))
        }
    }
}

/// The first texts, and how many more there are.
fn listed(texts: &[String]) -> String {
    let shown = texts.get(..NAMED).unwrap_or(texts).join("; ");
    match texts.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}
