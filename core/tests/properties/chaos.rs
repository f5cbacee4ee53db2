//! The daemon's decisions in a storm: policies change, people and pods interfere, hardware fails, and the agent is killed 200
//! times and more, at any write. It plans, holds, runs and notes as the loop does, with memory that a kill takes away. Afterwards the
//! node is as wanted or it is said why not; nothing has happened that must never happen, no pod has lost its VF, and
//! autoprobe is as it was found.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use portwright_core::affected::{evictees, needs_turn, touched};
use portwright_core::desired::{Desired, DisruptionPolicy};
use portwright_core::drive::{Node, run_steps};
use portwright_core::fallback::FallBack;
use portwright_core::id::{MacAddress, Object, PciAddress, VfRef};
use portwright_core::observed::{Holder, Pf};
use portwright_core::patience::Patience;
use portwright_core::sim::{Event, SimNode, SimPf};
use portwright_core::{Plan, Profiles, Reason, plan};

use crate::case::{Case, Stage};
use crate::choices::Choices;
use crate::oracle;
use crate::policy::{Binding, binding};
use crate::story::{Shelf, allow, texts};

/// Kills to survive at least, and cases that are played at least.
const KILLS: u64 = 200;
const CASES: u32 = 1_000;
/// Rounds in which a stage has to come to rest: kills, faults, waits after failures and going back all take some.
const ROUNDS: usize = 80;

/// What a storm exercised, to see that it was one.
#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    stages: u64,
    rounds: u64,
    steps: u64,
    failures: u64,
    waits: u64,
    pods: u64,
    released: u64,
    told: BTreeMap<&'static str, u64>,
}

/// What the daemon has in its head: a kill takes it away. (The journal is the simulated node's state directory.)
#[derive(Default)]
struct Head {
    patience: Patience,
    fallback: FallBack,
}

struct Storm<'a> {
    node: SimNode,
    profiles: &'a Profiles,
    head: Head,
    /// How PFs were when last verified; the journal keeps it.
    last_good: BTreeMap<PciAddress, Pf>,
    /// The program's own clock.
    now: Duration,
    /// Functions that kubelet is not to give away now.
    withheld: BTreeSet<PciAddress>,
}

/// A pod's VF that is there: what it must keep.
#[derive(Debug, PartialEq)]
struct Kept {
    driver: Option<String>,
    netns: Option<String>,
    mac: Option<MacAddress>,
}

