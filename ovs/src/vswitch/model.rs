//! What a virtual switch looks like: the rows of ovs-vswitchd.conf.db(5) that matter here, as plain values that can be
//! printed and compared. References between rows are resolved to names and nesting; identities stay, because
//! transactions name rows by them.

use std::collections::{BTreeMap, BTreeSet};

use crate::ovsdb::Uuid;

/// Free-form settings of a row: `other_config`, `external_ids`, `options`.
pub type Map = BTreeMap<String, String>;

/// A text of a fixed list, or one that this program does not know yet.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
            /// Something that a newer Open vSwitch has.
            Other(String),
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word,
                })
            }
        }
    };
}

words! {
    /// `Port.vlan_mode`.
    VlanMode {
        /// One VLAN, untagged on the wire.
        Access = "access",
        /// Many VLANs, tagged.
        Trunk = "trunk",
        /// A trunk whose own VLAN is tagged too.
        NativeTagged = "native-tagged",
        /// A trunk whose own VLAN is untagged.
        NativeUntagged = "native-untagged",
        /// Customer VLANs inside one service VLAN (802.1ad).
        Dot1qTunnel = "dot1q-tunnel",
    }
}

words! {
    /// `Bridge.fail_mode`: what a bridge does without its controller.
    FailMode {
        /// Behaves as an ordinary switch.
        Standalone = "standalone",
        /// Forwards nothing new.
        Secure = "secure",
    }
}

words! {
    /// `Port.bond_mode`.
    BondMode {
        /// By flow, needs LACP.
        BalanceTcp = "balance-tcp",
        /// By source address and VLAN.
        BalanceSlb = "balance-slb",
        /// One member at a time.
        ActiveBackup = "active-backup",
    }
}

words! {
    /// `Port.lacp`.
    Lacp {
        /// Starts negotiation.
        Active = "active",
        /// Answers it.
        Passive = "passive",
        /// None.
        Off = "off",
    }
}

words! {
    /// `Bridge.datapath_type`.
    DatapathType {
        /// The kernel's datapath; an empty text means this too.
        System = "system",
        /// The userspace datapath.
        Netdev = "netdev",
    }
}

/// The whole switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vswitch {
    /// The one row of table Open_vSwitch.
    pub uuid: Uuid,
    /// Version of the database's schema, such as `8.3.1`.
    pub schema_version: String,
    /// Open vSwitch's version; the start script writes it, so it may be absent on a healthy node.
    pub ovs_version: Option<String>,
    /// Counts configurations that were asked for.
    pub next_cfg: i64,
    /// The last one that ovs-vswitchd has carried out.
    pub cur_cfg: i64,
    /// What `Bridge.datapath_type` may be here; empty on servers that do not say.
    pub datapath_types: BTreeSet<String>,
    /// What `Interface.type` may be here; empty on servers that do not say.
    pub iface_types: BTreeSet<String>,
    /// Whether DPDK is there and started.
    pub dpdk_initialized: bool,
    /// Settings; `hw-offload` needs a restart of ovs-vswitchd to take effect.
    pub other_config: Map,
    /// Others' notes; `system-id` and the like.
    pub external_ids: Map,
    /// Bridges by name.
    pub bridges: BTreeMap<String, Bridge>,
    /// All QoS rows, also such as no port uses: clearing `Port.qos` leaves them behind.
    pub qos: BTreeMap<Uuid, Qos>,
    /// All queues.
    pub queues: BTreeMap<Uuid, Queue>,
    /// Columns that not every server has.
    pub has: Has,
}

/// What this server's schema has beyond the oldest that we support.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Has {
    /// `Mirror.filter`, Open vSwitch 3.4.
    pub mirror_filter: bool,
    /// `Mirror.snaplen`, Open vSwitch 2.6.
    pub mirror_snaplen: bool,
    /// `Port.cvlans` and dot1q-tunnel, Open vSwitch 2.8.
    pub cvlans: bool,
}

/// A bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// The row.
    pub uuid: Uuid,
    /// Its name; cannot change.
    pub name: String,
    /// Its datapath.
    pub datapath_type: DatapathType,
    /// Absent when the datapath could not be created, and nothing else says so.
    pub datapath_id: Option<String>,
    /// What it does without its controller; none is standalone.
    pub fail_mode: Option<FailMode>,
    /// Spanning tree.
    pub stp_enable: bool,
    /// Rapid spanning tree.
    pub rstp_enable: bool,
    /// Multicast snooping.
    pub mcast_snooping_enable: bool,
    /// VLANs that are flooded instead of learned; RSPAN.
    pub flood_vlans: BTreeSet<u16>,
    /// How many OpenFlow controllers it has.
    pub controllers: usize,
    /// Settings.
    pub other_config: Map,
    /// Notes; our owner key is here.
    pub external_ids: Map,
    /// Ports by name, the bridge's own among them.
    pub ports: BTreeMap<String, Port>,
    /// Mirrors, sorted by name and identity: names need not be unique.
    pub mirrors: Vec<Mirror>,
}

