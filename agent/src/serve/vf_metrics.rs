//! What each VF has carried, for Prometheus: read from the kernel when somebody asks and at no other time.
//!
//! A driver that does not count is absent, not zero. A VF has one series per metric, whatever happens to it, and there are
//! never more VFs than [`MOST_VFS`]: what is left out is told by `portwright_vf_series_truncated`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use portwright_core::PciAddress;
use portwright_core::observed::Pf;
use portwright_device_plugin::allocations::{Allocation, BY_UID};
use portwright_host::netlink::{NetlinkError, VfStatistics, any_counted, vf_statistics};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::sync::watch;

use crate::daemon::facts::Facts;

/// VFs that are told of at most; each has eight series.
pub const MOST_VFS: usize = 4096;

/// Reads the counters of the VFs of a PF netdev by its index.
pub type Read = fn(u32) -> Result<BTreeMap<u16, VfStatistics>, NetlinkError>;

/// The collector, to be registered where the prefix is `portwright`.
pub struct VfMetrics {
    facts: watch::Receiver<Arc<Facts>>,
    read: Read,
}

/// Whom a VF belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    /// PCI address of the PF.
    pf: String,
    /// Name of the PF's netdev.
    interface: String,
    /// Index of the VF.
    vf: u16,
    /// Resource under which it is offered; empty if it is in no pool.
    pool: String,
    /// Pod that has it; empty if none has.
    namespace: String,
    pod: String,
}

/// One counter: name, help, and how it is found.
type Column = (&'static str, &'static str, fn(&VfStatistics) -> Option<u64>);

const COLUMNS: [Column; 8] = [
    ("vf_receive_bytes", "Bytes that the VF received", |vf| Some(vf.rx_bytes)),
    ("vf_transmit_bytes", "Bytes that the VF sent", |vf| Some(vf.tx_bytes)),
    ("vf_receive_packets", "Packets that the VF received", |vf| Some(vf.rx_packets)),
    ("vf_transmit_packets", "Packets that the VF sent", |vf| Some(vf.tx_packets)),
    ("vf_receive_broadcast_packets", "Broadcast packets that the VF received", |vf| Some(vf.broadcast)),
    ("vf_receive_multicast_packets", "Multicast packets that the VF received", |vf| Some(vf.multicast)),
    ("vf_receive_dropped_packets", "Packets for the VF that were dropped", |vf| vf.rx_dropped),
    ("vf_transmit_dropped_packets", "Packets of the VF that were dropped", |vf| vf.tx_dropped),
];

/// What a scrape found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    rows: Vec<(Labels, VfStatistics)>,
    truncated: usize,
    unreadable: usize,
}

impl VfMetrics {
    /// Counters of the running host.
    pub fn new(facts: watch::Receiver<Arc<Facts>>) -> VfMetrics {
        VfMetrics::reading(facts, vf_statistics)
    }

    /// Counters that are read in another way.
    pub fn reading(facts: watch::Receiver<Arc<Facts>>, read: Read) -> VfMetrics {
        VfMetrics { facts, read }
    }
}

impl fmt::Debug for VfMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VfMetrics").finish_non_exhaustive()
    }
}

impl Collector for VfMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // The kernel is not asked while the facts are borrowed: that would hold up the loop.
        let facts = Arc::clone(&self.facts.borrow());
        let found = find(&facts, self.read, MOST_VFS);
        for (name, help, value) in COLUMNS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, statistics) in &found.rows {
                if let Some(value) = value(statistics) {
                    metric.encode_family(labels)?.encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
                }
            }
        }
        let gauges = [
            ("vf_series_truncated", "VFs that are left out because there are too many", found.truncated),
            ("vf_unreadable_pfs", "PFs whose VF counters could not be read", found.unreadable),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// Asks for all PFs and gives each VF its labels.
fn find(
    facts: &Facts,
    read: impl Fn(u32) -> Result<BTreeMap<u16, VfStatistics>, NetlinkError>,
    most: usize,
) -> Found {
    let owners = Owners::of(facts);
    let mut found = Found::default();
    let mut silent = false;
    for pf in &facts.observed.pfs {
        let Some(netdev) = pf.netdev().filter(|_| !pf.vfs.is_empty()) else { continue };
        if silent || pf.stuck.is_some() {
            // A kernel that holds its lock for one PF does so for all of them, and a scrape must end.
            found.unreadable += 1;
            continue;
        }
        match read(netdev.ifindex) {
            Ok(statistics) if any_counted(&statistics) => {
                owners.label(pf, &netdev.name, &statistics, most, &mut found)
            }
            Ok(_) => {}
            Err(error) => {
                silent = matches!(error, NetlinkError::Deadline { .. });
                found.unreadable += 1;
                tracing::debug!(pf = %pf.address, %error, "the counters of its VFs cannot be read");
            }
        }
    }
    found
}

/// Who has what, by device.
struct Owners<'a> {
    pods: BTreeMap<&'a str, &'a Allocation>,
    pools: BTreeMap<PciAddress, String>,
}

impl<'a> Owners<'a> {
    fn of(facts: &'a Facts) -> Owners<'a> {
        let mut pods: BTreeMap<&str, &Allocation> = BTreeMap::new();
        for allocation in &facts.allocations.list {
            let kept = pods.entry(&allocation.device).or_insert(allocation);
            if kept.namespace == BY_UID {
                *kept = allocation;
            }
        }
        let mut pools = BTreeMap::new();
        for pool in &facts.pools.pools {
            let name = pool.spec.resource.to_string();
            let addresses = pool.devices.iter().filter_map(|device| device.candidate.address);
            pools.extend(addresses.map(|address| (address, name.clone())));
        }
        Owners { pods, pools }
    }

    /// Takes in the VFs of one PF. Only those that were observed count: what has gone since has no place here.
    fn label(
        &self,
        pf: &Pf,
        interface: &str,
        statistics: &BTreeMap<u16, VfStatistics>,
        most: usize,
        found: &mut Found,
    ) {
        for vf in &pf.vfs {
            let Some(counted) = statistics.get(&vf.index) else { continue };
            if found.rows.len() >= most {
                found.truncated += 1;
                continue;
            }
            let pod = self.pods.get(vf.address.to_string().as_str());
            let pool = pod.map(|pod| pod.resource.clone()).or_else(|| self.pools.get(&vf.address).cloned());
            // A pod of which only the UID is known is named by the next scrape.
            let named = pod.filter(|pod| pod.namespace != BY_UID);
            let labels = Labels {
                pf: pf.address.to_string(),
                interface: interface.to_owned(),
                vf: vf.index,
                pool: pool.unwrap_or_default(),
                namespace: named.map(|pod| pod.namespace.clone()).unwrap_or_default(),
                pod: named.map(|pod| pod.pod.clone()).unwrap_or_default(),
            };
            found.rows.push((labels, *counted));
        }
    }
}

#[cfg(test)]
#[path = "vf_metrics_tests.rs"]
mod tests;