impl Storm<'_> {
    /// Goes on until nothing is left to do, and gives the last plan.
    fn settle(&mut self, desired: &mut Desired, tally: &mut Tally) -> Result<Plan, String> {
        for _ in 0..ROUNDS {
            tally.rounds += 1;
            allow(&mut self.node.kernel, desired);
            let observed = self.node.observe().map_err(|error| error.to_string())?;
            desired.release = self.released(desired);
            desired.fall_back = self.head.fallback.choose(
                &observed,
                desired,
                self.profiles,
                &self.last_good,
                &Default::default(),
            );
            let made = plan(&observed, desired, self.profiles);
            let (due, waiting) = self.head.patience.hold(made.clone(), &observed, self.now);
            self.check_evictions(&due, &observed, desired)?;
            self.verified(&made, &observed.pfs);
            if due.steps.is_empty() {
                if !self.node.schedule.is_empty() && waiting.is_empty() {
                    // What was to happen during steps does not come any more.
                    self.node.schedule = Default::default();
                }
                match self.head.patience.next(self.now) {
                    Some(wait) if !waiting.is_empty() => {
                        tally.waits += 1;
                        self.now += wait;
                        continue;
                    }
                    _ => return Ok(due),
                }
            }
            self.withheld = touched(&due.steps, &observed);
            self.run(&due, desired, tally)?;
        }
        let made = plan(&self.node.observe().unwrap(), desired, self.profiles);
        Err(format!("does not come to rest: {}; {:?}", texts(&made), made.blocked))
    }

    fn run(&mut self, due: &Plan, desired: &Desired, tally: &mut Tally) -> Result<(), String> {
        let before = self.kept(desired);
        let ghosts = self.node.schedule.clone();
        let reports = run_steps(&mut self.node, due, &mut |_| {});
        self.now += Duration::from_millis(200);
        tally.steps += u64::try_from(reports.len()).unwrap();
        if let Some(violation) = self.node.violations().first() {
            return Err(format!("{violation}; the plan was: {}", texts(due)));
        }
        let disturbed = ghosts.before_step.len() + ghosts.before_write.len()
            != self.node.schedule.before_step.len() + self.node.schedule.before_write.len();
        let after = self.kept(desired);
        let lost = before.iter().find(|(vf, kept)| after.get(vf) != Some(kept));
        if let Some((vf, kept)) = lost.filter(|_| !disturbed) {
            let now = after.get(vf);
            return Err(format!("{vf} was taken: {kept:?} became {now:?}; the plan was: {}", texts(due)));
        }
        if self.node.crashed() {
            tally.kills += 1;
            self.node.restart();
            // A new process has a new clock.
            (self.head, self.now) = (Head::default(), Duration::ZERO);
            return Ok(());
        }
        let failed = reports.iter().filter(|report| {
            use portwright_core::drive::Outcome;
            matches!(report.outcome, Outcome::Failed { .. } | Outcome::Stale { .. })
        });
        tally.failures += u64::try_from(failed.count()).unwrap();
        self.head.patience.note(&reports, self.now, u32::MAX);
        self.head.fallback.note(&reports);
        Ok(())
    }

    /// What pods have on ports whose policy does not take it from them.
    fn kept(&self, desired: &Desired) -> BTreeMap<VfRef, Kept> {
        let kernel = &self.node.kernel;
        let forced = |pf: PciAddress| match binding(desired, kernel, pf) {
            Binding::To(document, _) => desired.documents[document].disruption == DisruptionPolicy::Force,
            Binding::Free | Binding::Conflict => false,
        };
        let used = kernel.vfs().filter(|vf| kernel.kubelet.contains_key(vf) || kernel.in_use(*vf));
        let entry = |vf: VfRef| {
            // A VF without driver may get one when a module is loaded for others.
            let there = kernel.vf(vf).filter(|vf| vf.driver.is_some())?;
            let away = there.netdev.as_ref().filter(|netdev| !netdev.in_host());
            let kept = Kept {
                driver: there.driver.clone(),
                netns: away.and_then(|netdev| netdev.away.as_ref()).map(|away| away.netns.clone()),
                mac: away.map(|netdev| netdev.mac),
            };
            Some((vf, kept))
        };
        used.filter(|vf| !forced(vf.pf)).filter_map(entry).collect()
    }

    fn released(&self, desired: &Desired) -> BTreeSet<PciAddress> {
        let free = |pf: &PciAddress| matches!(binding(desired, &self.node.kernel, *pf), Binding::Free);
        self.node.state_dir.made_by_us.iter().copied().filter(free).collect()
    }

    /// Nobody is evicted who holds nothing, and nobody without a place among the nodes.
    fn check_evictions(
        &self,
        due: &Plan,
        observed: &portwright_core::Observed,
        desired: &Desired,
    ) -> Result<(), String> {
        let evicted = evictees(due, observed, desired);
        let holds = |name: &(String, String)| {
            self.node.kernel.kubelet.values().any(|holder| {
                matches!(holder, Holder::Pod { namespace, name: pod, .. } if (namespace, pod) == (&name.0, &name.1))
            })
        };
        if let Some(pod) = evicted.iter().find(|pod| !holds(pod)) {
            return Err(format!("{pod:?} would be evicted and has nothing"));
        }
        if !evicted.is_empty() && needs_turn(due, observed, desired).is_empty() {
            return Err(format!("{evicted:?} would be evicted without a turn"));
        }
        Ok(())
    }

    /// What the loop does where nothing is left to do.
    fn verified(&mut self, made: &Plan, pfs: &[Pf]) {
        if made.in_sync() {
            self.node.remember();
        }
        let left = made.steps.iter().map(|step| &step.object);
        let left = left.chain(made.blocked.iter().map(|blocked| &blocked.object));
        let left: BTreeSet<PciAddress> =
            left.chain(made.unknown.iter().map(|unknown| &unknown.object)).filter_map(Object::pf).collect();
        let bound: BTreeSet<PciAddress> =
            made.subjects.iter().filter_map(|subject| subject.object.pf()).collect();
        for pf in pfs.iter().filter(|pf| bound.contains(&pf.address) && !left.contains(&pf.address)) {
            self.last_good.insert(pf.address, pf.clone());
        }
    }

    /// kubelet gives an idle VF that is not withheld to a pod, or takes one back.
    fn kubelet(&mut self, choices: &mut Choices<'_>, tally: &mut Tally) {
        let vfs: Vec<VfRef> = self.node.kernel.vfs().collect();
        if vfs.is_empty() {
            return;
        }
        let vf = choices.of(&vfs);
        let function = self.node.kernel.vf(vf).map(|vf| vf.address);
        let free = !self.node.kernel.in_use(vf) && !function.is_some_and(|one| self.withheld.contains(&one));
        if free {
            tally.pods += 1;
            self.node.happen(&Event::Allocated(vf, format!("pod-{}", tally.pods)));
            self.node.happen(&Event::NetdevLeaves(vf, format!("cni-{}", tally.pods)));
        } else if self.node.kernel.kubelet.contains_key(&vf) {
            self.node.happen(&Event::NetdevReturns(vf));
            self.node.happen(&Event::Freed(vf));
        }
    }

    /// Somebody changes something by hand.
    fn drift(&mut self, choices: &mut Choices<'_>) {
        let vfs: Vec<VfRef> = self.node.kernel.vfs().filter(|vf| !self.node.kernel.in_use(*vf)).collect();
        if vfs.is_empty() {
            return;
        }
        let vf = choices.of(&vfs);
        let what = choices.below(5);
        if what == 4 {
            self.node.happen(&Event::PfDown(vf.pf));
        }
        let protected = self.node.kernel.protected.clone();
        let Some(pf) = self.node.kernel.pfs.get_mut(&vf.pf) else { return };
        let Some(there) = pf.vfs.get_mut(&vf.index).filter(|vf| !protected.contains(&vf.address)) else {
            return;
        };
        match what {
            0 => there.admin.vlan.id = 77,
            1 => there.admin.trust = !there.admin.trust,
            2 => (there.driver, there.netdev) = (None, None),
            3 => there.admin.spoof_check = !there.admin.spoof_check,
            _ => {}
        }
    }
}

