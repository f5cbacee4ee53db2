//! Fights and waits, as data: what is due, what was done, what is left.

use super::*;
use crate::desired::Vlan;
use crate::observed::{Holder, Pf, RememberedVf, Vf};
use crate::ovs::{Change as Row, Setting};
use crate::step::Disruption;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn step(object: &str, change: Change) -> Step {
    Step { object: object.parse().unwrap(), change, disruption: Disruption::None, force: false }
}

fn vlan(vf: &str, from: u16, to: u16) -> Step {
    let of = |id| Vlan { id, ..Vlan { id: 0, qos: 0, protocol: Default::default() } };
    step(vf, Change::SetVfVlan { from: Some(of(from)), to: of(to) })
}

fn mtu(pf: &str) -> Step {
    step(pf, Change::SetPfMtu { from: 9000, to: 1500 })
}

fn tag(port: &str) -> Step {
    let (from, to) = (Setting::Stp(false), Setting::Stp(true));
    let change = Box::new(Row::Set { from, to });
    step(port, Change::Ovs { owner: "workers".to_owned(), change })
}

fn planned(steps: &[Step]) -> Plan {
    Plan { steps: steps.to_vec(), ..Plan::default() }
}

fn done(steps: &[Step]) -> Vec<StepReport> {
    steps.iter().map(|step| StepReport { step: step.clone(), outcome: Outcome::Done }).collect()
}

fn failed(step: &Step) -> Vec<StepReport> {
    vec![StepReport { step: step.clone(), outcome: Outcome::Failed { why: "ENOSPC".to_owned() } }]
}

fn stale(step: &Step) -> Vec<StepReport> {
    vec![StepReport { step: step.clone(), outcome: Outcome::Stale { found: "2 VFs".to_owned() } }]
}

/// What would be run, as objects.
fn runs(patience: &mut Patience, steps: &[Step], now: Duration) -> Vec<String> {
    let (plan, _) = patience.hold(planned(steps), &Observed::default(), now);
    plan.steps.iter().map(|step| step.object.to_string()).collect()
}

const VF: &str = "0000:01:00.0/vf/3";
/// Long after the start, when nothing is a first application.
const LATER: u64 = 10_000;

#[test]
fn the_third_correction_within_ten_minutes_is_an_obstacle_that_names_the_values() {
    let mut patience = Patience::default();
    let drift = [vlan(VF, 200, 100)];
    for seconds in [LATER, LATER + 60] {
        assert_eq!(runs(&mut patience, &drift, at(seconds)), [VF]);
        patience.note(&done(&drift), at(seconds), 0);
    }
    let (plan, waiting) = patience.hold(planned(&drift), &Observed::default(), at(LATER + 120));
    assert!(plan.steps.is_empty() && waiting.is_empty());
    let [blocked] = plan.blocked.as_slice() else { panic!("{plan:?}") };
    assert_eq!((blocked.object.to_string().as_str(), blocked.reason), (VF, Reason::Contended));
    for word in ["set VLAN", "100", "200", "2 times"] {
        assert!(blocked.message.contains(word), "{}", blocked.message);
    }
    assert!(blocked.hint.contains("portwright reconcile"), "{}", blocked.hint);
    // It does not begin anew by itself.
    assert!(runs(&mut patience, &drift, at(LATER + 9_000)).is_empty());
    // It ends when the value is as wanted, and when somebody asks.
    let mut asked = patience.clone();
    asked.forget_all();
    assert_eq!(runs(&mut asked, &drift, at(LATER + 130)), [VF]);
    assert!(runs(&mut patience, &[], at(LATER + 9_001)).is_empty());
    assert_eq!(runs(&mut patience, &drift, at(LATER + 9_002)), [VF]);
}

#[test]
fn corrections_further_apart_are_no_fight() {
    let mut patience = Patience::default();
    let drift = [vlan(VF, 200, 100)];
    for round in 0..5 {
        let now = at(LATER + round * 301);
        assert_eq!(runs(&mut patience, &drift, now), [VF], "round {round}");
        patience.note(&done(&drift), now, 0);
    }
}

#[test]
fn the_first_application_of_a_changed_wish_is_no_correction() {
    let mut patience = Patience::default();
    let drift = [vlan(VF, 200, 100)];
    patience.forget(at(LATER));
    for seconds in [1, 2, 3] {
        assert_eq!(runs(&mut patience, &drift, at(LATER + seconds)), [VF], "{seconds}");
        patience.note(&done(&drift), at(LATER + seconds), 0);
    }
    assert!(runs(&mut patience, &drift, at(LATER + 4)).is_empty());
}

