//! What may begin beside what, as data.

use super::*;
use crate::blocked::{Blocked, Reason};
use crate::step::Disruption;

const A: &str = "0000:01:00.0";
const B: &str = "0000:02:00.0";

fn step(object: &str, change: Change) -> Step {
    Step { object: object.parse().unwrap(), change, disruption: Disruption::None, force: false }
}

fn vf(port: &str) -> Step {
    step(&format!("{port}/vf/1"), Change::UnbindVf { from: "igbvf".to_owned() })
}

fn resize(port: &str) -> Step {
    step(port, Change::SetNumVfs { from: 0, to: 4 })
}

fn mtu(port: &str) -> Step {
    step(port, Change::SetPfMtu { from: 1500, to: 9000 })
}

fn rule() -> Step {
    step("node", Change::WriteUdevRule { from: None, to: String::new() })
}

fn on_bridge(object: &str, change: ovs::Change) -> Step {
    step(object, Change::Ovs { owner: "workers".to_owned(), change: Box::new(change) })
}

/// Plugs a netdev into a bridge.
fn plug(bridge: &str, netdev: &str) -> Step {
    let to = ovs::NewPort { interfaces: BTreeSet::from([netdev.to_owned()]), ..ovs::NewPort::default() };
    on_bridge(&format!("bridge/{bridge}/port/{netdev}"), ovs::Change::AddPort { to })
}

/// Takes a port away whose netdev is gone.
fn collect(bridge: &str, port: &str) -> Step {
    let owner = ovs::Key { key: "owner".to_owned(), value: "ovs-cni".to_owned() };
    on_bridge(&format!("bridge/{bridge}/port/{port}"), ovs::Change::CollectPort { owner, gone_for: 9 })
}

fn mirror(bridge: &str) -> Step {
    on_bridge(
        &format!("bridge/{bridge}/mirror/tap"),
        ovs::Change::RemoveMirror { from: ovs::Copies::default() },
    )
}

/// `ens1` is A's netdev, `ens1v1` that of a VF of it, `ens2` B's; with `bond0`, they are one link.
fn node(bond: bool) -> Observed {
    let mut node = serde_json::json!({
        "node": {}, "management": {},
        "pfs": [
            {"address": A, "vendor": "8086", "device": "10c9", "totalVfs": 8, "name": "ens1",
                "vfs": [{"index": 1, "address": "0000:01:10.1", "netdev": "ens1v1"}]},
            {"address": B, "vendor": "8086", "device": "10c9", "totalVfs": 8, "name": "ens2"},
        ],
        "links": [{"name": "ens1", "pci": A}, {"name": "ens2", "pci": B}],
        "ovs": {"bridges": [{"name": "br0", "ports": [
            {"name": "ens1", "interfaces": [{"name": "ens1"}]},
            {"name": "veth1", "interfaces": [{"name": "veth1"}]},
        ]}]},
    });
    if bond {
        node["links"]
            .as_array_mut()
            .unwrap()
            .push(serde_json::json!({"name": "bond0", "lowers": ["ens1", "ens2"]}));
    }
    serde_json::from_value(node).unwrap()
}

/// One line per course that begins, and per object that waits.
fn told(next: &Next) -> Vec<String> {
    let begins = next.begin.iter().map(|course| {
        let objects: Vec<String> = course.steps.iter().map(|step| step.object.to_string()).collect();
        format!("begins {}", objects.join(" "))
    });
    begins.chain(next.wait.iter().map(|(object, why)| format!("{object} {why}"))).collect()
}

/// What is under way, what is due, whether both ports are one bond's, and what comes of it. `A`, `B` and `BRIDGE` stand for themselves.
struct Case {
    what: &'static str,
    begun: Vec<Step>,
    due: Vec<Step>,
    bond: bool,
    expected: &'static [&'static str],
}

fn case(
    what: &'static str,
    begun: Vec<Step>,
    due: Vec<Step>,
    bond: bool,
    expected: &'static [&'static str],
) -> Case {
    Case { what, begun, due, bond, expected }
}

fn of_ports() -> Vec<Case> {
    vec![
        case("nothing is due", vec![], vec![], false, &[]),
        case("VFs of two ports", vec![], vec![vf(A), vf(B)], false, &["begins A/vf/1", "begins B/vf/1"]),
        case(
            "a hanging port holds up no other's VFs",
            vec![resize(A)],
            vec![vf(B)],
            true,
            &["begins B/vf/1"],
        ),
        case("nor another's MTU", vec![resize(A)], vec![mtu(B)], false, &["begins B"]),
        case(
            "but the MTU of a port of the same bond",
            vec![resize(A)],
            vec![mtu(B)],
            true,
            &["B waits for the steps on A: `bond0` is made of both ports"],
        ),
        case("VFs of a bond's other port", vec![mtu(A)], vec![vf(B)], true, &["begins B/vf/1"]),
        case(
            "VFs are made on one port at a time",
            vec![],
            vec![resize(A), vf(A), resize(B), vf(B)],
            false,
            &["begins A A/vf/1", "B waits for the steps on A: VFs are made on one port at a time"],
        ),
    ]
}

