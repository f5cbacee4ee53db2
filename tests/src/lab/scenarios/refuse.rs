//! What portwright must not do, and that it says why while it goes on with the rest.

use super::{Lab, Scenario, iommu, plain};
use crate::lab::trace::Probe;
use crate::lab::{cli, guest, policy, sys};
use anyhow::{Context as _, Result, ensure};

pub(super) fn table() -> Vec<Scenario> {
    vec![
        iommu("refuse-resize-while-in-namespace", in_namespace),
        iommu("refuse-resize-while-vfio-group-open", group_open),
        iommu("refuse-resize-while-vfio-device-open", device_open),
        iommu("refuse-mtu-while-in-namespace", mtu_in_namespace),
        iommu("refuse-too-many-vfs", too_many),
        iommu("refuse-missing-pf", missing_pf),
        iommu("refuse-pf-without-driver", no_driver),
        iommu("refuse-management-path", management_path),
        iommu("refuse-bad-policies", bad_policies),
        plain("refuse-vfio-without-iommu", no_iommu),
    ]
}

/// The kernel function behind a write to `sriov_numvfs`.
const STORE: &str = "sriov_numvfs_store";

fn in_namespace(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    let wish = |vfs| policy::document(&[policy::nic(&pf, &policy::plain(vfs))]);
    cli::converge(&wish(7))?;
    let netdev = guest::netdev(&guest::vf(&pf, 5)?).context("VF 5 has no netdev")?;
    let pid = lab.hold_in_namespace("pod-a", &netdev)?;
    refused(lab, &pf, &wish(3), &["pod-a", &pid.to_string()])
}

fn group_open(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    let wish = |vfs| policy::document(&[policy::nic(&pf, &policy::vfio(vfs))]);
    cli::converge(&wish(7))?;
    let pid = lab.hold_group(&guest::vf(&pf, 5)?)?;
    refused(lab, &pf, &wish(3), &[&pid.to_string()])
}

fn device_open(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    let wish = |vfs| policy::document(&[policy::nic(&pf, &policy::vfio(vfs))]);
    cli::converge(&wish(7))?;
    let pid = lab.hold_device(&guest::vf(&pf, 5)?)?;
    refused(lab, &pf, &wish(3), &[&pid.to_string()])
}

/// A resize from 7 to 3 VFs is refused with these words, nothing is written, and it is done once the VF is free.
fn refused(lab: &mut Lab, pf: &str, document: &str, words: &[&str]) -> Result<()> {
    let probe = Probe::on(STORE)?;
    in_use(document, words, &probe)?;
    ensure!(guest::vfs(pf).len() == 7, "VFs are gone");
    lab.release()?;
    cli::converge(document)?;
    ensure!(guest::vfs(pf).len() == 3, "{:?}", guest::vfs(pf));
    ensure!(!probe.calls()?.is_empty(), "the probe sees no writes, so it proves nothing");
    Ok(())
}

/// Plan and apply say with these words that a VF is in use, and do not do what the probe would see.
fn in_use(document: &str, words: &[&str], probe: &Probe) -> Result<()> {
    let plan = cli::plan(document)?;
    let obstacle = plan.blocked_by("VfInUse")?;
    let message = cli::field(obstacle, "message");
    for word in words {
        ensure!(message.contains(word), "the message does not name {word}:\n{}", plan);
    }
    ensure!(!cli::field(obstacle, "hint").is_empty(), "no hint:\n{}", plan);
    let output = cli::apply(document)?;
    ensure!(output.code == Some(1), "apply should not have converged:\n{output}");
    let calls = probe.calls()?;
    ensure!(calls.is_empty(), "it was done all the same:\n{}\n{output}", calls.join("\n"));
    Ok(())
}

/// igb resets the whole port when its MTU changes, and a VF in a pod loses its link for seconds.
fn mtu_in_namespace(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    let wish = |mtu| policy::document(&[policy::nic(&pf, &format!("{}\nmtu: {mtu}", policy::plain(2)))]);
    cli::converge(&wish(1500))?;
    let netdev = guest::netdev(&guest::vf(&pf, 1)?).context("VF 1 has no netdev")?;
    let pid = lab.hold_in_namespace("pod-a", &netdev)?;
    let probe = Probe::on("igb_change_mtu")?;
    in_use(&wish(2000), &["pod-a", &pid.to_string(), "raising the port's MTU"], &probe)?;
    lab.release()?;
    drop(probe);
    let probe = Probe::on("igb_down")?;
    cli::converge(&wish(2000))?;
    ensure!(!probe.calls()?.is_empty(), "the driver does not take the port down: the profile is wrong");
    Ok(())
}