impl Storm<'_> {
    /// Somebody sets a VLAN that the policy wants otherwise, again and again: he is let have his way, until an operator asks.
    fn fight(&mut self, desired: &mut Desired, tally: &mut Tally) -> Result<(), String> {
        let kernel = &self.node.kernel;
        let wanted = |vf: &VfRef| {
            let Binding::To(document, entry) = binding(desired, kernel, vf.pf) else { return None };
            let group = desired.documents[document].nics[entry].group(vf.index)?;
            let there = kernel.vf(*vf).filter(|there| !kernel.protected.contains(&there.address))?;
            group.vlan.filter(|vlan| there.admin.vlan == *vlan && !kernel.in_use(*vf)).map(|vlan| (*vf, vlan))
        };
        let Some((vf, wanted)) = kernel.vfs().find_map(|vf| wanted(&vf)) else { return Ok(()) };
        let blocked = |plan: &Plan| {
            let on_it = plan.blocked.iter().filter(|blocked| blocked.object.pf() == Some(vf.pf));
            on_it.map(|blocked| blocked.reason).collect::<BTreeSet<_>>()
        };
        let vlan = |node: &SimNode| node.kernel.vf(vf).map(|vf| vf.admin.vlan);
        let (mut corrected, mut last) = (0, Plan::default());
        for _ in 0..5 {
            let pf = self.node.kernel.pfs.get_mut(&vf.pf).ok_or("the PF is gone")?;
            pf.vfs.get_mut(&vf.index).ok_or("the VF is gone")?.admin.vlan.id = 77;
            last = self.settle(desired, tally)?;
            corrected += u8::from(vlan(&self.node) == Some(wanted));
            self.now += Duration::from_secs(20);
        }
        // One of them may have been the first application.
        if corrected > 3 {
            return Err(format!("{vf} is fought over {corrected} times: {:?}", last.blocked));
        }
        let others: BTreeSet<Reason> =
            blocked(&last).into_iter().filter(|reason| *reason != Reason::Contended).collect();
        if corrected > 0 && others.is_empty() {
            if !blocked(&last).contains(&Reason::Contended) {
                return Err(format!("{vf} is not as wanted, and nobody says why: {:?}", last.blocked));
            }
            *tally.told.entry("Contended").or_default() += 1;
            self.head.patience.forget_all();
            self.settle(desired, tally)?;
            if vlan(&self.node) != Some(wanted) {
                return Err(format!("{vf} is not put right when asked"));
            }
        }
        Ok(())
    }
}

