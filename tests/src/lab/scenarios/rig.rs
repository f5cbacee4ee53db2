//! The rig itself: that the machine is what the other scenarios take for granted.

use super::{Lab, Scenario, iommu, plain};
use crate::lab::{guest, links, sys};
use anyhow::{Context as _, Result, ensure};

pub(super) fn table() -> Vec<Scenario> {
    vec![
        iommu("rig-cards-make-vfs", cards_make_vfs),
        iommu("rig-vfs-have-iommu-groups", vfs_have_groups),
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
