//! Bridges and mirrors: those that policies want, and those that carry a policy's name and are wanted no more.

use std::collections::BTreeSet;

use portwright_api::state::{BridgeState, MirrorState, limit};
use portwright_core::ovs::{Bridge, BridgeWish, Mirror, MirrorHealth, Part, Target};
use portwright_core::{Object, Reason};

use super::Scene;
use super::room::number;
use super::verdict::{Verdict, judge};
use super::word::Word;

/// All of them.
pub(super) fn states(scene: &mut Scene<'_>) -> Vec<BridgeState> {
    let facts = scene.facts;
    let documents = &facts.desired.documents;
    let wanted = documents.iter().flat_map(|document| &document.ovs.bridges).map(|wish| wish.name.as_str());
    let mirrored =
        documents.iter().flat_map(|document| &document.ovs.mirrors).map(|wish| wish.bridge.as_str());
    let there = facts.observed.ovs.iter().flat_map(|ovs| &ovs.bridges);
    let owned = there.filter(|bridge| bridge.owner().is_some()).map(|bridge| bridge.name.as_str());
    let names: BTreeSet<&str> = wanted.chain(mirrored).chain(owned).collect();
    names.into_iter().map(|name| state(scene, name)).collect()
}

fn state(scene: &mut Scene<'_>, name: &str) -> BridgeState {
    let facts = scene.facts;
    let found = facts.observed.ovs.as_ref().and_then(|ovs| ovs.bridge(name));
    let object = Target::bridge(name).object();
    let subject = scene.subject(&object);
    let policy = scene.follows(&object).map(ToOwned::to_owned);
    let wish = policy.as_deref().and_then(|policy| wish(scene, policy, name));
    let advertise = wish.and_then(|wish| wish.advertise.as_ref());
    let notes = subject.into_iter().flat_map(|subject| &subject.notes);
    let notes = notes.map(|note| scene.room.text(note)).collect();
    let itself = |object: &Object| matches!(Target::of(object), Some(Target::Bridge(bridge, Part::Itself | Part::Port(_))) if bridge == name);
    let verdict = or_unmanaged(scene, &object, judge(scene, scene.mode(policy.as_deref()), &itself));
    let mirrors = mirrors(scene, name, found);
    BridgeState {
        name: name.to_owned(),
        exists: found.is_some(),
        ports: number(found.map_or(0, |bridge| bridge.others().count())),
        resource: advertise.map(|advertise| format!("{}/{name}", advertise.prefix)),
        mirrors: scene.room.fit("bridges[].mirrors", limit::MIRRORS, mirrors),
        notes: scene.room.fit("bridges[].notes", limit::NOTES, notes),
        conditions: vec![verdict.ready(scene)],
        policy,
    }
}

/// Nothing is in the way of what nobody wants; that does not make it as wanted.
fn or_unmanaged(scene: &Scene<'_>, object: &Object, verdict: Verdict) -> Verdict {
    if verdict.holds() && !scene.claims.contains_key(object) {
        return Verdict::yes(Word::Unmanaged, "no policy describes it");
    }
    verdict
}

/// A mirror that is as it should be in the database, and does not do what it is for.
fn or_ailing(verdict: Verdict, row: Option<&Mirror>) -> Verdict {
    let Some(row) = row.filter(|_| verdict.holds()) else { return verdict };
    let output = row.copies.output_port.as_deref().unwrap_or_default();
    match row.judged {
        Some(MirrorHealth::NoOutput) => {
            Verdict::no(Reason::MirrorOutputMissing, "its output port is not there")
        }
        Some(MirrorHealth::OutputDown) => Verdict::no(
            Word::MirrorOutputDown,
            format!("its output port `{output}` is down, so nobody sees the copies"),
        ),
        Some(MirrorHealth::DoesNotCopy) => Verdict::no(
            Word::MirrorNotCopying,
            "frames pass at its ports and none is copied, or Open vSwitch does not count for it; `portwright ovs probe` asks it",
        ),
        None
        | Some(
            MirrorHealth::Unknown
            | MirrorHealth::SelectsNothing
            | MirrorHealth::NotCounted
            | MirrorHealth::Works,
        ) => verdict,
    }
}

fn wish<'a>(scene: &Scene<'a>, policy: &str, name: &str) -> Option<&'a BridgeWish> {
    let document = scene.facts.desired.documents.iter().find(|document| document.name == policy)?;
    document.ovs.bridges.iter().find(|wish| wish.name == name)
}

/// The mirrors that policies want on a bridge, and those that carry a policy's name.
fn mirrors(scene: &Scene<'_>, bridge: &str, found: Option<&Bridge>) -> Vec<MirrorState> {
    let documents = &scene.facts.desired.documents;
    let wanted = documents.iter().flat_map(|document| &document.ovs.mirrors);
    let wanted = wanted.filter(|wish| wish.bridge == bridge).map(|wish| wish.name.as_str());
    let rows = found.map(|bridge| bridge.mirrors.as_slice()).unwrap_or_default();
    let owned = rows.iter().filter(|row| row.owner().is_some()).map(|row| row.name.as_str());
    let names: BTreeSet<&str> = wanted.chain(owned).collect();
    let mirror = |name: &str| {
        let row = rows.iter().find(|row| row.name == name);
        let object = Target::mirror(bridge, name).object();
        let policy = scene.follows(&object);
        let verdict = judge(scene, scene.mode(policy), &|other| *other == object);
        let verdict = or_unmanaged(scene, &object, verdict);
        let verdict = or_ailing(verdict, row.filter(|_| scene.claims.contains_key(&object)));
        let sources = match row.map(|row| &row.copies) {
            None => 0,
            Some(copies) if copies.all => found.map_or(0, |bridge| bridge.others().count()),
            Some(copies) => copies.sources.union(&copies.destinations).count(),
        };
        MirrorState {
            name: name.to_owned(),
            policy: policy.map(ToOwned::to_owned),
            sources: number(sources),
            conditions: vec![verdict.ready(scene)],
        }
    };
    names.into_iter().map(mirror).collect()
}
