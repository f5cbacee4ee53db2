//! The planner's scenarios: every folder of `fixtures/scenarios` is a test. `observed.json` and `policy.yaml` go in, `plan.txt`
//! is what an operator reads; `bindings.json`, where it is, says which policy a port followed before, and `daemon.json` what only
//! the daemon knows. Set `UPDATE=1` to write `plan.txt` anew, and read what has changed before you commit it.
//!
//! Each plan is also carried out on the simulator: nothing may happen there that must never happen, and afterwards nothing
//! may be left to do.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and read and write their own fixtures"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use portwright_core::desired::{Desired, DisruptionPolicy, Mode};
use portwright_core::drive::{Node, Outcome, run_steps};
use portwright_core::observed::Pf;
use portwright_core::ovs::Wishes;
use portwright_core::plan::text::render;
use portwright_core::sim::SimNode;
use portwright_core::{Observed, PciAddress, Plan, Profiles, Reason, plan};

/// A folder.
struct Scenario {
    name: String,
    folder: PathBuf,
    observed: Observed,
    desired: Desired,
}

/// `daemon.json`: what only the daemon knows.
#[derive(Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Daemon {
    /// Whether pods can be evicted.
    cluster: bool,
    /// PFs to release.
    release: BTreeSet<PciAddress>,
    /// Names of policies that are gone.
    former: BTreeSet<String>,
    /// PFs as they were when last verified, which they go back to.
    fall_back: Vec<Pf>,
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn scenarios() -> Vec<Scenario> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/scenarios");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    folders.into_iter().map(scenario).collect()
}

fn scenario(folder: PathBuf) -> Scenario {
    let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
    let observed = serde_json::from_str(&text(&folder.join("observed.json")))
        .unwrap_or_else(|error| panic!("{name}/observed.json: {error}"));
    let policy = text(&folder.join("policy.yaml"));
    let documents = portwright_api::load([("policy.yaml", policy.as_str())])
        .unwrap_or_else(|errors| panic!("{name}/policy.yaml: {errors:#?}"));
    let bindings = folder.join("bindings.json");
    let bindings =
        if bindings.exists() { serde_json::from_str(&text(&bindings)).unwrap() } else { Default::default() };
    let daemon = folder.join("daemon.json");
    let daemon: Daemon = if daemon.exists() {
        serde_json::from_str(&text(&daemon)).unwrap_or_else(|error| panic!("{name}/daemon.json: {error}"))
    } else {
        Daemon::default()
    };
    let desired = Desired {
        documents,
        bindings,
        cluster: daemon.cluster,
        release: daemon.release,
        former: daemon.former,
        fall_back: daemon.fall_back.into_iter().map(|pf| (pf.address, pf)).collect(),
        ..Desired::default()
    };
    Scenario { name, folder, observed, desired }
}

fn profiles() -> Profiles {
    portwright::builtin::profiles().unwrap()
}

#[test]
fn every_scenario_plans_as_its_folder_says() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    for scenario in scenarios() {
        let made = format!("{}\n", render(&plan(&scenario.observed, &scenario.desired, &profiles())));
        let file = scenario.folder.join("plan.txt");
        if update {
            std::fs::write(&file, &made).unwrap();
        } else if std::fs::read_to_string(&file).unwrap_or_default() != made {
            eprintln!("--- {} should be\n{}--- and is\n{made}", scenario.name, text(&file));
            wrong.push(scenario.name);
        }
    }
    assert!(wrong.is_empty(), "not as their plan.txt: {wrong:?}; UPDATE=1 writes them anew");
}

#[test]
fn every_scenario_can_be_carried_out_and_leaves_nothing_to_do() {
    for scenario in scenarios() {
        let Scenario { name, observed, desired, .. } = scenario;
        let first = plan(&observed, &desired, &profiles());
        if !first.unknown.is_empty() {
            // What nobody could read the simulator cannot know either.
            continue;
        }
        let mut node = SimNode::from_observed(&observed);
        let seen = node.observe().unwrap();
        assert_eq!(first, plan(&seen, &desired, &profiles()), "{name}: the simulated node looks otherwise");
        allow(&mut node, &desired, &first);
        for report in run_steps(&mut node, &first, &mut |_| {}) {
            assert_eq!(report.outcome, Outcome::Done, "{name}: {}", report.step);
        }
        assert!(node.violations().is_empty(), "{name}: {:?}", node.violations());
        let after = plan(&node.observe().unwrap(), &desired, &profiles());
        assert!(after.steps.is_empty(), "{name}: {}", render(&after));
        assert_eq!(told(&after), told(&first), "{name}: other obstacles than before");
    }
}

