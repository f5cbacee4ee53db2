//! Bridges as resources of the node, so that the scheduler knows which nodes have which bridge: `<prefix>/<bridge>`, with the
//! capacity that the policy says.
//!
//! Only what works is offered. A bridge is withdrawn while Open vSwitch cannot be read, while ovs-vswitchd is dead, and
//! while the bridge is missing, is not ours, has no datapath, or has lost all its uplinks. What Open vSwitch is just about
//! to carry out changes nothing: pods are not turned away for a moment's sake.

use std::collections::BTreeMap;

use crate::blocked::Reason;
use crate::desired::{Desired, Document, Mode};
use crate::observed::Observed;
use crate::ovs::{Bridge, BridgeWish, Ovs, Target, Uplink, UplinkTo};
use crate::plan::{Plan, followed_bridges};
use crate::pools::config::check_prefix;

/// Longest name behind the prefix.
const LONGEST_NAME: usize = 63;

/// The resources that stand for bridges, by resource name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BridgeResources {
    /// What the node offers, with how many.
    pub offered: BTreeMap<String, u32>,
    /// What it would offer, with why it does not: to be set to 0 and removed.
    pub withdrawn: BTreeMap<String, String>,
    /// Bridges whose name makes no resource name; they are neither offered nor withdrawn.
    pub warnings: Vec<String>,
}

/// Decides what the node offers.
pub fn resources(observed: &Observed, desired: &Desired, plan: &Plan) -> BridgeResources {
    let mut resources = BridgeResources::default();
    for (_, wishes, followed) in followed_bridges(desired, observed.ovs.as_ref()) {
        match followed {
            Ok(bound) => {
                let Some(name) = resources.name(bound.wish) else { continue };
                match why_not(observed, plan, bound.document, bound.wish) {
                    Some(why) => drop(resources.withdrawn.insert(name, why)),
                    None => {
                        let capacity = bound.wish.advertise.as_ref().map(|advertise| advertise.capacity);
                        resources.offered.insert(name, capacity.unwrap_or_default());
                    }
                }
            }
            Err(conflict) => {
                for wish in wishes {
                    if let Some(name) = resources.name(wish) {
                        resources
                            .withdrawn
                            .insert(name, format!("{}: {}", conflict.reason, conflict.message));
                    }
                }
            }
        }
    }
    resources
}

impl BridgeResources {
    /// The resource that stands for a bridge, if it is to be advertised and can be.
    fn name(&mut self, wish: &BridgeWish) -> Option<String> {
        let advertise = wish.advertise.as_ref()?;
        let name = format!("{}/{}", advertise.prefix, wish.name);
        match illegal(&advertise.prefix, &wish.name) {
            None => Some(name),
            Some(why) => {
                self.warnings.push(format!("bridge {} cannot be advertised as {name}: {why}", wish.name));
                None
            }
        }
    }
}

/// Why a resource cannot be called so (Kubernetes: an extended resource is `<DNS subdomain>/<qualified name>`, and no domain
/// that ends in `kubernetes.io`).
fn illegal(prefix: &str, name: &str) -> Option<String> {
    if let Err(why) = check_prefix(prefix) {
        return Some(why);
    }
    if prefix == "kubernetes.io" || prefix.ends_with(".kubernetes.io") || prefix.starts_with("requests.") {
        return Some(format!("`{prefix}` is reserved by Kubernetes"));
    }
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let ends = [name.bytes().next(), name.bytes().last()];
    let legal = name.len() <= LONGEST_NAME
        && name.bytes().all(inner)
        && ends.iter().all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()));
    (!legal).then(|| {
        "a name is letters, digits, `-`, `_` and `.`, at most 63, and begins and ends with a letter or digit"
            .to_owned()
    })
}

/// Why a bridge is not offered.
fn why_not(observed: &Observed, plan: &Plan, document: &Document, wish: &BridgeWish) -> Option<String> {
    if document.mode == Mode::Plan {
        return Some(format!("policy `{}` only plans", document.name));
    }
    let Some(ovs) = &observed.ovs else { return Some("Open vSwitch cannot be read".to_owned()) };
    if !alive(ovs) {
        return Some("ovs-vswitchd does not answer".to_owned());
    }
    let Some(bridge) = ovs.bridge(&wish.name) else { return Some("the bridge is not there".to_owned()) };
    if bridge.owner() != Some(document.name.as_str()) {
        return Some("the bridge is not ours".to_owned());
    }
    if !bridge.works && ovs.settled {
        return Some("its datapath could not be made".to_owned());
    }
    let object = Target::bridge(&wish.name).object();
    let stops = |reason: Reason| {
        matches!(reason, Reason::NotApplied | Reason::DatapathMissing | Reason::NameConflict)
    };
    let mut obstacles = plan.blocked.iter().filter(|blocked| blocked.object == object);
    if let Some(blocked) = obstacles.find(|blocked| stops(blocked.reason)) {
        return Some(blocked.message.clone());
    }
    let lost =
        !wish.uplinks.is_empty() && !wish.uplinks.iter().any(|uplink| leads_out(observed, bridge, uplink));
    lost.then(|| "its uplinks are gone".to_owned())
}

/// Whether ovs-vswitchd is there. Where its control socket cannot be asked, work that is left undone tells.
fn alive(ovs: &Ovs) -> bool {
    ovs.vswitchd.known().copied().unwrap_or(ovs.settled)
}

/// Whether any interface of an uplink is on the bridge and in the node. That it has no carrier is no reason: pods of one
/// node still reach each other, and cables come and go.
fn leads_out(observed: &Observed, bridge: &Bridge, uplink: &Uplink) -> bool {
    let on_bridge = |name: &str| {
        let interface = bridge.interfaces().find(|interface| interface.name == name);
        let works = interface.is_some_and(|one| one.error.is_none() && one.ofport != Some(-1));
        works && observed.link(name).is_some()
    };
    match &uplink.to {
        UplinkTo::Interface(name) => on_bridge(name),
        UplinkTo::Select(selector) => {
            let selected = observed.pfs.iter().filter(|pf| selector.matches(pf));
            selected.filter_map(|pf| pf.name.as_deref()).any(on_bridge)
        }
        UplinkTo::Bond(bond) => bond.interfaces.iter().any(|name| on_bridge(name)),
    }
}
