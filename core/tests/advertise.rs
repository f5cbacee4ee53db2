//! Which bridges a node offers as resources, and when it takes them back.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests fail by panicking")]

use portwright_core::advertise::{BridgeResources, resources};
use portwright_core::desired::{Desired, DisruptionPolicy, Document, Mode};
use portwright_core::ovs::{Advertise, Bond, BridgeWish, Uplink, UplinkTo, Wishes};
use portwright_core::{Blocked, Object, Observed, Plan, Profiles, Reason, plan};
use serde_json::json;

const NAME: &str = "ovs.example/br-data";

fn observed() -> Observed {
    serde_json::from_value(json!({
        "links": [{"name": "ens1"}, {"name": "ens2"}],
        "ovs": {
            "vswitchd": true,
            "bridges": [{
                "name": "br-data",
                "externalIds": {"portwright.dev/owner": "workers"},
                "ports": [
                    {"name": "br-data", "interfaces": [{"name": "br-data", "type": "internal"}]},
                    {"name": "ens1", "interfaces": [{"name": "ens1", "ofport": 1}]},
                    {"name": "ens2", "interfaces": [{"name": "ens2", "ofport": 2}]}
                ]
            }]
        }
    }))
    .unwrap()
}

fn uplink(to: UplinkTo) -> Uplink {
    Uplink { path: String::new(), to, allow_management_path: false }
}

fn document(name: &str, bridge: &str, prefix: &str) -> Document {
    let wish = BridgeWish {
        path: "spec.bridges[0]".to_owned(),
        name: bridge.to_owned(),
        datapath: None,
        fail_mode: None,
        uplinks: vec![
            uplink(UplinkTo::Interface("ens1".to_owned())),
            uplink(UplinkTo::Interface("ens2".to_owned())),
        ],
        ports: Vec::new(),
        options: Default::default(),
        adopt: false,
        advertise: Some(Advertise { prefix: prefix.to_owned(), capacity: 1000 }),
    };
    Document {
        name: name.to_owned(),
        priority: 0,
        mode: Mode::Apply,
        disruption: DisruptionPolicy::WhenIdle,
        nics: Vec::new(),
        ovs: Wishes { bridges: vec![wish], ..Wishes::default() },
        pools: Vec::new(),
    }
}

fn desired() -> Desired {
    Desired { documents: vec![document("workers", "br-data", "ovs.example")], ..Desired::default() }
}

fn decide(observed: &Observed, desired: &Desired) -> BridgeResources {
    resources(observed, desired, &plan(observed, desired, &Profiles::default()))
}

#[test]
fn a_bridge_that_works_is_offered() {
    let made = decide(&observed(), &desired());
    assert_eq!(made.offered.get(NAME), Some(&1000));
    assert!(made.withdrawn.is_empty() && made.warnings.is_empty(), "{made:?}");
    let mut silent = desired();
    silent.documents[0].ovs.bridges[0].advertise = None;
    assert_eq!(decide(&observed(), &silent), BridgeResources::default(), "only if the policy says so");
}

/// Something that happens to node or wish.
type Happening = fn(&mut Observed, &mut Desired);