#[test]
fn what_a_pod_leaves_behind_is_put_right_as_often_as_pods_come() {
    let vf: VfRef = VfRef { pf: "0000:01:00.0".parse().unwrap(), index: 3 };
    let mut found = Vf { index: 3, ..Vf::default() };
    found.remembered = Some(RememberedVf { name: "v3".to_owned(), mac: None, mtu: None, away: false });
    let mut patience = Patience::default();
    let drift = [vlan(VF, 200, 100)];
    let rounds = |patience: &mut Patience, used: &dyn Fn(&mut Vf)| {
        (0..5)
            .filter(|round| {
                let mut held = found.clone();
                used(&mut held);
                let pf = Pf { address: vf.pf, vfs: vec![held], ..Pf::default() };
                let observed = Observed { pfs: vec![pf], ..Observed::default() };
                patience.hold(Plan::default(), &observed, at(LATER + round * 10));
                let (plan, _) = patience.hold(planned(&drift), &observed, at(LATER + round * 10));
                patience.note(&done(&plan.steps), at(LATER + round * 10), 0);
                !plan.steps.is_empty()
            })
            .count()
    };
    let away = |vf: &mut Vf| vf.remembered.iter_mut().for_each(|remembered| remembered.away = true);
    assert_eq!(rounds(&mut patience.clone(), &away), 5);
    let held = |vf: &mut Vf| {
        vf.holders = vec![Holder::Pod {
            namespace: "web".to_owned(),
            name: "a".to_owned(),
            container: String::new(),
            resource: String::new(),
        }];
    };
    assert_eq!(rounds(&mut patience.clone(), &held), 5);
    assert_eq!(rounds(&mut patience, &|_| {}), 2);
}

#[test]
fn what_does_not_depend_on_it_goes_on() {
    let other = "0000:01:00.0/vf/4";
    let make = step("0000:01:00.0", Change::SetNumVfs { from: 0, to: 4 });
    let mut cases = vec![
        // A VF's setting stops that VF, and what its port does after it.
        (vec![vlan(VF, 2, 1)], vec![vlan(VF, 2, 1), vlan(other, 2, 1), mtu("0000:01:00.0")], vec![other]),
        // A port's setting stops all that comes after it on the port.
        (
            vec![mtu("0000:01:00.0")],
            vec![mtu("0000:01:00.0"), vlan(VF, 2, 1), mtu("0000:02:00.0")],
            vec!["0000:02:00.0"],
        ),
        // What comes before goes on.
        (vec![vlan(VF, 2, 1)], vec![mtu("0000:01:00.0"), vlan(VF, 2, 1)], vec!["0000:01:00.0"]),
        // Where VFs are made anew, all go together.
        (vec![vlan(VF, 2, 1)], vec![make, vlan(VF, 2, 1), vlan(other, 2, 1)], vec!["0000:01:00.0"]),
    ];
    let (port, mirror) = ("bridge/br0/port/p0", "bridge/br0/mirror/m0");
    cases.push((vec![tag(port)], vec![tag(port), tag(mirror)], vec![mirror]));
    for (fought, due, left) in cases {
        let mut patience = Patience::default();
        patience.note(&done(&fought), at(LATER), 0);
        patience.note(&done(&fought), at(LATER), 0);
        assert_eq!(runs(&mut patience, &due, at(LATER)), left, "{due:?}");
    }
}

#[test]
fn autoprobe_is_never_left_off_and_no_correction() {
    let pf = "0000:01:00.0";
    let auto = |from, to| step(pf, Change::SetAutoprobe { from, to });
    let make = step(pf, Change::SetNumVfs { from: 0, to: 4 });
    let run = [auto(true, false), make.clone(), auto(false, true), mtu(pf)];
    let mut patience = Patience::default();
    patience.note(&done(&[auto(true, false), auto(false, true)]), at(LATER), 0);
    patience.note(&done(&[auto(true, false), auto(false, true)]), at(LATER), 0);
    assert_eq!(runs(&mut patience, &run, at(LATER)).len(), 4, "switching it is no correction");
    patience.note(&done(std::slice::from_ref(&make)), at(LATER), 0);
    patience.note(&done(std::slice::from_ref(&make)), at(LATER), 0);
    assert!(runs(&mut patience, &run, at(LATER)).is_empty(), "it is not switched off for nothing");
    let owed = runs(&mut patience, &[make, auto(false, true), mtu(pf)], at(LATER));
    assert_eq!(owed, [pf], "what a killed run owes is put back");
}

