//! Internal ports of the userspace datapath whose device is gone: it was moved into a network namespace, and that is no
//! more. Open vSwitch does not notice, burns half a processor reading from the dead device, and the database looks well. What
//! tells is the kernel: `fdinfo` of the tap files that ovs-vswitchd holds names their devices (`iff:`), and a device that is
//! gone has no name.

use std::collections::BTreeSet;

use portwright_core::Observed;
use portwright_core::ovs::Ovs;
use portwright_host::root::Root;

/// A file of `fdinfo` has a few lines.
const LARGEST: usize = 4096;

/// Internal ports of the userspace datapath that are not in the host's network namespace: moved, or gone.
pub(super) fn away(ovs: &Ovs, observed: &Observed) -> BTreeSet<String> {
    // Without any link nobody has looked.
    if observed.links.is_empty() {
        return BTreeSet::new();
    }
    let userspace = ovs.bridges.iter().filter(|bridge| bridge.datapath == "netdev" && bridge.works);
    userspace
        .flat_map(|bridge| bridge.others())
        .filter(|port| match port.interfaces.as_slice() {
            [only] => only.kind == "internal" && only.name == port.name && only.ofport.is_some(),
            _ => false,
        })
        .map(|port| port.name.clone())
        .filter(|name| observed.link(name).is_none())
        .collect()
}

/// Names of the tap devices that a process holds open; empty for one that is gone. None if that cannot be read.
pub(super) fn open(root: &Root, pid: u32) -> Option<Vec<String>> {
    let folder = format!("proc/{pid}/fdinfo");
    let files = root.names(&folder).ok()?;
    // Files that were closed meanwhile are no taps any more.
    let texts = files.iter().filter_map(|file| root.document(format!("{folder}/{file}"), LARGEST).ok());
    Some(texts.filter_map(|text| tap(&text)).collect())
}

fn tap(fdinfo: &str) -> Option<String> {
    fdinfo.lines().find_map(|line| line.strip_prefix("iff:")).map(|name| name.trim().to_owned())
}

/// Which of the ports that are away have lost their device. In its namespace a device may have another name, so nothing is said
/// unless there is a dead file for each port that no file names.
pub(super) fn dead(away: &BTreeSet<String>, open: &[String]) -> BTreeSet<String> {
    let unnamed: BTreeSet<String> = away.iter().filter(|name| !open.contains(name)).cloned().collect();
    let dead_files = open.iter().filter(|name| name.is_empty()).count();
    if unnamed.len() == dead_files { unnamed } else { BTreeSet::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_port_is_dead_only_if_nothing_else_explains_it() {
        for (away, open, expected) in [
            (&["in0"][..], &["ovs-netdev", "br0", ""][..], &["in0"][..]),
            (&["in0"], &["br0", "in0"], &[]),
            (&["in0"], &["br0", "eth0"], &[]),
            (&["in0", "in1"], &["br0", "in1", ""], &["in0"]),
            (&["in0", "in1"], &["br0", "eth0", ""], &[]),
            (&["in0", "in1"], &["br0", "", ""], &["in0", "in1"]),
            (&[], &["br0", ""], &[]),
        ] {
            let found = dead(&names(away).into_iter().collect(), &names(open));
            assert_eq!(found.into_iter().collect::<Vec<_>>(), names(expected), "{away:?} {open:?}");
        }
    }

    #[test]
    fn fdinfo_of_a_tap_names_its_device() {
        assert_eq!(tap("pos:\t0\nflags:\t0104002\nmnt_id:\t25\niff:\tin0\n").as_deref(), Some("in0"));
        assert_eq!(tap("pos:\t0\niff:\t\n").as_deref(), Some(""));
        assert_eq!(tap("pos:\t0\nflags:\t02\n"), None);
    }
}
