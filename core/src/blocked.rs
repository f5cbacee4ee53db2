//! What is in the way. One vocabulary for conditions, metrics, logs and `docs/errors.md`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::Object;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// Why something that is wanted is not done. The variant's name is the condition's reason, the metric's label,
        /// the log's `reason` field and a heading in `docs/errors.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Reason { $($(#[$doc])* $name,)+ }

        impl Reason {
            /// All reasons.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)+];

            /// The variant's name.
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$name => stringify!($name),)+ }
            }
        }
    };
}

reasons! {
    /// A VF that the change would touch is held by a pod, process or network namespace.
    VfInUse,
    /// More VFs are wanted than the function offers.
    TooManyVfs,
    /// No PF answers to the selector.
    PfMissing,
    /// The PF has no driver.
    PfNoDriver,
    /// The PF or its driver cannot do it.
    PfUnsupported,
    /// The driver takes the setting only while the port has carrier, and it has none.
    NoCarrier,
    /// The node is reached over it.
    ManagementPath,
    /// VFIO is wanted and no IOMMU translates.
    NoIommu,
    /// The VF shares its IOMMU group with functions that do not go to VFIO.
    IommuGroupShared,
    /// The wanted driver is neither registered nor loadable.
    DriverMissing,
    /// The firmware offers no or fewer VFs; it is configured outside of the kernel.
    FirmwareLimit,
    /// The number of VFs is somebody else's business and is not what is wanted.
    ExternallyManaged,
    /// The policy or the command forbids disruption.
    NeedsDisruption,
    /// Only the daemon in a cluster can do it.
    NeedsCluster,
    /// Two policies of equal priority, or two entries of one policy, want the same thing.
    PolicyConflict,
    /// A bridge, port or mirror of this name is there and belongs to somebody else.
    NameConflict,
    /// No policy lists the bridge any more, and it carries ports or mirrors of others.
    ForeignPorts,
    /// The interface is in another bridge or bond, or has an address.
    UplinkInUse,
    /// Two uplinks that are not one bond, without a spanning tree.
    UplinkLoop,
    /// There is no network interface of this name, or not any more.
    InterfaceMissing,
    /// There is no bridge of this name.
    BridgeMissing,
    /// The mirror's output is not on its bridge.
    MirrorOutputMissing,
    /// More mirrors than Open vSwitch carries out on one bridge.
    TooManyMirrors,
    /// Open vSwitch does not have the datapath, or could not make it.
    DatapathMissing,
    /// OVSDB could not be read.
    OvsUnreachable,
    /// The database accepted it, and ovs-vswitchd has not carried it out or could not.
    NotApplied,
    /// Verified after the run and not what was written.
    NotReadBack,
    /// A write has not returned; the PF is left alone until it does.
    Stuck,
    /// Somebody else changes it as often as we put it right.
    Contended,
    /// No policy lists the PF any more, and VFs that we made are still in use.
    Releasing,
    /// What the policy wants of the PF failed again and again; it went back to its last good state.
    FellBack,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One obstacle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Blocked {
    /// What it is about.
    pub object: Object,
    /// Which obstacle.
    pub reason: Reason,
    /// What was found, as a clause without full stop.
    pub message: String,
    /// What to do about it, as a clause without full stop.
    pub hint: String,
}

impl Blocked {
    /// Makes an obstacle.
    pub fn new(object: Object, reason: Reason, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Blocked { object, reason, message: message.into(), hint: hint.into() }
    }
}
