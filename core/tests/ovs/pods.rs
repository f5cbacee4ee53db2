//! Mirrors by pods: the ports of a pod are found by the keys that CNI plugins and portwright write on them, and followed as
//! pods and ports come and go.

use std::collections::{BTreeMap, BTreeSet};

use portwright_core::Reason;
use portwright_core::desired::{Desired, DisruptionPolicy, Document, Mode};
use portwright_core::observed::Observed;
use portwright_core::ovs::{
    Bridge, BridgeOptions, BridgeWish, Direction, Interface, Map, Mirror, MirrorWish, OVS_CNI_POD_UID_KEY,
    OWNER_KEY, Output, Ovs, POD_UID_KEY, Pod, PodSelect, Port, PortKind, PortWish, Wishes,
};

use crate::{planned, run};

/// A node with a bridge of ours, its monitoring port, and whatever pods plugged.
struct Node {
    observed: Observed,
    desired: Desired,
}

fn ids(pairs: &[(&str, &str)]) -> Map {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn port(name: &str, kind: &str, external_ids: Map) -> Port {
    let interface = Interface { name: name.to_owned(), kind: kind.to_owned(), ..Interface::default() };
    Port { name: name.to_owned(), interfaces: vec![interface], external_ids, ..Port::default() }
}

impl Node {
    fn new() -> Node {
        let owned = ids(&[(OWNER_KEY, "one")]);
        let ports = vec![port("br0", "internal", Map::new()), port("mon0", "internal", owned.clone())];
        let bridge = Bridge {
            name: "br0".to_owned(),
            datapath: "netdev".to_owned(),
            works: true,
            external_ids: owned,
            ports,
            ..Bridge::default()
        };
        let ovs = Ovs { settled: true, bridges: vec![bridge], ..Ovs::default() };
        let observed = Observed { ovs: Some(ovs), ..Observed::default() };
        Node { observed, desired: Desired { documents: vec![document()], ..Desired::default() } }
    }

    fn bridge(&mut self) -> &mut Bridge {
        &mut self.observed.ovs.as_mut().unwrap().bridges[0]
    }

    fn plug(&mut self, name: &str, external_ids: &[(&str, &str)]) {
        self.bridge().ports.push(port(name, "system", ids(external_ids)));
    }

    /// A port goes, and Open vSwitch takes it out of mirrors.
    fn unplug(&mut self, name: &str) {
        let bridge = self.bridge();
        bridge.ports.retain(|port| port.name != name);
        for mirror in &mut bridge.mirrors {
            mirror.copies.sources.remove(name);
            mirror.copies.destinations.remove(name);
        }
    }

    fn pod(&mut self, uid: &str, namespace: &str, labels: &[(&str, &str)]) {
        let pod = Pod { namespace: namespace.to_owned(), labels: ids(labels), ..Pod::default() };
        self.desired.pods.get_or_insert_default().insert(uid.to_owned(), pod);
    }

    fn forget(&mut self, uid: &str) {
        self.desired.pods.as_mut().unwrap().remove(uid).unwrap();
    }

    /// Carries out what is planned, and gives the actions; nothing is left to do afterwards.
    fn converge(&mut self) -> Vec<&'static str> {
        let plan = planned(&self.observed, &self.desired);
        assert!(plan.blocked.is_empty(), "{:#?}", plan.blocked);
        for step in &plan.steps {
            run(&mut self.observed, step).unwrap();
        }
        assert_eq!(planned(&self.observed, &self.desired).steps, [], "nothing is left");
        plan.steps.iter().map(|step| step.change.action()).collect()
    }

    fn mirror(&mut self) -> &Mirror {
        let [mirror] = self.bridge().mirrors.as_slice() else { panic!("one mirror") };
        assert!(!mirror.copies.all, "pods never mean every port");
        assert_eq!(mirror.copies.sources, mirror.copies.destinations);
        mirror
    }

    fn mirrored(&mut self) -> Vec<String> {
        self.mirror().copies.sources.iter().cloned().collect()
    }
}