fn too_many(lab: &mut Lab) -> Result<()> {
    let (bad, good) = (lab.card(0)?, lab.card(1)?);
    others_go_on(&bad, &policy::plain(8), &good, "TooManyVfs")?;
    ensure!(guest::vfs(&bad).is_empty(), "the number was clamped");
    Ok(())
}

fn missing_pf(lab: &mut Lab) -> Result<()> {
    others_go_on("0000:7f:00.0", &policy::plain(2), &lab.card(1)?, "PfMissing")
}

fn no_driver(lab: &mut Lab) -> Result<()> {
    let (bad, good) = (lab.card(0)?, lab.card(1)?);
    sys::write("/sys/bus/pci/drivers/igb/unbind", &bad)?;
    others_go_on(&bad, &policy::plain(2), &good, "PfNoDriver")
}

fn management_path(lab: &mut Lab) -> Result<()> {
    let (bad, good) = (lab.card(0)?, lab.card(1)?);
    let name = guest::netdev(&bad).context("the PF has no netdev")?;
    sys::tool("ip", &["address", "add", "10.55.0.1/24", "dev", &name])?;
    sys::tool("ip", &["route", "add", "default", "via", "10.55.0.254", "dev", &name])?;
    others_go_on(&bad, &policy::plain(2), &good, "ManagementPath")?;
    ensure!(guest::vfs(&bad).is_empty(), "VFs were made on the management path");
    // Only the explicit word overrides it.
    let allowed = format!("{}\nallowManagementPath: true", policy::plain(2));
    cli::converge(&policy::document(&[policy::nic(&bad, &allowed)]))?;
    ensure!(guest::vfs(&bad).len() == 2, "{:?}", guest::vfs(&bad));
    Ok(())
}

/// `bad` is blocked for this reason and no other, while two VFs appear on `good`.
fn others_go_on(bad: &str, wish: &str, good: &str, reason: &str) -> Result<()> {
    let document = policy::document(&[policy::nic(bad, wish), policy::nic(good, &policy::plain(2))]);
    let plan = cli::plan(&document)?;
    plan.blocked_by(reason)?;
    ensure!(plan.reasons().len() == 1, "more than one obstacle:\n{}", plan);
    let output = cli::apply(&document)?;
    ensure!(output.code == Some(1), "apply should not have converged:\n{output}");
    let said = format!("{}{}", output.stdout, output.stderr);
    ensure!(said.contains(reason), "apply does not say {reason}:\n{output}");
    ensure!(guest::vfs(good).len() == 2, "the other PF was not configured:\n{output}");
    Ok(())
}

fn bad_policies(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    let groups = |vfs: &str| {
        policy::document(&[policy::nic(&pf, &format!("vfs: 4\nvfGroups:\n- {{vfs: \"{vfs}\", pool: a}}"))])
    };
    let good = policy::document(&[policy::nic(&pf, &policy::plain(2))]);
    let cut = good.get(..good.len().saturating_sub(20)).unwrap_or_default().to_owned() + "\n  {";
    let cases = [
        ("truncated", cut),
        ("backwards range", groups("5-3")),
        ("no range", groups("0,x")),
        ("beyond vfs", groups("0-4")),
        ("unknown field", good.replace("nics:", "nicz:")),
        ("wrong type", good.replace("vfs: 2", "vfs: two")),
        ("empty select", good.replace(&format!("{{addresses: [\"{pf}\"]}}"), "{}")),
        ("twice the same document", format!("{good}---\n{good}")),
    ];
    for (case, text) in cases {
        let output = cli::apply(&text)?;
        ensure!(output.code == Some(2), "{case}: not exit 2:\n{output}");
        ensure!(output.stderr.contains("policy.yaml"), "{case}: does not name the file:\n{output}");
        ensure!(guest::vfs(&pf).is_empty(), "{case}: VFs were made:\n{output}");
    }
    Ok(())
}

fn no_iommu(lab: &mut Lab) -> Result<()> {
    let (bad, good) = (lab.card(0)?, lab.card(1)?);
    let probe = Probe::on(STORE)?;
    others_go_on(&bad, &policy::vfio(4), &good, "NoIommu")?;
    ensure!(guest::vfs(&bad).is_empty(), "VFs were made that nobody can use");
    ensure!(probe.calls()?.len() == 1, "more than the other PF was written: {:?}", probe.calls()?);
    ensure!(guest::attribute(&bad, "sriov_drivers_autoprobe")? == "1", "autoprobe was touched");
    Ok(())
}
