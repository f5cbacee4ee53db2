//! What each connection is doing, and which one makes room when there are too many.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// What a connection is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The TLS handshake.
    Handshake,
    /// The first byte of a request.
    Idle,
    /// The rest of a request's head.
    Head,
    /// The rest of a request's body.
    Body,
    /// Us.
    Busy,
}

impl Phase {
    fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Handshake,
            1 => Self::Idle,
            2 => Self::Head,
            3 => Self::Body,
            _ => Self::Busy,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Handshake => 0,
            Self::Idle => 1,
            Self::Head => 2,
            Self::Body => 3,
            Self::Busy => 4,
        }
    }
}

/// One connection's state, shared by its task, its requests and the registry.
#[derive(Debug)]
pub struct Activity {
    phase: AtomicU8,
    /// Milliseconds since `origin`.
    since: AtomicU64,
    origin: Instant,
    served: AtomicBool,
    /// Ends the connection.
    pub ended: CancellationToken,
}

impl Activity {
    fn new(origin: Instant) -> Self {
        let activity = Self {
            phase: AtomicU8::new(0),
            since: AtomicU64::new(0),
            origin,
            served: AtomicBool::new(false),
            ended: CancellationToken::new(),
        };
        activity.enter(Phase::Handshake);
        activity
    }

    /// Says what the connection waits for from now on.
    pub fn enter(&self, phase: Phase) {
        let passed = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since.store(passed, Ordering::Relaxed);
        if phase == Phase::Busy {
            self.served.store(true, Ordering::Relaxed);
        }
        self.phase.store(phase.number(), Ordering::Release);
    }

    /// What the connection waits for.
    pub fn phase(&self) -> Phase {
        Phase::from_number(self.phase.load(Ordering::Acquire))
    }

    /// Whether a request has ever come through here.
    pub fn has_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    /// Since when.
    pub fn since(&self) -> Instant {
        self.origin + Duration::from_millis(self.since.load(Ordering::Relaxed))
    }
}

/// All open connections.
#[derive(Debug)]
pub struct Connections {
    origin: Instant,
    most: usize,
    open: Mutex<(u64, BTreeMap<u64, Arc<Activity>>)>,
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    /// The connection's state.
    pub activity: Arc<Activity>,
    number: u64,
    connections: Arc<Connections>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&self.number);
    }
}

impl Connections {
    /// A registry for at most `most` connections.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { origin: Instant::now(), most, open: Mutex::default() })
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).1.len()
    }

    /// A place for a new connection. If all are taken, whoever has kept us waiting longest loses its own: first those
    /// that have not finished the handshake, then idle ones, then slow heads and bodies. `None` if all are at work.
    pub fn enter(self: &Arc<Self>) -> Option<(Place, Option<Phase>)> {
        let mut guard = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, open) = &mut *guard;
        let mut evicted = None;
        if open.len() >= self.most {
            let waiting = open.iter().filter(|(_, activity)| activity.phase() != Phase::Busy);
            let number = *waiting.min_by_key(|(_, activity)| (activity.phase(), activity.since()))?.0;
            if let Some(activity) = open.remove(&number) {
                activity.ended.cancel();
                evicted = Some(activity.phase());
            }
        }
        *next += 1;
        let activity = Arc::new(Activity::new(self.origin));
        open.insert(*next, Arc::clone(&activity));
        Some((Place { activity, number: *next, connections: Arc::clone(self) }, evicted))
    }
}

#[cfg(test)]
mod tests {
    use super::{Connections, Phase};

    #[tokio::test]
    async fn who_waits_longest_in_the_least_useful_phase_makes_room() {
        let connections = Connections::new(3);
        let (busy, _) = connections.enter().unwrap();
        busy.activity.enter(Phase::Busy);
        let (idle, _) = connections.enter().unwrap();
        idle.activity.enter(Phase::Idle);
        let (shaking, _) = connections.enter().unwrap();
        let (fourth, evicted) = connections.enter().unwrap();
        assert_eq!(evicted, Some(Phase::Handshake));
        assert!(shaking.activity.ended.is_cancelled());
        fourth.activity.enter(Phase::Busy);
        let (fifth, evicted) = connections.enter().unwrap();
        assert_eq!(evicted, Some(Phase::Idle));
        fifth.activity.enter(Phase::Busy);
        assert!(connections.enter().is_none(), "nobody who is served is thrown out");
        drop(busy);
        assert!(connections.enter().is_some());
        assert_eq!(connections.count(), 2, "places are given back");
    }
}