#[test]
fn a_failing_port_waits_longer_each_time_and_no_other_does() {
    let mut patience = Patience::default();
    let due = [mtu("0000:01:00.0"), vlan(VF, 2, 1), mtu("0000:02:00.0")];
    let mut waits = Vec::new();
    let mut now = at(LATER);
    for _ in 0..12 {
        patience.note(&failed(&due[1]), now, u32::MAX);
        assert_eq!(runs(&mut patience, &due, now), ["0000:02:00.0"]);
        let wait = patience.next(now).unwrap();
        waits.push(wait.as_secs());
        now += wait;
        assert_eq!(runs(&mut patience, &due, now).len(), 3, "the wait is over");
        assert_eq!(patience.next(now), None, "nothing to wake up for");
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    let (_, waiting) = {
        patience.note(&failed(&due[1]), now, 0);
        patience.hold(planned(&due), &Observed::default(), now)
    };
    let told: Vec<(String, &String)> = waiting.iter().map(|(o, why)| (o.to_string(), why)).collect();
    assert_eq!(
        told,
        [("0000:01:00.0".to_owned(), &"waits up to 300 s after 13 failures: ENOSPC".to_owned())]
    );
    let later = patience.hold(planned(&due), &Observed::default(), now + Duration::from_secs(70)).1;
    assert_eq!(later, waiting, "what is told does not count down");
    let mut changed = patience.clone();
    changed.forget(now);
    assert_eq!(runs(&mut changed, &due, now).len(), 3);
    patience.note(&done(&due), now, 0);
    assert_eq!(runs(&mut patience, &due[..1], now).len(), 1, "success clears it");
}

#[test]
fn a_failure_on_the_node_keeps_ports_waiting_and_no_bridge() {
    let mut patience = Patience::default();
    let rule = step("node", Change::WriteUdevRule { from: None, to: String::new() });
    patience.note(&failed(&rule), at(1), 0);
    let due = [rule, mtu("0000:01:00.0"), tag("bridge/br0")];
    assert_eq!(runs(&mut patience, &due, at(1)), ["bridge/br0"]);
}

#[test]
fn memory_is_bounded() {
    let mut patience = Patience::default();
    let steps: Vec<Step> = (0..20_000).map(|index| vlan(&format!("0000:01:00.0/vf/{index}"), 2, 1)).collect();
    patience.note(&done(&steps), at(LATER), 0);
    assert!(patience.corrections.len() <= MOST);
    patience.note(&[], at(LATER + 601), 0);
    assert!(patience.corrections.is_empty());
}

#[test]
fn a_step_that_was_out_of_date_is_planned_again_at_once_but_not_for_ever() {
    let mut patience = Patience::default();
    let drift = [vlan(VF, 200, 100)];
    for run in 0..2 {
        patience.note(&stale(&drift[0]), at(LATER + run), 0);
        assert_eq!(runs(&mut patience, &drift, at(LATER + run)), [VF], "somebody was faster");
    }
    // A step that could be done in between: the next ones are counted anew.
    let mut served = patience.clone();
    served.note(&done(&drift), at(LATER + 2), 0);
    served.note(&stale(&drift[0]), at(LATER + 3), 0);
    assert_eq!(runs(&mut served, &drift, at(LATER + 3)), [VF]);
    patience.note(&stale(&drift[0]), at(LATER + 2), u32::MAX);
    let (plan, waiting) = patience.hold(planned(&drift), &Observed::default(), at(LATER + 2));
    assert!(plan.steps.is_empty(), "the node never is as it was seen right before");
    let why = waiting.values().next().unwrap();
    assert!(why.starts_with("waits up to 1 s after a failure: 2 VFs"), "{why}");
    assert_eq!(runs(&mut patience, &drift, at(LATER + 4)), [VF]);
}

#[test]
fn at_rest_old_corrections_are_not_kept() {
    let mut patience = Patience::default();
    let steps: Vec<Step> = (0..64).map(|index| vlan(&format!("0000:01:00.0/vf/{index}"), 200, 100)).collect();
    patience.note(&done(&steps), at(LATER), 0);
    runs(&mut patience, &[], at(LATER) + WINDOW);
    assert_eq!(patience.corrections.len(), 64, "they may be the first of a fight");
    runs(&mut patience, &[], at(LATER + 1) + WINDOW);
    assert!(patience.corrections.is_empty());
}