#[test]
fn a_bridge_that_does_not_work_is_withdrawn_with_the_reason() {
    let cases: &[(&str, Happening)] = &[
        ("cannot be read", |observed, _| observed.ovs = None),
        ("ovs-vswitchd does not answer", |observed, _| {
            observed.ovs.as_mut().unwrap().vswitchd = false.into();
        }),
        ("ovs-vswitchd does not answer", |observed, _| {
            let ovs = observed.ovs.as_mut().unwrap();
            (ovs.vswitchd, ovs.settled) = (portwright_core::Fact::UNKNOWN, false);
        }),
        ("not there", |observed, _| observed.ovs.as_mut().unwrap().bridges.clear()),
        ("not ours", |observed, _| observed.ovs.as_mut().unwrap().bridges[0].external_ids.clear()),
        ("datapath", |observed, _| observed.ovs.as_mut().unwrap().bridges[0].works = false),
        ("uplinks are gone", |observed, _| observed.links.clear()),
        ("uplinks are gone", |observed, _| observed.ovs.as_mut().unwrap().bridges[0].ports.truncate(1)),
        ("uplinks are gone", |observed, _| {
            for port in &mut observed.ovs.as_mut().unwrap().bridges[0].ports {
                port.interfaces[0].error = Some("could not open network device".to_owned());
            }
        }),
        ("only plans", |_, desired| desired.documents[0].mode = Mode::Plan),
        ("PolicyConflict", |observed, desired| {
            observed.ovs.as_mut().unwrap().bridges[0].external_ids.clear();
            desired.documents.push(document("others", "br-data", "ovs.example"));
        }),
    ];
    for (why, happen) in cases {
        let (mut observed, mut desired) = (observed(), desired());
        happen(&mut observed, &mut desired);
        let made = decide(&observed, &desired);
        assert!(made.offered.is_empty(), "{why}: {made:?}");
        assert!(made.withdrawn.get(NAME).is_some_and(|told| told.contains(why)), "{why}: {made:?}");
    }
}

#[test]
fn what_passes_or_does_not_concern_the_bridge_withdraws_nothing() {
    let cases: &[(&str, Happening)] = &[
        ("one uplink is left", |observed, _| observed.links.truncate(1)),
        ("it is being carried out", |observed, _| observed.ovs.as_mut().unwrap().settled = false),
        ("a bond with a member left", |observed, desired| {
            observed.links.truncate(1);
            let bond = Bond {
                name: "bond0".to_owned(),
                mode: None,
                lacp: None,
                interfaces: ["ens1".to_owned(), "ens2".to_owned()].into(),
            };
            desired.documents[0].ovs.bridges[0].uplinks = vec![uplink(UplinkTo::Bond(bond))];
        }),
        ("without uplinks none can be lost", |observed, desired| {
            observed.links.clear();
            desired.documents[0].ovs.bridges[0].uplinks.clear();
        }),
        ("its owner keeps it", |_, desired| {
            desired.documents.push(document("others", "br-data", "other.example"));
        }),
    ];
    for (what, happen) in cases {
        let (mut observed, mut desired) = (observed(), desired());
        happen(&mut observed, &mut desired);
        assert_eq!(decide(&observed, &desired).offered.get(NAME), Some(&1000), "{what}");
    }
    let other = |object: &str, reason| {
        let object: Object = object.parse().unwrap();
        let plan = Plan { blocked: vec![Blocked::new(object, reason, "why", "")], ..Plan::default() };
        resources(&observed(), &desired(), &plan).offered.contains_key(NAME)
    };
    assert!(!other("bridge/br-data", Reason::NotApplied));
    assert!(other("bridge/br-data", Reason::ManagementPath));
    assert!(other("bridge/br-data/port/mon0", Reason::NotApplied), "one port of it");
    assert!(other("bridge/br-else", Reason::NotApplied));
}

#[test]
fn names_that_no_resource_may_have_are_told() {
    let cases = [
        ("br-data.", "ovs.example"),
        ("-br", "ovs.example"),
        ("br data", "ovs.example"),
        ("br-data", "Not A Domain"),
        ("br-data", "kubernetes.io"),
        ("br-data", "node.kubernetes.io"),
        ("br-data", "requests.example"),
        ("", "ovs.example"),
    ];
    for (bridge, prefix) in cases {
        let desired = Desired { documents: vec![document("workers", bridge, prefix)], ..Desired::default() };
        let made = decide(&observed(), &desired);
        assert!(made.offered.is_empty() && made.withdrawn.is_empty(), "{made:?}");
        assert!(made.warnings.len() == 1 && made.warnings[0].contains(bridge), "{made:?}");
    }
}
