//! What others change by hand is a step, and is repaired in place.

use crate::rig::Rig;
use crate::traffic::exchange;

const SPEC: &str = "bridges:
- name: br0
  datapath: netdev
  failMode: standalone
  ports:
  - {name: va, vlan: {mode: access, tag: 10}}
  - {name: vb, vlan: {mode: access, tag: 10}, policing: {rate: 100000, burst: 1000}}
  - {name: mon0, type: internal}
  - {name: trk0, type: internal, vlan: {mode: native-untagged, tag: 5, trunks: [10, \"20-29\"]}}
  - {name: pat0, type: patch, peer: pat1}
  options: {mcastSnooping: true, mtuRequest: 1400, otherConfig: {mac-aging-time: \"120\"}, externalIds: {site: x}}
- name: br1
  datapath: netdev
  ports:
  - {name: pat1, type: patch, peer: pat0}
mirrors:
- {name: tap, bridge: br0, select: {ports: [\"v*\"]}, output: {port: mon0}, snaplen: 128}
- {name: tap, bridge: br1, select: {all: true}, output: {vlan: 7}}";

#[test]
fn hand_edits_are_shown_and_repaired_in_place() {
    let mut rig = Rig::start();
    let (a, b) = (rig.pod("a", 1), rig.pod("b", 2));
    rig.apply(SPEC);
    exchange(&a, &b, 3);
    let rows = |rig: &Rig| ["bridge", "port", "interface", "mirror"].map(|table| rig.rows(table));
    let (before, bridge) = (rows(&rig), rig.vsctl("get bridge br0 _uuid"));
    for (edit, actions) in [
        ("set port va tag=7", &["set-port-vlan"][..]),
        ("set port trk0 trunks=10", &["set-port-vlan"]),
        ("set interface vb ingress_policing_rate=5", &["set-policing"]),
        ("set bridge br0 fail_mode=secure", &["set-fail-mode"]),
        (
            "set bridge br0 mcast_snooping_enable=false other_config:mac-aging-time=5",
            &["set-mcast-snooping", "set-other-config"],
        ),
        ("remove bridge br0 external_ids site", &["set-external-id"]),
        ("set interface br0 mtu_request=1300", &["set-mtu-request"]),
        ("set interface pat0 options:peer=other", &["set-interface-option"]),
        ("clear bridge br0 mirrors", &["add-mirror"]),
        ("-- --id=@m get mirror tap -- set mirror @m snaplen=64", &[]),
        ("del-port br0 va", &["add-port", "set-mirror"]),
        ("del-port br0 mon0", &["add-port", "set-mirror"]),
        ("clear bridge br1 flood_vlans", &["set-flood-vlans"]),
        ("-- set port vb tag=11 -- del-port br0 trk0", &["set-port-vlan", "add-port"]),
    ] {
        if actions.is_empty() {
            // Two mirrors of one name: ovs-vsctl cannot tell them apart, so the one of br0 is found by its row.
            let uuid = rig.vsctl("get bridge br0 mirrors");
            rig.vsctl(&format!("set mirror {} snaplen=64", uuid.trim_matches(['[', ']'])));
            rig.repairs(SPEC, &["set-mirror"]);
            continue;
        }
        rig.vsctl(edit);
        rig.repairs(SPEC, actions);
        assert_eq!(rows(&rig), before, "{edit}");
        assert_eq!(rig.vsctl("get bridge br0 _uuid"), bridge, "{edit}: the bridge stays the same row");
    }
    exchange(&a, &b, 3);
}

#[test]
fn a_deleted_bridge_comes_back_whole() {
    let mut rig = Rig::start();
    let (a, b) = (rig.pod("a", 1), rig.pod("b", 2));
    rig.apply(SPEC);
    rig.vsctl("del-br br0");
    assert_eq!(rig.rows("mirror"), 1);
    let creates = ["create-bridge", "add-port", "add-port", "add-port", "add-port", "add-port", "add-mirror"];
    rig.repairs(SPEC, &creates);
    exchange(&a, &b, 3);
}

#[test]
fn a_port_that_was_moved_by_hand_is_not_ours_and_one_that_moves_in_the_policy_moves() {
    let mut rig = Rig::start();
    rig.pod("a", 1);
    let spec = |first: &str, second: &str| {
        format!(
            "bridges:\n- {{name: br0, datapath: netdev, ports: [{first}]}}\n- {{name: br1, datapath: netdev, ports: [{second}]}}"
        )
    };
    rig.apply(&spec("{name: va}", ""));
    rig.vsctl("del-port br0 va -- add-port br1 va");
    let file = rig.policy("p", &spec("{name: va}", ""));
    let plan = rig.plan_file(&file);
    assert_eq!(crate::rig::blocked(&plan), ["bridge/br0/port/va NameConflict"], "{plan:#?}");
    rig.vsctl("del-port br1 va");
    rig.apply(&spec("{name: va}", ""));
    rig.apply(&spec("", "{name: va}"));
    assert_eq!(rig.vsctl("port-to-br va"), "br1");
    // Moved by hand as it is, with our key on it: it goes back.
    let row = rig.vsctl("get port va _uuid");
    rig.vsctl(&format!("remove bridge br1 ports {row} -- add bridge br0 ports {row}"));
    assert_eq!(rig.vsctl("port-to-br va"), "br0");
    rig.repairs(&spec("", "{name: va}"), &["remove-port", "add-port"]);
    assert_eq!(rig.vsctl("port-to-br va"), "br1");
}

#[test]
fn a_port_and_its_mirror_are_one_transaction() {
    let mut rig = Rig::start();
    rig.pod("a", 1);
    let spec = |port: &str| {
        format!(
            "bridges:\n- {{name: br0, datapath: netdev, ports: [{{name: mon0, type: internal}}{port}]}}\nmirrors:\n- {{name: tap, bridge: br0, select: {{ports: [\"v*\"]}}, output: {{port: mon0}}}}"
        )
    };
    rig.apply(&spec(""));
    let config = || rig.vsctl("get open_vswitch . next_cfg").parse::<i64>().unwrap();
    for (port, actions) in [(", {name: va}", ["add-port", "set-mirror"]), ("", ["remove-port", "set-mirror"])]
    {
        let before = config();
        let ran = rig.apply(&spec(port));
        let done = crate::rig::actions(&ran);
        assert!(actions.starts_with(&done.iter().map(String::as_str).collect::<Vec<_>>()), "{done:?}");
        assert_eq!(config(), before + 1, "{done:?}");
    }
}
