//! A pool of places: one Lease per place, and which of them this node may have. No clock is read and nothing is asked here.
//!
//! The places of a policy are the Leases `portwright-<policy>-<slot>`, slots counted from 0 to the policy's
//! `maxUnavailable`. A Lease that exists is a place that somebody has; giving it back deletes it. Whether a holder is still
//! there is judged as Kubernetes' own leader election does: a Lease that has not changed for its duration by the observer's
//! own monotonic clock has expired. The times that stand in a Lease are for people; nothing compares them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::api::DynamicObject;
use serde_json::Value as Json;
use tokio::time::Instant;

/// Longest name of an object (RFC 1123 subdomain).
const LONGEST_NAME: usize = 253;

/// Room for `-` and the digits of a slot.
const SLOT_ROOM: usize = 11;

/// A number for a text that is the same in every agent of every version (FNV-1a, 64 bits): node and policy names are longer
/// than label values may be.
pub(super) fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The same as a label's value.
pub(super) fn mark(text: &str) -> String {
    format!("{:016x}", fingerprint(text))
}

/// What the names of a policy's Leases begin with. A policy name that leaves no room for the slot is shortened, with its
/// fingerprint in place of the rest.
pub(super) fn prefix(policy: &str) -> String {
    let whole = format!("portwright-{policy}-");
    if whole.len().saturating_add(SLOT_ROOM) <= LONGEST_NAME {
        return whole;
    }
    let kept: String = policy.chars().take(200).collect();
    format!("portwright-{}-{}-", kept.trim_end_matches(['-', '.']), mark(policy))
}

/// The Lease of a slot.
pub fn lease_name(policy: &str, slot: u32) -> String {
    format!("{}{slot}", prefix(policy))
}

/// A Lease as it was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// `metadata.uid`.
    pub(super) uid: String,
    /// `metadata.resourceVersion`.
    pub(super) version: String,
    /// `spec.holderIdentity`; empty if nobody has it.
    pub(super) holder: String,
    /// `spec.leaseDurationSeconds`.
    pub(super) duration: Duration,
    /// `spec.leaseTransitions`.
    pub(super) transitions: i64,
    /// Since when this very version has been seen.
    pub(super) since: Instant,
}

impl Seen {
    /// Reads a Lease that was received at `now`.
    pub(super) fn read(lease: &DynamicObject, now: Instant) -> Seen {
        let number = |path: &str| lease.data.pointer(path).and_then(Json::as_i64).unwrap_or_default();
        let holder = lease.data.pointer("/spec/holderIdentity").and_then(Json::as_str);
        Seen {
            uid: lease.metadata.uid.clone().unwrap_or_default(),
            version: lease.metadata.resource_version.clone().unwrap_or_default(),
            holder: holder.unwrap_or_default().to_owned(),
            duration: Duration::from_secs(
                number("/spec/leaseDurationSeconds").try_into().unwrap_or_default(),
            ),
            transitions: number("/spec/leaseTransitions"),
            since: now,
        }
    }
}

/// The Leases of one policy.
#[derive(Debug)]
pub(super) struct Pool {
    prefix: String,
    /// A Lease that says less of itself lasts this long.
    duration: Duration,
    leases: BTreeMap<u32, Seen>,
    /// What a list has brought so far; it takes the place of `leases` when it is complete.
    coming: Option<BTreeMap<u32, Seen>>,
    /// Slots whose Lease somebody made without our labels: no list of ours shows it.
    strangers: BTreeSet<u32>,
}