fn of_all() -> Vec<Case> {
    vec![
        case(
            "the node comes before its ports, not before bridges",
            vec![],
            vec![rule(), vf(A), mirror("br0")],
            false,
            &["begins node", "begins BRIDGE/mirror/tap", "A waits for a step for the whole node"],
        ),
        case(
            "also when it is under way",
            vec![rule()],
            vec![vf(A)],
            false,
            &["A waits for a step for the whole node"],
        ),
        case(
            "a mirror beside a port",
            vec![resize(A)],
            vec![mirror("br0")],
            false,
            &["begins BRIDGE/mirror/tap"],
        ),
    ]
}

fn of_bridges() -> Vec<Case> {
    vec![
        case(
            "a netdev is plugged after the steps on its port, with all that is due on the bridge",
            vec![],
            vec![resize(A), plug("br0", "ens1"), mirror("br0"), mirror("br1")],
            false,
            &["begins A", "begins bridge/br1/mirror/tap", "BRIDGE waits for the steps on A"],
        ),
        case(
            "also through a bond",
            vec![mtu(B)],
            vec![plug("br0", "bond0")],
            true,
            &["BRIDGE waits for the steps on B"],
        ),
        case(
            "and the port after the bridge, but not its VFs",
            vec![plug("br0", "ens1")],
            vec![mtu(A), vf(B)],
            false,
            &["begins B/vf/1", "A waits for steps that plug its netdevs into a bridge, or pull them out"],
        ),
        case(
            "which have nothing to do with it",
            vec![plug("br0", "ens1")],
            vec![vf(A)],
            false,
            &["begins A/vf/1"],
        ),
        case(
            "nor the bridge with them",
            vec![vf(A)],
            vec![plug("br0", "ens1")],
            false,
            &["begins BRIDGE/port/ens1"],
        ),
        case(
            "unless a VF itself is plugged",
            vec![vf(A)],
            vec![plug("br0", "ens1v1")],
            false,
            &["BRIDGE waits for the steps on A"],
        ),
        case(
            "a stale port of a bridge whose uplink is worked on keeps no mirror waiting",
            vec![resize(A)],
            vec![collect("br0", "veth1"), mirror("br0")],
            false,
            &["begins BRIDGE/port/veth1 BRIDGE/mirror/tap"],
        ),
        case(
            "a bridge waits for a port that waits",
            vec![resize(B)],
            vec![resize(A), plug("br0", "ens1")],
            false,
            &[
                "A waits for the steps on B: VFs are made on one port at a time",
                "BRIDGE waits for the steps on A",
            ],
        ),
        case(
            "a switch that does not answer holds up bridges only",
            vec![mirror("br0")],
            vec![mirror("br1"), resize(A)],
            false,
            &["begins A", "bridge/br1 waits for other steps on Open vSwitch"],
        ),
    ]
}

/// The line with addresses and names in place of what stands for them.
fn spelled(line: &str) -> String {
    let word = |word: &str| match word.split_at(word.find(['/', ':', ',']).unwrap_or(word.len())) {
        ("A", rest) => format!("{A}{rest}"),
        ("B", rest) => format!("{B}{rest}"),
        ("BRIDGE", rest) => format!("bridge/br0{rest}"),
        (other, rest) => format!("{other}{rest}"),
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// What is due begins where nothing is under way; then what is due beside that.
#[test]
fn what_may_begin_beside_what() {
    for Case { what, begun, due, bond, expected } in
        of_ports().into_iter().chain(of_all()).chain(of_bridges())
    {
        let observed = node(bond);
        let under_way = next(&begun, &[], &observed).begin;
        let under_way: Vec<&Course> = under_way.iter().collect();
        let found = told(&next(&due, &under_way, &observed));
        let expected: Vec<String> = expected.iter().map(|line| spelled(line)).collect();
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn of_what_steps_are_on_a_plan_says_what_it_said_when_they_began() {
    let blocked = |object: &str, message: &str| {
        Blocked::new(object.parse().unwrap(), Reason::NotReadBack, message.to_owned(), "")
    };
    let began = Plan {
        steps: vec![resize(A), vf(A), vf(B)],
        blocked: vec![blocked(&format!("{A}/vf/2"), "began"), blocked(B, "began")],
        ..Plan::default()
    };
    let course = next(&[vf(A)], &[], &node(false)).begin.remove(0);
    let part = part(&began, &course);
    assert_eq!((part.steps.len(), part.blocked.len()), (2, 1), "all of the port, nothing of the other");
    let fresh = Plan {
        steps: vec![rule(), mtu(A), mtu(B), mirror("br0")],
        blocked: vec![blocked(A, "fresh"), blocked(B, "fresh")],
        ..Plan::default()
    };
    let both = beside(fresh, [(&course, &part)].into_iter());
    assert_eq!(both.steps, [rule(), resize(A), vf(A), mtu(B), mirror("br0")]);
    let messages: Vec<String> =
        both.blocked.iter().map(|one| format!("{} {}", one.object, one.message)).collect();
    assert_eq!(messages, [format!("{B} fresh"), format!("{A}/vf/2 began")]);
}
