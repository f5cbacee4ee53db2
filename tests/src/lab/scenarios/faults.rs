//! What goes wrong on real nodes: hardware that goes away, other people's hands, pods that leave things behind.

use super::{Lab, Scenario, iommu};
use crate::lab::{cli, eventually, guest, links, policy, sys};
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

pub(super) fn table() -> Vec<Scenario> {
    vec![
        iommu("fault-pf-removed-during-apply", pf_removed),
        iommu("fault-pf-driver-rebound", driver_rebound),
        iommu("fault-vf-driver-bound-wrong", vf_bound_wrong),
        iommu("fault-pf-set-down", pf_down),
        iommu("fault-vf-back-from-pod", vf_renamed),
    ]
}

const SOON: Duration = Duration::from_secs(15);

fn pf_removed(lab: &mut Lab) -> Result<()> {
    let (pf, other) = (lab.card(0)?, lab.card(1)?);
    let document = policy::document(&[
        policy::nic(&pf, &policy::three_groups(100)),
        policy::nic(&other, &policy::plain(2)),
    ]);
    let running = cli::start_apply(&document)?;
    eventually("the first VF", SOON, || (!guest::vfs(&pf).is_empty()).then_some(()))?;
    guest::set_attribute(&pf, "remove", "1")?;
    let output = running.finish(cli::DEADLINE)?;
    ensure!(!output.stopped, "apply hangs when a PF vanishes:\n{output}");
    ensure!(output.code == Some(1), "apply should say that it did not converge:\n{output}");
    ensure!(guest::vfs(&other).len() == 2, "the other PF was not configured:\n{output}");
    sys::write("/sys/bus/pci/rescan", "1")?;
    let name = eventually("the PF coming back", SOON, || guest::netdev(&pf))?;
    // As a node's network scripts do; without a link there would be no carrier and no rates.
    sys::tool("ip", &["link", "set", &name, "up"])?;
    guest::wait_for_carrier(&pf)?;
    cli::converge(&document)?;
    ensure!(guest::vfs(&pf).len() == 7, "{:?}", guest::vfs(&pf));
    Ok(())
}

fn driver_rebound(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    let document = policy::document(&[policy::nic(&pf, &policy::plain(3))]);
    cli::converge(&document)?;
    sys::write("/sys/bus/pci/drivers/igb/unbind", &pf)?;
    sys::write("/sys/bus/pci/drivers/igb/bind", &pf)?;
    eventually("the PF's netdev", SOON, || guest::netdev(&pf))?;
    ensure!(guest::vfs(&pf).is_empty(), "VFs outlive their PF's driver");
    cli::converge(&document)?;
    ensure!(guest::vfs(&pf).len() == 3, "{:?}", guest::vfs(&pf));
    Ok(())
}

fn vf_bound_wrong(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    let document = policy::document(&[policy::nic(&pf, &policy::vfio(3))]);
    cli::converge(&document)?;
    let vf = guest::vf(&pf, 1)?;
    sys::write("/sys/bus/pci/drivers/vfio-pci/unbind", &vf)?;
    guest::set_attribute(&vf, "driver_override", "\n")?;
    sys::write("/sys/bus/pci/drivers_probe", &vf)?;
    ensure!(
        guest::driver(&vf).as_deref() == Some("igbvf"),
        "the fault could not be made: {:?}",
        guest::driver(&vf)
    );
    let plan = cli::plan(&document)?;
    ensure!(plan.summary() == [format!("{pf}/vf/1 bind-vf")], "{}", plan);
    cli::converge(&document)?;
    ensure!(guest::driver(&vf).as_deref() == Some("vfio-pci"), "{:?}", guest::driver(&vf));
    Ok(())
}

fn pf_down(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    let document = policy::document(&[policy::nic(&pf, &policy::plain(2))]);
    cli::converge(&document)?;
    let name = guest::netdev(&pf).context("the PF has no netdev")?;
    sys::tool("ip", &["link", "set", &name, "down"])?;
    let plan = cli::plan(&document)?;
    ensure!(plan.summary() == [format!("{pf} set-pf-up")], "{}", plan);
    cli::converge(&document)?;
    ensure!(links::is_up(&links::show(&name)?), "the PF is still down");
    Ok(())
}

/// A pod's CNI plugin takes the VF, renames it, sets MAC and MTU; the pod dies and the kernel gives the VF back as it is.
fn vf_renamed(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    let groups = "vfs: 2\nvfGroups:\n- {vfs: \"0-1\", pool: net, driver: kernel, mtu: 1500, macs: stable}";
    let document = policy::document(&[policy::nic(&pf, groups)]);
    cli::converge(&document)?;
    let vf = guest::vf(&pf, 1)?;
    let name = guest::netdev(&vf).context("VF 1 has no netdev")?;
    let mac = sys::read(format!("/sys/class/net/{name}/address"))?;
    lab.hold_in_namespace("pod-b", &name)?;
    let inside = |args: &[&str]| {
        let mut all = vec!["-n", "pod-b", "link", "set", "dev"];
        all.extend_from_slice(args);
        sys::tool("ip", &all)
    };
    inside(&[&name, "down"])?;
    inside(&[&name, "name", "net1"])?;
    inside(&["net1", "mtu", "1400"])?;
    cli::expect_in_sync(&document).context("what a pod does to its VF is not drift")?;
    lab.release()?;
    let back = eventually("the VF coming back", SOON, || guest::netdev(&vf))?;
    ensure!(back == "net1", "the fault could not be made: the VF came back as {back}");
    cli::converge(&document)?;
    let now = guest::netdev(&vf).context("VF 1 has no netdev")?;
    ensure!(now == name, "VF 1 is called {now}, not {name}");
    ensure!(sys::read(format!("/sys/class/net/{now}/mtu"))? == "1500", "the pod's MTU stayed");
    ensure!(sys::read(format!("/sys/class/net/{now}/address"))? == mac, "the MAC changed");
    Ok(())
}
