//! Everything that a policy can say of a bridge is set, read back and changed in place.

use crate::rig::{Rig, actions, blocked};

#[test]
fn bonds_tunnels_and_switch_settings_are_set_and_changed_in_place() {
    let rig = Rig::start();
    for name in ["up0", "up1", "up2"] {
        rig.ip(&["link", "add", name, "type", "veth", "peer", "name", &format!("{name}p")]);
    }
    let spec = |bond: &str, port: &str, offload: bool| {
        format!(
            "ovs: {{hwOffload: {offload}}}
bridges:
- name: br0
  datapath: netdev
  uplinks: [{{bond: {{name: bond0, {bond}}}}}]
  ports:
  - {{name: gen0, type: geneve, options: {{remote_ip: 192.0.2.1, key: \"7\"}}}}
  - {{name: tun0, type: internal, vlan: {{mode: dot1q-tunnel, tag: 9, cvlans: [1, 2]}}{port}}}
  options: {{rstp: true}}"
        )
    };
    rig.apply(&spec("mode: balance-slb, lacp: active, interfaces: [up0, up1]", "", false));
    assert_eq!(rig.vsctl("get port bond0 bond_mode lacp"), "balance-slb\nactive");
    rig.repairs(
        &spec(
            "mode: active-backup, lacp: \"off\", interfaces: [up1, up2]",
            ", qos: {type: linux-htb, otherConfig: {max-rate: \"1000\"}}",
            true,
        ),
        &["set-hw-offload", "set-bond-members", "set-bond-mode", "set-lacp", "set-port-qos"],
    );
    assert_eq!(rig.vsctl("get open_vswitch . other_config:hw-offload"), "\"true\"");
    assert_eq!(rig.rows("qos"), 1);
    rig.repairs(
        &spec(
            "mode: active-backup, lacp: \"off\", interfaces: [up1, up2]",
            ", qos: {type: linux-htb, otherConfig: {max-rate: \"2000\"}}",
            true,
        ),
        &["set-port-qos"],
    );
    assert_eq!(rig.rows("qos"), 1, "changed in place");
}

#[test]
fn uplinks_that_are_not_free_are_refused_with_what_was_found() {
    let rig = Rig::start();
    for name in ["up0", "up1", "up2"] {
        rig.ip(&["link", "add", name, "type", "veth", "peer", "name", &format!("{name}p")]);
    }
    rig.ip(&["addr", "add", "192.0.2.7/24", "dev", "up0"]);
    rig.vsctl("add-br ex -- set bridge ex datapath_type=netdev -- add-port ex up1");
    rig.ip(&["link", "add", "lb", "type", "bridge"]);
    rig.ip(&["link", "set", "up2", "master", "lb"]);
    for (uplink, found) in [
        ("up0", "has the address 192.0.2.7"),
        ("up1", "is in port up1 of bridge ex"),
        ("up2", "belongs to lb"),
        ("up9", "there is no network interface up9"),
    ] {
        let spec = format!("bridges:\n- {{name: br0, datapath: netdev, uplinks: [{{interface: {uplink}}}]}}");
        let plan = rig.plan_file(&rig.policy("p", &spec));
        let message = plan.json()["blocked"][0]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains(found) || uplink == "up1", "{uplink}: {plan:#?}");
        let reason = if uplink == "up9" { "InterfaceMissing" } else { "UplinkInUse" };
        assert_eq!(blocked(&plan), [format!("bridge/br0/port/{uplink} {reason}")]);
    }
    rig.ip(&["addr", "flush", "dev", "up0"]);
    rig.ip(&["link", "set", "up2", "nomaster"]);
    let two = |options: &str| {
        format!(
            "bridges:\n- {{name: br0, datapath: netdev, uplinks: [{{interface: up0}}, {{interface: up2}}]{options}}}"
        )
    };
    let loops = rig.apply_file(&rig.policy("p", &two("")), &[]);
    assert_eq!(blocked(&loops), ["bridge/br0 UplinkLoop"], "{loops:#?}");
    assert_eq!(rig.vsctl("list-ports br0"), "", "no uplink is better than a loop");
    rig.apply(&two(", options: {stp: true}"));
    // The node is reached over it from now on.
    rig.ip(&["addr", "add", "192.0.2.7/24", "dev", "up0"]);
    rig.ip(&["link", "set", "up0", "up"]);
    rig.ip(&["link", "set", "up0p", "up"]);
    rig.ip(&["route", "add", "default", "via", "192.0.2.1"]);
    let leaves = rig.plan_file(&rig.policy("p", "bridges:\n- {name: br0, datapath: netdev}"));
    assert!(blocked(&leaves).contains(&"bridge/br0/port/up0 ManagementPath".to_owned()), "{leaves:#?}");
    let goes = rig.plan_file(&rig.policy("p", "priority: 1"));
    assert_eq!(blocked(&goes), ["bridge/br0 ManagementPath"], "{goes:#?}");
}

#[test]
fn a_datapath_is_changed_only_when_that_is_allowed() {
    let rig = Rig::start();
    rig.vsctl("add-br br0 -- set bridge br0 datapath_type=netdev -- add-port br0 pod0 -- set interface pod0 type=internal");
    let spec = "bridges:\n- {name: br0, datapath: system, adopt: true}";
    let file = rig.policy("p", spec);
    let refused = rig.apply_file(&file, &[]);
    assert_eq!(blocked(&refused), ["bridge/br0 NeedsDisruption"], "{refused:#?}");
    let message = refused.json()["after"]["blocked"][0]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("cuts pod0 off"), "{message}");
    assert_eq!(rig.vsctl("get bridge br0 datapath_type"), "netdev");
    let allowed = rig.apply_file(&file, &["--allow-disruption"]);
    assert_eq!(rig.vsctl("get bridge br0 datapath_type"), "system");
    assert_eq!(rig.vsctl("list-ports br0"), "pod0", "the rows of others stay");
    // There is no kernel datapath here, and Open vSwitch does not say so anywhere.
    assert_eq!(blocked(&allowed), ["bridge/br0 DatapathMissing"], "{allowed:#?}");
}

#[test]
fn more_mirrors_than_open_vswitch_carries_out_are_refused() {
    let rig = Rig::start();
    let mut spec = "bridges:\n- {name: br0, datapath: netdev, ports: [{name: a0, type: internal}, {name: a1, type: internal}]}\nmirrors:\n".to_owned();
    for number in 0..33 {
        spec.push_str(&format!(
            "- {{name: m{number:02}, bridge: br0, select: {{ports: [a0]}}, output: {{port: a1}}}}\n"
        ));
    }
    let ran = rig.apply_file(&rig.policy("p", &spec), &[]);
    assert_eq!(blocked(&ran), ["bridge/br0/mirror/m32 TooManyMirrors"], "{ran:#?}");
    assert_eq!(rig.rows("mirror"), 32);
}

#[test]
fn a_hundred_ports_are_one_transaction() {
    let rig = Rig::start();
    let ports: String = (0..100).map(|number| format!("{{name: p{number}, type: internal}}, ")).collect();
    let before: i64 = rig.vsctl("get open_vswitch . next_cfg").parse().unwrap();
    let ran = rig.apply(&format!("bridges:\n- {{name: br0, datapath: netdev, ports: [{ports}]}}"));
    assert_eq!(actions(&ran).len(), 101);
    assert_eq!(rig.vsctl("get open_vswitch . next_cfg").parse::<i64>().unwrap(), before + 1);
}
