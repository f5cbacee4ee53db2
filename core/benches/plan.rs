//! Times `plan` for 1,024 VFs: 8 PFs × 128, all to be made, and all in sync. The goal is 5 ms.
#![allow(missing_docs, reason = "a bench is a program")]
#![allow(clippy::print_stdout, reason = "a bench prints its result")]
#![allow(clippy::disallowed_methods, reason = "a bench takes the time")]

use std::time::{Duration, Instant};

use portwright_core::desired::{
    Desired, DisruptionPolicy, Document, DriverWish, Mode, NicEntry, VfGroup, Vlan, VlanProtocol,
};
use portwright_core::observed::{Link, Netdev, Pf, Vf};
use portwright_core::select::Selector;
use portwright_core::{Fact, Observed, PciAddress, PciId, Profiles, plan};

const RUNS: usize = 41;
/// Median in milliseconds, at most.
const GOAL_MS: f64 = 5.0;

fn main() -> Result<(), String> {
    let desired = desired();
    let profiles = Profiles::default();
    let bare = observed(0);
    let first = plan(&bare, &desired, &profiles);
    measure("1,024 VFs to make", first.steps.len(), || plan(&bare, &desired, &profiles).steps.len())?;
    let full = observed(128);
    let second = plan(&full, &desired, &profiles);
    measure("1,024 VFs in place", second.steps.len(), || plan(&full, &desired, &profiles).steps.len())
}

fn measure(what: &str, steps: usize, run: impl Fn() -> usize) -> Result<(), String> {
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(run(), steps, "planning is deterministic");
            start.elapsed()
        })
        .collect();
    times.sort();
    let median = times.get(RUNS.div_ceil(2) - 1).copied().unwrap_or_default();
    let millis = median.as_secs_f64() * 1e3;
    println!(
        "plan, {what}: median {millis:.2} ms of {RUNS} runs, {steps} steps (goal: at most {GOAL_MS} ms)"
    );
    if millis > GOAL_MS { Err("the goal was missed".to_owned()) } else { Ok(()) }
}

fn group(range: &str, driver: DriverWish) -> Option<VfGroup> {
    Some(VfGroup {
        vfs: range.parse().ok()?,
        pool: None,
        driver,
        mtu: None,
        trust: Some(true),
        spoof_check: Some(false),
        vlan: Some(Vlan { id: 100, qos: 0, protocol: VlanProtocol::Dot1q }),
        tx_rate: None,
        link_state: None,
        macs: None,
    })
}

fn desired() -> Desired {
    let groups = [
        group("0-63", DriverWish::Named("vfio-pci".to_owned())),
        group("64-127", DriverWish::Named("iavf".to_owned())),
    ];
    let nic = NicEntry {
        path: "spec.nics[0]".to_owned(),
        select: Selector { vendors: vec![PciId(0x8086)], ..Selector::default() },
        vfs: Some(128),
        mtu: Some(9000),
        eswitch: None,
        externally_managed: false,
        allow_management_path: false,
        groups: groups.into_iter().flatten().collect(),
    };
    let document = Document {
        name: "bench".to_owned(),
        priority: 0,
        mode: Mode::Apply,
        disruption: DisruptionPolicy::WhenIdle,
        nics: vec![nic],
        pools: Vec::new(),
        ovs: Default::default(),
    };
    Desired { documents: vec![document], ..Desired::default() }
}

fn observed(vfs: u16) -> Observed {
    let mut observed = Observed::default();
    observed.node.iommu = Fact::Known(true);
    observed.node.mac_seed = Some("bench".to_owned());
    for bus in 1..=8_u8 {
        let address = |device: u8, function: u8| PciAddress { domain: 0, bus, device, function };
        let netdev = |name: String, mtu: u32| Netdev {
            name,
            mtu: Fact::Known(mtu),
            up: Fact::Known(true),
            ..Netdev::default()
        };
        let vf = |index: u16| {
            let [_, low] = index.to_be_bytes();
            let mut vf = Vf { index, address: address(1 + (low >> 3), low & 7), ..Vf::default() };
            vf.admin.trust = Fact::Known(true);
            vf.admin.spoof_check = Fact::Known(false);
            vf.admin.vlan = Fact::Known(Vlan { id: 100, qos: 0, protocol: VlanProtocol::Dot1q });
            vf.admin.mac = Fact::Known(portwright_core::MacAddress([2, 0, 0, 0, bus, low]));
            vf.driver = Some(if index < 64 { "vfio-pci" } else { "iavf" }.to_owned());
            if index >= 64 {
                vf.netdevs = vec![netdev(format!("ens{bus}f0v{index}"), 1500)];
            }
            vf
        };
        observed.pfs.push(Pf {
            address: address(0, 0),
            name: Some(format!("ens{bus}f0")),
            vendor: PciId(0x8086),
            device: PciId(0x1592),
            driver: Some("ice".to_owned()),
            total_vfs: 128,
            autoprobe: Fact::Known(true),
            netdevs: vec![netdev(format!("ens{bus}f0"), 9000)],
            vfs: (0..vfs).map(vf).collect(),
            ..Pf::default()
        });
    }
    let links =
        observed.pfs.iter().flat_map(|pf| pf.netdevs.iter().chain(pf.vfs.iter().flat_map(|vf| &vf.netdevs)));
    observed.links = links.map(|netdev| Link { name: netdev.name.clone(), ..Link::default() }).collect();
    observed
}
