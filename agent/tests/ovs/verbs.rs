//! The verbs show Open vSwitch beside NICs.

use std::io::Read;

use crate::rig::Rig;

const SPEC: &str = "bridges:
- name: br0
  datapath: netdev
  ports: [{name: a0, type: internal, vlan: {mode: access, tag: 10}}, {name: mon0, type: internal}]
mirrors:
- {name: tap, bridge: br0, select: {ports: [a0]}, output: {port: mon0}}";

/// The lines of a text without the spaces that align them.
fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn shows(text: &str, expected: &[&str]) {
    let lines = lines(text);
    for line in expected {
        assert!(lines.iter().any(|one| one.starts_with(line)), "no line {line:?} in\n{text}");
    }
}

#[test]
fn plan_apply_observe_and_bundle_show_bridges_ports_and_mirrors() {
    let rig = Rig::start();
    let file = rig.policy("p", SPEC);
    let policy = file.to_str().unwrap();
    let steps = [
        "br0",
        "create bridge (none) → datapath netdev",
        "add port a0 (none) → internal, access 10",
        "add mirror tap (none) → of a0 to port mon0",
    ];
    let plan = rig.portwright(&["plan", "-f", policy]);
    assert_eq!(plan.code, Some(1), "{plan:#?}");
    shows(&plan.stdout, &steps);
    let apply = rig.portwright(&["apply", "-f", policy]);
    assert_eq!(apply.code, Some(0), "{apply:#?}");
    shows(&apply.stdout, &steps);
    shows(&apply.stdout, &["bridge/br0/mirror/tap add (none) of a0 to port mon0 done"]);
    shows(&rig.portwright(&["plan", "-f", policy]).stdout, &["br0", "in sync"]);

    let observed = [
        "Open vSwitch: ovs-vswitchd answers",
        "br0 netdev - 2 1 p works",
        "a0 br0 internal access 10 p -",
        "mon0 br0 internal trunk p -",
        "tap br0 a0 a0 - mon0 p",
    ];
    shows(&rig.portwright(&["observe"]).stdout, &observed);

    let archive = rig.state_dir().with_file_name("report.tar.gz");
    let bundle = rig.portwright(&["bundle", "-f", policy, "--", archive.to_str().unwrap()]);
    assert_eq!(bundle.code, Some(0), "{bundle:#?}");
    let opened = flate2::read::GzDecoder::new(std::fs::File::open(&archive).unwrap());
    let mut found = 0;
    for entry in tar::Archive::new(opened).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        match name.as_str() {
            "observed.txt" => shows(&text, &observed),
            "observed.json" => {
                let seen: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(seen["ovs"]["bridges"][0]["name"], "br0");
            }
            "plan.txt" => shows(&text, &["br0", "in sync"]),
            _ => continue,
        }
        found += 1;
    }
    assert_eq!(found, 3, "{bundle:#?}");
}

#[test]
fn ping_tells_which_daemon_is_alive() {
    let mut rig = Rig::start();
    let both = rig.portwright(&["ovs", "ping"]);
    assert_eq!(both.code, Some(0), "{both:#?}");
    shows(&both.stdout, &["ovsdb-server answers in ", "ovs-vswitchd answers in "]);
    rig.vswitchd.kill();
    let one = rig.portwright(&["ovs", "ping", "--timeout", "1"]);
    assert_eq!(one.code, Some(1), "{one:#?}");
    shows(&one.stdout, &["ovsdb-server answers in ", "ovs-vswitchd does not answer: "]);
    rig.server.kill();
    let none = rig.portwright(&["ovs", "ping", "--timeout", "1"]);
    assert_eq!(none.code, Some(2), "{none:#?}");
    assert!(none.stderr.contains("hint: "), "{none:#?}");
    assert_eq!(rig.portwright(&["ovs", "probe", "--timeout", "1"]).code, Some(2));
}
