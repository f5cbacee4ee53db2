//! What is told of a node: scenarios of the planner and what the loop knows besides go in, conditions come out, one a line, as
//! `fixtures/state.txt` says. With BLESS=1 the file is written instead of compared; read what has changed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::integer_division,
    clippy::disallowed_methods,
    reason = "tests fail by panicking and read the repository"
)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use common::{compare, folder, repository};
use portwright::daemon::facts::{Cause, Facts, PolicyFact, Run};
use portwright::daemon::state::node_state;
use portwright::daemon::wish::Untold;
use portwright_api::NodeStateContent;
use portwright_api::state::limit;
use portwright_core::desired::Desired;
use portwright_core::drive::{Outcome, StepReport};
use portwright_core::management::management_path;
use portwright_core::observed::{Holder, Pf, Vf};
use portwright_core::pools::{assign, candidates, spec};
use portwright_core::{Blocked, Change, Disruption, Object, Observed, PciAddress, Reason, Step, VfRef, plan};
use portwright_device_plugin::allocations::{Allocation, Allocations};
use serde_json::Value;

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What the loop knows after a round in which it found what a scenario shows.
fn scenario(name: &str) -> Facts {
    let folder = repository().join("tests/fixtures/scenarios").join(name);
    let observed: Observed = serde_json::from_str(&text(&folder.join("observed.json"))).unwrap();
    let policy = text(&folder.join("policy.yaml"));
    let documents = portwright_api::load([("policy.yaml", policy.as_str())]).unwrap();
    let bindings = folder.join("bindings.json");
    let bindings =
        if bindings.exists() { serde_json::from_str(&text(&bindings)).unwrap() } else { Default::default() };
    facts(observed, Desired { documents, bindings, ..Desired::default() })
}

fn facts(observed: Observed, desired: Desired) -> Facts {
    let plan = plan(&observed, &desired, &portwright::builtin::profiles().unwrap());
    let specs = spec::of_policies(&observed, &desired, None);
    let pools = assign(&candidates(&observed, &management_path(&observed)), &specs, &Default::default());
    let policy = |name: &String| {
        let fact = PolicyFact { uid: None, generation: Some(3), problem: None, followed: true };
        (name.clone(), fact)
    };
    Facts {
        sequence: 7,
        at: 1_790_000_000,
        causes: BTreeSet::from([Cause::Wish]),
        policies: desired.documents.iter().map(|document| policy(&document.name)).collect(),
        observed: Arc::new(observed),
        desired: Arc::new(desired),
        plan,
        pools: Arc::new(pools),
        ..Facts::default()
    }
}

