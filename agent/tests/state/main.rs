//! What is told of a node: scenarios of the planner and what the loop knows besides go in, what is told comes out.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::integer_division,
    clippy::disallowed_methods,
    reason = "tests fail by panicking and read the repository"
)]

#[path = "../common/mod.rs"]
mod common;

mod conditions;
mod content;
mod size;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use common::repository;
use portwright::daemon::facts::{Cause, Facts, PolicyFact};
use portwright::daemon::state::node_state;
use portwright_api::NodeStateContent;
use portwright_core::desired::Desired;
use portwright_core::management::management_path;
use portwright_core::observed::{Holder, Pf, Vf};
use portwright_core::pools::{assign, candidates, spec};
use portwright_core::{Observed, PciAddress, plan};

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