/// Tells the simulator which functions may be touched although the node is reached over them.
fn allow(node: &mut SimNode, desired: &Desired, plan: &Plan) {
    let mut entries = desired.documents.iter().flat_map(|document| &document.nics);
    if entries.any(|entry| entry.allow_management_path) {
        node.kernel.allowed.extend(plan.subjects.iter().filter_map(|subject| subject.object.pf()));
    }
}

fn told(plan: &Plan) -> BTreeSet<(String, Reason)> {
    plan.blocked.iter().map(|blocked| (blocked.object.to_string(), blocked.reason)).collect()
}

#[test]
fn an_observed_node_is_the_same_after_it_was_written_and_read() {
    for Scenario { name, observed, .. } in scenarios() {
        let written = serde_json::to_string(&observed).unwrap();
        assert_eq!(serde_json::from_str::<Observed>(&written).unwrap(), observed, "{name}");
    }
}

/// Obstacles that only bridges and mirrors meet.
const OF_BRIDGES: &[Reason] = &[
    Reason::NameConflict,
    Reason::ForeignPorts,
    Reason::UplinkInUse,
    Reason::UplinkLoop,
    Reason::InterfaceMissing,
    Reason::BridgeMissing,
    Reason::MirrorOutputMissing,
    Reason::TooManyMirrors,
    Reason::DatapathMissing,
    Reason::OvsUnreachable,
];

#[test]
fn the_scenarios_show_every_reason_every_change_and_every_disruption_policy() {
    let (mut reasons, mut changes) = (BTreeSet::new(), BTreeSet::new());
    let (mut policies, mut modes) = (Vec::new(), Vec::new());
    let mut bridges = false;
    for Scenario { observed, desired, .. } in scenarios() {
        let made = plan(&observed, &desired, &profiles());
        reasons.extend(made.blocked.iter().map(|blocked| blocked.reason));
        changes.extend(made.steps.iter().map(|step| step.change.action()));
        policies.extend(desired.documents.iter().map(|document| document.disruption));
        modes.extend(desired.documents.iter().map(|document| document.mode));
        bridges |= desired.documents.iter().any(|document| document.ovs != Wishes::default());
    }
    let mut missing: Vec<Reason> = Reason::ALL.iter().copied().filter(|r| !reasons.contains(r)).collect();
    // Found after an apply, not by planning; and what bridges alone can show, while no scenario has one.
    missing.retain(|reason| !matches!(reason, Reason::NotReadBack | Reason::NotApplied | Reason::Contended));
    missing.retain(|reason| bridges || !OF_BRIDGES.contains(reason));
    assert!(missing.is_empty(), "no scenario shows {missing:?}");
    let all = [
        "write-udev-rule",
        "load-module",
        "set-pf-up",
        "set-pf-mtu",
        "set-autoprobe",
        "set-num-vfs",
        "set-eswitch",
        "unbind-vf",
        "bind-vf",
        "reprobe-vf",
        "set-vf-mac",
        "set-vf-vlan",
        "set-vf-spoof-check",
        "set-vf-trust",
        "set-vf-rate",
        "set-vf-link-state",
        "rename-vf",
        "set-vf-mtu",
    ];
    let unseen: Vec<&str> = all.into_iter().filter(|action| !changes.contains(action)).collect();
    assert!(unseen.is_empty(), "no scenario shows {unseen:?}");
    for policy in [
        DisruptionPolicy::WhenIdle,
        DisruptionPolicy::Evict,
        DisruptionPolicy::Force,
        DisruptionPolicy::Never,
    ] {
        assert!(policies.contains(&policy), "no scenario with {policy:?}");
    }
    assert!(modes.contains(&Mode::Plan) && modes.contains(&Mode::Apply));
}

#[test]
fn every_folder_says_where_its_data_come_from() {
    for Scenario { name, folder, .. } in scenarios() {
        let readme = text(&folder.join("README.txt"));
        let said = ["Written by hand", "Captured"].iter().any(|words| readme.contains(words));
        assert!(said, "{name}/README.txt must say `Written by hand` or `Captured …`");
    }
}
