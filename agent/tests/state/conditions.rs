//! Conditions, one a line, as `fixtures/state.txt` says. With BLESS=1 the file is written instead of compared; read what has
//! changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use portwright::daemon::facts::{Cause, Facts, PolicyFact, Run};
use portwright_api::NodeStateContent;
use portwright_core::desired::Desired;
use portwright_core::drive::{Outcome, StepReport};
use portwright_core::observed::Pf;
use portwright_core::ovs::MirrorHealth;
use portwright_core::{Blocked, Object, Reason};

use crate::common::{compare, folder};
use crate::{edit, scenario, told};

fn lines(content: &NodeStateContent) -> String {
    let line = |(object, condition): (String, &portwright_api::state::Condition)| {
        let (type_, status) = (&condition.type_, condition.status.as_str());
        format!("{object} {type_} {status} {}: {}\n", condition.reason, condition.message)
    };
    content.all_conditions().into_iter().map(line).collect()
}

fn last_run(facts: &mut Facts, object: &str, why: &str) {
    let object: Object = object.parse().unwrap();
    let step = facts.plan.steps.iter().find(|step| step.object == object).unwrap().clone();
    let outcome = Outcome::Failed { why: why.to_owned() };
    let run = Run {
        number: 1,
        at: 1_790_000_000,
        causes: BTreeSet::from([Cause::Start]),
        steps: vec![StepReport { step, outcome }],
    };
    facts.last_run = Some(Arc::new(run));
}

fn pf(facts: &Facts) -> Object {
    Object::Pci(facts.observed.pfs[0].address)
}

/// What the loop knows besides the plan.
pub(super) fn variants() -> Vec<(&'static str, Facts)> {
    let mut all = Vec::new();
    all.push(("before the first round", Facts::default()));
    let mut running = scenario("mtu-raise");
    running.running = true;
    running.acting = [pf(&running)].into();
    all.push(("mtu-raise while its steps are carried out", running));
    let mut failed = scenario("mtu-raise");
    let object = pf(&failed);
    last_run(
        &mut failed,
        &object.to_string(),
        "cannot write `1` to `/sys/class/net/ens1f0/mtu`: Invalid argument (os error 22)",
    );
    all.push(("mtu-raise after a step that failed", failed.clone()));
    failed.waiting.insert(object.clone(), "waits up to 4 s after 3 failures".to_owned());
    failed.plan.steps.clear();
    all.push(("mtu-raise while it backs off after failures", failed.clone()));
    let mut past = failed.clone();
    past.waiting.clear();
    all.push(("mtu-raise when what failed is no longer due", past));
    let mut turn = scenario("mtu-raise");
    turn.waiting.insert(object.clone(), "waits for a turn: 2 of 2 nodes are being disrupted".to_owned());
    all.push(("mtu-raise while it waits for its turn", turn));
    let mut back = failed.clone();
    back.waiting.clear();
    let address = back.observed.pfs[0].address;
    let desired = Desired { fall_back: [(address, Pf::default())].into(), ..(*back.desired).clone() };
    back.desired = Arc::new(desired);
    all.push(("mtu-raise that has fallen back", back));
    for reason in [Reason::Contended, Reason::Releasing] {
        let mut fight = scenario("in-sync");
        fight.plan.blocked.push(Blocked::new(pf(&fight), reason, "found again and again", ""));
        all.push(("in-sync with an obstacle of the daemon's own", fight));
    }
    let mut mistakes = scenario("in-sync");
    let problem = "spec.nics[0].vfs: expected a whole number, found text\nspec.pool: unknown";
    for fact in mistakes.policies.values_mut() {
        fact.problem = Some(problem.to_owned());
    }
    all.push(("in-sync with mistakes in the newest policy", mistakes.clone()));
    mistakes.policies.insert(
        "first".to_owned(),
        PolicyFact { problem: Some(problem.to_owned()), ..PolicyFact::default() },
    );
    all.push(("in-sync beside a policy that was never right", mistakes));
    let mut blind = scenario("in-sync");
    blind.trouble = Some("cannot list `/sys/bus/pci/devices`: Permission denied (os error 13)".to_owned());
    blind.source_trouble = Some("cannot read `/etc/portwright/policy.yaml`".to_owned());
    all.push(("in-sync that cannot be observed any more", blind));
    all.extend(mirrors());
    all
}

/// Mirrors that are as wanted in the database, by how they fare. One of another policy's name, which no policy describes, is
/// nobody's concern.
fn mirrors() -> Vec<(&'static str, Facts)> {
    let faring = |name: &str, judged: MirrorHealth| {
        let mut facts = scenario(name);
        edit(&mut facts, |observed| {
            let bridges = observed.ovs.iter_mut().flat_map(|ovs| &mut ovs.bridges);
            bridges.flat_map(|bridge| &mut bridge.mirrors).for_each(|mirror| mirror.judged = Some(judged));
        });
        facts
    };
    vec![
        ("ovs-in-sync with a mirror whose output is down", faring("ovs-in-sync", MirrorHealth::OutputDown)),
        ("ovs-in-sync with a mirror that does not copy", faring("ovs-in-sync", MirrorHealth::DoesNotCopy)),
        ("ovs-in-sync with a mirror without output", faring("ovs-in-sync", MirrorHealth::NoOutput)),
        (
            "ovs-in-sync with a mirror that selects nothing",
            faring("ovs-in-sync", MirrorHealth::SelectsNothing),
        ),
        ("ovs-removed with mirrors whose output is down", faring("ovs-removed", MirrorHealth::OutputDown)),
    ]
}

#[test]
fn conditions_are_as_the_file_says() {
    let scenarios = [
        "in-sync",
        "mtu-raise",
        "mode-plan",
        "resize-vf-in-use",
        "every-obstacle-at-once",
        "pf-missing",
        "merge-by-priority",
        "policy-conflict",
        "policy-conflict-older-binding",
        "two-entries-one-port",
        "stuck",
        "unknown-facts",
        "released",
        "ovs-in-sync",
        "ovs-drift",
        "ovs-unreachable",
        "ovs-mirror-obstacles",
        "ovs-removed",
        "ovs-merge",
    ];
    let of_scenarios = scenarios.iter().map(|name| (*name, scenario(name)));
    let mut found = String::new();
    for (name, facts) in of_scenarios.chain(variants()) {
        found.push_str(&format!("# {name}\n{}\n", lines(&told(&facts))));
    }
    compare(&folder().join("fixtures/state.txt"), &found);
}
