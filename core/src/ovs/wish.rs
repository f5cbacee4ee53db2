//! What a policy wants of Open vSwitch, already checked: `spec.ovs`, `spec.bridges` and `spec.mirrors`. What is absent is
//! left as it is.

use std::collections::{BTreeMap, BTreeSet};

use super::observed::{Map, Policing, QosSetting, VlanSetting};
use crate::select::{Pattern, Selector};

/// The Open vSwitch part of a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `spec.ovs.hwOffload`.
    pub hw_offload: Option<bool>,
    /// `spec.ovs.collect`.
    pub collect: Option<Collect>,
    /// `spec.bridges`.
    pub bridges: Vec<BridgeWish>,
    /// `spec.mirrors`.
    pub mirrors: Vec<MirrorWish>,
}

impl Wishes {
    /// Whether nothing is wanted of Open vSwitch.
    pub fn is_empty(&self) -> bool {
        *self == Wishes::default()
    }
}

/// Which stale ports are removed, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collect {
    /// Values of the key `owner` whose ports are collected besides our own.
    pub owners: Vec<String>,
    /// How long a port must be stale, in seconds.
    pub grace_seconds: u64,
}

impl Default for Collect {
    fn default() -> Self {
        Collect { owners: Vec::new(), grace_seconds: 300 }
    }
}

/// One entry of `spec.bridges`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeWish {
    /// Field path in its document, such as `spec.bridges[0]`.
    pub path: String,
    /// Name.
    pub name: String,
    /// Datapath; absent is `system` for a new bridge.
    pub datapath: Option<Datapath>,
    /// What it does without a controller.
    pub fail_mode: Option<FailMode>,
    /// Connections to the outside.
    pub uplinks: Vec<Uplink>,
    /// Further ports.
    pub ports: Vec<PortWish>,
    /// Options.
    pub options: BridgeOptions,
    /// Take over an existing bridge and those of its ports that are listed.
    pub adopt: bool,
    /// Advertise it as a node resource.
    pub advertise: Option<Advertise>,
}

/// A node resource that stands for a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertise {
    /// Resource prefix.
    pub prefix: String,
    /// How many of it the node offers.
    pub capacity: u32,
}

macro_rules! word {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// The word that Open vSwitch uses.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }
    };
}

word! {
    /// `datapath`.
    Datapath {
        /// The kernel's.
        System = "system",
        /// The userspace datapath.
        Netdev = "netdev",
    }
}

word! {
    /// `failMode`.
    FailMode {
        /// It behaves like a switch.
        Standalone = "standalone",
        /// It forwards only what flows say.
        Secure = "secure",
    }
}

word! {
    /// `bond.mode`.
    BondMode {
        /// One interface carries everything.
        ActiveBackup = "active-backup",
        /// By source MAC and VLAN.
        BalanceSlb = "balance-slb",
        /// By flow.
        BalanceTcp = "balance-tcp",
    }
}

word! {
    /// `bond.lacp`.
    Lacp {
        /// Sends first.
        Active = "active",
        /// Answers only.
        Passive = "passive",
        /// Not used.
        Off = "off",
    }
}

word! {
    /// `ports[].type`.
    PortKind {
        /// An existing netdev.
        System = "system",
        /// Made by the bridge.
        Internal = "internal",
        /// One end of a link between bridges.
        Patch = "patch",
        /// A VXLAN tunnel.
        Vxlan = "vxlan",
        /// A Geneve tunnel.
        Geneve = "geneve",
        /// A DPDK device.
        Dpdk = "dpdk",
    }
}

/// `options` of a bridge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BridgeOptions {
    /// Spanning tree.
    pub stp: Option<bool>,
    /// Rapid spanning tree.
    pub rstp: Option<bool>,
    /// Multicast snooping.
    pub mcast_snooping: Option<bool>,
    /// MTU of its own interface in bytes.
    pub mtu_request: Option<u32>,
    /// Keys of `other_config`.
    pub other_config: Map,
    /// Keys of `external_ids`.
    pub external_ids: Map,
}

/// One entry of `uplinks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// Field path.
    pub path: String,
    /// Which interface.
    pub to: UplinkTo,
    /// Take it although the management path runs over it.
    pub allow_management_path: bool,
}

/// Which interfaces an uplink is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UplinkTo {
    /// A netdev by name.
    Interface(String),
    /// The netdevs of PFs.
    Select(Box<Selector>),
    /// Several netdevs as one port.
    Bond(Bond),
}

/// `bond`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bond {
    /// Name of its port.
    pub name: String,
    /// How traffic is spread.
    pub mode: Option<BondMode>,
    /// Link aggregation protocol.
    pub lacp: Option<Lacp>,
    /// Netdevs.
    pub interfaces: BTreeSet<String>,
}

/// One entry of `ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortWish {
    /// Field path.
    pub path: String,
    /// Name.
    pub name: String,
    /// Kind of its interface.
    pub kind: PortKind,
    /// Keys of the interface's `options`, a patch port's peer among them.
    pub options: Map,
    /// VLAN settings.
    pub vlan: Option<VlanSetting>,
    /// Queueing discipline.
    pub qos: Option<QosSetting>,
    /// Limit for what it receives.
    pub policing: Option<Policing>,
}

/// One entry of `spec.mirrors`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorWish {
    /// Field path.
    pub path: String,
    /// Name.
    pub name: String,
    /// Bridge.
    pub bridge: String,
    /// Ports by name.
    pub ports: Vec<Pattern>,
    /// Ports of pods.
    pub pods: Option<PodSelect>,
    /// VLANs.
    pub vlans: BTreeSet<u16>,
    /// Every port.
    pub all: bool,
    /// Direction.
    pub direction: Direction,
    /// Where the copies go.
    pub output: Output,
    /// Bytes of each frame that are copied.
    pub snaplen: Option<u32>,
}

/// `select.pods`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSelect {
    /// Namespace.
    pub namespace: String,
    /// Labels that a pod must have.
    pub match_labels: BTreeMap<String, String>,
}

/// `direction`, seen from the bridge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Direction {
    /// Both.
    #[default]
    Both,
    /// Frames that enter the bridge from the port.
    Ingress,
    /// Frames that leave the bridge through the port.
    Egress,
}

/// `output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A port.
    Port(String),
    /// A VLAN (RSPAN).
    Vlan(u16),
}

/// A pod of this node, as the API server knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name; empty if it is not known.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// IDs of its containers, init and ephemeral ones too, as the pod's status has them without the runtime's prefix
    /// (`containerd://`). Empty if nobody asked.
    pub containers: BTreeSet<String>,
}
