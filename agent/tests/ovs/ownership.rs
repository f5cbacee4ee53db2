//! Whose rows are touched, and when what is no longer listed goes.

use crate::rig::{Rig, actions, blocked};

#[test]
fn rows_of_others_are_never_touched() {
    let rig = Rig::start();
    rig.vsctl("add-br ex -- set bridge ex datapath_type=netdev other_config:mac-aging-time=77 external_ids:theirs=1");
    rig.vsctl("add-port ex keep tag=3 -- set interface keep type=internal");
    let spec = "bridges:\n- {name: ex, datapath: netdev, ports: [{name: own0, type: internal}], options: {stp: true}}";
    let refused = rig.apply_file(&rig.policy("p", spec), &[]);
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert_eq!((actions(&refused), blocked(&refused)), (vec![], vec!["bridge/ex NameConflict".to_owned()]));

    let adopting =
        "bridges:\n- {name: ex, adopt: true, ports: [{name: own0, type: internal}], options: {stp: true}}";
    let adopting = rig.policy("p", adopting);
    let asked = rig.apply_file(&adopting, &[]);
    assert_eq!(blocked(&asked), ["bridge/ex NeedsDisruption"], "a spanning tree cuts keep off: {asked:#?}");
    assert_eq!(rig.vsctl("get bridge ex stp_enable"), "false");
    let allowed = rig.apply_file(&adopting, &["--allow-disruption"]);
    assert_eq!(
        (allowed.code, rig.vsctl("get bridge ex stp_enable").as_str()),
        (Some(0), "true"),
        "{allowed:#?}"
    );
    rig.is_in_sync(&adopting);
    assert_eq!(rig.vsctl("get port keep tag external_ids"), "3\n{}", "unlisted ports stay as they are");
    assert_eq!(rig.vsctl("get bridge ex other_config:mac-aging-time external_ids:theirs"), "\"77\"\n\"1\"");
    assert_eq!(rig.vsctl("get bridge ex external_ids:portwright.dev/owner"), "p");
    assert_eq!(rig.vsctl("get bridge ex datapath_type"), "netdev", "an absent datapath is left as it is");

    let foreign = rig.apply_file(&rig.policy("p", "priority: 1"), &[]);
    assert_eq!(blocked(&foreign), ["bridge/ex ForeignPorts"], "{foreign:#?}");
    rig.vsctl("del-port ex keep");
    rig.apply("priority: 1");
    assert_eq!(rig.vsctl("list-br"), "");
    assert_eq!((rig.rows("port"), rig.rows("interface")), (0, 0));
}

#[test]
fn what_a_policy_no_longer_lists_goes_and_other_policies_stay() {
    let rig = Rig::start();
    let one = "bridges:\n- {name: br1, datapath: netdev, ports: [{name: a0, type: internal, qos: {type: linux-htb, otherConfig: {max-rate: \"1000000\"}}}, {name: a1, type: internal}]}
mirrors:\n- {name: m, bridge: br1, select: {ports: [a0]}, output: {port: a1}}";
    let other =
        rig.policy("other", "bridges:\n- {name: br2, datapath: netdev, ports: [{name: b0, type: internal}]}");
    rig.apply(one);
    assert_eq!(rig.apply_file(&other, &[]).code, Some(0));
    assert_eq!((rig.rows("qos"), rig.rows("mirror")), (1, 1));
    let fewer = "bridges:\n- {name: br1, datapath: netdev, ports: [{name: a1, type: internal}]}";
    rig.repairs(fewer, &["remove-port", "remove-mirror"]);
    assert_eq!((rig.rows("qos"), rig.rows("mirror")), (0, 0), "the QoS row goes with its port");
    rig.repairs("priority: 1", &["remove-bridge"]);
    assert_eq!(rig.vsctl("list-br"), "br2", "the other policy was not given");
    rig.is_in_sync(&other);
}

#[test]
fn stale_ports_are_collected_after_their_grace_time() {
    let mut rig = Rig::start();
    rig.pod("a", 1);
    let spec = |grace: u32, owners: &str| {
        format!(
            "ovs: {{collect: {{graceSeconds: {grace}, owners: [{owners}]}}}}\nbridges:\n- {{name: br0, datapath: netdev, ports: [{{name: va}}]}}"
        )
    };
    rig.apply(&spec(300, ""));
    rig.ip(&["link", "add", "theirs", "type", "veth", "peer", "name", "peer0"]);
    rig.vsctl("add-port br0 theirs -- set port theirs external_ids:owner=ovs-cni.network.kubevirt.io");
    rig.ip(&["link", "del", "theirs"]);
    rig.ip(&["link", "del", "va"]);
    let waiting = rig.apply_file(&rig.policy("p", &spec(300, "ovs-cni.network.kubevirt.io")), &[]);
    assert_eq!(blocked(&waiting), ["bridge/br0/port/va InterfaceMissing"], "{waiting:#?}");
    assert!(actions(&waiting).is_empty());
    let ours = rig.apply_file(&rig.policy("p", &spec(0, "")), &[]);
    assert_eq!(actions(&ours), ["collect-port"], "{ours:#?}");
    assert_eq!(rig.vsctl("list-ports br0"), "theirs", "nobody listed its owner");
    let theirs = rig.apply_file(&rig.policy("p", &spec(0, "ovs-cni.network.kubevirt.io")), &[]);
    assert_eq!(actions(&theirs), ["collect-port"], "{theirs:#?}");
    assert_eq!(rig.vsctl("list-ports br0"), "");
    rig.plug("a", 1);
    rig.apply(&spec(0, ""));
    assert_eq!(rig.vsctl("list-ports br0"), "va", "back with its interface");
}

/// What a reboot leaves: the database as it was, no veth pair and no namespace of a pod.
#[test]
fn ports_that_a_reboot_left_over_are_collected() {
    let mut rig = Rig::start();
    let pod = rig.pod("a", 1);
    rig.pod("b", 2);
    let spec = |grace: u32| {
        format!(
            "ovs: {{collect: {{graceSeconds: {grace}, owners: [ovs-cni.network.kubevirt.io]}}}}\nbridges:\n- {{name: br0, datapath: netdev, ports: [{{name: mon0, type: internal}}]}}"
        )
    };
    rig.apply(&spec(300));
    let owner = "external_ids:owner=ovs-cni.network.kubevirt.io";
    rig.vsctl(&format!("add-port br0 va -- set port va {owner} external_ids:contNetns=/run/netns/{pod}"));
    rig.vsctl("add-port br0 vb -- set port vb external_ids:owner=somebody");
    rig.apply(&spec(300));
    rig.vswitchd.kill();
    rig.server.kill();
    crate::harness::run("ip", &["netns", "del", &pod], None);
    for link in ["vb", "br0", "mon0", "ovs-netdev"] {
        rig.ip(&["link", "del", link]);
    }
    rig.server.launch();
    rig.vswitchd.launch();
    let file = rig.policy("p", &spec(300));
    crate::traffic::until("ovs-vswitchd is back at work", || rig.plan_file(&file).code == Some(0));
    assert_eq!(rig.apply_file(&file, &[]).code, Some(0), "they are in their time of grace");
    // The time counts on from what was remembered before this run.
    rig.repairs(&spec(0), &["collect-port"]);
    assert_eq!(rig.vsctl("list-ports br0"), "mon0\nvb", "nobody listed the owner of the other");
}
