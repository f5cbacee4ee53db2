//! The guided tour of `cargo xtask demo`: each command as an operator would type it, and what it says.

use super::{Lab, Scenario};
use crate::lab::{cli, guest, links, sys};
use anyhow::{Context as _, Result, ensure};

pub(super) fn table() -> Vec<Scenario> {
    vec![Scenario { name: "demo", boot: "demo", long: false, run: demo }]
}

const FILE: &str = "/tmp/workers.yaml";

fn demo(lab: &mut Lab) -> Result<()> {
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
