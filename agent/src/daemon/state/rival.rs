//! Who wants what: for each PF, bridge and mirror the policies that want it, and the one that decides.

use std::collections::BTreeMap;

use portwright_core::Object;
use portwright_core::desired::Document;
use portwright_core::ovs::{Ovs, Part, Target};

use super::Scene;

/// What policies want of one PF, bridge or mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    /// The policy that it follows; none if they conflict.
    pub(super) follows: Option<String>,
    /// The highest priority.
    top: i32,
    /// All that want it, with their priorities.
    policies: BTreeMap<String, i32>,
}

impl Claim {
    /// Whether a policy is outranked by one of higher priority.
    pub(super) fn overrides(&self, policy: &str) -> bool {
        self.policies.get(policy).is_some_and(|priority| *priority < self.top)
    }

    /// Whether a policy of the highest priority does not get it, because it or another wants it a second time.
    pub(super) fn denies(&self, policy: &str) -> bool {
        self.policies.get(policy) == Some(&self.top) && self.follows.as_deref() != Some(policy)
    }

    /// The others of the same, highest priority.
    pub(super) fn equals(&self, policy: &str) -> Vec<&str> {
        if self.policies.get(policy) != Some(&self.top) {
            return Vec::new();
        }
        let same = self.policies.iter().filter(|(name, priority)| **priority == self.top && *name != policy);
        same.map(|(name, _)| name.as_str()).collect()
    }

    /// The highest priority.
    pub(super) fn top(&self) -> i32 {
        self.top
    }
}

/// All claims, by object.
pub(super) fn claims(scene: &Scene<'_>) -> BTreeMap<Object, Claim> {
    let facts = scene.facts;
    let mut wanted: BTreeMap<Object, Vec<&Document>> = BTreeMap::new();
    for document in &facts.desired.documents {
        for entry in &document.nics {
            for pf in facts.observed.pfs.iter().filter(|pf| entry.select.matches(pf)) {
                wanted.entry(Object::Pci(pf.address)).or_default().push(document);
            }
        }
        let bridges = document.ovs.bridges.iter().map(|wish| Target::bridge(&wish.name));
        let mirrors = document.ovs.mirrors.iter().map(|wish| Target::mirror(&wish.bridge, &wish.name));
        for target in bridges.chain(mirrors) {
            wanted.entry(target.object()).or_default().push(document);
        }
    }
    wanted
        .into_iter()
        .map(|(object, documents)| (object.clone(), claim(scene, &object, &documents)))
        .collect()
}

fn claim(scene: &Scene<'_>, object: &Object, documents: &[&Document]) -> Claim {
    let policies: BTreeMap<String, i32> =
        documents.iter().map(|document| (document.name.clone(), document.priority)).collect();
    let top = policies.values().copied().max().unwrap_or_default();
    let follows = match (scene.subject(object), object.pf()) {
        (Some(subject), _) => Some(subject.policy.clone()),
        // The plan has a heading for every PF that follows somebody.
        (None, Some(_)) => None,
        // It has none for mirrors, nor for anything while OVSDB cannot be read.
        (None, None) => {
            let owner = scene.facts.observed.ovs.as_ref().and_then(|ovs| owner(ovs, object));
            winner(documents, top, owner).map(|document| document.name.clone())
        }
    };
    Claim { follows, top, policies }
}

/// The only document of the highest priority, or the one among them that is on the row.
fn winner<'a>(documents: &[&'a Document], top: i32, owner: Option<&str>) -> Option<&'a Document> {
    let first: Vec<&Document> =
        documents.iter().copied().filter(|document| document.priority == top).collect();
    match first.as_slice() {
        [only] => Some(only),
        several => several.iter().copied().find(|document| Some(document.name.as_str()) == owner),
    }
}

/// The policy whose name a bridge or mirror carries.
fn owner<'a>(ovs: &'a Ovs, object: &Object) -> Option<&'a str> {
    let Target::Bridge(bridge, part) = Target::of(object)? else { return None };
    let bridge = ovs.bridge(&bridge)?;
    match part {
        Part::Itself => bridge.owner(),
        Part::Port(port) => bridge.port(&port)?.owner(),
        Part::Mirror(name) => bridge.mirrors.iter().find(|mirror| mirror.name == name)?.owner(),
    }
}
