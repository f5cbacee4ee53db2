//! Open vSwitch with the kernel's datapath: a PF as uplink of a bridge that `apply` makes, a VF's traffic through it, and a
//! mirror of that traffic. The two cards are on one wire. And ports whose hardware vanishes: a VF and a representor.

use super::devlink::{Nic, netdev_of_port};
use super::{Lab, Scenario, plain};
use crate::lab::{cli, eventually, guest, links, switch, sys};
use anyhow::{Context as _, Result, ensure};
use portwright_core::desired::EswitchMode;
use std::time::Duration;

pub(super) fn table() -> Vec<Scenario> {
    vec![
        plain("ovs-a-vf-reaches-a-bridge-of-the-kernel-datapath-over-a-pf", over_a_pf),
        plain("ovs-ports-whose-vf-or-representor-vanishes", vanishing),
    ]
}

const WITHIN: Duration = Duration::from_secs(30);
const POD: &str = "pod";
/// Every namespace is quiet but for what the scenario sends, so that frames can be counted.
const QUIET: &str = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
/// Frames of one count.
const FRAMES: u64 = 10;

fn over_a_pf(lab: &mut Lab) -> Result<()> {
    sys::write(QUIET, "1")?;
    let done = switch::beside(|| through_the_bridge(lab));
    sys::write(QUIET, "0")?;
    done
}

/// The policy; `mirror` adds what copies the frames that come in over the uplink. Without a mirror its output is an ordinary
/// port, in a VLAN where nobody sends.
fn policy(with_vf: &str, uplink: &str, name: &str, mirror: bool) -> String {
    let mirrors = if mirror {
        format!(
            "  mirrors:\n  - {{name: tap, bridge: br-lab, select: {{ports: [\"{name}\"], direction: ingress}}, output: {{port: mon0}}}}\n"
        )
    } else {
        String::new()
    };
    format!(
        "{}  bridges:\n  - name: br-lab\n    datapath: system\n    uplinks: [{{select: {{addresses: [\"{uplink}\"]}}}}]\n    \
         ports: [{{name: mon0, type: internal, vlan: {{mode: access, tag: 4000}}}}]\n{mirrors}",
        nics(with_vf)
    )
}

fn nics(with_vf: &str) -> String {
    format!(
        "apiVersion: portwright.dev/v1alpha1\nkind: NodePolicy\nmetadata: {{name: lab}}\nspec:\n  nics:\n  \
         - {{select: {{addresses: [\"{with_vf}\"]}}, vfs: 1}}\n"
    )
}

fn through_the_bridge(lab: &mut Lab) -> Result<()> {
    let (with_vf, uplink) = (lab.card(0)?, lab.card(1)?);
    let uplink_name = guest::netdev(&uplink).context("the uplink has no netdev")?;
    // A bridge does not set its uplink up: the plan has to.
    sys::tool("ip", &["link", "set", &uplink_name, "down"])?;
    let mirrored = policy(&with_vf, &uplink, &uplink_name, true);
    cli::converge(&mirrored)?;
    ensure!(links::is_up(&links::show(&uplink_name)?), "the uplink is down");
    let datapath = switch::ask(&["dpctl/show"])?;
    ensure!(datapath.contains("system@ovs-system"), "this is not the kernel's datapath:\n{datapath}");

    connect(lab, &with_vf)?;
    guest::wait_for_carrier(&uplink)?;
    let copied = frames_at_mon0(|| ping(FRAMES))?;
    ensure!(copied == FRAMES, "the mirror's output saw {copied} frames of {FRAMES}");
    cli::expect_in_sync(&mirrored)?;

    cli::converge(&policy(&with_vf, &uplink, &uplink_name, false))?;
    let leaked = frames_at_mon0(|| ping(FRAMES))?;
    ensure!(leaked == 0, "{leaked} frames were copied after the mirror was removed");
    lab.note(&format!(
        "{FRAMES} frames of the VF came in over the PF and were answered; the mirror copied {copied} of them, and none after its removal"
    ))?;

    sys::tool("ip", &["address", "flush", "dev", "br-lab"])?;
    cli::converge(&nics(&with_vf))?;
    ensure!(guest::ifindex("br-lab").is_err(), "the bridge is still there");
    Ok(())
}

/// Puts the VF into a pod's namespace. Neighbours are set by hand: no frame but the counted ones is on the wire.
fn connect(lab: &mut Lab, with_vf: &str) -> Result<()> {
    let vf = guest::vf(with_vf, 0)?;
    let netdev = eventually("the VF's netdev", WITHIN, || guest::netdev(&vf))?;
    lab.hold_in_namespace(POD, &netdev)?;
    let ip = |words: &str| sys::tool("ip", &words.split(' ').collect::<Vec<_>>());
    let address = |netdev: &str| links::text(&links::show(netdev)?, "/address");
    sys::tool("ip", &["netns", "exec", POD, "sh", "-c", &format!("echo 1 > {QUIET}")])?;
    ip(&format!("-n {POD} address add 10.8.0.2/24 dev {netdev}"))?;
    ip(&format!("-n {POD} link set {netdev} up"))?;
    ip("address add 10.8.0.1/24 dev br-lab")?;
    ip("link set br-lab up")?;
    ip("link set mon0 up")?;
    ip(&format!("-n {POD} neigh replace 10.8.0.1 lladdr {} dev {netdev}", address("br-lab")?))?;
    let pods = sys::tool("ip", &["netns", "exec", POD, "cat", &format!("/sys/class/net/{netdev}/address")])?;
    ip(&format!("neigh replace 10.8.0.2 lladdr {} dev br-lab", pods.trim()))?;
    // The link needs a moment, and the first frame teaches the bridge.
    eventually("the bridge answering the VF", WITHIN, || ping(1).ok()).with_context(whereabouts)
}

