//! Who holds which VF: processes with a device file open, and network namespaces that a netdev went to.
//!
//! One pass over `proc`. What cannot be attributed to one VF counts for every VF that it could be. If a process or a
//! namespace could not be looked at, the sight is partial and no VF counts as idle; a process that ended meanwhile is no
//! such case. Not seen are: a device that is only mapped after its file was closed, files and namespaces of a thread that
//! does not share its process's, and a namespace that only an open socket keeps.

mod attribute;
mod namespace;
mod opened;
mod privilege;
mod process;

use std::collections::BTreeMap;
use std::net::IpAddr;

use portwright_core::PciAddress;
use portwright_core::observed::{Holder, Pf, Sight};

use self::attribute::Attribution;
use self::process::Processes;
use super::children::Children;
use super::functions::Functions;
use super::live::Live;
use crate::root::Root;

/// Sort of what hides all processes.
const PROC: &str = "proc";
/// Sort of what hides the processes of other PID namespaces.
const PID_NAMESPACE: &str = "pid namespace";

/// Holders by VF, and what was found on the way.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    by_vf: BTreeMap<PciAddress, Vec<Holder>>,
    /// Whether everything was visible.
    pub(crate) sight: Sight,
    /// Addresses in kubelet's `--node-ip`.
    pub(crate) node_addresses: Vec<IpAddr>,
    /// API servers in kubelet's kubeconfig, as far as it names addresses.
    pub(crate) api_servers: Vec<(IpAddr, u16)>,
    /// Why kubelet could be running unseen.
    pub(crate) without_kubelet: Option<String>,
}

/// Looks at all processes and, on a running host, at all network namespaces.
pub(crate) fn read(root: &Root, functions: &Functions, children: &Children, live: Option<&Live>) -> Holders {
    let mut hidden = Hidden::default();
    if live.is_some() {
        privilege::check(root, &mut hidden);
    }
    let processes = Processes::read(root, live.is_some(), &mut hidden);
    let mut holders = Holders {
        node_addresses: processes.node_addresses.clone(),
        api_servers: processes.api_servers.clone(),
        ..Holders::default()
    };
    let attribution = Attribution { functions, children };
    for process in processes.of_interest.values() {
        for (vf, holder) in attribution.holders(process) {
            holders.by_vf.entry(vf).or_default().push(holder);
        }
    }
    if let Some(live) = live {
        for (vf, holder) in namespace::holders(root, functions, processes, live, &mut hidden) {
            holders.by_vf.entry(vf).or_default().push(holder);
        }
    }
    for list in holders.by_vf.values_mut() {
        list.sort();
        list.dedup();
    }
    holders.sight = hidden.sight();
    holders.without_kubelet = hidden.processes();
    holders
}

impl Holders {
    /// Gives each VF its holders.
    pub(crate) fn give(&mut self, pfs: &mut [Pf]) {
        for vf in pfs.iter_mut().flat_map(|pf| &mut pf.vfs) {
            vf.holders = self.by_vf.remove(&vf.address).unwrap_or_default();
        }
    }

    /// The holders themselves.
    pub(crate) fn into_parts(self) -> (BTreeMap<PciAddress, Vec<Holder>>, Sight) {
        (self.by_vf, self.sight)
    }
}

/// What was hidden: the first of each sort in words, and how many more.
#[derive(Debug, Default)]
pub(crate) struct Hidden {
    sorts: BTreeMap<&'static str, (String, usize)>,
}

impl Hidden {
    /// Takes note of something hidden; `sort` groups what has one cause.
    fn add(&mut self, sort: &'static str, why: impl FnOnce() -> String) {
        let (_, count) = self.sorts.entry(sort).or_insert_with(|| (why(), 0));
        *count = count.saturating_add(1);
    }

    /// Why there could be processes that were not even listed.
    fn processes(&self) -> Option<String> {
        let (why, _) = self.sorts.get(PROC).or_else(|| self.sorts.get(PID_NAMESPACE))?;
        Some(format!("kubelet's --node-ip may be hidden: {why}"))
    }

    fn sight(&self) -> Sight {
        let words: Vec<String> = self
            .sorts
            .values()
            .map(|(first, count)| match count.saturating_sub(1) {
                0 => first.clone(),
                more => format!("{first} (and {more} more)"),
            })
            .collect();
        if words.is_empty() { Sight::Complete } else { Sight::Partial { why: words.join("; ") } }
    }
}

/// Gives a text to the parsers of this module, for [`crate::fuzz`].
pub(crate) fn fuzz(text: &str) {
    for line in text.lines() {
        std::hint::black_box((opened::classify(line), opened::namespace(line)));
    }
    std::hint::black_box((opened::function_in_fdinfo(text), privilege::may_trace(text)));
}
