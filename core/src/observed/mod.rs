//! What a node looks like: everything that a decision may depend on, as data. `portwright observe -o json` prints it and
//! `plan --observed` reads it, so it is also the format of test fixtures.
//!
//! Missing fields of a hand-written document mean "nothing there" for lists and "unknown" for [`Fact`]s.

mod extra;
mod function;
mod holder;
mod link;
mod node;

pub use extra::{FunctionDetail, Subfunction, VdpaDevice};
pub use function::{Device, Netdev, Pf, RememberedVf, Vf, VfAdmin, primary_netdev};
pub use holder::{FileKind, Holder};
pub use link::{DefaultRoute, Link, ManagementEvidence, PathSeen, Session};
pub use node::{Lockdown, NodeFacts, Sight, module_name};

use serde::{Deserialize, Serialize};

use crate::id::{Object, PciAddress, VfRef};
use crate::ovs::Ovs;

/// Everything that was seen of a node at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// What concerns the node as a whole.
    #[serde(default)]
    pub node: NodeFacts,
    /// Functions that offer an SR-IOV capability, by address.
    #[serde(default)]
    pub pfs: Vec<Pf>,
    /// Network functions and processing accelerators that are neither a PF nor a VF of a visible PF (VM pass-through,
    /// virtio).
    #[serde(default)]
    pub devices: Vec<Device>,
    /// Auxiliary sub-functions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subfunctions: Vec<Subfunction>,
    /// vDPA devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vdpa: Vec<VdpaDevice>,
    /// Details of functions that have any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<FunctionDetail>,
    /// All netdevs of the host's network namespace and how they are stacked.
    #[serde(default)]
    pub links: Vec<Link>,
    /// What the management path is found by.
    #[serde(default)]
    pub management: ManagementEvidence,
    /// Open vSwitch; absent if it is not there or could not be read.
    #[serde(default)]
    pub ovs: Option<Ovs>,
    /// What could not be read, and why. One unreadable device never hides the others.
    #[serde(default)]
    pub problems: Vec<Problem>,
}

/// One thing that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// What it is about.
    pub object: Object,
    /// What was attempted and why it failed, as a sentence.
    pub reason: String,
}

impl Observed {
    /// The PF at an address.
    pub fn pf(&self, address: PciAddress) -> Option<&Pf> {
        self.pfs.iter().find(|pf| pf.address == address)
    }

    /// The VF of a reference.
    pub fn vf(&self, vf: VfRef) -> Option<&Vf> {
        self.pf(vf.pf)?.vf(vf.index)
    }

    /// The link of a name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }
}
