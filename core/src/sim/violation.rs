//! What must never happen on a node.

use std::fmt;

use crate::id::{PciAddress, VfRef};

/// Something that must never happen, whatever the policy, the faults and the moment of a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A write met EBUSY: the order of steps was wrong.
    Busy {
        /// Which write.
        what: String,
    },
    /// A step touches a VF that was in use when the plan was made.
    VfInUse {
        /// The VF.
        vf: VfRef,
        /// The step.
        step: String,
    },
    /// A step touches what the node is reached over.
    ManagementPath {
        /// The function.
        function: PciAddress,
        /// The step.
        step: String,
    },
    /// A write that would block while VFIO or iommufd holds a VF.
    Blocking {
        /// Which write.
        what: String,
    },
    /// A VF's MTU is above its PF's after a step: its frames are dropped.
    MtuOrder {
        /// The VF.
        vf: VfRef,
        /// The step.
        step: String,
    },
    /// A VF's driver probed while its PF was down, which its family does not forgive.
    ProbedWhilePfDown {
        /// The VF.
        vf: VfRef,
    },
    /// VFs were made before the udev rule that keeps others off them.
    NoUdevRule {
        /// The PF.
        pf: PciAddress,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Busy { what } => write!(f, "{what} met EBUSY"),
            Violation::VfInUse { vf, step } => write!(f, "`{step}` touches {vf}, which is in use"),
            Violation::ManagementPath { function, step } => {
                write!(f, "`{step}` touches {function}, which the node is reached over")
            }
            Violation::Blocking { what } => write!(f, "{what} would not return: VFIO or iommufd holds a VF"),
            Violation::MtuOrder { vf, step } => write!(f, "after `{step}` the MTU of {vf} is above its PF's"),
            Violation::ProbedWhilePfDown { vf } => write!(f, "{vf} probed while its PF was down"),
            Violation::NoUdevRule { pf } => write!(f, "VFs of {pf} were made without the udev rule"),
        }
    }
}
