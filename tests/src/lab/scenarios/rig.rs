//! The rig itself: that the machine is what the other scenarios take for granted.

use super::{Lab, Scenario, iommu, plain};
use crate::lab::{guest, links, sys};
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

pub(super) fn table() -> Vec<Scenario> {
    vec![
        iommu("rig-cards-make-vfs", cards_make_vfs),
        iommu("rig-vfs-have-iommu-groups", vfs_have_groups),
        iommu("rig-what-blocks-a-write-of-numvfs", what_blocks),
        plain("rig-no-iommu-groups", no_groups),
        plain("rig-netdevsim-loads", netdevsim_loads),
    ]
}

fn cards_make_vfs(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    guest::set_attribute(&pf, "sriov_numvfs", "7")?;
    ensure!(guest::vfs(&pf).len() == 7, "{:?}", guest::vfs(&pf));
    let name = guest::netdev(&pf).context("no netdev")?;
    let mac = links::text(&links::vf_info(&name, 6)?, "/address")
        .or_else(|_| links::text(&links::vf_info(&name, 6)?, "/mac"))?;
    ensure!(mac.len() == 17, "{mac}");
    Ok(())
}

fn vfs_have_groups(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(1)?;
    guest::set_attribute(&pf, "sriov_numvfs", "2")?;
    for (_, vf) in guest::vfs(&pf) {
        sys::link_name(format!("/sys/bus/pci/devices/{vf}/iommu_group"))
            .with_context(|| format!("{vf} has no group"))?;
    }
    Ok(())
}

/// Finds out what makes the kernel wait: on 6.12 an open group file does not, a device descriptor does, until it is
/// closed. Both count as use for portwright, since the first becomes the second at any moment.
fn what_blocks(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(1)?;
    sys::tool("modprobe", &["vfio-pci"])?;
    guest::set_attribute(&pf, "sriov_drivers_autoprobe", "0")?;
    let mut took = Vec::new();
    for real_user in [false, true] {
        guest::set_attribute(&pf, "sriov_numvfs", "1")?;
        let vf = guest::vf(&pf, 0)?;
        guest::set_attribute(&vf, "driver_override", "vfio-pci")?;
        sys::write("/sys/bus/pci/drivers_probe", &vf)?;
        if real_user {
            lab.hold_device(&vf)?;
        } else {
            lab.hold_group(&vf)?;
        }
        let script = format!("echo 0 > /sys/bus/pci/devices/{pf}/sriov_numvfs; echo done >&2");
        let mut write = sys::Running::start(sys::command("sh", &["-c", &script]))?;
        let started = sys::now();
        let free = write.next_line(Duration::from_secs(6)).is_some();
        took.push(free.then(|| started.elapsed()));
        lab.release()?;
        let output = write.finish(Duration::from_secs(20))?;
        ensure!(!output.stopped, "the write stays blocked although the user is gone");
    }
    let [group, device] = took.as_slice() else { anyhow::bail!("two measurements expected") };
    lab.note(&format!("sriov_numvfs 0 with the group file open: {group:?}, with a VFIO device open: {device:?} (none = blocked)"))?;
    ensure!(device.is_none(), "a VFIO user no longer blocks the write: the documentation has to be changed");
    Ok(())
}

fn no_groups(_: &mut Lab) -> Result<()> {
    let groups = sys::list("/sys/kernel/iommu_groups");
    ensure!(groups.is_empty(), "IOMMU groups in a boot without IOMMU: {groups:?}");
    Ok(())
}

fn netdevsim_loads(_: &mut Lab) -> Result<()> {
    sys::tool("modprobe", &["netdevsim"])?;
    sys::write("/sys/bus/netdevsim/new_device", "10 2")?;
    let shown = sys::tool("devlink", &["dev", "show"])?;
    ensure!(shown.contains("netdevsim/netdevsim10"), "{shown}");
    sys::write("/sys/bus/netdevsim/del_device", "10")
}
