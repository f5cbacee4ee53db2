//! The search for a place in one policy's pool, and what follows when places are had: cordon, evictions. A policy whose place
//! others have holds up those that come after it in the order, and none before it.

use std::collections::BTreeSet;

use kube::api::DynamicObject;
use kube::runtime::watcher::Event;
use serde_json::Value as Json;
use tokio::time::Instant;

use super::PodName;
use super::calls::{Held, POOL_LABEL, is_listed};
use super::error::TurnError;
use super::evict::{Evictions, Next, Pace};
use super::node::NodeView;
use super::pool::{Choice, Pool, lease_name, mark};
use super::serving::{Basis, Due, Place, Serving};
use super::streams;
use crate::daemon::cluster::pace::lot_of;

/// Pools with more places are listed from time to time in place of being followed: every renewal in them would be told to
/// every node that waits.
const FOLLOWED: u32 = 16;

/// The policy whose place is sought.
pub(super) struct Seeking {
    policy: String,
    pool: Pool,
    synced: bool,
    /// Others have all places.
    full: bool,
    /// When a place that is free may be tried: not all that wait try at once.
    try_at: Option<Instant>,
    /// When a pool that is not followed is listed again.
    list_at: Option<Instant>,
    /// When Leases that no list shows are read again.
    look_at: Option<Instant>,
}

impl Seeking {
    /// Takes in what was heard of a Lease.
    pub(super) fn take(&mut self, event: Event<DynamicObject>, now: Instant) {
        match event {
            Event::Init => self.pool.begin(),
            Event::Apply(lease) | Event::InitApply(lease) => self.pool.see(&lease, now),
            Event::Delete(lease) => self.pool.forget(&lease),
            Event::InitDone => {
                self.pool.complete();
                self.synced = true;
            }
        }
    }
}

/// What a step came to: the grant's basis, or what is waited for.
pub(super) type Answer = Result<Basis, String>;

/// What to do about a place; owned, so that it can be done.
enum Act {
    Take(u32, Option<super::pool::Seen>),
    Wait(Option<Instant>),
}

