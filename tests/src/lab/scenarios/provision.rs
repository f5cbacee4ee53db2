//! From no VFs to what the policy wants, and from there to something slightly different.

use super::{Lab, Scenario, iommu};
use crate::lab::{cli, guest, links, policy, sys};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;

pub(super) fn table() -> Vec<Scenario> {
    vec![
        iommu("provision-three-groups", three_groups),
        iommu("provision-observe-agrees-with-the-kernel", observe_agrees),
        iommu("change-one-vlan", change_vlan),
        iommu("change-one-driver", change_driver),
        iommu("change-the-mtu", change_mtu),
    ]
}

/// What must not change on a VF when another one does: driver and ifindex.
type Binding = BTreeMap<u32, (Option<String>, Option<u32>)>;

fn bindings(pf: &str) -> Result<Binding> {
    let mut all = Binding::new();
    for (index, vf) in guest::vfs(pf) {
        let ifindex = guest::netdev(&vf).map(|netdev| guest::ifindex(&netdev)).transpose()?;
        all.insert(index, (guest::driver(&vf), ifindex));
    }
    Ok(all)
}

fn three_groups(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    let policy = policy::document(&[policy::nic(&pf, &policy::three_groups(100))]);
    // Nobody has used VFIO on this node yet: loading its module is a step like any other.
    sys::run(sys::command("modprobe", &["-r", "vfio-pci"]), std::time::Duration::from_secs(10))?;
    let before = cli::plan(&policy)?;
    ensure!(before.summary().contains(&format!("{pf} load-module")), "no step loads vfio-pci:\n{}", before);
    ensure!(before.code == Some(1) && before.blocked.is_empty(), "{}", before);
    ensure!(guest::vfs(&pf).is_empty(), "plan created VFs");
    let output = cli::converge(&policy)?;
    lab.note(&format!("apply of {} steps: {:.2} s", before.steps.len(), output.took.as_secs_f64()))?;

    ensure!(guest::vfs(&pf).len() == 7, "{:?}", guest::vfs(&pf));
    let name = guest::netdev(&pf).context("the PF has no netdev")?;
    let link = links::show(&name)?;
    ensure!(links::is_up(&link), "the PF is down");
    ensure!(links::number(&link, "/mtu")? == 2000, "{link}");
    ensure!(guest::attribute(&pf, "sriov_drivers_autoprobe")? == "1", "autoprobe was not put back");
    for (index, vf) in guest::vfs(&pf) {
        let want = if index < 2 { "vfio-pci" } else { "igbvf" };
        ensure!(
            guest::driver(&vf).as_deref() == Some(want),
            "VF {index}: {:?}, not {want}",
            guest::driver(&vf)
        );
    }
    for index in 2..=4 {
        check_configured(&name, &pf, index)?;
    }
    for index in 5..=6 {
        let info = links::vf_info(&name, index)?;
        ensure!(info.pointer("/vlan_list/0/vlan").is_none_or(|vlan| vlan == 0), "VF {index}: {info}");
        ensure!(info.get("trust").is_none_or(|trust| trust == false), "VF {index}: {info}");
    }
    Ok(())
}

/// VLAN, priority, trust, spoof check, rate, MAC and MTU of one VF, as iproute2 reads them.
fn check_configured(pf_netdev: &str, pf: &str, index: u32) -> Result<()> {
    let info = links::vf_info(pf_netdev, index)?;
    let number = |pointer: &str| info.pointer(pointer).and_then(serde_json::Value::as_u64);
    ensure!(number("/vlan_list/0/vlan") == Some(100), "VLAN of VF {index}: {info}");
    ensure!(number("/vlan_list/0/qos") == Some(3), "QoS of VF {index}: {info}");
    ensure!(info.get("trust").is_some_and(|trust| trust == true), "trust of VF {index}: {info}");
    ensure!(info.get("spoofchk").is_some_and(|check| check == false), "spoof check of VF {index}: {info}");
    ensure!(number("/rate/max_tx") == Some(500), "rate of VF {index}: {info}");
    let admin = links::text(&info, "/address").or_else(|_| links::text(&info, "/mac"))?;
    let netdev =
        guest::netdev(&guest::vf(pf, index)?).with_context(|| format!("VF {index} has no netdev"))?;
    let own = sys::read(format!("/sys/class/net/{netdev}/address"))?;
    ensure!(own == admin && own != "00:00:00:00:00:00", "MAC of VF {index}: {own}, by the PF {admin}");
    ensure!(sys::read(format!("/sys/class/net/{netdev}/mtu"))? == "1500", "MTU of VF {index}");
    Ok(())
}