/// Adds what happens while a stage is applied, kills among it.
fn arm(node: &mut SimNode, stage: &Stage, choices: &mut Choices<'_>) {
    for (offset, event) in &stage.before_step {
        node.schedule.before_step.entry(node.steps + offset).or_default().push(event.clone());
    }
    for (offset, event) in &stage.before_write {
        node.schedule.before_write.entry(node.writes + offset).or_default().push(event.clone());
    }
    for _ in 0..choices.below(4) {
        let offset = 1 + u32::try_from(choices.below(30)).unwrap();
        node.schedule.before_write.entry(node.writes + offset).or_default().push(Event::Crash);
    }
}

fn check(storm: &Storm<'_>, desired: &Desired, last: &Plan, tally: &mut Tally) -> Result<(), String> {
    let node = &storm.node;
    oracle::check_goal(node, desired, last)?;
    let kernel = &node.kernel;
    let stuck = kernel.pfs.values().any(|pf| pf.stuck.is_some());
    let off = node.autoprobe_not_restored();
    if !off.is_empty() && !stuck {
        return Err(format!("autoprobe of {off:?} was not put back"));
    }
    for pf in storm.released(desired) {
        let told = last.blocked.iter().any(|blocked| blocked.object == Object::Pci(pf));
        let gone = |pf: &SimPf| pf.vfs.is_empty() || pf.driver.is_none() || !pf.family.traits().configurable;
        let empty = kernel.pf(pf).is_none_or(gone);
        if !told && !empty {
            return Err(format!("{pf} was not released, and nobody says why"));
        }
        tally.released += u64::from(empty);
    }
    for blocked in &last.blocked {
        *tally.told.entry(blocked.reason.as_str()).or_default() += 1;
    }
    Ok(())
}

fn play(numbers: &[u16], shelf: &Shelf, tally: &mut Tally) -> Result<(), String> {
    let (first, second) = numbers.split_at(400);
    let case = Case::new(first);
    let choices = &mut Choices::new(second);
    let mut storm = Storm {
        node: case.node.clone(),
        profiles: shelf.of(&case),
        head: Head::default(),
        last_good: BTreeMap::new(),
        now: Duration::ZERO,
        withheld: BTreeSet::new(),
    };
    for (number, stage) in case.stages.iter().enumerate() {
        let mut desired = Desired { cluster: choices.chance(50), ..stage.desired.clone() };
        storm.head.patience.forget(storm.now);
        storm.head.fallback.forget();
        // Twice: as the policy comes, and after people and pods have been there.
        for part in ["as it comes", "after people and pods"] {
            tally.stages += 1;
            arm(&mut storm.node, stage, choices);
            let last = storm.settle(&mut desired, tally);
            let checked = last.and_then(|last| check(&storm, &desired, &last, tally));
            checked.map_err(|why| format!("stage {number}, {part}: {why}"))?;
            for _ in 0..choices.below(4) {
                storm.drift(choices);
                storm.kubelet(choices, tally);
            }
            storm.now += Duration::from_secs(20);
        }
        if choices.chance(30) {
            storm
                .settle(&mut desired, tally)
                .and_then(|_| storm.fight(&mut desired, tally))
                .map_err(|why| format!("stage {number}, fight: {why}"))?;
        }
        stage.afterwards.iter().for_each(|event| storm.node.happen(event));
    }
    Ok(())
}

/// Numbers that are always the same for a seed (xorshift64, Marsaglia 2003).
fn numbers(seed: u64) -> Vec<u16> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u16::try_from(state >> 48).unwrap()
    };
    (0..600).map(|_| next()).collect()
}

#[test]
fn hundreds_of_kills_in_a_storm_hurt_nobody_and_it_comes_to_rest() {
    let shelf = Shelf::new();
    let mut tally = Tally::default();
    let mut seed = u64::from(crate::number("PORTWRIGHT_SEED", 1)) << 32;
    let cases = u64::from(crate::number("PORTWRIGHT_CASES", CASES));
    let first = seed;
    while tally.kills < KILLS || seed - first < cases {
        seed += 1;
        if let Err(why) = play(&numbers(seed), &shelf, &mut tally) {
            panic!(
                "case {}: {why}\n{}",
                seed - first,
                crate::story::describe(&Case::new(&numbers(seed)[..400]))
            );
        }
    }
    println!("{tally:?}");
    for reason in [Reason::VfInUse, Reason::Releasing, Reason::Contended, Reason::FellBack] {
        assert!(tally.told.contains_key(reason.as_str()), "a storm without {reason}: {tally:?}");
    }
    assert!(tally.waits > 0 && tally.failures > 0 && tally.pods > 0 && tally.released > 0, "{tally:?}");
}