fn told(facts: &Facts) -> NodeStateContent {
    let content = node_state(facts, None, "worker-1");
    // kubectl wait compares it with the NodeState's own generation, which grows with every write, and would wait for ever.
    assert!(content.conditions.iter().all(|condition| condition.observed_generation.is_none()));
    content
}

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
fn variants() -> Vec<(&'static str, Facts)> {
    let mut all = Vec::new();
    all.push(("before the first round", Facts::default()));
    let mut running = scenario("mtu-raise");
    running.running = true;
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
    all
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

/// A node with one PF and so many VFs, the first half for vfio-pci and the second for the kernel's driver, all as wanted.
fn node(vfs: u16) -> Facts {
    let half = vfs / 2;
    let vf = |index: u16| Vf {
        index,
        address: PciAddress {
            domain: 1,
            bus: (index / 256) as u8,
            device: (index / 8 % 32) as u8,
            function: (index % 8) as u8,
        },
        driver: Some(if index < half { "vfio-pci" } else { "igbvf" }.to_owned()),
        ..Vf::default()
    };
    let pf = Pf {
        address: "0000:3b:00.0".parse().unwrap(),
        name: Some("ens1f0".to_owned()),
        vendor: "8086".parse().unwrap(),
        device: "10c9".parse().unwrap(),
        driver: Some("igb".to_owned()),
        total_vfs: vfs,
        vfs: (0..vfs).map(vf).collect(),
        ..Pf::default()
    };
    let policy = format!(
        "{{apiVersion: portwright.dev/v1alpha1, kind: NodePolicy, metadata: {{name: workers}}, spec: {{nics: [{{select: {{drivers: [igb]}}, \
         vfGroups: [{{vfs: \"0-{}\", pool: dpdk, driver: vfio-pci, macs: keep}}, {{vfs: \"{}-{}\", pool: net, macs: keep}}]}}]}}}}",
        half - 1,
        half,
        vfs - 1
    );
    let documents = portwright_api::load([("policy.yaml", policy.as_str())]).unwrap();
    let mut observed = Observed { pfs: vec![pf], ..Observed::default() };
    observed.node.sight = portwright_core::observed::Sight::Complete;
    let mut facts = facts(observed, Desired { documents, ..Desired::default() });
    // What a VF needs besides is other tests' business.
    facts.plan.steps.clear();
    facts.plan.blocked.clear();
    facts.plan.unknown.clear();
    facts
}

fn pod(name: &str) -> Holder {
    let (namespace, container) = ("web".to_owned(), "c".to_owned());
    Holder::Pod { namespace, name: name.to_owned(), container, resource: "portwright.dev/net".to_owned() }
}

fn edit(facts: &mut Facts, change: impl FnOnce(&mut Observed)) {
    let mut observed = (*facts.observed).clone();
    change(&mut observed);
    facts.observed = Arc::new(observed);
}

#[test]
fn vfs_are_told_in_ranges_and_their_users_by_name() {
    let mut facts = node(8);
    edit(&mut facts, |observed| {
        observed.pfs[0].vfs[5].holders = vec![pod("a")];
        observed.pfs[0].vfs[6].holders = vec![pod("a"), pod("b")];
        observed.pfs[0].vfs[7].driver = None;
    });
    let allocation = |device: &str| Allocation {
        device: device.to_owned(),
        resource: "portwright.dev/net".to_owned(),
        namespace: "web".to_owned(),
        pod: "a".to_owned(),
        container: "c".to_owned(),
    };
    let list = vec![allocation("0001:00:00.5"), allocation("0001:00:00.6")];
    facts.allocations = Arc::new(Allocations { list, ..Allocations::default() });
    let content = told(&facts);
    let pf = &content.pfs[0];
    let ranges: Vec<String> = pf
        .vfs
        .iter()
        .map(|range| format!("{} {:?} {:?} {:?}", range.vfs, range.driver, range.pool, range.unhealthy))
        .collect();
    assert_eq!(
        ranges,
        [
            "0-3 Some(\"vfio-pci\") Some(\"portwright.dev/dpdk\") None",
            "4-6 Some(\"igbvf\") Some(\"portwright.dev/net\") None",
            "7 None Some(\"portwright.dev/net\") None"
        ]
    );
    assert_eq!((pf.in_use, pf.pods.as_slice()), (2, ["web/a".to_owned(), "web/b".to_owned()].as_slice()));
    assert_eq!((content.summary.vfs, content.summary.vfs_in_use), (8, 2));
    let pools: Vec<_> = content
        .pools
        .iter()
        .map(|pool| (pool.resource.as_str(), pool.devices, pool.healthy, pool.allocated))
        .collect();
    assert_eq!(pools, [("portwright.dev/dpdk", 4, 4, 0), ("portwright.dev/net", 4, 4, 2)]);
    assert_eq!(content.ready().unwrap().reason, "InSync");
}

#[test]
fn pools_say_what_keeps_them_from_being_used() {
    let reason = |facts: &Facts| {
        let content = told(facts);
        let pool = &content.pools[1].conditions[0];
        (pool.reason.clone(), pool.message.clone(), content.ready().unwrap().reason.clone())
    };
    let mut deaf = node(4);
    deaf.unconnected = vec![deaf.pools.pools[1].spec.resource.clone()];
    assert_eq!(reason(&deaf).0, "NotRegistered");
    assert_eq!(reason(&deaf).2, "NotRegistered");
    let mut sick = node(4);
    let mut pools = (*sick.pools).clone();
    pools.pools[1].devices[0].health =
        portwright_core::pools::Health::Unhealthy { why: "its PF has no link".to_owned() };
    sick.pools = Arc::new(pools.clone());
    let (word, message, node_word) = reason(&sick);
    assert_eq!((word.as_str(), node_word.as_str()), ("Unhealthy", "Unhealthy"));
    assert_eq!(message, "1 of 2 devices cannot be given out; 0001:00:00.2: its PF has no link");
    let mut empty = sick.clone();
    pools.pools[1].devices.clear();
    empty.pools = Arc::new(pools.clone());
    assert_eq!((reason(&empty).0.as_str(), reason(&empty).2.as_str()), ("NoDevices", "NoDevices"));
    // A pool of config.json may be empty: that file is the same on all nodes.
    pools.pools[1].spec.rules.clear();
    empty.pools = Arc::new(pools);
    assert_eq!((reason(&empty).0.as_str(), reason(&empty).2.as_str()), ("NoDevices", "InSync"));
}

#[test]
fn time_goes_on_only_with_status_or_reason() {
    let facts = node(4);
    let first = told(&facts);
    let mut later = facts.clone();
    (later.at, later.sequence, later.causes) = (1_790_000_060, 8, BTreeSet::from([Cause::Timer]));
    let second = node_state(&later, Some(&first), "worker-1");
    assert!(second != first && second.equal_but_for_time(&first));
    assert!(
        second.all_conditions().iter().all(|(_, one)| one.last_transition_time == "2026-09-21T14:13:20Z")
    );
    later.unconnected = vec![facts.pools.pools[0].spec.resource.clone()];
    let third = node_state(&later, Some(&second), "worker-1");
    assert!(!third.equal_but_for_time(&second));
    let moved: Vec<String> = third
        .all_conditions()
        .into_iter()
        .filter(|(_, condition)| condition.last_transition_time == "2026-09-21T14:14:20Z")
        .map(|(object, _)| object)
        .collect();
    assert_eq!(moved, ["node", "pool/portwright.dev/dpdk"]);
}

/// 2,048 VFs, no two alike, every one with steps due, in the way and failed, and long words everywhere.
fn worst_case(words: usize) -> Facts {
    let long = |index: usize| format!("{index} {}", "x".repeat(words));
    let mut facts = node(2048);
    edit(&mut facts, |observed| {
        for (index, vf) in observed.pfs[0].vfs.iter_mut().enumerate() {
            vf.driver = Some(long(index));
            vf.holders = vec![pod(&long(index))];
        }
    });
    let vf = |index: u16| Object::Vf(VfRef { pf: "0000:3b:00.0".parse().unwrap(), index });
    for index in 0..2048_u16 {
        let text = long(index.into());
        let change = Change::RenameVf { from: text.clone(), to: text.clone() };
        let step = Step { object: vf(index), change, disruption: Disruption::Vf, force: false };
        facts.plan.steps.push(step);
        facts.plan.blocked.push(Blocked::new(vf(index), Reason::VfInUse, text.clone(), text.clone()));
        facts.waiting.insert(vf(index), text);
    }
    let steps = facts.plan.steps.iter().enumerate().map(|(index, step)| StepReport {
        step: step.clone(),
        outcome: if index == 2000 { Outcome::Failed { why: long(index) } } else { Outcome::Done },
    });
    facts.last_run = Some(Arc::new(Run {
        number: 1,
        at: 1,
        causes: BTreeSet::from([Cause::Start]),
        steps: steps.collect(),
    }));
    facts
}

#[test]
fn a_large_node_stays_small_and_what_is_left_out_is_told() {
    for (words, all_ranges) in [(20, true), (63, true), (2000, false)] {
        let content = told(&worst_case(words));
        let size = serde_json::to_vec(&content).unwrap().len();
        assert!(size <= limit::BYTES, "{words}: {size} bytes");
        assert_eq!(
            content.omitted.contains_key("pfs[].vfs"),
            !all_ranges,
            "{words}: {size} bytes, {:?}",
            content.omitted
        );
        let shown = |field: &str| 2048 - content.omitted.get(field).copied().unwrap_or_default() as usize;
        assert_eq!(content.pfs[0].vfs.len(), shown("pfs[].vfs"));
        assert_eq!(content.plan.steps.len(), shown("plan.steps"));
        assert_eq!(content.plan.blocked.len(), shown("plan.blocked"));
        assert_eq!(content.plan.waiting.len(), shown("plan.waiting"));
        let run = content.last_run.as_ref().unwrap();
        assert_eq!(run.steps.len(), shown("lastRun.steps"));
        assert_eq!((run.done, run.failed, run.skipped), (2047, 1, 0));
        assert!(run.steps.iter().any(|step| step.why.is_some()), "what failed is shown");
        assert_eq!((content.summary.pending, content.summary.blocked), (2048, 2048));
        assert!(content.pfs[0].conditions[0].message.starts_with("waiting for 2048 pods: "));
    }
}

/// Every field that is told is in the definition, and no list is longer than the API server takes.
#[test]
fn what_is_told_is_what_the_definition_describes() {
    let (_, yaml) =
        portwright_api::crds().into_iter().find(|(name, _)| name.starts_with("nodestates")).unwrap();
    let definition: Value = serde_saphyr::from_str(&yaml).unwrap();
    let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/status").unwrap();
    let mut seen = 0;
    for facts in
        variants().into_iter().map(|(_, facts)| facts).chain([worst_case(63), scenario("ovs-drift"), node(8)])
    {
        check(schema, &serde_json::to_value(told(&facts)).unwrap(), "status", &mut seen);
    }
    assert!(seen > 1000, "{seen}");
}

fn check(schema: &Value, value: &Value, at: &str, seen: &mut usize) {
    *seen += 1;
    if schema.get("x-kubernetes-preserve-unknown-fields").is_some() {
        return;
    }
    let kind = schema["type"].as_str().unwrap_or_else(|| panic!("{at} has no type"));
    match value {
        Value::Object(fields) => {
            assert_eq!(kind, "object", "{at}");
            for (name, below) in fields {
                let inner = schema["properties"].get(name).or(schema.get("additionalProperties"));
                check(
                    inner.unwrap_or_else(|| panic!("{at}.{name} is not described")),
                    below,
                    &format!("{at}.{name}"),
                    seen,
                );
            }
        }
        Value::Array(list) => {
            assert_eq!(kind, "array", "{at}");
            assert!(list.len() as u64 <= schema["maxItems"].as_u64().unwrap(), "{at} has {}", list.len());
            list.iter().for_each(|item| check(&schema["items"], item, &format!("{at}[]"), seen));
        }
        Value::String(text) => {
            assert_eq!(kind, "string", "{at}");
            let words = schema["enum"].as_array();
            assert!(words.is_none_or(|words| words.iter().any(|word| word == text)), "{at}: {text}");
        }
        Value::Number(_) => assert_eq!(kind, "integer", "{at}"),
        Value::Bool(_) => assert_eq!(kind, "boolean", "{at}"),
        Value::Null => panic!("{at} is null"),
    }
}

#[test]
fn that_nobody_is_told_is_the_first_problem() {
    let mut facts = scenario("in-sync");
    assert!(node_state(&facts, None, "worker-1").problems.is_empty());
    let why = "the definitions in the cluster are older than this agent".to_owned();
    // An API server that is away is no news about the node: it would be written when it is back, and taken back at once.
    facts.untold = Some(Untold { why: why.clone(), outdated: false });
    assert!(node_state(&facts, None, "worker-1").problems.is_empty());
    facts.untold = Some(Untold { why: why.clone(), outdated: true });
    let problems = node_state(&facts, None, "worker-1").problems;
    assert_eq!((problems.len(), &problems[0].reason), (1, &why));
}
