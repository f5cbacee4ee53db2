//! The management path over a bridge: whether it runs there, and over which of the bridge's ports the node is reached.
//!
//! Open vSwitch does not say behind which port the rest of the world is. Where a change asks for it, these are taken not to
//! lead there: internal ports without an address that counts, ports of pods, representors of VFs, veths and taps beside real
//! NICs, and NICs that the policy lists as plain ports of a bridge of which it also lists the uplink.

use super::Scene;
use super::uplink::{self, Wanted};
use crate::ovs::{Bridge, BridgeWish, Interface, OVS_CNI_POD_UID_KEY, POD_UID_KEY, Port};
use crate::plan::Findings;

/// What to do about the management path.
pub(super) const ALLOW: &str =
    "move the node's own traffic to another port, or set `allowManagementPath: true` on this uplink";

/// How the node is reached over this bridge, unless the policy allows touching it.
pub(super) fn on_path(scene: &Scene<'_>, wish: &BridgeWish, bridge: &Bridge) -> Option<String> {
    if is_allowed(wish) {
        return None;
    }
    reached_over(scene, bridge)
}

/// Whether the policy allows touching what the node is reached over, if that is this bridge.
pub(super) fn is_allowed(wish: &BridgeWish) -> bool {
    wish.uplinks.iter().any(|uplink| uplink.allow_management_path)
}

/// How the node is reached over this bridge.
pub(super) fn reached_over(scene: &Scene<'_>, bridge: &Bridge) -> Option<String> {
    let path = &scene.management.netdevs;
    let local = path.get(&bridge.name).map(|why| format!("{} {why}", bridge.name));
    local.or_else(|| {
        bridge
            .interfaces()
            .find_map(|interface| Some(format!("{} {}", interface.name, path.get(&interface.name)?)))
    })
}

/// How the node is reached over one port of a bridge, as far as can be told.
pub(super) fn reached_through(
    scene: &Scene<'_>,
    wish: Option<&BridgeWish>,
    bridge: &Bridge,
    port: &Port,
) -> Option<String> {
    let (interface, why) =
        port.interfaces.iter().find_map(|interface| Some((interface, scene.carries_the_node(interface)?)))?;
    let itself = !why.contains(" through ");
    let leads = itself || is_nic(scene, port) || !bridge.others().any(|other| is_nic(scene, other));
    let apart = !itself && (is_of_pod(port) || is_apart(scene, wish, bridge, port));
    (leads && !apart).then(|| format!("{} {why}", interface.name))
}

/// Whether something real may be behind a port: a NIC, a bond, another bridge.
pub(super) fn is_nic(scene: &Scene<'_>, port: &Port) -> bool {
    let is_representor = |name: &str| {
        let vfs = scene.observed().pfs.iter().flat_map(|pf| &pf.vfs);
        vfs.filter_map(|vf| vf.representor.as_deref()).any(|representor| representor == name)
    };
    let leads = |interface: &Interface| match interface.kind.as_str() {
        "internal" | "vxlan" | "geneve" | "gre" | "tap" => false,
        "system" | "" => {
            let kind = scene.observed().link(&interface.name).and_then(|link| link.kind.as_deref());
            !matches!(kind, Some("veth" | "tun" | "openvswitch")) && !is_representor(&interface.name)
        }
        // Patch ports, DPDK, and what nobody has heard of.
        _ => true,
    };
    port.interfaces.iter().any(leads)
}

fn is_of_pod(port: &Port) -> bool {
    [POD_UID_KEY, OVS_CNI_POD_UID_KEY].iter().any(|key| port.external_ids.contains_key(*key))
}

/// Whether the policy tells it apart from the uplinks: it lists this one as a port and a NIC on the same bridge as uplink.
fn is_apart(scene: &Scene<'_>, wish: Option<&BridgeWish>, bridge: &Bridge, port: &Port) -> bool {
    let Some(wish) = wish.filter(|wish| wish.ports.iter().any(|listed| listed.name == port.name)) else {
        return false;
    };
    let uplinks = uplink::wanted(scene, wish, Some(bridge), &mut Findings::default());
    let is_there = |one: &Wanted<'_>| one.uplink.is_some() && bridge.port(&one.name).is_some();
    uplinks.iter().all(|one| one.name != port.name) && uplinks.iter().any(is_there)
}
