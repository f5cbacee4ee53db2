//! The guided tour of `cargo xtask demo`: each command as an operator would type it, and what it says.

use super::{Lab, Scenario};
use crate::lab::{cli, guest, links, switch, sys};
use anyhow::{Context as _, Result, ensure};

pub(super) fn table() -> Vec<Scenario> {
    vec![Scenario { name: "demo", boot: "demo", long: false, run: demo }]
}

const FILE: &str = "/tmp/workers.yaml";

fn demo(lab: &mut Lab) -> Result<()> {
    let policy = virtual_functions(lab)?;
    switch::beside(|| bridge(lab, &policy))
}

/// The first half: VFs. Returns the policy.
fn virtual_functions(lab: &mut Lab) -> Result<String> {
    let pf = lab.card(0)?;
    let policy = format!(
        "apiVersion: portwright.dev/v1alpha1\nkind: NodePolicy\nmetadata: {{name: workers}}\nspec:\n  nics:\n  \
         - select: {{addresses: [\"{pf}\"]}}\n    vfs: 7\n    mtu: 9000\n    vfGroups:\n    \
         - {{vfs: \"0-3\", pool: dpdk, driver: vfio-pci}}\n    \
         - {{vfs: \"4-6\", pool: net, driver: kernel, mtu: 1500, trust: true, vlan: {{id: 100, qos: 3}}, macs: stable}}\n"
    );
    sys::write(FILE, &policy)?;
    lab.note(
        "A node with two Intel 82576 cards (emulated), a real kernel and its real drivers. What is there:",
    )?;
    show(lab, &["observe"], 0)?;
    lab.note(
        "\nThe policy: seven VFs on the first card, four of them for DPDK, three for pods with VLAN 100:",
    )?;
    lab.note(&format!("$ cat workers.yaml\n{policy}"))?;
    lab.note("What would be done? Nothing is changed by asking; exit 1 says that there is something to do.")?;
    show(lab, &["plan", "-f", FILE], 1)?;
    ensure!(guest::vfs(&pf).is_empty(), "plan changed something");
    lab.note("\nNow do it. portwright plans, applies and verifies by planning again.")?;
    show(lab, &["apply", "-f", FILE], 0)?;
    lab.note("\nA second plan finds nothing to do, exit 0:")?;
    show(lab, &["plan", "-f", FILE], 0)?;
    lab.note("\nThe VFs, as the kernel and iproute2 see them:")?;
    let name = guest::netdev(&pf).context("the PF has no netdev")?;
    for (index, vf) in guest::vfs(&pf) {
        let driver = guest::driver(&vf).unwrap_or_else(|| "no driver".to_owned());
        let netdev = guest::netdev(&vf).unwrap_or_else(|| "-".to_owned());
        let info = links::vf_info(&name, index)?;
        let vlan = info.pointer("/vlan_list/0/vlan").and_then(serde_json::Value::as_u64).unwrap_or_default();
        let trust = if info.get("trust").is_some_and(|trust| trust == true) { "on" } else { "off" };
        lab.note(&format!(
            "  VF {index}  {vf}  {driver:<9} netdev {netdev:<6} VLAN {vlan:<4} trust {trust}"
        ))?;
    }
    ensure!(guest::vfs(&pf).len() == 7, "not seven VFs");
    Ok(policy)
}

/// Frames that are sent, and how many of them the mirror copied.
const FRAMES: u64 = 10;

