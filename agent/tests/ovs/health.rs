//! How mirrors fare: what one look shows, what comparing looks shows, and what ovs-vswitchd shows when it is asked.

use std::time::{Duration, Instant};

use portwright::node::eye::Look;
use portwright_core::ovs::{MirrorHealth, MirrorWatch, Target};
use portwright_ovs::node::{OvsNode, Seen};
use serde_json::Value;

use crate::rig::Rig;
use crate::traffic::{Flow, exchange, until};

/// Open vSwitch counts every five seconds.
const COUNTED_WITHIN: Duration = Duration::from_secs(30);

const SPEC: &str = "bridges:
- name: br0
  datapath: netdev
  ports: [{name: va}, {name: vb}, {name: mon0, type: internal}]
- {name: br1, datapath: netdev, ports: [{name: far0, type: internal}]}
mirrors:
- {name: tap, bridge: br0, select: {ports: [va]}, output: {port: mon0}}";

fn node() -> (Rig, String, String) {
    let mut rig = Rig::start();
    let (a, b) = (rig.pod("a", 1), rig.pod("b", 2));
    rig.apply(SPEC);
    rig.ip(&["link", "set", "mon0", "up"]);
    (rig, a, b)
}

fn mirror(rig: &Rig) -> Value {
    let ran = rig.portwright(&["observe", "-o", "json"]);
    let bridges = ran.json()["ovs"]["bridges"].as_array().unwrap().clone();
    bridges.into_iter().find(|bridge| bridge["name"] == "br0").unwrap()["mirrors"][0].clone()
}

/// The last cells of the mirror's line in `observe`.
fn row(rig: &Rig) -> String {
    let text = rig.portwright(&["observe"]).stdout;
    let row = text.lines().find(|line| line.starts_with("tap ")).unwrap_or_else(|| panic!("{text}"));
    row.split_whitespace().skip(6).collect::<Vec<_>>().join(" ")
}

#[test]
fn observe_shows_what_was_copied_and_what_is_wrong() {
    let (rig, a, b) = node();
    exchange(&a, &b, 20);
    until("the link being told", || mirror(&rig)["counts"]["outputUp"] == true);
    let start = Instant::now();
    let copied = loop {
        let seen = mirror(&rig);
        let number = |name: &str| seen["counts"][name].as_u64();
        if let (Some(copied), Some(offered)) = (number("copied"), number("offered"))
            && copied >= 40
        {
            assert!(offered >= 40 && number("copiedBytes").unwrap() >= 40 * 142, "{seen}");
            break copied;
        }
        assert!(start.elapsed() < COUNTED_WITHIN, "{seen}");
        std::thread::park_timeout(Duration::from_millis(200));
    };
    assert!(row(&rig).starts_with("p "), "{}", row(&rig));
    assert!(row(&rig).ends_with(" -"), "nothing is wrong after {copied} copies: {}", row(&rig));

    rig.ip(&["link", "set", "mon0", "down"]);
    until("the output being down", || row(&rig).ends_with("output is down"));
    rig.ip(&["link", "set", "mon0", "up"]);
    rig.vsctl("del-port br0 va");
    assert!(row(&rig).ends_with("selects nothing"), "{}", row(&rig));
    rig.vsctl("del-port br0 mon0");
    assert!(row(&rig).ends_with("no output"), "{}", row(&rig));
    assert_eq!(rig.vsctl("get open_vswitch . next_cfg"), rig.vsctl("get open_vswitch . cur_cfg"));
}

