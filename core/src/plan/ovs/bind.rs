//! Which policy each bridge and each mirror follows: the document of highest priority, whole. Among equals the one whose
//! name is on the row stays; a row that nobody of them owns is a conflict.

use std::collections::{BTreeMap, BTreeSet};

use super::Scene;
use crate::blocked::{Blocked, Reason};
use crate::desired::{Desired, Document};
use crate::ovs::{Bridge, BridgeWish, MirrorWish, Ovs, Target};

/// A wish and the document that it is from.
pub(crate) struct Bound<'a, W> {
    pub(crate) document: &'a Document,
    pub(crate) wish: &'a W,
    pub(super) notes: Vec<String>,
}

/// Everything bound.
pub(super) struct Bindings<'a> {
    pub(super) bridges: Vec<Bound<'a, BridgeWish>>,
    pub(super) mirrors: Vec<Bound<'a, MirrorWish>>,
    pub(super) blocked: Vec<Blocked>,
    /// Names of all bridges that any document lists, bound or in conflict.
    pub(super) named: BTreeSet<String>,
    /// Bridge and name of all mirrors that any document lists.
    pub(super) named_mirrors: BTreeSet<(String, String)>,
}

/// Binds bridges and mirrors.
pub(super) fn bind<'a>(scene: &Scene<'a>) -> Bindings<'a> {
    let documents = &scene.desired.documents;
    let mut mirrors: BTreeMap<(&str, &str), Vec<(&Document, &MirrorWish)>> = BTreeMap::new();
    for document in documents {
        for wish in &document.ovs.mirrors {
            mirrors.entry((&wish.bridge, &wish.name)).or_default().push((document, wish));
        }
    }
    let mut blocked = Vec::new();
    let mut named = BTreeSet::new();
    let named_mirrors =
        mirrors.keys().map(|(bridge, name)| ((*bridge).to_owned(), (*name).to_owned())).collect();
    let mut bound = Vec::new();
    for (name, _, followed) in bridges(scene.desired, Some(scene.ovs)) {
        named.insert(name.to_owned());
        match followed {
            Ok(winner) => bound.push(winner),
            Err(conflict) => blocked.push(conflict),
        }
    }
    let mut bound_mirrors = Vec::new();
    for ((bridge, name), candidates) in mirrors {
        let found = scene.ovs.bridge(bridge);
        let row = found.and_then(|bridge| bridge.mirrors.iter().find(|mirror| mirror.name == name));
        let owner = row.and_then(|mirror| mirror.owner());
        match choose(&Target::mirror(bridge, name), &candidates, owner, |wish| &wish.path) {
            Ok(winner) => bound_mirrors.push(winner),
            Err(conflict) => blocked.push(conflict),
        }
    }
    Bindings { bridges: bound, mirrors: bound_mirrors, blocked, named, named_mirrors }
}

/// A bridge that documents list: its name, all that is wished of it, and the wish that it follows.
pub(crate) type Followed<'a> = (&'a str, Vec<&'a BridgeWish>, Result<Bound<'a, BridgeWish>, Blocked>);

/// Which wish each bridge follows.
pub(crate) fn bridges<'a>(desired: &'a Desired, ovs: Option<&Ovs>) -> Vec<Followed<'a>> {
    let mut bridges: BTreeMap<&str, Vec<(&Document, &BridgeWish)>> = BTreeMap::new();
    for document in &desired.documents {
        for wish in &document.ovs.bridges {
            bridges.entry(&wish.name).or_default().push((document, wish));
        }
    }
    let follow = |(name, candidates): (&'a str, Vec<(&'a Document, &'a BridgeWish)>)| {
        let owner = ovs.and_then(|ovs| ovs.bridge(name)).and_then(Bridge::owner);
        let followed = choose(&Target::bridge(name), &candidates, owner, |wish| &wish.path);
        (name, candidates.into_iter().map(|(_, wish)| wish).collect(), followed)
    };
    bridges.into_iter().map(follow).collect()
}

fn choose<'a, W>(
    target: &Target,
    candidates: &[(&'a Document, &'a W)],
    owner: Option<&str>,
    path: impl Fn(&W) -> &String,
) -> Result<Bound<'a, W>, Blocked> {
    let top = candidates.iter().map(|(document, _)| document.priority).max().unwrap_or_default();
    let (first, lower): (Vec<_>, Vec<_>) =
        candidates.iter().copied().partition(|(document, _)| document.priority == top);
    let places = |list: &[(&'a Document, &'a W)]| {
        let places: Vec<String> =
            list.iter().map(|(document, wish)| format!("`{}` {}", document.name, path(wish))).collect();
        places.join(" and ")
    };
    let of_owner: Vec<_> =
        first.iter().copied().filter(|(document, _)| Some(document.name.as_str()) == owner).collect();
    let kept = if of_owner.is_empty() { first.clone() } else { of_owner };
    let [(document, wish)] = kept.as_slice() else {
        return Err(Blocked::new(
            target.object(),
            Reason::PolicyConflict,
            format!("{} both describe it with priority {top}", places(&kept)),
            "give one of them a larger `priority`, or take it out of the other",
        ));
    };
    let mut notes = Vec::new();
    let losers: Vec<_> = first.iter().copied().filter(|(other, _)| other.name != document.name).collect();
    if !losers.is_empty() {
        notes.push(format!(
            "PolicyConflict: {} also describe it with priority {top}; `{}` was there first",
            places(&losers),
            document.name
        ));
    }
    if !lower.is_empty() {
        notes.push(format!("overrides {}", places(&lower)));
    }
    Ok(Bound { document, wish, notes })
}
