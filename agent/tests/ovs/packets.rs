//! Packets through what `apply` makes.

use crate::rig::Rig;
use crate::traffic::{Flow, Sniffer, exchange, tcp, until};

/// A bridge with two pods in VLAN 10 and a port to look at, and these mirrors.
fn spec(mirrors: &str) -> String {
    format!(
        "bridges:
- name: br0
  datapath: netdev
  ports:
  - {{name: va, vlan: {{mode: access, tag: 10}}}}
  - {{name: vb, vlan: {{mode: access, tag: 10}}}}
  - {{name: mon0, type: internal}}
{mirrors}"
    )
}

fn mirror(select: &str, more: &str) -> String {
    spec(&format!("mirrors:\n- {{name: tap, bridge: br0, select: {select}, output: {{port: mon0}}{more}}}"))
}

#[test]
fn frames_pass_and_a_mirror_copies_exactly_what_is_selected() {
    let mut rig = Rig::start();
    let (a, b) = (rig.pod("a", 1), rig.pod("b", 2));
    rig.apply(&spec(""));
    rig.ip(&["link", "set", "mon0", "up"]);
    exchange(&a, &b, 5);
    tcp(&a, &b);
    // Each frame of the exchange goes forth once and back once; what is seen of it.
    for (select, more, forth, back) in [
        ("{ports: [va]}", "", 20, 20),
        ("{ports: [va], direction: ingress}", "", 20, 0),
        ("{ports: [va], direction: egress}", "", 0, 20),
        ("{ports: [\"v?\"]}", "", 20, 20),
        ("{vlans: [10]}", "", 20, 20),
        ("{vlans: [11]}", "", 0, 0),
        ("{ports: [va], vlans: [11]}", "", 0, 0),
        ("{ports: [nothing]}", "", 0, 0),
        ("{all: true}", "", 20, 20),
        ("{all: true, direction: ingress}", "", 20, 20),
    ] {
        rig.apply(&mirror(select, more));
        let sniffer = Sniffer::start(rig.namespace(), "mon0");
        exchange(&a, &b, 20);
        if forth + back > 0 {
            until("the copies", || sniffer.count(true) + sniffer.count(false) >= forth + back);
        }
        assert_eq!((sniffer.count(true), sniffer.count(false)), (forth, back), "{select}");
    }
    rig.apply(&mirror("{ports: [va], direction: ingress}", ", snaplen: 60"));
    let sniffer = Sniffer::start(rig.namespace(), "mon0");
    exchange(&a, &b, 20);
    until("the copies", || sniffer.seen.lock().unwrap().len() >= 20);
    let seen = sniffer.seen.lock().unwrap().clone();
    assert!(seen.iter().all(|frame| frame.length <= 60), "{seen:?}");
}

#[test]
fn a_mirror_takes_effect_on_a_busy_flow_and_ends_on_it() {
    let rig = Rig::start();
    busy(rig, "standalone", |_| {});
}

/// A bridge that learns nothing: here forgetting addresses has no effect.
#[test]
fn a_mirror_ends_on_a_busy_flow_of_a_bridge_that_forwards_by_flows() {
    let rig = Rig::start();
    busy(rig, "secure", |rig| {
        let bridge = format!("unix:{}", rig.server.path("br0.mgmt").display());
        for flow in ["in_port=va,actions=output:vb", "in_port=vb,actions=output:va"] {
            crate::harness::run("ovs-ofctl", &["add-flow", &bridge, flow], None);
        }
    });
}

/// The control socket is not beside the database's.
#[test]
fn a_mirror_ends_on_a_busy_flow_without_a_control_socket() {
    let mut rig = Rig::start();
    let elsewhere = tempfile::tempdir().unwrap();
    let socket = elsewhere.path().join("db.sock").display().to_string();
    rig.server.appctl("ovsdb.ctl", &["ovsdb-server/add-remote", &format!("punix:{socket}")]);
    rig.remote = Some(format!("unix:{socket}"));
    busy(rig, "standalone", |_| {});
}

fn busy(mut rig: Rig, fail_mode: &str, prepare: impl Fn(&Rig)) {
    let (a, b) = (rig.pod("a", 1), rig.pod("b", 2));
    let with = |text: String| {
        text.replace("  datapath: netdev\n", &format!("  datapath: netdev\n  failMode: {fail_mode}\n"))
    };
    rig.apply(&with(spec("")));
    prepare(&rig);
    rig.ip(&["link", "set", "mon0", "up"]);
    let flow = Flow::start(&a, &b);
    flow.goes_on(50);
    let sniffer = Sniffer::start(rig.namespace(), "mon0");
    flow.goes_on(50);
    assert_eq!(sniffer.seen.lock().unwrap().len(), 0, "nothing is copied before the mirror is there");

    rig.apply(&with(mirror("{ports: [va], direction: ingress}", "")));
    until("copies of a flow that was busy before", || sniffer.count(true) > 20);
    assert_eq!(sniffer.count(false), 0);
    rig.apply(&with(mirror("{ports: [va], direction: egress}", "")));
    let changed = flow.sent.load(std::sync::atomic::Ordering::SeqCst);
    until("copies of the other direction", || sniffer.count(false) > 20);
    let seen = sniffer.seen.lock().unwrap().clone();
    let late = seen.iter().filter(|frame| frame.forth && frame.number > changed).count();
    assert_eq!(late, 0, "the other direction goes on being copied");

    rig.apply(&with(spec("")));
    let last = flow.sent.load(std::sync::atomic::Ordering::SeqCst);
    flow.goes_on(200);
    let late: Vec<_> =
        sniffer.seen.lock().unwrap().iter().filter(|frame| frame.number > last).cloned().collect();
    assert_eq!(late.len(), 0, "copied after the mirror was removed at {last}: {:?}", late.first());
}

#[test]
fn copies_in_a_vlan_reach_its_access_port() {
    let mut rig = Rig::start();
    let (a, b) = (rig.pod("a", 1), rig.pod("b", 2));
    let with = |mirrors: &str| {
        format!(
            "bridges:
- name: br0
  datapath: netdev
  ports:
  - {{name: va, vlan: {{mode: access, tag: 10}}}}
  - {{name: vb, vlan: {{mode: access, tag: 10}}}}
  - {{name: mon0, type: internal, vlan: {{mode: access, tag: 999}}}}
{mirrors}"
        )
    };
    rig.apply(&with("mirrors:\n- {name: tap, bridge: br0, select: {ports: [va], direction: ingress}, output: {vlan: 999}}"));
    rig.ip(&["link", "set", "mon0", "up"]);
    assert_eq!(rig.vsctl("get bridge br0 flood_vlans"), "[999]");
    let sniffer = Sniffer::start(rig.namespace(), "mon0");
    exchange(&a, &b, 20);
    until("the copies", || sniffer.count(true) >= 20);
    assert_eq!((sniffer.count(true), sniffer.count(false)), (20, 0));
    rig.apply(&with(""));
    assert_eq!(rig.vsctl("get bridge br0 flood_vlans"), "[]", "what only the mirror needed is taken back");
}
