//! Open vSwitch: what it looks like ([`Ovs`]), what is wanted of it ([`Wishes`]), and every change that can ever be made
//! to it ([`Change`]).
//!
//! Rows that a policy made or took over carry [`OWNER_KEY`] in `external_ids`. Rows without it are never changed or
//! deleted, with two exceptions that an operator writes down himself: `adopt: true` takes over a bridge, and
//! `spec.ovs.collect.owners` has stale ports of others removed. A bridge is changed in one transaction: the steps of one
//! bridge that follow each other are carried out together or not at all.

mod change;
mod health;
mod holds;
mod observed;
mod perform;
mod setting;
mod target;
mod wish;

pub use change::{Change, Key, NewBridge, NewPort};
pub use health::{MirrorCounts, MirrorHealth, MirrorWatch};
pub use holds::conflict;
pub(crate) use holds::{hw_offload, of_bridge_setting, of_port_setting};
pub use observed::{Bridge, Copies, Interface, Map, Mirror, Ovs, Policing, Port, QosSetting, VlanSetting};
pub use perform::perform;
pub use setting::Setting;
pub use target::{Part, Target};
pub use wish::{
    Advertise, Bond, BondMode, BridgeOptions, BridgeWish, Collect, Datapath, Direction, FailMode, Lacp,
    MirrorWish, Output, Pod, PodSelect, PortKind, PortWish, Uplink, UplinkTo, Wishes,
};

/// Key in `external_ids` whose value is the name of the policy that a row belongs to.
pub const OWNER_KEY: &str = "portwright.dev/owner";
/// Key in `external_ids` of a port: interface index of the netdev that was plugged. The userspace datapath goes on with a
/// dead device when a netdev of the same name is made again, and only this number tells.
pub const IFINDEX_KEY: &str = "portwright.dev/ifindex";
/// Key in `external_ids` of a port: the pod that it belongs to.
pub const POD_UID_KEY: &str = "portwright.dev/pod-uid";
/// The same as ovs-cni writes it.
pub const OVS_CNI_POD_UID_KEY: &str = "contPodUid";
/// Path of the pod's network namespace, as ovs-cni writes it.
pub const OVS_CNI_NETNS_KEY: &str = "contNetns";
/// Key under which others name themselves; `spec.ovs.collect.owners` lists its values.
pub const FOREIGN_OWNER_KEY: &str = "owner";
/// Mirrors that Open vSwitch carries out on one bridge; it ignores further ones with a line in its log.
pub const MOST_MIRRORS: usize = 32;
