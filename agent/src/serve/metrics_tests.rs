//! Facts in, series out.

use std::collections::BTreeSet;
use std::time::Duration;

use portwright_core::drive::StepReport;
use portwright_core::observed::{Holder, Pf, Vf};
use portwright_core::step::Change;
use portwright_core::{Blocked, Object, Observed, Plan, Step};
use prometheus_client::encoding::text::encode;

use super::*;
use crate::daemon::facts::Run;

struct Bench {
    registry: Registry,
    metrics: DaemonMetrics,
}

impl Bench {
    fn new() -> Bench {
        let mut registry = Registry::with_prefix("portwright");
        let metrics = DaemonMetrics::new(&mut registry);
        Bench { registry, metrics }
    }

    /// The value of a series; none if it is not shown.
    fn value(&self, series: &str) -> Option<f64> {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        let found = text.lines().find_map(|line| line.strip_prefix("portwright_")?.strip_prefix(series));
        found.and_then(|rest| rest.trim().parse().ok())
    }
}

fn step(outcome: Outcome) -> StepReport {
    let pf = "0000:3b:00.0".parse().unwrap();
    let step = Step {
        object: Object::Pci(pf),
        change: Change::SetPfMtu { from: 1500, to: 9000 },
        disruption: Disruption::Pf,
        force: false,
    };
    StepReport { step, outcome }
}

fn round(sequence: u64, causes: impl IntoIterator<Item = Cause>) -> Facts {
    let took = Duration::from_millis(30);
    Facts { sequence, at: 1000 + sequence, took, causes: causes.into_iter().collect(), ..Facts::default() }
}

#[test]
fn a_round_is_counted_once_and_by_each_of_its_causes() {
    let bench = Bench::new();
    let device = Cause::Device("0000:3b:00.0".parse().unwrap());
    let first = round(1, [Cause::Start]);
    bench.metrics.observe(&first);
    bench.metrics.observe(&first);
    bench.metrics.observe(&round(2, [device, Cause::Switch]));
    for (cause, times) in [("start", 1.0), ("device", 1.0), ("switch", 1.0)] {
        assert_eq!(bench.value(&format!("rounds_total{{cause=\"{cause}\"}}")), Some(times), "{cause}");
    }
    assert_eq!(bench.value("round_duration_seconds_count"), Some(2.0));
    assert_eq!(bench.value("round_duration_seconds_bucket{le=\"0.025\"}"), Some(0.0));
    assert_eq!(bench.value("round_duration_seconds_bucket{le=\"0.05\"}"), Some(2.0));
    assert_eq!(bench.value("last_round_time_seconds"), Some(1002.0));
}

#[test]
fn a_run_is_counted_once_however_many_rounds_tell_of_it() {
    let bench = Bench::new();
    let failed = Outcome::Failed { why: "no".to_owned() };
    let steps = vec![step(Outcome::Done), step(Outcome::Done), step(failed)];
    let run = Arc::new(Run { number: 1, at: 77, causes: BTreeSet::new(), steps });
    for sequence in 1..4 {
        bench.metrics.observe(&Facts { last_run: Some(Arc::clone(&run)), ..round(sequence, []) });
    }
    assert_eq!(bench.value("steps_total{action=\"set-pf-mtu\",outcome=\"done\"}"), Some(2.0));
    assert_eq!(bench.value("steps_total{action=\"set-pf-mtu\",outcome=\"failed\"}"), Some(1.0));
    assert_eq!(bench.value("last_run_time_seconds"), Some(77.0));
    let again =
        Arc::new(Run { number: 2, at: 78, causes: BTreeSet::new(), steps: vec![step(Outcome::Done)] });
    bench.metrics.observe(&Facts { last_run: Some(again), ..round(4, []) });
    assert_eq!(bench.value("steps_total{action=\"set-pf-mtu\",outcome=\"done\"}"), Some(3.0));
}

