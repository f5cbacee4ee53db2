//! The node as data: one pass over sysfs, netlink and `proc`, put together into [`Observed`].
//!
//! Looking changes nothing and waits for nothing: no file is read that a stuck write could block. One object that cannot be
//! read is a problem in the result; only a node without any inventory is an error.

mod children;
mod extra;
mod functions;
mod holders;
mod links;
mod live;
mod management;
mod node;
mod refresh;
mod representor;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use portwright_core::observed::{Holder, Observed, Pf, Problem, Sight};
use portwright_core::{Object, PciAddress};

use self::children::Children;
use self::live::Live;
use crate::root::{ReadError, Root};
use crate::sysfs::function::Locks;

/// Why nothing could be said of the node.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// There is no sysfs.
    #[error("there is no sysfs below {}", root.display())]
    NoSysfs {
        /// The root.
        root: PathBuf,
        /// What was tried.
        #[source]
        source: ReadError,
    },
    /// PCI functions could not be listed.
    #[error("PCI functions cannot be listed")]
    Functions {
        /// What was tried.
        #[source]
        source: ReadError,
    },
}

/// Looks at a node.
#[derive(Debug, Clone)]
pub struct Observer {
    root: Root,
    live: bool,
    state_dir: PathBuf,
}

impl Observer {
    /// An observer of the node below `root`. With `live`, netlink, devlink and the processes of the running host are asked
    /// too; without, everything comes from the tree and what a tree cannot hold stays unknown. `state_dir` is where the
    /// agent's own memory is (`/var/lib/portwright`).
    pub fn new(root: Root, live: bool, state_dir: impl Into<PathBuf>) -> Observer {
        Observer { root, live, state_dir: state_dir.into() }
    }

    /// The root it reads below.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Where the agent's own memory is.
    pub(crate) fn state_dir(&self) -> &std::path::Path {
        &self.state_dir
    }

    /// Looks once.
    pub fn observe(&self) -> Result<Observed, ObserveError> {
        self.observe_beside(&Beside::default())
    }

    /// Looks once, knowing what the caller's own writers are at.
    pub(crate) fn observe_beside(&self, beside: &Beside) -> Result<Observed, ObserveError> {
        let root = &self.root;
        let mut problems: Vec<Problem> = Vec::new();
        let mut functions = functions::scan(root, self.locks(), &mut problems)?;
        let children = Children::read(root);
        children.add_vdpa(&mut functions);
        let live = self.live.then(Live::read);
        let mut evidence = management::from_tables(root);
        if let Some(live) = &live {
            live.improve(&mut evidence);
            live.improve_functions(&mut functions);
            management::check_network(root, &mut evidence);
        }
        management::add_sessions(root, self.live, &mut evidence);
        let mut links = links::read(root, &functions, &evidence.addresses, &mut problems);
        let (mut pfs, devices) = functions::assemble(&functions, &links.representors, &mut problems);
        if let Some(live) = &live {
            live.improve_links(&mut links.links);
        }
        // Which PFs a write hangs on is known before anything is asked that could wait for the same lock.
        crate::journal::recall(root, &self.state_dir, &mut pfs, &mut problems);
        let locked = locked(root, &pfs, beside, &mut problems);
        if self.live {
            live::vf_attributes(&mut pfs, &mut problems);
            live::eswitch_modes(&mut pfs, &locked, &mut problems);
        }
        let mut extra = extra::read(root, &functions, &children, &mut problems);
        if self.live {
            extra.add_ddp(live::ddp_packages(&pfs, &locked, &mut problems));
        }
        let mut node = node::facts(root, &mut problems);
        let mut holders = holders::read(root, &functions, &children, live.as_ref());
        holders.give(&mut pfs);
        node.sight = holders.sight;
        if self.live {
            functions::read_overrides(root, &mut pfs, &locked, &node.sight, &mut problems);
        }
        evidence.management.node_addresses = holders.node_addresses;
        evidence.management.api_servers = holders.api_servers;
        evidence.management.last_seen = crate::journal::path_seen(root, &self.state_dir, &mut problems);
        evidence.unread.extend(holders.without_kubelet);
        problems
            .extend(evidence.unread.iter().map(|why| Problem { object: Object::Node, reason: why.clone() }));
        evidence.conclude();
        problems.sort();
        problems.dedup();
        Ok(Observed {
            node,
            pfs,
            devices,
            links: links.links,
            management: evidence.management,
            ovs: None,
            problems,
            subfunctions: extra.subfunctions,
            vdpa: extra.vdpa,
            details: extra.details,
        })
    }

    fn locks(&self) -> Locks {
        if self.live { Locks::Kernel } else { Locks::None }
    }

    /// Looks at holders only, by VF address: what a disruptive step asks again right before it writes.
    pub fn holders(&self) -> Result<(BTreeMap<PciAddress, Vec<Holder>>, Sight), ObserveError> {
        let mut problems = Vec::new();
        let functions = functions::scan(&self.root, self.locks(), &mut problems)?;
        let children = Children::read(&self.root);
        let live = self.live.then(Live::read);
        Ok(holders::read(&self.root, &functions, &children, live.as_ref()).into_parts())
    }
}

/// What the writers of whoever looks are at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Beside {
    /// PFs whose writer has nothing to do.
    pub(crate) at_rest: BTreeSet<PciAddress>,
    /// PFs that are being changed. That not everything is read of them is no problem: they are looked at again afterwards.
    pub(crate) worked_on: BTreeSet<PciAddress>,
}

/// PFs whose locks a write may hold: one that is stuck, or being changed, or another process's.
fn locked(root: &Root, pfs: &[Pf], beside: &Beside, problems: &mut Vec<Problem>) -> BTreeSet<PciAddress> {
    let mut locked: BTreeSet<PciAddress> =
        pfs.iter().filter(|pf| pf.stuck.is_some()).map(|pf| pf.address).collect();
    locked.extend(&beside.worked_on);
    for (pf, who) in crate::child::busy(root, &beside.at_rest) {
        if locked.insert(pf) && pfs.iter().any(|known| known.address == pf) {
            let reason = format!("{who}: its e-switch mode and its VFs' driver_override are not read");
            problems.push(Problem { object: Object::Pci(pf), reason });
        }
    }
    locked
}

/// Gives a text to the parsers of this module, for [`crate::fuzz`].
pub(crate) fn fuzz(text: &str) {
    holders::fuzz(text);
}
