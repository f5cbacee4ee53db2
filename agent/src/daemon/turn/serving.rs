//! One request, from the moment it is made until it is over. [`Serving::advance`] looks at everything that is known and does
//! what is due; it is called again whenever something has been heard or the time has come that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::runtime::watcher::Event;
use portwright_core::drive::chain;
use portwright_host::deadline::Deadline;
use tokio::time::Instant;

use super::calls::{Calls, Held, Renewal};
use super::error::TurnError;
use super::evict::Evictions;
use super::node::NodeView;
use super::seeking::Seeking;
use super::streams::{self, Heard, News, Streams};
use super::{Request, Settings, Turn};
use crate::daemon::cluster::pace::lot_of;

/// A place that we have.
pub(super) struct Place {
    pub(super) held: Held,
    /// When it is to be renewed.
    pub(super) next: Instant,
    /// It is not renewed and is given back when it has expired: a place that comes earlier in the order is sought, and
    /// others may hold that one while they wait for this.
    pub(super) lapsing: bool,
}

/// The earliest of the times at which something is due.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Due(Option<Instant>);

impl Due {
    pub(super) fn at(&mut self, time: Instant) {
        self.0 = Some(self.0.map_or(time, |old| old.min(time)));
    }
}

/// What is known about the own Node.
pub(super) enum Known {
    Unread,
    Missing,
    Is(NodeView),
}

/// What a grant rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Basis {
    /// Leases, one for each policy.
    Places,
    /// What stands on the Node: a drainer's grant, or nothing that forbids what needs no place.
    Node,
}

/// A request that is being served.
pub(super) struct Serving<'a> {
    pub(super) calls: &'a mut Calls,
    pub(super) settings: &'a Settings,
    pub(super) wanted: Request,
    pub(super) streams: Streams,
    pub(super) node: Known,
    /// Whether the list that has begun has brought it.
    node_listed: bool,
    pub(super) places: BTreeMap<String, Place>,
    pub(super) seeking: Option<Seeking>,
    pub(super) evictions: Option<Evictions>,
    /// When the Node was read last, for a grant that rests on it.
    pub(super) confirmed: Option<Instant>,
    /// What the grant rests on, if there is one.
    granted: Option<Basis>,
    /// The policies that it is for.
    granted_for: BTreeSet<String>,
    /// What the other policies wait for.
    pub(super) missing: Option<String>,
    /// The end of the grant as it was told last, and what it was made from: the same end is told as the same.
    told: Option<(Instant, Deadline)>,
    /// What has gone wrong last, and when it is tried again.
    trouble: Option<String>,
    retry: Option<(Instant, Duration)>,
}

