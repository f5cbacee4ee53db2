//! Pools of real VFs: the daemon beside a kubelet, while VFs are made, rebound and taken away.

use super::{Lab, Scenario, iommu};
use crate::kubelet::{Kubelet, Resource};
use crate::lab::{guest, sys};
use anyhow::{Context as _, Result, anyhow, ensure};
use portwright_proto::device_plugin::{AllocateRequest, ContainerAllocateRequest};
use std::path::Path;
use std::time::Duration;

pub(super) fn table() -> Vec<Scenario> {
    vec![iommu("pools-follow-real-vfs", follow)]
}

const FOLDER: &str = "/tmp/kubelet";
const CONFIG: &str = "/tmp/pools.json";
const NET: &str = "intel.com/net";
const DPDK: &str = "intel.com/dpdk";
/// Longer than what is promised (1 s): every instruction is emulated. What it took is noted.
const WITHIN: Duration = Duration::from_secs(20);

fn follow(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for module in ["igbvf", "vfio-pci"] {
        sys::tool("modprobe", &[module])?;
    }
    let config = r#"{"resourceList": [{"resourceName": "net", "selectors": {"drivers": ["igbvf"]}},
        {"resourceName": "dpdk", "selectors": {"drivers": ["vfio-pci"]}}]}"#;
    sys::write(CONFIG, config)?;
    let kubelet = runtime.block_on(Kubelet::start(Path::new(FOLDER), true))?;
    let words = ["run", "--device-plugin-config", CONFIG, "--kubelet-dir", FOLDER];
    let mut daemon = sys::Running::start(sys::command("portwright", &words))?;
    let result = changes(lab, &pf, &runtime, &kubelet);
    // It is the node's writer as long as it runs.
    daemon.kill()?;
    daemon.finish(WITHIN)?;
    runtime.block_on(kubelet.stop());
    result
}

fn changes(lab: &mut Lab, pf: &str, runtime: &tokio::runtime::Runtime, kubelet: &Kubelet) -> Result<()> {
    let mut took = Vec::new();
    let mut shows = |what: &str, resource: &str, expected: &[String]| -> Result<()> {
        let started = sys::now();
        let good = |found: &Resource| found.connected && found.ids() == expected;
        let found = runtime.block_on(kubelet.wait(resource, WITHIN, good));
        found.map_err(|last| anyhow!("{what}: {resource} should have {expected:?}, last seen {last:?}"))?;
        took.push(format!("{what} {:.2} s", started.elapsed().as_secs_f64()));
        Ok(())
    };
    guest::set_attribute(pf, "sriov_numvfs", "4")?;
    let vfs: Vec<String> = guest::vfs(pf).into_iter().map(|(_, vf)| vf).collect();
    shows("made (first registration included)", NET, &vfs)?;

    let rebound = vfs.get(1).context("no VF 1")?;
    sys::write(format!("/sys/bus/pci/devices/{rebound}/driver/unbind"), rebound)?;
    let rest: Vec<String> = vfs.iter().filter(|vf| *vf != rebound).cloned().collect();
    shows("unbound", NET, &rest)?;
    guest::set_attribute(rebound, "driver_override", "vfio-pci")?;
    sys::write("/sys/bus/pci/drivers_probe", rebound)?;
    shows("bound to vfio-pci", DPDK, std::slice::from_ref(rebound))?;

    let group = sys::link_name(format!("/sys/bus/pci/devices/{rebound}/iommu_group")).context("no group")?;
    let answer = runtime.block_on(async {
        let mut client = kubelet.client(DPDK).await?;
        let container_requests = vec![ContainerAllocateRequest { device_ids: vec![rebound.clone()] }];
        client.allocate(AllocateRequest { container_requests }).await.map_err(std::io::Error::other)
    })?;
    let nodes: Vec<String> = answer
        .into_inner()
        .container_responses
        .into_iter()
        .flat_map(|container| container.devices)
        .map(|device| device.host_path)
        .collect();
    ensure!(nodes == ["/dev/vfio/vfio".to_owned(), format!("/dev/vfio/{group}")], "{nodes:?}");
    for node in &nodes {
        ensure!(Path::new(node).exists(), "{node} does not exist");
    }

    guest::set_attribute(pf, "sriov_numvfs", "0")?;
    shows("taken away", NET, &[])?;
    shows("taken away (VFIO)", DPDK, &[])?;
    guest::set_attribute(pf, "sriov_numvfs", "2")?;
    let again: Vec<String> = guest::vfs(pf).into_iter().map(|(_, vf)| vf).collect();
    shows("made again", NET, &again)?;
    sys::write(format!("/sys/bus/pci/devices/{pf}/driver/unbind"), pf)?;
    shows("PF unbound", NET, &[])?;
    sys::write("/sys/bus/pci/drivers_probe", pf)?;
    lab.note(&took.join(", "))
}
