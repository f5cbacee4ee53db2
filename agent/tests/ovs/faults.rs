//! The faults of docs/ovs-faults.md, made to happen to real processes.

use nix::sys::signal::Signal;

use crate::rig::{Rig, actions, blocked};
use crate::traffic::{exchange, until};

const SPEC: &str = "bridges:
- name: br0
  datapath: netdev
  ports: [{name: va}, {name: vb}, {name: mon0, type: internal}]
mirrors:
- {name: tap, bridge: br0, select: {ports: [va]}, output: {port: mon0}}";

fn node() -> (Rig, String, String) {
    let mut rig = Rig::start();
    let (a, b) = (rig.pod("a", 1), rig.pod("b", 2));
    rig.apply(SPEC);
    (rig, a, b)
}

/// Fault 1, and 5 as far as it shows: nobody listens on the socket.
#[test]
fn a_restarted_database_is_read_again_without_duplicates() {
    let (mut rig, a, b) = node();
    let file = rig.policy("p", SPEC);
    rig.server.kill();
    let down = rig.plan_file(&file);
    assert_eq!(down.code, Some(1), "{down:#?}");
    assert_eq!(blocked(&down), ["bridge/br0 OvsUnreachable", "bridge/br0/mirror/tap OvsUnreachable"]);
    rig.server.launch();
    until("ovs-vswitchd is back at the database", || rig.plan_file(&file).code == Some(0));
    rig.is_in_sync(&file);
    assert_eq!((rig.rows("bridge"), rig.rows("port"), rig.rows("mirror")), (1, 4, 1));
    exchange(&a, &b, 3);
}

/// Fault 2.
#[test]
fn a_hung_database_is_an_obstacle_in_time_and_no_hang() {
    let (rig, ..) = node();
    let file = rig.policy("p", "bridges:\n- {name: br0, datapath: netdev}");
    rig.server.signal(Signal::SIGSTOP);
    let start = std::time::Instant::now();
    let hung = rig.apply_file(&file, &["--timeout", "1"]);
    assert!(start.elapsed().as_secs() < 9, "{:?}", start.elapsed());
    assert_eq!(hung.code, Some(1), "{hung:#?}");
    assert_eq!(blocked(&hung), ["bridge/br0 OvsUnreachable"]);
    rig.server.signal(Signal::SIGCONT);
    rig.apply(SPEC);
}