/// A bridge with a monitoring port, and a mirror of the pods of one application.
fn document() -> Document {
    let mon0 = PortWish {
        path: "spec.bridges[0].ports[0]".to_owned(),
        name: "mon0".to_owned(),
        kind: PortKind::Internal,
        options: Map::new(),
        vlan: None,
        qos: None,
        policing: None,
    };
    let bridge = BridgeWish {
        path: "spec.bridges[0]".to_owned(),
        name: "br0".to_owned(),
        datapath: None,
        fail_mode: None,
        uplinks: Vec::new(),
        ports: vec![mon0],
        options: BridgeOptions::default(),
        adopt: false,
        advertise: None,
    };
    let pods = PodSelect { namespace: "web".to_owned(), match_labels: ids(&[("app", "shop")]) };
    let mirror = MirrorWish {
        path: "spec.mirrors[0]".to_owned(),
        name: "tap".to_owned(),
        bridge: "br0".to_owned(),
        ports: Vec::new(),
        pods: Some(pods),
        vlans: BTreeSet::new(),
        all: false,
        direction: Direction::Both,
        output: Output::Port("mon0".to_owned()),
        snaplen: None,
    };
    let ovs = Wishes { hw_offload: None, collect: None, bridges: vec![bridge], mirrors: vec![mirror] };
    Document {
        name: "one".to_owned(),
        priority: 0,
        mode: Mode::Apply,
        disruption: DisruptionPolicy::WhenIdle,
        nics: Vec::new(),
        pools: Vec::new(),
        ovs,
    }
}

#[test]
fn without_an_api_server_nobody_knows_the_pods() {
    let mut node = Node::new();
    node.plug("veth1", &[(OVS_CNI_POD_UID_KEY, "u1")]);
    let plan = planned(&node.observed, &node.desired);
    assert_eq!(plan.steps, []);
    let [blocked] = plan.blocked.as_slice() else { panic!("{:#?}", plan.blocked) };
    assert_eq!(
        (blocked.object.to_string().as_str(), blocked.reason),
        ("bridge/br0/mirror/tap", Reason::NeedsCluster)
    );
}

#[test]
fn pods_that_match_nothing_mean_that_nothing_is_mirrored() {
    let mut node = Node::new();
    node.desired.pods = Some(BTreeMap::new());
    node.plug("veth1", &[(OVS_CNI_POD_UID_KEY, "u1")]);
    node.plug("veth2", &[]);
    assert_eq!(node.converge(), ["add-mirror"]);
    assert_eq!(node.mirrored(), [""; 0]);
    assert_eq!(node.mirror().copies.output_port.as_deref(), Some("mon0"));
}

#[test]
fn ports_are_found_by_both_keys_and_only_those_of_the_pods_that_are_meant() {
    let mut node = Node::new();
    node.plug("cni", &[(OVS_CNI_POD_UID_KEY, "u1"), ("owner", "ovs-cni.network.kubevirt.io")]);
    node.plug("own", &[(POD_UID_KEY, "u2")]);
    node.plug("other-namespace", &[(OVS_CNI_POD_UID_KEY, "u3")]);
    node.plug("other-label", &[(OVS_CNI_POD_UID_KEY, "u4")]);
    node.plug("unknown-pod", &[(OVS_CNI_POD_UID_KEY, "u5")]);
    node.plug("no-pod", &[("app", "shop")]);
    node.pod("u1", "web", &[("app", "shop"), ("tier", "front")]);
    node.pod("u2", "web", &[("app", "shop")]);
    node.pod("u3", "db", &[("app", "shop")]);
    node.pod("u4", "web", &[("app", "blog")]);
    assert_eq!(node.converge(), ["add-mirror"]);
    assert_eq!(node.mirrored(), ["cni", "own"]);
}

#[test]
fn a_mirror_follows_its_pods_and_their_ports_as_they_come_and_go() {
    let mut node = Node::new();
    node.pod("u1", "web", &[("app", "shop")]);
    assert_eq!(node.converge(), ["add-mirror"], "the pod is there, its port is not");
    assert_eq!(node.mirrored(), [""; 0]);

    node.plug("veth1", &[(OVS_CNI_POD_UID_KEY, "u1")]);
    assert_eq!(node.converge(), ["set-mirror"], "its port has come");
    assert_eq!(node.mirrored(), ["veth1"]);

    node.plug("veth2", &[(OVS_CNI_POD_UID_KEY, "u2")]);
    assert_eq!(node.converge(), [""; 0], "a port of a pod that nobody knows yet");
    node.pod("u2", "web", &[("app", "shop")]);
    assert_eq!(node.converge(), ["set-mirror"]);
    assert_eq!(node.mirrored(), ["veth1", "veth2"]);

    node.forget("u1");
    assert_eq!(
        node.converge(),
        ["set-mirror"],
        "a pod that is gone is not tapped any more, though its port is left"
    );
    assert_eq!(node.mirrored(), ["veth2"]);

    node.unplug("veth2");
    assert_eq!(node.converge(), [""; 0], "Open vSwitch has taken the port out itself");
    node.plug("veth2", &[(OVS_CNI_POD_UID_KEY, "u2")]);
    assert_eq!(node.converge(), ["set-mirror"], "linked again");

    node.pod("u2", "web", &[("app", "blog")]);
    assert_eq!(node.converge(), ["set-mirror"], "it has lost the label");
    assert_eq!(node.mirrored(), [""; 0]);
}
