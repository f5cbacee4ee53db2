//! Ports that ovs-vswitchd believes in and the kernel's datapath has lost: an internal port goes with the network namespace
//! that it was moved into, nobody tells ovs-vswitchd, and the database goes on looking well. Its own view (`dpif/show`) and
//! the datapath's (`dpctl/show`) are compared by the datapath's port numbers, because a device may have another name elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use crate::vswitch::{DatapathType, Vswitch};

/// Numbers of a datapath's ports by name, for each datapath.
type Believed<'t> = BTreeMap<&'t str, BTreeMap<&'t str, u32>>;

/// Whether a port can be lost: an internal one of the kernel's datapath whose device is not in ovs-vswitchd's network namespace, so
/// that it has no index there.
pub(super) fn possible(read: &Vswitch) -> bool {
    let kernels = read.bridges.values().filter(|bridge| bridge.datapath_type == DatapathType::System);
    let interfaces = kernels.flat_map(|bridge| bridge.ports.values()).flat_map(|port| &port.interfaces);
    interfaces.into_iter().any(|interface| interface.kind == "internal" && interface.ifindex == Some(0))
}

/// Names of the ports of kernel datapaths that are lost. What is not understood says nothing.
pub(super) fn lost(dpif_show: &str, dpctl_show: &str) -> BTreeSet<String> {
    let there = there(dpctl_show);
    let mut lost = BTreeSet::new();
    for (datapath, ports) in believed(dpif_show) {
        let Some(numbers) = there.get(datapath).filter(|_| datapath.starts_with("system@")) else { continue };
        let gone = ports.into_iter().filter(|(_, number)| !numbers.contains(number));
        lost.extend(gone.map(|(name, _)| name.to_owned()));
    }
    lost
}

/// `system@ovs-system: hit:0 missed:0`, below it bridges, below them `in0 2/3: (internal)`: OpenFlow and datapath number.
fn believed(dpif_show: &str) -> Believed<'_> {
    let mut all = Believed::new();
    let mut datapath = "";
    for line in dpif_show.lines() {
        if !line.starts_with(' ') {
            datapath = line.split(':').next().unwrap_or_default();
        } else if let Some((name, number)) = port(line) {
            all.entry(datapath).or_default().insert(name, number);
        }
    }
    all
}

fn port(line: &str) -> Option<(&str, u32)> {
    let (name, rest) = line.trim_start().split_once(' ')?;
    let (_, number) = rest.split_once(':')?.0.split_once('/')?;
    Some((name, number.parse().ok()?))
}

/// `system@ovs-system:`, below it `port 3: in0 (internal)`.
fn there(dpctl_show: &str) -> BTreeMap<&str, BTreeSet<u32>> {
    let mut all: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    let mut datapath = "";
    for line in dpctl_show.lines() {
        if !line.starts_with(' ') {
            datapath = line.trim_end().trim_end_matches(':');
        } else if let Some(number) =
            line.trim_start().strip_prefix("port ").and_then(|rest| rest.split(':').next())
        {
            all.entry(datapath).or_default().extend(number.parse::<u32>());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const BELIEVED: &str = "netdev@ovs-netdev: hit:0 missed:0
  br1:
    br1 65534/1: (tap)
    in9 1/9: (tap)
system@ovs-system: hit:5 missed:2
  br-lab:
    br-lab 65534/2: (internal)
    in0 1/1: (internal)
    pat0 4/none: (patch: peer=pat1)
    vf0 2/3: (system)
";
    const THERE: &str = "system@ovs-system:
  lookups: hit:0 missed:0 lost:0
  masks: hit:0 total:0 hit/pkt:0.00
  port 0: ovs-system (internal)
  port 2: br-lab (internal)
  port 3: vf0
netdev@ovs-netdev:
  port 0: ovs-netdev (tap)
  port 1: br1 (tap)
";

    #[test]
    fn a_port_without_its_number_in_the_kernel_is_lost() {
        assert_eq!(lost(BELIEVED, THERE), ["in0".to_owned()].into());
        let renamed = THERE.replace("  port 2:", "  port 1: eth0 (internal)\n  port 2:");
        assert!(lost(BELIEVED, &renamed).is_empty(), "it has another name in its namespace");
        assert!(lost(BELIEVED, "").is_empty(), "nobody can tell");
        assert!(lost("", THERE).is_empty());
        assert!(
            lost("system@ovs-system\n  x\n a b/c\n", "system@ovs-system:\n  port x\n  port :\n").is_empty()
        );
    }
}
