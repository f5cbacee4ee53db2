//! What keeps a device from being handed out, as the facts of a round tell it.

use std::sync::Arc;

use portwright_core::drive::Node;
use portwright_core::pools::config::DeviceType;
use portwright_core::pools::{Candidate, Health, Pool, PoolDevice, PoolSpec, Pools, ResourceName};
use portwright_core::sim::{Event, Family, Kernel, SimNode, SimPf};
use portwright_core::{Blocked, Change, Disruption, Object, PciAddress, Reason, Step, VfRef};

use super::obstacle;
use crate::daemon::facts::Facts;

fn pf() -> PciAddress {
    "0000:3b:00.0".parse().unwrap()
}

fn vf(index: u16) -> VfRef {
    VfRef { pf: pf(), index }
}

fn step(object: Object, change: Change) -> Step {
    Step { object, change, disruption: Disruption::None, force: false }
}

/// A port with two VFs.
fn node() -> SimNode {
    let mut kernel = Kernel::default();
    kernel.node.drivers = ["ice", "iavf"].map(str::to_owned).into();
    kernel.pfs.insert(pf(), SimPf::new(pf(), Family::Ice, 8, "ens0"));
    let mut node = SimNode::new(kernel);
    node.observe().unwrap();
    node.run(&step(Object::Pci(pf()), Change::SetNumVfs { from: 0, to: 2 })).unwrap();
    node
}

/// Facts about the node, in which every VF is a device of a pool and this healthy.
fn facts(node: &mut SimNode, health: &Health) -> Facts {
    let observed = node.observe().unwrap();
    let devices = observed.pfs.iter().flat_map(|pf| &pf.vfs).map(|vf| PoolDevice {
        candidate: Candidate {
            id: vf.address.to_string(),
            address: Some(vf.address),
            ..Candidate::default()
        }
        .into(),
        options: portwright_core::pools::spec::Options::default(),
        health: health.clone(),
    });
    let devices = devices.collect();
    let spec = PoolSpec {
        resource: ResourceName { prefix: "portwright.dev".to_owned(), name: "net".to_owned() },
        origin: "a policy".to_owned(),
        device_type: DeviceType::NetDevice,
        exclude_topology: false,
        rules: Vec::new(),
        additional_info: Default::default(),
        prefer: portwright_core::desired::Prefer::Pack,
        iommufd: false,
        carrier: false,
    };
    Facts {
        observed: Arc::new(observed),
        pools: Arc::new(Pools { pools: vec![Pool { spec, devices }] }),
        ..Facts::default()
    }
}

fn address(facts: &Facts, index: u16) -> PciAddress {
    facts.observed.vf(vf(index)).unwrap().address
}

/// The obstacle of VF 0, which must name these words.
fn says(facts: &Facts, words: &[&str]) {
    let why =
        obstacle(facts, address(facts, 0)).unwrap_or_else(|| panic!("nothing is in the way of {words:?}"));
    for word in words {
        assert!(why.contains(word), "{word} is not in: {why}");
    }
}

#[test]
fn a_device_that_is_in_order_has_none() {
    let facts = facts(&mut node(), &Health::Healthy);
    assert_eq!(obstacle(&facts, address(&facts, 0)), None);
}

#[test]
fn whoever_holds_it_is_named_and_the_other_is_free() {
    let mut node = node();
    node.happen(&Event::NetdevLeaves(vf(0), "web".to_owned()));
    let facts = facts(&mut node, &Health::Healthy);
    says(
        &facts,
        &["has its netdev", "in network namespace web", "since before", "delete the network namespace"],
    );
    assert_eq!(obstacle(&facts, address(&facts, 1)), None);
}

#[test]
fn a_step_that_is_due_on_it_is_said() {
    let mut facts = facts(&mut node(), &Health::Healthy);
    let mtu = Change::SetVfMtu { from: Some(1400), to: 1500 };
    facts.plan.steps = vec![step(Object::Vf(vf(0)), mtu)];
    says(&facts, &["not as the policy wants it", "is due"]);
    assert_eq!(obstacle(&facts, address(&facts, 1)), None);
    // Steps on the port itself are none of the VF's.
    facts.plan.steps = vec![step(Object::Pci(pf()), Change::SetPfMtu { from: 1500, to: 9000 })];
    assert_eq!(obstacle(&facts, address(&facts, 0)), None);
}

/// While it cannot be told what pods have, nothing is put in order: what is in order is handed out, what is not is refused.
#[test]
fn what_cannot_be_put_in_order_is_said() {
    let mut facts = facts(&mut node(), &Health::Healthy);
    let hidden = "may be in use: what pods have is not known";
    facts.plan.blocked = vec![Blocked::new(Object::Vf(vf(0)), Reason::VfInUse, hidden, "restart kubelet")];
    says(&facts, &["not as the policy wants it", hidden, "restart kubelet"]);
    assert_eq!(obstacle(&facts, address(&facts, 1)), None);
    let resize =
        Blocked::new(Object::Pci(pf()), Reason::VfInUse, "VF 1 is used; resizing would remove it", "");
    facts.plan.blocked = vec![resize];
    assert_eq!(obstacle(&facts, address(&facts, 0)), None, "the port's obstacles are none of the VF's");
}

#[test]
fn devices_that_are_unhealthy_withheld_or_gone_are_refused() {
    for health in [
        Health::Unhealthy { why: "drivers wants iavf, found none".to_owned() },
        Health::Withheld { why: "it is being put in order".to_owned() },
    ] {
        let facts = facts(&mut node(), &health);
        let (Health::Unhealthy { why } | Health::Withheld { why }) = health else { continue };
        assert_eq!(obstacle(&facts, address(&facts, 0)), Some(why));
    }
    let facts = facts(&mut node(), &Health::Healthy);
    assert_eq!(obstacle(&facts, pf()).as_deref(), Some("it is not there any more"));
}
