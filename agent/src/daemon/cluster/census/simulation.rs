//! Five thousand agents, one policy, virtual time: how often they count, how often they get into each other's way, and
//! whether the last count is right.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use super::lot::{Lots, Seen};
use crate::daemon::cluster::contribution::Contribution;

const AGENTS: usize = 5000;
/// From the announcement to the list's moment, and to the result, in milliseconds.
const LIST: u64 = 300;
const RESULT: u64 = 2000;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The agent's NodeState says this from now on: ready or not.
    Changes(usize, bool),
    /// The agent sees this version of the policy.
    Sees(usize, u64),
    /// The agent looks at its lots.
    Wakes(usize),
    /// The list is taken.
    Lists(usize, u64),
    /// The result is written: ready nodes, and the version of the list.
    Writes(usize, u64, (u32, u64)),
}

struct World {
    now: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    order: u64,
    agents: Vec<Lots>,
    ready: Vec<Option<bool>>,
    states: u64,
    /// The policy's versions; the last one is the newest.
    policy: Vec<(Seen, Option<u32>)>,
    random: u64,
    /// When lists were taken, and when announcements were refused.
    lists: Vec<u64>,
    refused: Vec<u64>,
    /// So many of those who announce die before they write.
    crashes: u32,
}

fn random(state: &mut u64, limit: u64) -> u64 {
    // Knuth's MMIX generator; its upper bits are good enough.
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33).checked_rem(limit).unwrap_or_default()
}

impl World {
    fn new(nodes: Option<u32>, seed: u64) -> World {
        let seen = Seen { uid: "u".to_owned(), generation: 1, nodes, ..Seen::default() };
        let seen = match nodes {
            // Counted before, when nobody was ready.
            Some(_) => Seen { counted_generation: Some(1), counted: Some(0), ..seen },
            None => seen,
        };
        let mut world = World {
            now: 0,
            queue: BinaryHeap::new(),
            order: 0,
            agents: vec![Lots::default(); AGENTS],
            ready: vec![None; AGENTS],
            states: 0,
            policy: vec![(seen, None)],
            random: seed,
            lists: Vec::new(),
            refused: Vec::new(),
            crashes: 0,
        };
        world.broadcast();
        world
    }