/// The second half: a bridge on the other card, ports of two pods, and a mirror that copies what it should and stops when told.
fn bridge(lab: &mut Lab, policy: &str) -> Result<()> {
    let uplink = lab.card(1)?;
    pod(lab, "web", 1)?;
    pod(lab, "db", 2)?;
    let bridge = format!(
        "  bridges:\n  - name: br-data\n    datapath: system\n    uplinks:\n    - {{select: {{addresses: [\"{uplink}\"]}}}}\n    ports:\n    \
         - {{name: v-web, vlan: {{mode: access, tag: 10}}}}\n    - {{name: v-db, vlan: {{mode: access, tag: 10}}}}\n    \
         - {{name: mon0, type: internal, vlan: {{mode: access, tag: 99}}}}\n"
    );
    let mirror = "  mirrors:\n  - {name: tap-web, bridge: br-data, select: {ports: [v-web], direction: ingress}, output: {port: mon0}}\n";
    sys::write(FILE, &format!("{policy}{bridge}{mirror}"))?;
    lab.note("\nThe same policy gains a bridge on the second card, for two pods (network namespaces `web` and `db`), and a mirror of")?;
    lab.note("what `web` sends; its output is in a VLAN of its own, so that only copies get there. Open vSwitch runs on this node:")?;
    show(lab, &["ovs", "ping"], 0)?;
    lab.note(&format!("$ cat workers.yaml      # what is new\n{bridge}{mirror}"))?;
    show(lab, &["plan", "-f", FILE], 1)?;
    show(lab, &["apply", "-f", FILE], 0)?;

    lab.note(&format!("\n`web` sends {FRAMES} pings to `db`. Each is answered, and the mirror's output gets what `web` sent:"))?;
    sys::tool("ip", &["link", "set", "mon0", "up"])?;
    ping(lab, true)?;
    lab.note("\nWithout the mirror in the policy it is gone, at once also for the flows that the switch has cached:")?;
    sys::write(FILE, &format!("{policy}{bridge}"))?;
    show(lab, &["apply", "-f", FILE], 0)?;
    ping(lab, false)?;
    show(lab, &["plan", "-f", FILE], 0)
}

/// A network namespace with `eth0`, whose other end `v-NAME` is beside the switch.
fn pod(lab: &mut Lab, name: &str, number: u8) -> Result<()> {
    let ip = |words: &str| sys::tool("ip", &words.split(' ').collect::<Vec<_>>());
    lab.add_namespace(name)?;
    // Without IPv6 nothing is on the wire but the pings that are counted.
    sys::tool(
        "ip",
        &["netns", "exec", name, "sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6"],
    )?;
    ip(&format!("link add v-{name} type veth peer name eth0 netns {name} address 02:00:00:00:00:0{number}"))?;
    ip(&format!("link set v-{name} up"))?;
    ip(&format!("-n {name} link set eth0 up"))?;
    ip(&format!("-n {name} address add 10.10.0.{number}/24 dev eth0"))?;
    let other = 3_u8.saturating_sub(number);
    ip(&format!("-n {name} neigh add 10.10.0.{other} lladdr 02:00:00:00:00:0{other} dev eth0"))?;
    Ok(())
}

/// Sends pings from one pod to the other and shows what arrived at the mirror's output.
fn ping(lab: &mut Lab, mirrored: bool) -> Result<()> {
    let count = FRAMES.to_string();
    let words = ["netns", "exec", "web", "ping", "-q", "-A", "-c", &count, "10.10.0.2"];
    let before = switch::received("mon0")?;
    let said = sys::tool("ip", &words)?;
    let copied = switch::received("mon0")?.saturating_sub(before);
    let summary = said.lines().find(|line| line.contains("packets transmitted")).unwrap_or_default();
    lab.note(&format!("$ ip {}\n{summary}\n  mon0 received {copied} frames", words.join(" ")))?;
    ensure!(summary.contains(" 0% packet loss"), "{said}");
    ensure!(copied == if mirrored { FRAMES } else { 0 }, "the mirror's output received {copied} frames");
    Ok(())
}

/// Runs one command and shows it with its output and exit code.
fn show(lab: &mut Lab, args: &[&str], code: i32) -> Result<()> {
    let output = cli::portwright(args)?;
    let typed = args.join(" ").replace(FILE, "workers.yaml");
    let mut text = format!("$ portwright {typed}\n{}", output.stdout.replace(FILE, "workers.yaml"));
    // Progress goes to stderr, one line a step where nobody watches; the table says the same.
    text.push_str(&format!(
        "[exit {}]",
        output.code.map_or_else(|| "by signal".to_owned(), |code| code.to_string())
    ));
    lab.note(&text)?;
    ensure!(output.code == Some(code), "expected exit {code}:\n{output}");
    Ok(())
}