/// What to do for a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice<'a> {
    /// This node has a Lease, from before: take it up again.
    Again(u32, &'a Seen),
    /// Nobody has this one: create it.
    Free(u32),
    /// Its holder has not renewed it: take it over.
    Expired(u32, &'a Seen),
    /// Others have all places, the next of which may expire at the given time.
    Wait(Option<Instant>),
}

impl Pool {
    /// An unknown pool.
    pub(super) fn new(policy: &str, duration: Duration) -> Pool {
        Pool {
            prefix: prefix(policy),
            duration,
            leases: BTreeMap::new(),
            coming: None,
            strangers: BTreeSet::new(),
        }
    }

    /// A list begins.
    pub(super) fn begin(&mut self) {
        self.coming = Some(BTreeMap::new());
    }

    /// A list is complete.
    pub(super) fn complete(&mut self) {
        if let Some(leases) = self.coming.take() {
            self.strangers.retain(|slot| !leases.contains_key(slot));
            let known = std::mem::replace(&mut self.leases, leases);
            self.leases.extend(known.into_iter().filter(|(slot, _)| self.strangers.contains(slot)));
        }
    }

    /// A slot's Lease without our labels was read, or it was found gone.
    pub(super) fn stranger(&mut self, slot: u32, lease: Option<&DynamicObject>, now: Instant) {
        let Some(lease) = lease else {
            if self.strangers.remove(&slot) {
                self.leases.remove(&slot);
            }
            return;
        };
        let mut seen = Seen::read(lease, now);
        if let Some(old) = self.leases.get(&slot).filter(|old| old.version == seen.version) {
            seen.since = old.since;
        }
        self.strangers.insert(slot);
        self.leases.insert(slot, seen);
    }

    /// Slots with a Lease that no list of ours shows.
    pub(super) fn strangers(&self) -> Vec<u32> {
        self.strangers.iter().copied().collect()
    }

    /// A Lease was seen, in a list or by itself.
    pub(super) fn see(&mut self, lease: &DynamicObject, now: Instant) {
        let Some(slot) = self.slot(lease) else { return };
        let mut seen = Seen::read(lease, now);
        if let Some(old) = self.leases.get(&slot).filter(|old| old.version == seen.version) {
            seen.since = old.since;
        }
        self.coming.as_mut().unwrap_or(&mut self.leases).insert(slot, seen);
    }

    /// A Lease was deleted.
    pub(super) fn forget(&mut self, lease: &DynamicObject) {
        if let Some(slot) = self.slot(lease) {
            self.strangers.remove(&slot);
            self.leases.remove(&slot);
        }
    }

    fn slot(&self, lease: &DynamicObject) -> Option<u32> {
        lease.metadata.name.as_deref()?.strip_prefix(&self.prefix)?.parse().ok()
    }

    fn ends(&self, seen: &Seen) -> Instant {
        seen.since + seen.duration.max(self.duration)
    }

    fn is_held(&self, seen: &Seen, now: Instant) -> bool {
        !seen.holder.is_empty() && now < self.ends(seen)
    }

    /// What `node` can do for one of `places`, looking first at the place that its name leads to, so that nodes that begin
    /// at once do not all want the same one.
    pub(super) fn choose(&self, node: &str, places: u32, now: Instant) -> Choice<'_> {
        if let Some((slot, seen)) = self.leases.iter().find(|(_, seen)| seen.holder == node) {
            return Choice::Again(*slot, seen);
        }
        let open = self.open(places, now);
        let home = fingerprint(node).checked_rem(u64::from(open)).and_then(|home| u32::try_from(home).ok());
        let order = (home.unwrap_or_default()..open).chain(0..home.unwrap_or_default());
        for slot in order.take(self.leases.len().saturating_add(1)) {
            match self.leases.get(&slot) {
                None => return Choice::Free(slot),
                Some(seen) if !self.is_held(seen, now) => return Choice::Expired(slot, seen),
                Some(_) => {}
            }
        }
        let held = self.leases.values().filter(|seen| self.is_held(seen, now));
        Choice::Wait(held.map(|seen| self.ends(seen)).min())
    }

    /// How many slots, from 0, may be taken. All of them, unless `places` has shrunk while slots above it were held: their
    /// holders finish and count meanwhile, so that even nodes that choose at the same moment are never more than `places`.
    fn open(&self, places: u32, now: Instant) -> u32 {
        let held_from = |first: u32| {
            let above = self.leases.range(first..).filter(|(_, seen)| self.is_held(seen, now));
            u32::try_from(above.count()).unwrap_or(u32::MAX)
        };
        let mut open = places;
        while open > 0 && open.saturating_add(held_from(open)) > places {
            open = open.saturating_sub(1);
        }
        open
    }

    /// Leases beyond `places` whose holders are gone: nobody takes them over, so whoever waits removes them.
    pub(super) fn leftovers(&self, places: u32, now: Instant) -> impl Iterator<Item = (u32, &Seen)> {
        let beyond = self.leases.range(places..).map(|(slot, seen)| (*slot, seen));
        beyond.filter(move |(_, seen)| !self.is_held(seen, now))
    }

    /// Who has places.
    pub(super) fn holders(&self, now: Instant) -> Vec<&str> {
        let held = self.leases.values().filter(|seen| self.is_held(seen, now));
        let mut holders: Vec<&str> = held.map(|seen| seen.holder.as_str()).collect();
        holders.sort_unstable();
        holders
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
    use serde_json::json;
    use tokio::time::Instant;

    use super::{Choice, Pool, lease_name};

    const MINUTE: Duration = Duration::from_secs(60);

    fn lease(slot: u32, holder: &str, version: &str) -> DynamicObject {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("coordination.k8s.io", "v1", "Lease"));
        let mut lease = DynamicObject::new(&lease_name("p", slot), &kind);
        lease.metadata.resource_version = Some(version.to_owned());
        // A wall clock that is years off: it must not matter.
        lease.data = json!({"spec": {"holderIdentity": holder, "leaseDurationSeconds": 60, "renewTime": "1999-01-01T00:00:00.000000Z"}});
        lease
    }

    /// Which slot a node gets, if any.
    fn chosen(pool: &Pool, node: &str, places: u32, now: Instant) -> Option<u32> {
        match pool.choose(node, places, now) {
            Choice::Again(slot, _) | Choice::Free(slot) | Choice::Expired(slot, _) => Some(slot),
            Choice::Wait(_) => None,
        }
    }

    #[test]
    fn a_shrunken_pool_never_has_more_than_its_places() {
        // Held slots, places, how many nodes that choose at the same moment get a place.
        let cases: [(&[u32], u32, usize); 9] = [
            (&[], 2, 2),
            (&[0], 2, 1),
            (&[1], 2, 1),
            (&[0, 1], 2, 0),
            (&[3], 2, 1),
            (&[3, 4], 2, 0),
            (&[0, 3], 2, 0),
            (&[2, 4], 3, 1),
            (&[7, 8, 9], 2, 0),
        ];
        let now = Instant::now();
        for (held, places, free) in cases {
            let mut pool = Pool::new("p", MINUTE);
            for slot in held {
                pool.see(&lease(*slot, &format!("holder-{slot}"), "1"), now);
            }
            let mut taken: Vec<u32> =
                (0..50).filter_map(|node| chosen(&pool, &format!("n{node}"), places, now)).collect();
            taken.sort_unstable();
            taken.dedup();
            assert_eq!(taken.len(), free, "{held:?} held of {places}: {taken:?}");
            assert!(held.len() >= places as usize || taken.len() + held.len() <= places as usize);
        }
    }

    #[test]
    fn a_lease_expires_by_our_own_clock_and_only_when_unchanged() {
        let start = Instant::now();
        let mut pool = Pool::new("p", MINUTE);
        pool.see(&lease(0, "other", "1"), start);
        assert_eq!(chosen(&pool, "me", 1, start), None, "its wall clock says 1999");
        pool.see(&lease(0, "other", "2"), start + MINUTE / 2);
        assert_eq!(pool.choose("me", 1, start + MINUTE), Choice::Wait(Some(start + MINUTE * 3 / 2)));
        // Seen again unchanged, by a new list: the time goes on.
        pool.begin();
        pool.see(&lease(0, "other", "2"), start + MINUTE);
        pool.complete();
        assert_eq!(chosen(&pool, "me", 1, start + MINUTE * 3 / 2 - Duration::from_millis(1)), None);
        assert!(matches!(pool.choose("me", 1, start + MINUTE * 3 / 2), Choice::Expired(0, _)));
        assert!(pool.holders(start + MINUTE * 3 / 2).is_empty());
    }

    #[test]
    fn our_own_lease_is_taken_up_again_wherever_it_is() {
        let now = Instant::now();
        let mut pool = Pool::new("p", MINUTE);
        pool.see(&lease(4, "me", "1"), now);
        pool.see(&lease(5, "gone", "1"), now);
        assert!(matches!(pool.choose("me", 1, now), Choice::Again(4, _)));
        let later = now + MINUTE * 2;
        let left: Vec<u32> = pool.leftovers(1, later).map(|(slot, _)| slot).collect();
        assert_eq!(left, [4, 5]);
        pool.forget(&lease(4, "me", "1"));
        assert_eq!(chosen(&pool, "me", 1, later), Some(0));
    }

    #[test]
    fn a_list_that_breaks_off_changes_nothing() {
        let now = Instant::now();
        let mut pool = Pool::new("p", MINUTE);
        pool.see(&lease(0, "other", "1"), now);
        pool.begin();
        assert_eq!(chosen(&pool, "me", 1, now), None);
        pool.begin();
        pool.complete();
        assert_eq!(chosen(&pool, "me", 1, now), Some(0), "the complete list was empty");
    }

    #[test]
    fn a_lease_that_no_list_shows_is_a_place_that_somebody_has() {
        let start = Instant::now();
        let mut pool = Pool::new("p", MINUTE);
        pool.stranger(0, Some(&lease(0, "other", "1")), start);
        assert_eq!(chosen(&pool, "me", 1, start), None);
        pool.begin();
        pool.complete();
        assert_eq!(chosen(&pool, "me", 1, start), None, "a list without it says nothing");
        pool.stranger(0, Some(&lease(0, "other", "1")), start + MINUTE / 2);
        assert!(matches!(pool.choose("me", 1, start + MINUTE), Choice::Expired(0, _)), "it is not renewed");
        pool.stranger(0, None, start + MINUTE);
        assert_eq!(chosen(&pool, "me", 1, start + MINUTE), Some(0));
        assert!(pool.strangers().is_empty());
    }

    #[test]
    fn names_are_valid_however_long_a_policy_is_called() {
        let long = "a".repeat(253);
        let other = format!("{}b", "a".repeat(252));
        for policy in ["workers", "a.b-1", &long, &other] {
            let name = lease_name(policy, u32::MAX);
            assert!(name.len() <= 253, "{name}");
            assert!(name.starts_with("portwright-a") || policy == "workers");
        }
        assert_ne!(lease_name(&long, 0), lease_name(&other, 0));
        assert_eq!(lease_name("workers", 3), "portwright-workers-3");
        // The last dash parts the slot from the policy: a policy called `a-1` has other Leases than `a`.
        let mut pool = Pool::new("a", MINUTE);
        let mut foreign = lease(0, "other", "1");
        foreign.metadata.name = Some(lease_name("a-1", 0));
        pool.see(&foreign, Instant::now());
        assert!(pool.leases.is_empty());
    }
}
