//! Scrapes of facts and counters that are given; the kernel is asked in host.

use portwright_core::Observed;
use portwright_core::desired::Prefer;
use portwright_core::observed::{Netdev, Vf};
use portwright_core::pools::PoolSpec;
use portwright_core::pools::config::{AdditionalInfo, DeviceType};
use portwright_core::pools::{Candidate, Health, Pool, PoolDevice, Pools, ResourceName};
use portwright_device_plugin::allocations::Allocations;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::*;

fn pf(bus: u8, ifindex: u32, vfs: u16) -> Pf {
    let address =
        |device: u16, function: u16| format!("0000:{bus:02x}:{device:02x}.{function}").parse().unwrap();
    let vf = |index: u16| Vf { index, address: address(16 + (index >> 3), index & 7), ..Vf::default() };
    let netdev = Netdev { name: format!("ens{bus}"), ifindex, ..Netdev::default() };
    Pf { address: address(0, 0), netdevs: vec![netdev], vfs: (0..vfs).map(vf).collect(), ..Pf::default() }
}

fn allocation(device: &str, namespace: &str, pod: &str) -> Allocation {
    let (resource, container) = ("portwright.dev/net".to_owned(), "c".to_owned());
    Allocation {
        device: device.to_owned(),
        resource,
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        container,
    }
}

/// VFs 0–2 of 0000:01:00.0: the first has a pod, the second is free in a pool, the third is in none.
fn facts() -> Facts {
    let spec = PoolSpec {
        resource: ResourceName { prefix: "portwright.dev".to_owned(), name: "free".to_owned() },
        origin: "test".to_owned(),
        device_type: DeviceType::NetDevice,
        exclude_topology: false,
        rules: Vec::new(),
        additional_info: AdditionalInfo::default(),
        prefer: Prefer::default(),
        iommufd: false,
        carrier: false,
    };
    let candidate = Candidate { address: "0000:01:10.1".parse().ok(), ..Candidate::default() };
    let device =
        PoolDevice { candidate: candidate.into(), options: Default::default(), health: Health::Healthy };
    // Just after kubelet's start the checkpoint is read too, which knows UIDs only.
    let list = vec![
        allocation("0000:01:10.0", BY_UID, "f459bd14"),
        allocation("0000:01:10.0", "web", "shop-0"),
        allocation("0000:01:10.2", BY_UID, "0815"),
    ];
    Facts {
        observed: Arc::new(Observed {
            pfs: vec![pf(1, 7, 3), pf(2, 8, 2), pf(3, 9, 0)],
            ..Observed::default()
        }),
        pools: Arc::new(Pools { pools: vec![Pool { spec, devices: vec![device] }] }),
        allocations: Arc::new(Allocations { list, ..Allocations::default() }),
        ..Facts::default()
    }
}

fn counted(count: u16) -> BTreeMap<u16, VfStatistics> {
    let of = |vf: u16| VfStatistics {
        rx_bytes: 1000 + u64::from(vf),
        tx_packets: 7,
        tx_dropped: Some(2),
        ..VfStatistics::default()
    };
    (0..count).map(|vf| (vf, of(vf))).collect()
}

/// The first PF counts, the second's driver does not.
fn read(ifindex: u32) -> Result<BTreeMap<u16, VfStatistics>, NetlinkError> {
    Ok(if ifindex == 7 { counted(4) } else { (0..2).map(|vf| (vf, VfStatistics::default())).collect() })
}

fn scrape(facts: Facts, read: Read) -> String {
    let (_sender, receiver) = watch::channel(Arc::new(facts));
    let mut registry = Registry::with_prefix("portwright");
    registry.register_collector(Box::new(VfMetrics::reading(receiver, read)));
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    text
}

#[test]
fn a_scrape_names_pf_vf_pool_and_pod() {
    let text = scrape(facts(), read);
    let bytes: Vec<&str> =
        text.lines().filter(|line| line.starts_with("portwright_vf_receive_bytes_total")).collect();
    let head = r#"portwright_vf_receive_bytes_total{pf="0000:01:00.0",interface="ens1""#;
    assert_eq!(
        bytes,
        [
            format!(r#"{head},vf="0",pool="portwright.dev/net",namespace="web",pod="shop-0"}} 1000"#),
            format!(r#"{head},vf="1",pool="portwright.dev/free",namespace="",pod=""}} 1001"#),
            format!(r#"{head},vf="2",pool="portwright.dev/net",namespace="",pod=""}} 1002"#),
        ],
        "VF 3, which the kernel counts, is not one that was observed"
    );
    assert!(text.contains("portwright_vf_series_truncated 0\n"), "{text}");
}

#[test]
fn what_a_driver_does_not_count_is_absent_and_not_zero() {
    let text = scrape(facts(), read);
    assert!(!text.contains("0000:02:00.0"), "{text}");
    assert!(!text.contains("portwright_vf_receive_dropped_packets_total{"), "{text}");
    assert!(text.contains("portwright_vf_transmit_dropped_packets_total{"), "{text}");
    assert!(text.contains("portwright_vf_receive_packets_total{"), "zero beside others is a number: {text}");
    assert!(text.contains("portwright_vf_unreadable_pfs 0\n"), "{text}");
}

#[test]
fn more_vfs_than_the_limit_are_left_out_and_counted() {
    let observed = Observed { pfs: vec![pf(1, 7, 3), pf(2, 8, 2)], ..Observed::default() };
    let facts = Facts { observed: Arc::new(observed), ..Facts::default() };
    let found = find(&facts, |_| Ok(counted(3)), 4);
    assert_eq!((found.rows.len(), found.truncated, found.unreadable), (4, 1, 0));
}

#[test]
fn a_pf_that_cannot_be_read_hides_no_other() {
    let refused =
        || NetlinkError::Malformed { operation: "read", object: "it".to_owned(), why: "odd".to_owned() };
    let found = find(&facts(), |ifindex| if ifindex == 7 { Err(refused()) } else { Ok(counted(2)) }, 10);
    assert_eq!((found.rows.len(), found.unreadable), (2, 1));
}

#[test]
fn a_silent_kernel_is_waited_for_once() {
    let calls = std::cell::Cell::new(0);
    let found = find(
        &facts(),
        |_| {
            calls.set(calls.get() + 1);
            Err(NetlinkError::Deadline { operation: "read", object: "it".to_owned(), millis: 10_000 })
        },
        10,
    );
    assert_eq!((found.rows.len(), found.unreadable, calls.get()), (0, 2, 1), "the third PF has no VFs");
}

#[test]
fn a_pf_with_a_write_that_hangs_is_not_asked() {
    let stuck = Pf { stuck: Some("set VFs".to_owned()), ..pf(1, 7, 3) };
    let observed = Observed { pfs: vec![stuck, pf(2, 8, 2)], ..Observed::default() };
    let facts = Facts { observed: Arc::new(observed), ..Facts::default() };
    let found = find(&facts, |_| Ok(counted(4)), 10);
    assert_eq!(
        (found.rows.len(), found.unreadable),
        (2, 1),
        "the write holds the kernel's lock of that PF only"
    );
}