impl Serving<'_> {
    /// A turn by our own means: places, cordon, evictions.
    pub(super) async fn own_turn(&mut self, view: NodeView, due: &mut Due) -> Result<Answer, TurnError> {
        if let Some(patch) = view.unask() {
            let node = self.calls.patch_node(&patch).await?;
            self.see_node(NodeView::read(&node));
            due.at(Instant::now());
            return Ok(Err("the request to the drainer is being taken back".to_owned()));
        }
        let missing = self.all_places(due).await?.err();
        let placed = self.placed();
        let cordon = !self.wanted.cordon.is_disjoint(&placed);
        // A cordon ends with the place that it was for, also while other places are waited for. What a crash has left may be for
        // a place that is still ours to be found.
        if !cordon && (self.is_full() || !view.is_cordoned_for(&self.wanted.cordon)) {
            self.patch_cordon(view.uncordon(), cordon).await?;
        }
        // A place that may be had in a moment is waited for: one disruption is better than two.
        let waits = placed.is_empty() || !(self.is_granted() || self.is_full());
        self.missing = match missing {
            Some(why) if waits => return Ok(Err(why)),
            missing => missing,
        };
        let basis = if self.wanted.policies.is_empty() {
            self.confirm(due).await?;
            Basis::Node
        } else {
            Basis::Places
        };
        if cordon {
            let patch = view.cordon(placed.intersection(&self.wanted.cordon));
            self.patch_cordon(patch, cordon).await?;
        }
        self.evict(due).await;
        Ok(Ok(basis))
    }

    async fn patch_cordon(&mut self, patch: Option<Json>, cordon: bool) -> Result<(), TurnError> {
        if let Some(patch) = patch {
            let node = self.calls.patch_node(&patch).await?;
            self.see_node(NodeView::read(&node));
            tracing::info!(node = self.calls.node, cordon, "the node's cordon has changed");
        }
        Ok(())
    }

    /// Gets a place of every policy, one after another in the order of their names: no two nodes wait for one another.
    async fn all_places(&mut self, due: &mut Due) -> Result<Result<(), String>, TurnError> {
        loop {
            let missing = self.wanted.policies.iter().find(|(policy, _)| !self.places.contains_key(*policy));
            let Some((policy, places)) = missing.map(|(policy, max)| (policy.clone(), max.nodes())) else {
                break;
            };
            match self.seek(&policy, places, due).await? {
                Ok(held) => {
                    tracing::info!(policy, slot = held.slot, "this node has a place");
                    let next = held.confirmed + self.settings.renew;
                    due.at(next);
                    self.places.insert(policy, Place { held, next, lapsing: false });
                }
                Err(why) => {
                    for (_, place) in self.places.range_mut(policy..) {
                        place.lapsing = true;
                        due.at(place.held.confirmed + self.settings.lease);
                    }
                    return Ok(Err(why));
                }
            }
        }
        self.stop_seeking();
        let now = Instant::now();
        for place in self.places.values_mut().filter(|place| place.lapsing) {
            // What kept it back is there now; a renewal tells whether it is still ours.
            place.lapsing = false;
            place.next = now;
            due.at(now);
        }
        Ok(Ok(()))
    }

    /// Whether others have all places of the policy whose place is sought.
    fn is_full(&self) -> bool {
        self.seeking.as_ref().is_some_and(|seeking| seeking.full)
    }

    pub(super) fn stop_seeking(&mut self) {
        self.seeking = None;
        self.streams.leases = None;
    }

    /// Looks for a place in one pool. What is waited for, if there is none.
    async fn seek(
        &mut self,
        policy: &str,
        places: u32,
        due: &mut Due,
    ) -> Result<Result<Held, String>, TurnError> {
        let now = Instant::now();
        if self.seeking.as_ref().is_none_or(|seeking| seeking.policy != policy) {
            let pool = Pool::new(policy, self.settings.lease);
            let policy = policy.to_owned();
            self.seeking = Some(Seeking {
                policy,
                pool,
                synced: false,
                full: false,
                try_at: None,
                list_at: Some(now),
                look_at: None,
            });
            self.streams.leases = None;
        }
        let Some(seeking) = &mut self.seeking else { return Ok(Err(String::new())) };
        if self.streams.leases.is_none() {
            match seeking.list_at {
                Some(at) if at > now => due.at(at),
                Some(_) | None => {
                    seeking.synced = false;
                    self.streams.leases = Some(streams::leases(self.calls, policy));
                }
            }
        }
        if !seeking.synced {
            return Ok(Err(format!("the places of policy {policy} are being read")));
        }
        self.look_at_strangers(policy, due).await?;
        self.tidy_pool(policy, places).await?;
        let Some(seeking) = &mut self.seeking else { return Ok(Err(String::new())) };
        let choice = seeking.pool.choose(&self.calls.node, places, now);
        seeking.full = matches!(choice, Choice::Wait(_));
        let act = match choice {
            Choice::Again(slot, seen) => {
                seeking.try_at = Some(now);
                Act::Take(slot, Some(seen.clone()))
            }
            Choice::Free(slot) => Act::Take(slot, None),
            Choice::Expired(slot, seen) => Act::Take(slot, Some(seen.clone())),
            Choice::Wait(until) => Act::Wait(until),
        };
        match act {
            Act::Take(slot, seen) => {
                let spread = self.settings.spread;
                let at = *seeking.try_at.get_or_insert_with(|| now + lot_of(spread));
                if at > now {
                    due.at(at);
                    return Ok(Err(format!(
                        "a place of policy {policy} is free; other nodes may want it too"
                    )));
                }
                seeking.try_at = None;
                let held = match &seen {
                    None => self.calls.create(policy, slot).await,
                    Some(seen) => self.calls.take(policy, slot, seen).await,
                };
                let made = seen.is_none();
                if made && held.as_ref().is_err_and(|error| error.code() == Some(409)) {
                    return self.taken_unseen(policy, slot, due).await.map(Err);
                }
                if held.is_err() {
                    // It is not as we have seen it, or it is not known what it is: look again, from the beginning.
                    self.stop_seeking();
                }
                held.map(Ok)
            }
            Act::Wait(until) => {
                seeking.try_at = None;
                if let Some(until) = until {
                    due.at(until);
                }
                let holders = seeking.pool.holders(now).join(", ");
                self.list_instead(places, due);
                Ok(Err(format!("all {places} places of policy {policy} are taken, by {holders}")))
            }
        }
    }

    /// A pool with many places is no longer followed once it was seen; it is listed again later.
    fn list_instead(&mut self, places: u32, due: &mut Due) {
        let Some(seeking) = self.seeking.as_mut().filter(|_| places > FOLLOWED) else { return };
        if self.streams.leases.take().is_some() {
            let factor = places.div_ceil(FOLLOWED).min(10);
            let pause = self.settings.list.saturating_mul(factor);
            let at = Instant::now() + pause + lot_of(pause);
            seeking.list_at = Some(at);
            due.at(at);
        }
    }

    /// There is a Lease in a slot that seemed free: one that the watch will show, or one without our labels. Either way it
    /// is a place that somebody has.
    async fn taken_unseen(&mut self, policy: &str, slot: u32, due: &mut Due) -> Result<String, TurnError> {
        let now = Instant::now();
        let found = self.calls.read_lease(policy, slot).await?;
        let stranger = found.filter(|lease| !is_listed(lease, policy));
        let (Some(lease), Some(seeking)) = (stranger, &mut self.seeking) else {
            // It is gone again, or a new list shows it.
            self.stop_seeking();
            due.at(now);
            return Ok(format!("the places of policy {policy} are being read"));
        };
        let (name, label, mark) = (lease_name(policy, slot), POOL_LABEL, mark(policy));
        tracing::warn!(policy, lease = name, "a Lease without the label {label}={mark} takes a place");
        seeking.pool.stranger(slot, Some(&lease), now);
        seeking.look_at = Some(now + self.settings.list);
        // The other slots may be free.
        due.at(now);
        Ok(format!("place {slot} of policy {policy} is taken; the others are looked at"))
    }

    /// Reads Leases that no list shows again, when it is time.
    async fn look_at_strangers(&mut self, policy: &str, due: &mut Due) -> Result<(), TurnError> {
        let now = Instant::now();
        let Some(seeking) = &mut self.seeking else { return Ok(()) };
        let strangers = seeking.pool.strangers();
        if strangers.is_empty() {
            return Ok(());
        }
        if let Some(at) = seeking.look_at.filter(|at| *at > now) {
            due.at(at);
            return Ok(());
        }
        let next = now + self.settings.list;
        seeking.look_at = Some(next);
        due.at(next);
        for slot in strangers {
            let found = self.calls.read_lease(policy, slot).await?;
            if let Some(seeking) = &mut self.seeking {
                seeking.pool.stranger(slot, found.as_ref(), Instant::now());
            }
        }
        Ok(())
    }

    /// Removes what crashed holders have left in places that there are no more.
    async fn tidy_pool(&mut self, policy: &str, places: u32) -> Result<(), TurnError> {
        let Some(seeking) = &self.seeking else { return Ok(()) };
        let left =
            seeking.pool.leftovers(places, Instant::now()).find(|(_, seen)| seen.holder != self.calls.node);
        match left.map(|(slot, seen)| (slot, seen.clone())) {
            Some((slot, seen)) => {
                self.calls.delete(&lease_name(policy, slot), &seen.uid, &seen.version).await
            }
            None => Ok(()),
        }
    }

    /// The pods of the policies whose places are there.
    pub(super) fn evictees(&self) -> BTreeSet<PodName> {
        let placed = self.placed();
        let pods = self.wanted.evict.iter().filter(|(policy, _)| placed.contains(*policy));
        pods.flat_map(|(_, pods)| pods).cloned().collect()
    }

    /// Evicts one pod that is due, if any.
    async fn evict(&mut self, due: &mut Due) {
        let wanted = self.evictees();
        if wanted.is_empty() {
            self.evictions = None;
            self.streams.pods = None;
            return;
        }
        let settings = self.settings;
        let pace = Pace { least: settings.evict, most: settings.evict_most, again: settings.again };
        let evictions = self.evictions.get_or_insert_with(|| Evictions::new(pace));
        if self.streams.pods.is_none() {
            self.streams.pods = Some(streams::pods(self.calls));
        }
        match evictions.next(&wanted, Instant::now()) {
            Next::Evict(pod, uid) => {
                let outcome = self.calls.evict(&pod, &uid).await;
                match &outcome {
                    Ok(()) => tracing::info!(%pod, "a pod is being evicted"),
                    Err(error) => tracing::debug!(%pod, error = %error.words(), "an eviction was refused"),
                }
                evictions.note(&pod, &uid, &outcome, Instant::now(), lot_of);
                // There may be more of them; renewals come first.
                due.at(Instant::now());
            }
            Next::Wait(Some(at)) => due.at(at),
            Next::Wait(None) => {}
        }
    }
}
