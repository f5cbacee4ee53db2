//! Whether this process may see all others at all: what is hidden whole (other PID namespaces, `hidepid`) gives no error
//! when it is listed.

use super::{Hidden, PID_NAMESPACE};
use crate::root::Root;

/// `PROC_PID_INIT_INO` (`linux/proc_ns.h`): the inode of the host's own PID namespace.
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";
/// `CAP_SYS_PTRACE` (`linux/capability.h`).
const SYS_PTRACE: u32 = 19;

/// Tells what this process cannot see because of where it runs.
pub(super) fn check(root: &Root, hidden: &mut Hidden) {
    let own = root.dir("proc/self");
    let namespace = own.as_ref().ok().and_then(|own| own.link("ns/pid").ok());
    match namespace.as_deref().and_then(std::path::Path::to_str) {
        Some(INITIAL_PID_NAMESPACE) => {}
        Some(other) => hidden.add(PID_NAMESPACE, || {
            format!("this process is in the PID namespace {other}, not in the host's, and sees only some processes")
        }),
        None => hidden.add(PID_NAMESPACE, || "the PID namespace of this process cannot be read".to_owned()),
    }
    let status = root.document("proc/self/status", 1 << 20).unwrap_or_default();
    if !may_trace(&status) {
        hidden.add("capability", || {
            "this process lacks CAP_SYS_PTRACE, so others' open files may be hidden".to_owned()
        });
    }
}

/// Whether `CapEff` in `proc/<pid>/status` has `CAP_SYS_PTRACE`.
pub(super) fn may_trace(status: &str) -> bool {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    set.is_some_and(|set| set >> SYS_PTRACE & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capability_is_one_bit() {
        assert!(may_trace("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(may_trace("CapEff:\t0000000000080000\n"));
        for without in ["CapEff:\t0000000000040000\n", "CapEff:\tzz\n", "CapPrm:\t000001ffffffffff\n", ""] {
            assert!(!may_trace(without), "{without:?}");
        }
    }
}
