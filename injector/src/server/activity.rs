//! What each connection is doing, and which one makes room when there are too many.

use std::collections::BTreeMap;
use std::net::IpAddr;
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
    peer: IpAddr,
    /// Ends the connection.
    pub ended: CancellationToken,
}

impl Activity {
    fn new(origin: Instant, peer: IpAddr) -> Self {
        let activity = Self {
            phase: AtomicU8::new(0),
            since: AtomicU64::new(0),
            origin,
            served: AtomicBool::new(false),
            peer,
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

    /// A place for a new connection. If all are taken, one that keeps us waiting loses its own: of those that have not
    /// finished the handshake, else of the idle ones, else of slow heads and bodies, the oldest of the address that has
    /// most of them. `None` if all are at work. The second value is what the evicted one was waiting for.
    pub fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<(Place, Option<Phase>)> {
        let mut guard = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, open) = &mut *guard;
        let mut evicted = None;
        if open.len() >= self.most {
            let activity = open.remove(&victim(open)?)?;
            activity.ended.cancel();
            evicted = Some(activity.phase());
        }
        *next += 1;
        let activity = Arc::new(Activity::new(self.origin, peer));
        open.insert(*next, Arc::clone(&activity));
        Some((Place { activity, number: *next, connections: Arc::clone(self) }, evicted))
    }
}

/// Whoever loses its place. Phases change while this looks, so each is read once.
fn victim(open: &BTreeMap<u64, Arc<Activity>>) -> Option<u64> {
    let phases: Vec<(u64, Phase, &Activity)> =
        open.iter().map(|(number, activity)| (*number, activity.phase(), activity.as_ref())).collect();
    let phase = phases.iter().map(|(_, phase, _)| *phase).filter(|phase| *phase != Phase::Busy).min()?;
    let waiting = || phases.iter().filter(|(_, other, _)| *other == phase);
    let mut crowd: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for (_, _, activity) in waiting() {
        *crowd.entry(activity.peer).or_default() += 1;
    }
    let (most, _) = crowd.into_iter().max_by_key(|(_, count)| *count)?;
    let oldest = waiting().filter(|(_, _, activity)| activity.peer == most);
    oldest.min_by_key(|(_, _, activity)| activity.since()).map(|(number, _, _)| *number)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::{Connections, Phase};

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    #[tokio::test]
    async fn who_waits_longest_in_the_least_useful_phase_makes_room() {
        let connections = Connections::new(3);
        let (busy, _) = connections.enter(HERE).unwrap();
        busy.activity.enter(Phase::Busy);
        let (idle, _) = connections.enter(HERE).unwrap();
        idle.activity.enter(Phase::Idle);
        let (shaking, _) = connections.enter(HERE).unwrap();
        let (fourth, evicted) = connections.enter(HERE).unwrap();
        assert_eq!(evicted, Some(Phase::Handshake));
        assert!(shaking.activity.ended.is_cancelled());
        fourth.activity.enter(Phase::Busy);
        let (fifth, evicted) = connections.enter(HERE).unwrap();
        assert_eq!(evicted, Some(Phase::Idle));
        fifth.activity.enter(Phase::Busy);
        assert!(connections.enter(HERE).is_none(), "nobody who is served is thrown out");
        drop(busy);
        assert!(connections.enter(HERE).is_some());
        assert_eq!(connections.count(), 2, "places are given back");
    }

    #[tokio::test]
    async fn an_address_that_crowds_others_out_loses_its_own() {
        let connections = Connections::new(3);
        let (quiet, _) = connections.enter(HERE).unwrap();
        let crowd = [connections.enter(THERE).unwrap().0, connections.enter(THERE).unwrap().0];
        let _more = connections.enter(THERE).unwrap();
        assert!(!quiet.activity.ended.is_cancelled(), "although it is the oldest");
        assert!(crowd[0].activity.ended.is_cancelled());
    }
}