/// Faults 3 and 4.
#[test]
fn without_vswitchd_a_change_is_accepted_and_reported_as_not_carried_out() {
    let (mut rig, a, b) = node();
    let changed = SPEC.replace("{name: va}", "{name: va, vlan: {mode: access, tag: 7}}");
    let file = rig.policy("p", &changed);
    rig.vswitchd.kill();
    let ran = rig.apply_file(&file, &["--timeout", "1"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    let why = ran.json()["steps"][0]["why"].as_str().unwrap().to_owned();
    assert!(why.contains("not applied"), "{why}");
    assert_eq!(blocked(&ran), ["ovs OvsUnreachable"]);
    assert!(ran.stdout.contains("has not carried out what the database asks for"), "{}", ran.stdout);
    assert!(ran.stderr.contains("start ovs-vswitchd"), "{}", ran.stderr);
    rig.vswitchd.launch();
    until("ovs-vswitchd catches up by itself", || rig.plan_file(&file).code == Some(0));
    rig.is_in_sync(&file);
    rig.apply(SPEC.replace("{name: va}", "{name: va, vlan: {mode: trunk}}").as_str());
    exchange(&a, &b, 3);
}

/// Fault 6.
#[test]
fn a_full_disk_refuses_and_keeps_everything() {
    let mut rig = Rig::start();
    rig.server.kill();
    rig.vswitchd.kill();
    let directory = rig.server.path("");
    let target = directory.to_str().unwrap();
    crate::harness::run("mount", &["-t", "tmpfs", "-o", "size=400k", "none", target], None);
    let _unmount = Unmount(target.to_owned());
    std::fs::write(rig.server.path("conf.db"), "").unwrap();
    rig.server.wipe();
    rig.server.launch();
    rig.server.vsctl(&["--no-wait", "init"]);
    rig.vswitchd.launch();
    rig.apply("bridges:\n- {name: br0, datapath: netdev, ports: [{name: a0, type: internal}]}");
    let filler = rig.server.path("filler");
    fill(&filler);
    // Enough not to fit into what is left of the last page.
    let ports: String = (0..60).map(|number| format!(", {{name: b{number}, type: internal}}")).collect();
    let spec =
        format!("bridges:\n- {{name: br0, datapath: netdev, ports: [{{name: a0, type: internal}}{ports}]}}");
    let more = rig.policy("p", &spec);
    let full = rig.apply_file(&more, &[]);
    assert_eq!(full.code, Some(1), "{full:#?}");
    assert!(full.json()["steps"][0]["why"].as_str().unwrap().contains("I/O error"), "{full:#?}");
    assert!(full.stderr.contains("free space on the disk"), "{}", full.stderr);
    assert_eq!(rig.vsctl("list-ports br0"), "a0", "what was there is there");
    std::fs::remove_file(filler).unwrap();
    // The daemons notice in their own time that there is room again.
    until("applied with room on the disk", || rig.apply_file(&more, &["--timeout", "3"]).code == Some(0));
    rig.is_in_sync(&more);
    rig.server.kill();
    rig.vswitchd.kill();
}

/// Writes until nothing fits any more.
fn fill(path: &std::path::Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    for size in [4096, 512, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

struct Unmount(String);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").args(["-l", &self.0]).output();
    }
}

/// Fault 8.
#[test]
fn a_wiped_database_is_filled_again() {
    let (mut rig, a, b) = node();
    rig.server.kill();
    rig.server.wipe();
    rig.server.launch();
    rig.server.vsctl(&["--no-wait", "init"]);
    rig.apply(SPEC);
    assert_eq!((rig.rows("bridge"), rig.rows("port"), rig.rows("mirror")), (1, 4, 1));
    exchange(&a, &b, 3);
}

/// Faults 12 (by the database) and 13: a name that is taken elsewhere is named with its bridge.
#[test]
fn a_port_name_that_is_taken_names_the_bridge() {
    let rig = Rig::start();
    rig.vsctl(
        "add-br ex -- set bridge ex datapath_type=netdev -- add-port ex a0 -- set interface a0 type=internal",
    );
    let plan = rig.plan_file(
        &rig.policy("p", "bridges:\n- {name: br0, datapath: netdev, ports: [{name: a0, type: internal}]}"),
    );
    assert_eq!(blocked(&plan), ["bridge/br0/port/a0 NameConflict"], "{plan:#?}");
    assert!(plan.json()["blocked"][0]["message"].as_str().unwrap().contains("bridge ex"), "{plan:#?}");
}

/// Faults 14 and 15: a netdev that was made anew is plugged again, and its mirrors with it.
#[test]
fn a_netdev_made_anew_is_plugged_again() {
    let (rig, a, b) = node();
    rig.ip(&["link", "del", "va"]);
    rig.plug("a", 1);
    rig.repairs(SPEC, &["replug-port"]);
    exchange(&a, &b, 3);
    let mirrored = rig.vsctl("get mirror tap select_src_port");
    assert_eq!(mirrored.trim_matches(['[', ']']), rig.vsctl("get port va _uuid"), "the mirror has it again");
}

/// Fault 16: the network namespace of an internal port is gone.
#[test]
fn an_internal_port_whose_namespace_is_gone_is_collected() {
    let mut rig = Rig::start();
    let pod = rig.pod("x", 9);
    let spec = "ovs: {collect: {graceSeconds: 0, owners: [cni]}}\nbridges:\n- {name: br0, datapath: netdev}";
    rig.apply(spec);
    let keys = format!("external_ids:owner=cni external_ids:contNetns=/run/netns/{pod}");
    rig.vsctl(&format!("add-port br0 in0 -- set interface in0 type=internal -- set port in0 {keys}"));
    rig.apply(spec);
    assert_eq!(rig.vsctl("list-ports br0"), "in0", "its namespace is there");
    crate::harness::run("ip", &["netns", "del", &pod], None);
    rig.repairs(spec, &["collect-port"]);
    assert_eq!(rig.vsctl("list-ports br0"), "");
}

/// Fault 16 without a note on the port: what was moved by hand, and may have another name where it is.
#[test]
fn an_internal_port_that_was_moved_by_hand_is_made_again_when_its_namespace_is_gone() {
    let mut rig = Rig::start();
    let (pod, other) = (rig.pod("x", 9), rig.pod("y", 8));
    let spec = |grace: u32| {
        format!(
            "ovs: {{collect: {{graceSeconds: {grace}}}}}\nbridges:\n- {{name: br0, datapath: netdev, ports: [{{name: in0, type: internal}}, {{name: in1, type: internal}}]}}"
        )
    };
    rig.apply(&spec(0));
    for (port, pod) in [("in0", &pod), ("in1", &other)] {
        rig.ip(&["link", "set", port, "netns", pod]);
    }
    crate::harness::run("ip", &["-n", &pod, "link", "set", "in0", "name", "net1"], None);
    rig.is_in_sync(&rig.policy("p", &spec(0)));
    crate::harness::run("ip", &["netns", "del", &pod], None);
    let waiting = rig.policy("p", &spec(300));
    until("the device going with its namespace", || {
        let plan = rig.plan_file(&waiting);
        plan.code == Some(1) && blocked(&plan) == ["bridge/br0/port/in0 InterfaceMissing"]
    });
    rig.repairs(&spec(0), &["collect-port", "add-port"]);
    assert!(rig.ip(&["link", "show", "in0"]).contains("in0"), "made again");
}

/// Fault 17.
#[test]
fn a_bridge_without_datapath_is_not_called_done() {
    let rig = Rig::start();
    let file = rig.policy("p", "bridges:\n- {name: br0, datapath: system}");
    let ran = rig.apply_file(&file, &[]);
    assert_eq!((ran.code, actions(&ran)), (Some(1), vec!["create-bridge".to_owned()]), "{ran:#?}");
    assert_eq!(blocked(&ran), ["bridge/br0 DatapathMissing"]);
    assert_eq!(rig.plan_file(&file).code, Some(1));
}

/// Fault 18.
#[test]
fn a_mirror_is_linked_again_when_its_output_returns() {
    let rig = Rig::start();
    let spec = |port: &str| {
        format!(
            "bridges:\n- {{name: br0, datapath: netdev, ports: [{{name: a0, type: internal}}{port}]}}\nmirrors:\n- {{name: tap, bridge: br0, select: {{ports: [a0]}}, output: {{port: out0}}}}"
        )
    };
    let with = spec(", {name: out0, type: internal}");
    rig.apply(&with);
    let without = rig.apply_file(&rig.policy("p", &spec("")), &[]);
    assert_eq!(blocked(&without), ["bridge/br0/mirror/tap MirrorOutputMissing"], "{without:#?}");
    assert_eq!(rig.vsctl("get mirror tap output_port"), "[]");
    rig.repairs(&with, &["add-port", "set-mirror"]);
    assert_ne!(rig.vsctl("get mirror tap output_port"), "[]");
    rig.vsctl("add-br ex -- set bridge ex datapath_type=netdev -- add-port ex far0 -- set interface far0 type=internal");
    let far = rig.plan_file(&rig.policy("p", &with.replace("{port: out0}", "{port: far0}")));
    assert_eq!(blocked(&far), ["bridge/br0/mirror/tap MirrorOutputMissing"]);
    assert!(far.json()["blocked"][0]["message"].as_str().unwrap().contains("on bridge ex"), "{far:#?}");
}

/// A port whose interface cannot be opened is told in Open vSwitch's words.
#[test]
fn a_port_that_does_not_work_is_not_called_done() {
    let rig = Rig::start();
    let spec = "bridges:\n- {name: br0, datapath: netdev, ports: [{name: dpdk0, type: dpdk, options: {dpdk-devargs: \"0000:01:00.0\"}}]}";
    let ran = rig.apply_file(&rig.policy("p", spec), &[]);
    assert_eq!(blocked(&ran), ["bridge/br0/port/dpdk0 NotApplied"], "{ran:#?}");
}

/// A node without Open vSwitch is normal unless the policy wants a bridge.
#[test]
fn a_node_without_open_vswitch_is_normal() {
    let rig = Rig::start();
    let nowhere = ["observe", "-o", "json", "--ovsdb", "unix:/nowhere/db.sock"];
    let binary = env!("CARGO_BIN_EXE_portwright");
    let output = std::process::Command::new(binary).args(nowhere).output().unwrap();
    let seen: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(seen["ovs"], serde_json::Value::Null);
    assert!(!seen["problems"].to_string().contains("ovs"), "{seen}");
    let ping = rig.portwright(&["ovs", "ping", "-o", "json"]);
    assert_eq!(ping.code, Some(0), "{ping:#?}");
    assert_eq!(ping.json()["vswitchd"]["alive"], true);
}

/// Fault 5: a second ovsdb-server on the same file, and a second ovs-vswitchd at the same database.
#[test]
fn second_daemons_change_nothing() {
    let (rig, a, b) = node();
    let directory = rig.server.path("");
    let db = rig.server.path("conf.db");
    let second = tempfile::tempdir().unwrap();
    let at = |name: &str| second.path().join(name).display().to_string();
    let output = std::process::Command::new("ovsdb-server")
        .arg(db)
        .args([format!("--remote=punix:{}", at("second.sock")), format!("--unixctl={}", at("second.ctl"))])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("lock"), "{said}");
    let mut daemon = std::process::Command::new("ip")
        .args(["netns", "exec", rig.namespace(), "ovs-vswitchd"])
        .arg(rig.server.remote().to_string())
        .args(["--pidfile=none".replace("none", &at("v.pid")), format!("--unixctl={}", at("v.ctl"))])
        .args(["-vconsole:off", "--no-chdir", &format!("--log-file={}", at("v.log"))])
        .env("OVS_RUNDIR", &directory)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("the second one says that it is the second", || {
        std::fs::read_to_string(at("v.log")).is_ok_and(|log| log.contains("another ovs-vswitchd"))
    });
    rig.is_in_sync(&rig.policy("p", SPEC));
    exchange(&a, &b, 3);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    exchange(&a, &b, 3);
}

/// Fault 7: the database is a read-only copy of another.
#[test]
fn a_read_only_database_is_said_to_be_one() {
    let rig = Rig::start();
    let active = crate::harness::Server::start();
    let remote = active.remote().to_string();
    rig.server.appctl("ovsdb.ctl", &["ovsdb-server/set-active-ovsdb-server", &remote]);
    rig.server.appctl("ovsdb.ctl", &["ovsdb-server/connect-active-ovsdb-server"]);
    let spec = rig.policy("p", "bridges:\n- {name: br0, datapath: netdev}");
    let mut refused = rig.apply_file(&spec, &["--timeout", "2"]);
    until("the copy is made", || {
        refused = rig.apply_file(&spec, &["--timeout", "2"]);
        refused.json()["steps"][0]["why"].as_str().is_some_and(|why| why.contains("not allowed"))
    });
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(refused.stderr.contains("read-only"), "{}", refused.stderr);
}

/// A step whose `from` no longer holds changes nothing.
#[test]
fn a_stale_step_changes_nothing() {
    use portwright_core::drive::RunError;
    let (rig, ..) = node();
    let mut switch =
        portwright_ovs::node::OvsNode::new(rig.server.remote(), std::time::Duration::from_secs(10)).unwrap();
    let step = |from: u16| {
        let vlan = |tag| portwright_core::ovs::VlanSetting {
            mode: Some("access".into()),
            tag: Some(tag),
            ..Default::default()
        };
        let setting = portwright_core::ovs::Setting::Vlan;
        let change = portwright_core::ovs::Change::Set { from: setting(vlan(from)), to: setting(vlan(9)) };
        portwright_core::Step {
            object: "bridge/br0/port/va".parse().unwrap(),
            change: portwright_core::Change::Ovs { owner: "p".into(), change: Box::new(change) },
            disruption: portwright_core::Disruption::None,
            force: false,
        }
    };
    rig.vsctl("set port va tag=7 vlan_mode=access");
    let before = rig.vsctl("get open_vswitch . next_cfg");
    assert!(matches!(switch.run(&[step(6)]), Err(RunError::Stale { .. })));
    assert_eq!(rig.vsctl("get open_vswitch . next_cfg"), before);
    rig.vsctl("remove port va external_ids portwright.dev/owner");
    let before = rig.vsctl("get open_vswitch . next_cfg");
    assert!(matches!(switch.run(&[step(7)]), Err(RunError::Stale { .. })), "a row that is no longer ours");
    assert_eq!(
        (rig.vsctl("get open_vswitch . next_cfg"), rig.vsctl("get port va tag")),
        (before, "7".into())
    );
    rig.vsctl("set port va external_ids:portwright.dev/owner=p");
    switch.run(&[step(7)]).unwrap();
    assert_eq!(rig.vsctl("get port va tag"), "9");
}