    fn at(&mut self, after: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse((self.now + after, self.order, event)));
    }

    fn broadcast(&mut self) {
        let newest = u64::try_from(self.policy.len()).unwrap() - 1;
        for agent in 0..AGENTS {
            let latency = 50 + random(&mut self.random, 1000);
            self.at(latency, Event::Sees(agent, newest));
        }
    }

    fn change(&mut self, seen: Seen, ready: Option<u32>) {
        self.policy.push((seen, ready));
        self.broadcast();
    }

    fn with(
        &mut self,
        agent: usize,
        work: impl FnOnce(&mut Lots, Duration, &mut dyn FnMut(Duration) -> Duration),
    ) {
        let mut state = self.random;
        let mut draw = |width: Duration| {
            Duration::from_millis(random(&mut state, u64::try_from(width.as_millis()).unwrap()))
        };
        work(&mut self.agents[agent], Duration::from_millis(self.now), &mut draw);
        self.random = state;
        if let Some(next) = self.agents[agent].next() {
            let next = u64::try_from(next.as_millis()).unwrap();
            self.at(next.saturating_sub(self.now), Event::Wakes(agent));
        }
    }

    fn run(&mut self) {
        while let Some(Reverse((time, _, event))) = self.queue.pop() {
            self.now = time;
            match event {
                Event::Changes(agent, ready) => {
                    self.states += 1;
                    self.ready[agent] = Some(ready);
                    let version = self.states;
                    let said = Contribution { ready, ..Contribution::default() };
                    let said = BTreeMap::from([("p".to_owned(), said)]);
                    self.with(agent, |lots, now, draw| lots.wrote(now, &said, version, true, draw));
                }
                Event::Sees(agent, version) => {
                    let seen = self.policy[usize::try_from(version).unwrap()].0.clone();
                    let seen = BTreeMap::from([("p".to_owned(), seen)]);
                    self.with(agent, |lots, now, draw| lots.policies(now, &seen, draw));
                }
                Event::Wakes(agent) => self.wake(agent),
                Event::Lists(agent, announced) => {
                    self.lists.push(self.now);
                    let ready = self.ready.iter().filter(|ready| **ready == Some(true)).count();
                    let found = (u32::try_from(ready).unwrap(), self.states);
                    self.at(RESULT - LIST, Event::Writes(agent, announced, found));
                }
                Event::Writes(agent, announced, (ready, version)) => {
                    let newest = u64::try_from(self.policy.len()).unwrap() - 1;
                    if announced != newest {
                        self.with(agent, |lots, now, draw| lots.lost(now, "p", draw));
                        continue;
                    }
                    let seen = Seen {
                        counted_generation: Some(1),
                        nodes: Some(u32::try_from(AGENTS).unwrap()),
                        counted: Some(version),
                        ..self.policy[usize::try_from(newest).unwrap()].0.clone()
                    };
                    self.change(seen, Some(ready));
                }
            }
        }
    }

    fn wake(&mut self, agent: usize) {
        let mut due = None;
        self.with(agent, |lots, now, draw| due = lots.fire(now, draw));
        if due.is_none() {
            return;
        }
        // The announcement names the version that the agent has seen; only for the newest it goes through.
        let newest = self.policy.last().unwrap().0.clone();
        if !self.agents[agent].has_seen("p", &newest) {
            self.refused.push(self.now);
            self.with(agent, |lots, now, draw| lots.lost(now, "p", draw));
            return;
        }
        let announced = u64::try_from(self.policy.len()).unwrap();
        let seen = Seen { started: Some(format!("{} {agent}", self.now)), ..newest };
        self.change(seen, None);
        if self.crashes > 0 {
            self.crashes -= 1;
        } else {
            self.at(LIST, Event::Lists(agent, announced));
        }
    }

    /// The most entries within a span.
    fn most(times: &[u64], span: u64) -> usize {
        let within = |start: &u64| times.iter().filter(|time| (*start..start + span).contains(*time)).count();
        times.iter().map(within).max().unwrap_or_default()
    }

    fn check(&self, ready: u32) {
        println!(
            "{} lists, at most {} within a minute; {} announcements too late, at most {} within a second; last at {} s",
            self.lists.len(),
            Self::most(&self.lists, 60_000),
            self.refused.len(),
            Self::most(&self.refused, 1000),
            Duration::from_millis(self.lists.last().copied().unwrap_or_default()).as_secs(),
        );
        assert!(Self::most(&self.lists, 60_000) <= 6, "{:?}", self.lists);
        let last = self.policy.iter().rev().find_map(|(_, ready)| *ready);
        assert_eq!(last, Some(ready), "the last count");
        // Announcements that were too late are small writes; this bounds what the API server is asked.
        assert!(Self::most(&self.refused, 1000) <= 600, "{}", Self::most(&self.refused, 1000));
    }
}

fn everybody() -> u32 {
    u32::try_from(AGENTS).unwrap()
}

#[test]
fn a_new_policy_rolls_out_over_ten_minutes() {
    let mut world = World::new(None, 1);
    for agent in 0..AGENTS {
        let begins = random(&mut world.random, 5000);
        world.at(2000 + begins, Event::Changes(agent, false));
        let done = random(&mut world.random, 600_000);
        world.at(10_000 + done, Event::Changes(agent, true));
    }
    world.run();
    world.check(everybody());
    assert!(world.lists[0] < 10_000, "the first count is soon: {:?}", world.lists[0]);
}

#[test]
fn all_change_at_once() {
    let mut world = World::new(Some(everybody()), 2);
    for agent in 0..AGENTS {
        let when = random(&mut world.random, 200);
        world.at(10_000 + when, Event::Changes(agent, true));
    }
    world.run();
    world.check(everybody());
    assert!(world.lists.len() <= 3, "{:?}", world.lists);
    assert!(world.lists.last().unwrap() < &60_000, "{:?}", world.lists);
}

#[test]
fn whoever_dies_while_counting_is_replaced() {
    let mut world = World::new(Some(everybody()), 3);
    world.crashes = 2;
    for agent in 0..AGENTS {
        world.at(10_000, Event::Changes(agent, agent % 2 == 0));
    }
    world.run();
    world.check(2500);
}

#[test]
fn one_node_changes_back_and_forth() {
    let mut world = World::new(Some(everybody()), 4);
    for agent in 0..AGENTS {
        world.at(1000, Event::Changes(agent, true));
    }
    for minute in 10..40 {
        world.at(minute * 60_000, Event::Changes(7, minute % 2 == 0));
    }
    world.run();
    world.check(everybody() - 1);
    assert!(world.lists.len() < 40, "{}", world.lists.len());
}

#[test]
fn a_policy_that_selects_nobody_is_counted_once() {
    let mut world = World::new(None, 5);
    world.run();
    world.check(0);
    assert_eq!(world.lists.len(), 1, "{:?}", world.lists);
    assert!(world.lists[0] > 30_000, "those who are selected come first");
}