/// A mirror that worked keeps its last counters when it stops: only comparing tells.
#[test]
fn a_mirror_that_stopped_copying_is_told_without_a_write() {
    let (rig, a, b) = node();
    let flow = Flow::start(&a, &b);
    flow.goes_on(20);
    let mut switch = OvsNode::new(rig.server.remote(), Duration::from_secs(10)).unwrap();
    let mut look = || {
        let Seen::There(mut ovs) = switch.observe() else { panic!("it is there") };
        switch.count(&mut ovs).unwrap();
        *ovs
    };
    let (mut watch, mut clock) = (MirrorWatch::default(), Duration::ZERO);
    let tap = Target::mirror("br0", "tap");
    let mut until_health = |wanted: MirrorHealth| {
        let start = Instant::now();
        loop {
            // The judge's clock runs faster than ours: looks without new counters say nothing.
            clock += Duration::from_secs(10);
            let ovs = look();
            let health = watch.judge(&ovs, clock)[&tap];
            if health == wanted {
                return;
            }
            assert!(start.elapsed() < COUNTED_WITHIN, "{health:?}: {:?}", ovs.bridge("br0").unwrap().mirrors);
            std::thread::park_timeout(Duration::from_millis(500));
        }
    };
    until_health(MirrorHealth::Works);
    let before = rig.vsctl("get open_vswitch . next_cfg");
    until_health(MirrorHealth::Works);
    assert_eq!(rig.vsctl("get open_vswitch . next_cfg"), before, "looking writes nothing");
    // Open vSwitch takes it and says nothing, but the mirror is dead.
    rig.vsctl("-- --id=@p get port far0 -- set mirror tap output_port=@p");
    rig.look_at_flows_again();
    until_health(MirrorHealth::DoesNotCopy);
    rig.apply(SPEC);
    until_health(MirrorHealth::Works);
    drop(flow);
}

#[test]
fn the_probe_tells_working_mirrors_of_ours_from_dead_ones_and_leaves_others_alone() {
    let (rig, ..) = node();
    let mirrors = "- {name: tap, bridge: br0, select: {ports: [va]}, output: {port: mon0}}
- {name: dead, bridge: br0, select: {ports: [vb]}, output: {port: mon0}}";
    let spec =
        SPEC.replace("- {name: tap, bridge: br0, select: {ports: [va]}, output: {port: mon0}}", mirrors);
    rig.apply(&spec);
    rig.vsctl("-- --id=@p get port far0 -- set mirror dead output_port=@p");
    rig.vsctl("-- --id=@p get port far0 -- --id=@s get port va -- --id=@m create mirror name=theirs select_src_port=@s output_port=@p statistics:tx_packets=77 -- add bridge br0 mirrors @m");
    let settings = |rig: &Rig| {
        rig.vsctl("--columns=name,select_src_port,output_port,external_ids --format=csv list mirror")
    };
    let before = (settings(&rig), rig.vsctl("get open_vswitch . next_cfg"));
    let ran = rig.portwright(&["ovs", "probe", "-o", "json"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    let told: Vec<(String, Value)> = ran
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["object"].as_str().unwrap().to_owned(), one["works"].clone()))
        .collect();
    let expected = [
        ("bridge/br0/mirror/dead".to_owned(), false.into()),
        ("bridge/br0/mirror/tap".to_owned(), true.into()),
    ];
    assert_eq!(told, expected, "{ran:#?}");
    assert_eq!((settings(&rig), rig.vsctl("get open_vswitch . next_cfg")), before, "no setting changed");
    assert_eq!(rig.vsctl("get mirror theirs statistics:tx_packets"), "77", "not ours");
}

/// What the daemon keeps of a look, and compares with the next: counters that grow are no news.
#[test]
fn counters_that_grow_make_no_other_look() {
    let (rig, a, b) = node();
    let flow = Flow::start(&a, &b);
    let state = tempfile::tempdir().unwrap();
    let remote = Some(rig.server.remote());
    let keep = portwright::node::Keeping::No;
    let mut part =
        portwright::node::SwitchPart::new(remote, Duration::from_secs(10), state.path(), keep).unwrap();
    let counted = |rig: &Rig| mirror(rig)["counts"]["copied"].as_u64().unwrap_or_default();
    until("the first copies", || counted(&rig) > 0);
    let (before, first) = (part.look_and_judge(), counted(&rig));
    let Look::There { ovs, .. } = &before else { panic!("{before:?}") };
    let judged = ovs.bridge("br0").unwrap().mirrors[0].judged;
    assert_eq!(judged, Some(MirrorHealth::Works));
    until("more copies", || counted(&rig) > first);
    assert_eq!(part.look_and_judge(), before);
    assert_eq!(part.look(), before, "a look that judges nothing keeps what was judged");
    drop(flow);
}

/// What the daemon asks for, through the node that it has.
#[test]
fn without_open_vswitch_there_is_nothing_to_judge() {
    let state = tempfile::tempdir().unwrap();
    let mut part = portwright::node::SwitchPart::new(
        None,
        Duration::from_secs(1),
        state.path(),
        portwright::node::Keeping::No,
    )
    .unwrap();
    assert_eq!(part.look_and_judge(), Look::Absent);
    assert!(part.watch().is_none());
}