#[test]
fn what_is_in_the_way_is_told_by_reason_and_ends() {
    let bench = Bench::new();
    let object = Object::Pci("0000:3b:00.0".parse().unwrap());
    let blocked = |reason| Blocked::new(object.clone(), reason, "m", "h");
    let blocked = vec![blocked(Reason::VfInUse), blocked(Reason::VfInUse), blocked(Reason::ManagementPath)];
    let plan = Plan { steps: vec![step(Outcome::Done).step], blocked, ..Plan::default() };
    bench.metrics.observe(&Facts { plan, ..round(1, []) });
    assert_eq!(bench.value("plan_blocked{reason=\"VfInUse\"}"), Some(2.0));
    assert_eq!(bench.value("plan_blocked{reason=\"Stuck\"}"), Some(0.0));
    assert_eq!(bench.value("plan_steps{disruption=\"pf\"}"), Some(1.0));
    assert_eq!(bench.value("in_sync"), Some(0.0));
    bench.metrics.observe(&round(2, []));
    assert_eq!(bench.value("plan_blocked{reason=\"VfInUse\"}"), Some(0.0));
    assert_eq!(bench.value("plan_steps{disruption=\"pf\"}"), Some(0.0));
    assert_eq!(bench.value("in_sync"), Some(1.0));
    bench.metrics.observe(&Facts { trouble: Some("sysfs is gone".to_owned()), ..round(3, []) });
    assert_eq!(bench.value("in_sync"), Some(0.0), "old facts prove nothing");
    assert_eq!(bench.value("round_failing"), Some(1.0));
}

#[test]
fn before_the_first_round_nothing_is_in_sync() {
    let bench = Bench::new();
    assert_eq!(bench.value("in_sync"), Some(0.0));
    bench.metrics.observe(&Facts::default());
    assert_eq!(bench.value("in_sync"), Some(0.0));
    assert_eq!(bench.value("round_duration_seconds_count"), Some(0.0));
}

#[test]
fn policies_and_turns_have_one_state_each() {
    let bench = Bench::new();
    let fact = |problem: Option<&str>, followed| PolicyFact {
        problem: problem.map(str::to_owned),
        followed,
        ..PolicyFact::default()
    };
    let policies = [
        ("a", fact(None, true)),
        ("b", fact(None, true)),
        ("c", fact(Some("wrong"), true)),
        ("d", fact(Some("wrong"), false)),
    ];
    let policies = policies.map(|(name, fact)| (name.to_owned(), fact)).into_iter().collect();
    let turn = Turn::Waiting { why: "others come first".to_owned() };
    bench.metrics.observe(&Facts { policies, turn, ..round(1, []) });
    for (state, number) in [("followed", 2.0), ("last-good", 1.0), ("refused", 1.0), ("ignored", 0.0)] {
        assert_eq!(bench.value(&format!("policies{{state=\"{state}\"}}")), Some(number), "{state}");
    }
    for (state, is) in [("idle", 0.0), ("waiting", 1.0), ("granted", 0.0)] {
        assert_eq!(bench.value(&format!("turn{{state=\"{state}\"}}")), Some(is), "{state}");
    }
}

#[test]
fn the_node_is_counted() {
    let bench = Bench::new();
    let holder = Holder::Pod {
        namespace: "web".to_owned(),
        name: "shop-0".to_owned(),
        container: "c".to_owned(),
        resource: "r/r".to_owned(),
    };
    let held = Vf { holders: vec![holder], ..Vf::default() };
    let pf = Pf { vfs: vec![held, Vf::default()], stuck: Some("set VFs".to_owned()), ..Pf::default() };
    let observed = Arc::new(Observed { pfs: vec![pf, Pf::default()], ..Observed::default() });
    bench.metrics.observe(&Facts { observed, ..round(1, []) });
    let expected =
        [("pfs", 2.0), ("vfs", 2.0), ("vfs_in_use", 1.0), ("stuck_pfs", 1.0), ("ovs_reachable", 0.0)];
    for (name, value) in expected {
        assert_eq!(bench.value(&format!("{name} ")), Some(value), "{name}");
    }
    assert_eq!(bench.value("ovs_needed"), Some(0.0));
}