/// A port: one interface, or a bond of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The row.
    pub uuid: Uuid,
    /// Its name; cannot change, unique in the whole database.
    pub name: String,
    /// Its interfaces, sorted by name.
    pub interfaces: Vec<Interface>,
    /// How VLANs are handled; none lets Open vSwitch choose by `tag` and `trunks`.
    pub vlan_mode: Option<VlanMode>,
    /// Its own VLAN.
    pub tag: Option<u16>,
    /// VLANs that it carries; empty is all.
    pub trunks: BTreeSet<u16>,
    /// Customer VLANs of a dot1q-tunnel.
    pub cvlans: BTreeSet<u16>,
    /// How a bond shares traffic; none is active-backup.
    pub bond_mode: Option<BondMode>,
    /// Whether a bond negotiates.
    pub lacp: Option<Lacp>,
    /// Milliseconds before a member that came up is used.
    pub bond_updelay: i64,
    /// Milliseconds before a member that went down is dropped.
    pub bond_downdelay: i64,
    /// Hardware address of the bond's active member.
    pub bond_active: Option<String>,
    /// The row of its QoS.
    pub qos: Option<Uuid>,
    /// A bridge of one VLAN inside another bridge, as ovs-vsctl makes them.
    pub fake_bridge: bool,
    /// Does not talk to other protected ports.
    pub protected: bool,
    /// Settings.
    pub other_config: Map,
    /// Notes; our owner key and ovs-cni's are here.
    pub external_ids: Map,
}

/// Whether an interface has its OpenFlow port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ofport {
    /// ovs-vswitchd has not got to it.
    Pending,
    /// It could not be opened; see [`Interface::error`].
    Failed,
    /// It works under this number.
    Open(u16),
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The row.
    pub uuid: Uuid,
    /// Its name; of type `system` it is the netdev's.
    pub name: String,
    /// `system` (also for an empty text), `internal`, `patch`, `vxlan`, `geneve`, `dpdk`, …
    pub kind: String,
    /// Options of its kind, such as `peer` or `remote_ip`.
    pub options: Map,
    /// Whether it works.
    pub ofport: Ofport,
    /// The OpenFlow port that was asked for.
    pub ofport_request: Option<u16>,
    /// Why it does not work.
    pub error: Option<String>,
    /// Up or down as set; none if not known. Stays at its last value while ovs-vswitchd is not running.
    pub admin_up: Option<bool>,
    /// Whether there is a carrier; none if not known. Stays as above.
    pub link_up: Option<bool>,
    /// Its hardware address.
    pub mac_in_use: Option<String>,
    /// Its MTU in bytes.
    pub mtu: Option<i64>,
    /// The MTU that was asked for.
    pub mtu_request: Option<i64>,
    /// Interface index in the namespace of ovs-vswitchd.
    pub ifindex: Option<i64>,
    /// Most that is taken in, kbit/s; 0 is no limit.
    pub policing_rate: i64,
    /// Burst above that, kbit; 0 is the default of 8,000.
    pub policing_burst: i64,
    /// Settings.
    pub other_config: Map,
    /// Notes; OVN acts on `iface-id`.
    pub external_ids: Map,
}

/// A mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The row.
    pub uuid: Uuid,
    /// Its name; need not be unique.
    pub name: String,
    /// Every frame of the bridge, within the VLANs.
    pub select_all: bool,
    /// Names of ports whose arriving frames are copied.
    pub select_src_port: BTreeSet<String>,
    /// Names of ports whose leaving frames are copied.
    pub select_dst_port: BTreeSet<String>,
    /// Only these VLANs; empty is all.
    pub select_vlan: BTreeSet<u16>,
    /// Name of the port where the copies go. Vanishes with the port and does not come back with it.
    pub output_port: Option<String>,
    /// VLAN where the copies go, if there is no output port.
    pub output_vlan: Option<u16>,
    /// Bytes of each frame that are copied; none is all.
    pub snaplen: Option<u32>,
    /// Only frames that match this expression; see [`Has::mirror_filter`].
    pub filter: Option<String>,
    /// Notes; our owner key is here.
    pub external_ids: Map,
}

/// A QoS row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qos {
    /// `linux-htb` and the like.
    pub kind: String,
    /// Settings, such as `max-rate`.
    pub other_config: Map,
    /// Queues by number.
    pub queues: BTreeMap<i64, Uuid>,
    /// Notes; our owner key is here.
    pub external_ids: Map,
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// DSCP mark of its packets.
    pub dscp: Option<i64>,
    /// Settings.
    pub other_config: Map,
    /// Notes; our owner key is here.
    pub external_ids: Map,
}

impl Bridge {
    /// The bridge's own interface.
    #[must_use]
    pub fn local(&self) -> Option<&Interface> {
        self.ports.get(&self.name)?.interfaces.first()
    }

    /// Whether its datapath is there. Open vSwitch writes no error when it is not: only these values are missing.
    #[must_use]
    pub fn works(&self) -> bool {
        let local = self.local().is_some_and(|local| matches!(local.ofport, Ofport::Open(_)));
        self.datapath_id.is_some() && local
    }
}

impl Vswitch {
    /// A port by name and the bridge that it is in: names are unique in the whole database.
    #[must_use]
    pub fn port(&self, name: &str) -> Option<(&Bridge, &Port)> {
        self.bridges.values().find_map(|bridge| Some((bridge, bridge.ports.get(name)?)))
    }

    /// An interface by name, with its port and bridge: a bond's members have names of their own.
    #[must_use]
    pub fn interface(&self, name: &str) -> Option<(&Bridge, &Port, &Interface)> {
        self.bridges
            .values()
            .flat_map(|bridge| bridge.ports.values().map(move |port| (bridge, port)))
            .find_map(|(bridge, port)| {
                let interface = port.interfaces.iter().find(|interface| interface.name == name)?;
                Some((bridge, port, interface))
            })
    }

    /// Whether ovs-vswitchd has carried out everything that was asked for.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.cur_cfg >= self.next_cfg
    }
}