impl<'a> Serving<'a> {
    pub(super) fn new(calls: &'a mut Calls, settings: &'a Settings, wanted: Request) -> Serving<'a> {
        let streams = Streams { node: Some(streams::node(calls)), ..Streams::default() };
        Serving {
            calls,
            settings,
            wanted,
            streams,
            node: Known::Unread,
            node_listed: false,
            places: BTreeMap::new(),
            seeking: None,
            evictions: None,
            confirmed: None,
            granted: None,
            granted_for: BTreeSet::new(),
            missing: None,
            told: None,
            trouble: None,
            retry: None,
        }
    }

    /// Something else is wanted from now on.
    pub(super) fn want(&mut self, wanted: Request) {
        // What is not asked for any more is given back first of all.
        self.granted_for.retain(|policy| wanted.policies.contains_key(policy));
        self.wanted = wanted;
    }

    /// Waits for something to be heard.
    pub(super) async fn hear(&mut self) -> News {
        self.streams.next().await
    }

    /// Takes in what was heard.
    pub(super) fn take(&mut self, news: News) {
        let now = Instant::now();
        match news {
            News::Node(heard) => match self.event("Node", heard) {
                Some(Event::Init) => self.node_listed = false,
                Some(Event::Apply(node) | Event::InitApply(node)) => self.see_node(NodeView::read(&node)),
                Some(Event::InitDone) if self.node_listed => {}
                Some(Event::InitDone | Event::Delete(_)) => self.node = Known::Missing,
                None => {}
            },
            News::Lease(heard) => {
                let event = self.event("Leases", heard);
                if let (Some(seeking), Some(event)) = (&mut self.seeking, event) {
                    seeking.take(event, now);
                }
            }
            News::Pod(heard) => {
                let event = self.event("Pods", heard);
                let Some(evictions) = &mut self.evictions else { return };
                match event {
                    Some(Event::Init) => evictions.begin(),
                    Some(Event::Apply(pod) | Event::InitApply(pod)) => evictions.see(&pod),
                    Some(Event::Delete(pod)) => evictions.forget(&pod),
                    Some(Event::InitDone) => evictions.complete(),
                    None => {}
                }
            }
        }
    }

    fn event<K>(&mut self, what: &str, heard: Heard<K>) -> Option<Event<K>> {
        match heard {
            Ok(event) => {
                // Whatever else goes wrong is said again when it is tried again.
                self.trouble = None;
                Some(event)
            }
            Err(error) => {
                self.trouble = Some(format!("cannot follow {what}: {}", chain(&error)));
                None
            }
        }
    }

    pub(super) fn see_node(&mut self, view: NodeView) {
        self.node_listed = true;
        self.calls.node_uid = (!view.uid.is_empty()).then(|| view.uid.clone());
        self.node = Known::Is(view);
    }

    /// Does what is due. The answer for the loop, and when to come again at the latest.
    pub(super) async fn advance(&mut self) -> (Turn, Option<Instant>) {
        let mut due = Due::default();
        self.keep(&mut due).await;
        let turn = match self.retry.filter(|(at, _)| *at > Instant::now()) {
            Some((at, _)) => {
                due.at(at);
                self.standing(&mut due)
            }
            None => match self.proceed(&mut due).await {
                Ok(turn) => {
                    self.retry = None;
                    turn
                }
                Err(error) => {
                    self.fail(&error, &mut due);
                    self.standing(&mut due)
                }
            },
        };
        (turn, due.0)
    }

    /// Notes a failure: everything but renewals rests for a while.
    fn fail(&mut self, error: &TurnError, due: &mut Due) {
        let pause = self.retry.map_or(self.settings.retry, |(_, pause)| pause.saturating_mul(2));
        let pause = pause.min(self.settings.renew);
        let at = Instant::now() + pause + lot_of(pause);
        self.retry = Some((at, pause));
        due.at(at);
        // Somebody else was faster; the next event shows what is there now.
        if error.code() != Some(409) {
            tracing::debug!(error = %error.words(), "a request for the turn has failed");
            self.trouble = Some(error.words());
        }
    }

    /// Renews the places that are due, gives back those that nobody asks for any more.
    async fn keep(&mut self, due: &mut Due) {
        let unasked: Vec<String> = self
            .places
            .keys()
            .filter(|policy| !self.wanted.policies.contains_key(*policy))
            .cloned()
            .collect();
        for policy in unasked {
            self.give_back(&policy).await;
        }
        let policies: Vec<String> = self.places.keys().cloned().collect();
        for policy in policies {
            let Some(place) = self.places.get(&policy) else { continue };
            let now = Instant::now();
            if place.lapsing {
                let end = place.held.confirmed + self.settings.lease;
                if end <= now {
                    self.give_back(&policy).await;
                } else {
                    due.at(end);
                }
                continue;
            }
            if place.next <= now {
                self.renew(&policy).await;
            }
            if let Some(place) = self.places.get(&policy) {
                due.at(place.next);
            }
        }
    }

    async fn renew(&mut self, policy: &str) {
        let Some(place) = self.places.get_mut(policy) else { return };
        let answer = self.calls.renew(policy, &place.held).await;
        match answer {
            Ok(Renewal::Confirmed(held)) => {
                place.next = held.confirmed + self.settings.renew;
                place.held = held;
                self.trouble = None;
            }
            Ok(Renewal::Lost) => {
                tracing::warn!(policy, slot = place.held.slot, "the place was taken away");
                self.places.remove(policy);
            }
            Err(error) => {
                // A place that has expired may be somebody else's: haste saves nothing any more.
                let expired = place.held.confirmed + self.settings.lease <= Instant::now();
                let pause = if expired { self.settings.renew } else { self.settings.retry };
                place.next = Instant::now() + pause + lot_of(pause);
                tracing::debug!(error = %error.words(), "a renewal has failed");
                self.trouble = Some(error.words());
            }
        }
    }

    /// Gives a place back. If that fails, it expires, and what is left is removed at the end of the turn.
    pub(super) async fn give_back(&mut self, policy: &str) {
        let Some(place) = self.places.remove(policy) else { return };
        if let Err(error) = self.calls.release(policy, &place.held).await {
            tracing::debug!(error = %error.words(), "a place could not be given back");
        }
    }

    /// Goes on, from what is known.
    async fn proceed(&mut self, due: &mut Due) -> Result<Turn, TurnError> {
        let view = match &self.node {
            Known::Unread => return Ok(self.wait("the API server has not told about this node yet")),
            Known::Missing => {
                self.granted = None;
                return Ok(self.wait(&format!("there is no Node {} in the cluster", self.calls.node)));
            }
            Known::Is(view) => view.clone(),
        };
        // A drainer that is named in the middle of a turn is asked from the next one on.
        let underway = self.until(Basis::Places).is_some() && self.granted == Some(Basis::Places);
        let answer = match &view.drainer {
            Some(drainer) if !underway => self.drained_by(drainer, &view, due).await?,
            Some(_) | None => self.own_turn(view, due).await?,
        };
        Ok(match answer {
            Ok(basis) => {
                self.granted = Some(basis);
                self.granted_for = match basis {
                    Basis::Places => self.placed(),
                    Basis::Node => self.wanted.policies.keys().cloned().collect(),
                };
                self.trouble = None;
                self.standing(due)
            }
            Err(why) => {
                self.granted = None;
                self.wait(&why)
            }
        })
    }

    /// What can be said without asking anybody: what is still confirmed stays granted.
    fn standing(&mut self, due: &mut Due) -> Turn {
        let Some(until) = self.granted.and_then(|basis| self.until(basis)) else {
            self.granted = None;
            let why = "the API server has not confirmed in time that this node may go on".to_owned();
            return Turn::Waiting { why: self.trouble.clone().unwrap_or(why) };
        };
        due.at(until);
        let evicting = self.evictions.as_ref().and_then(|evictions| evictions.text(&self.evictees()));
        let (_, end) = self
            .told
            .filter(|(told, _)| *told == until)
            .unwrap_or_else(|| (until, Deadline::after(until.saturating_duration_since(Instant::now()))));
        self.told = Some((until, end));
        let (policies, missing) = (self.granted_for.clone(), self.missing.clone());
        Turn::Granted { until: end, policies, missing, evicting }
    }

    /// The policies whose places are there.
    pub(super) fn placed(&self) -> BTreeSet<String> {
        let wanted = |policy: &String| self.wanted.policies.contains_key(policy);
        let placed = self.places.iter().filter(|(policy, place)| wanted(policy) && !place.lapsing);
        placed.map(|(policy, _)| policy.clone()).collect()
    }

    /// Whether there is a grant.
    pub(super) fn is_granted(&self) -> bool {
        self.granted.is_some()
    }

    fn wait(&self, why: &str) -> Turn {
        let trouble = self.trouble.as_ref().map(|trouble| format!(" ({trouble})"));
        Turn::Waiting { why: format!("{why}{}", trouble.unwrap_or_default()) }
    }

    /// Until when what a grant would rest on is confirmed; none if it is not.
    pub(super) fn until(&self, basis: Basis) -> Option<Instant> {
        let place = |policy| self.places.get(policy).filter(|place: &&Place| !place.lapsing);
        let confirmed = match basis {
            Basis::Places => {
                let places = self.granted_for.iter().map(|policy| Some(place(policy)?.held.confirmed));
                places.collect::<Option<Vec<Instant>>>()?.into_iter().min()?
            }
            Basis::Node => self.confirmed?,
        };
        let until = confirmed + self.settings.fence;
        (until > Instant::now()).then_some(until)
    }
}