/// How far frames got.
fn whereabouts() -> String {
    let pods = ["netns", "exec", POD, "ip", "-s", "-d", "address"];
    let said = [
        sys::tool("ip", &pods),
        sys::tool("ip", &["netns", "exec", POD, "ip", "neigh"]),
        sys::tool("ip", &["-s", "-d", "address"]),
        sys::tool("ip", &["neigh"]),
        switch::ask(&["dpctl/dump-flows"]),
        switch::ask(&["fdb/show", "br-lab"]),
        switch::ask(&["dpctl/show", "-s"]),
        sys::read("/run/openvswitch/ovs-vswitchd.log"),
    ];
    said.into_iter()
        .map(|said| said.unwrap_or_else(|error| format!("{error:#}")))
        .collect::<Vec<_>>()
        .join("\n")
}

/// So many echo requests from the pod to the bridge, each answered.
fn ping(count: u64) -> Result<()> {
    let count = count.to_string();
    let words = ["netns", "exec", POD, "ping", "-q", "-A", "-c", &count, "-W", "2", "10.8.0.1"];
    let said = sys::tool("ip", &words)?;
    ensure!(said.contains(" 0% packet loss"), "{said}");
    Ok(())
}

fn frames_at_mon0(traffic: impl FnOnce() -> Result<()>) -> Result<u64> {
    let before = switch::received("mon0")?;
    traffic()?;
    Ok(switch::received("mon0")?.saturating_sub(before))
}

/// Fault 20 of docs/ovs-faults.md: the port of a VF that is taken away, and of a representor whose e-switch goes back to legacy.
fn vanishing(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    let mut nic = Nic::new()?;
    switch::beside(|| {
        let vf = appear(&pf, &mut nic)?;
        let policy = |grace: u32| {
            format!(
                "apiVersion: portwright.dev/v1alpha1\nkind: NodePolicy\nmetadata: {{name: lab}}\nspec:\n  \
                 ovs: {{collect: {{graceSeconds: {grace}}}}}\n  bridges:\n  - name: br-lab\n    datapath: system\n    \
                 ports: [{{name: {vf}}}, {{name: rep0}}, {{name: in0, type: internal}}]\n"
            )
        };
        cli::converge(&policy(300))?;
        namespace_of_in0_goes(lab, &policy)?;
        let both = ["rep0", vf.as_str()].map(|port| format!("bridge/br-lab/port/{port} InterfaceMissing"));

        nic.set(EswitchMode::Legacy)?;
        guest::set_attribute(&pf, "sriov_numvfs", "0")?;
        eventually("the netdevs going", WITHIN, || {
            let gone = |name: &str| guest::ifindex(name).is_err();
            (gone("rep0") && gone(&vf)).then_some(())
        })?;
        let waiting = cli::plan(&policy(300))?;
        let mut reasons = waiting.reasons();
        reasons.sort();
        ensure!(reasons == both && waiting.steps.is_empty(), "they are left over:\n{waiting}");
        let due = cli::apply(&policy(0))?;
        ensure!(due.code == Some(1), "their interfaces are missing:\n{due}");
        let left = switch::vsctl("list-ports br-lab")?;
        ensure!(left == "in0", "the leftovers are still there: {left}\n{due}");

        let again = appear(&pf, &mut nic)?;
        ensure!(again == vf, "the VF was {vf} and is {again}");
        cli::converge(&policy(300))?;
        let datapath = switch::ask(&["dpctl/show"])?;
        ensure!(datapath.contains("rep0") && datapath.contains(&vf), "not in the datapath:\n{datapath}");
        Ok(())
    })
}

/// Fault 16: an internal port is moved by hand, and its namespace goes. The kernel's datapath loses the port, and nobody tells
/// ovs-vswitchd. (If the device is given another name, ovs-vswitchd itself makes the port again.)
fn namespace_of_in0_goes(lab: &mut Lab, policy: &dyn Fn(u32) -> String) -> Result<()> {
    let ip = |words: &str| sys::tool("ip", &words.split(' ').collect::<Vec<_>>());
    ip("netns add gone")?;
    ip("link set in0 netns gone")?;
    cli::expect_in_sync(&policy(0))?;
    ip("netns del gone")?;
    eventually("the port being lost", WITHIN, || {
        let waiting = cli::plan(&policy(300)).ok()?;
        (waiting.reasons() == ["bridge/br-lab/port/in0 InterfaceMissing"]).then_some(())
    })?;
    let state = switch::vsctl("--columns=ofport,error list interface in0")?;
    cli::converge(&policy(0))?;
    ensure!(guest::ifindex("in0").is_ok(), "in0 was not made again");
    let state = state.split_whitespace().collect::<Vec<_>>().join(" ");
    lab.note(&format!("the database still said of the lost port: {state}"))
}

/// A VF with its netdev, and a representor named `rep0`; gives the VF's name.
fn appear(pf: &str, nic: &mut Nic) -> Result<String> {
    nic.set(EswitchMode::Switchdev)?;
    sys::tool("ip", &["link", "set", &netdev_of_port("pf0vf0")?, "down", "name", "rep0"])?;
    guest::set_attribute(pf, "sriov_numvfs", "1")?;
    let vf = guest::vf(pf, 0)?;
    let netdev = eventually("the VF's netdev", WITHIN, || guest::netdev(&vf))?;
    // The kernel counts on; a name of our own is the same each time.
    sys::tool("ip", &["link", "set", &netdev, "down", "name", "vf0"])?;
    Ok("vf0".to_owned())
}