fn observe_agrees(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    guest::set_attribute(&pf, "sriov_numvfs", "3")?;
    let name = guest::netdev(&pf).context("the PF has no netdev")?;
    sys::tool("ip", &["link", "set", &name, "vf", "1", "vlan", "42", "qos", "5"])?;
    sys::tool("ip", &["link", "set", &name, "vf", "1", "mac", "02:00:00:00:00:42"])?;
    let observed = cli::observed_pf(&cli::observe()?, &pf)?;
    ensure!(cli::field(&observed, "name") == name, "{observed}");
    ensure!(cli::field(&observed, "driver") == "igb", "{observed}");
    ensure!(
        cli::field(&observed, "vendor") == "8086" && cli::field(&observed, "device") == "10c9",
        "{observed}"
    );
    let total: u64 = guest::attribute(&pf, "sriov_totalvfs")?.parse()?;
    ensure!(links::number(&observed, "/totalVfs")? == total, "{observed}");
    for (index, vf) in guest::vfs(&pf) {
        let seen = observed
            .pointer(&format!("/vfs/{index}"))
            .with_context(|| format!("no VF {index}: {observed}"))?;
        ensure!(cli::field(seen, "address") == vf, "{seen}");
        ensure!(cli::field(seen, "driver") == "igbvf", "{seen}");
        ensure!(Some(cli::field(seen, "netdev").to_owned()) == guest::netdev(&vf), "{seen}");
    }
    let configured = observed.pointer("/vfs/1/admin").context("no admin attributes")?;
    let shown = configured.to_string();
    ensure!(shown.contains("42") && shown.contains("02:00:00:00:00:42"), "{configured}");
    Ok(())
}

fn change_vlan(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    let document = |vlans: [u16; 2]| {
        let group = |vfs: &str, vlan: u16| {
            format!("- {{vfs: \"{vfs}\", pool: a{vlan}, driver: kernel, vlan: {{id: {vlan}}}}}")
        };
        let [most, one] = vlans;
        let rest = if most == one { String::new() } else { format!("\n{}", group("3", one)) };
        let first = if most == one { "0-3" } else { "0-2" };
        policy::document(&[policy::nic(&pf, &format!("vfs: 4\nvfGroups:\n{}{rest}", group(first, most)))])
    };
    cli::converge(&document([100, 100]))?;
    let before = bindings(&pf)?;
    expect_steps(&document([100, 200]), &[format!("{pf}/vf/3 set-vf-vlan")])?;
    cli::converge(&document([100, 200]))?;
    let name = guest::netdev(&pf).context("the PF has no netdev")?;
    let info = links::vf_info(&name, 3)?;
    ensure!(links::number(&info, "/vlan_list/0/vlan")? == 200, "{info}");
    unchanged(&before, &bindings(&pf)?, None)
}

fn change_driver(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    sys::tool("modprobe", &["vfio-pci"])?;
    let document = |driver: &str| {
        let groups = format!(
            "vfs: 4\nvfGroups:\n- {{vfs: \"0-2\", pool: a, driver: kernel}}\n- {{vfs: \"3\", pool: b, driver: {driver}}}"
        );
        policy::document(&[policy::nic(&pf, &groups)])
    };
    cli::converge(&document("kernel"))?;
    let before = bindings(&pf)?;
    expect_steps(&document("vfio-pci"), &[format!("{pf}/vf/3 bind-vf")])?;
    cli::converge(&document("vfio-pci"))?;
    ensure!(
        guest::driver(&guest::vf(&pf, 3)?).as_deref() == Some("vfio-pci"),
        "VF 3 is not bound to vfio-pci"
    );
    unchanged(&before, &bindings(&pf)?, Some(3))?;
    // And back.
    cli::converge(&document("kernel"))?;
    ensure!(
        guest::driver(&guest::vf(&pf, 3)?).as_deref() == Some("igbvf"),
        "VF 3 is not back at its kernel driver"
    );
    unchanged(&before, &bindings(&pf)?, Some(3))
}

fn change_mtu(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    let document = |mtu: u32| policy::document(&[policy::nic(&pf, &format!("vfs: 2\nmtu: {mtu}"))]);
    cli::converge(&document(1500))?;
    let before = bindings(&pf)?;
    for mtu in [9000, 3000] {
        expect_steps(&document(mtu), &[format!("{pf} set-pf-mtu")])?;
        cli::converge(&document(mtu))?;
        let name = guest::netdev(&pf).context("the PF has no netdev")?;
        ensure!(links::number(&links::show(&name)?, "/mtu")? == u64::from(mtu), "MTU is not {mtu}");
        unchanged(&before, &bindings(&pf)?, None)?;
    }
    Ok(())
}

fn expect_steps(document: &str, want: &[String]) -> Result<()> {
    let plan = cli::plan(document)?;
    ensure!(plan.summary() == want && plan.blocked.is_empty(), "wanted only {want:?}:\n{}", plan);
    Ok(())
}

fn unchanged(before: &Binding, after: &Binding, except: Option<u32>) -> Result<()> {
    for (index, was) in before.iter().filter(|(index, _)| Some(**index) != except) {
        ensure!(after.get(index) == Some(was), "VF {index} was {was:?}, is {:?}", after.get(index));
    }
    Ok(())
}
