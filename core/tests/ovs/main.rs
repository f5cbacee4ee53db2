//! Properties of plans for Open vSwitch: for random switches, links and policies, each step finds what it expects; carrying
//! the plan out leaves nothing to do; so does planning again after any prefix; and nothing of others is touched.
//!
//! `PORTWRIGHT_SEED` and `PORTWRIGHT_CASES` choose the cases.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "tests fail by panicking and say on the terminal with which seed"
)]

#[path = "../properties/choices.rs"]
mod choices;
mod generate;
mod pods;

use std::collections::BTreeMap;

use portwright_core::desired::{Desired, DisruptionPolicy};
use portwright_core::ovs::{self, Bridge, Mirror, OWNER_KEY, Port, Target};
use portwright_core::{Change, Disruption, Observed, Plan, Profiles, Step, plan};
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use choices::Choices;

const CASES: u32 = 10_000;

type Checked = Result<(), String>;

fn number(variable: &str, otherwise: u32) -> u32 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// Carries out a step on the model, if it finds what it expects.
fn run(observed: &mut Observed, step: &Step) -> Checked {
    let Change::Ovs { owner, change } = &step.change else {
        return Err(format!("{step} is not of Open vSwitch"));
    };
    let target = Target::of(&step.object).ok_or_else(|| format!("{step} names nothing"))?;
    let ovs = observed.ovs.as_mut().ok_or("nothing to change")?;
    if let Some(found) = ovs::conflict(ovs, &target, owner, change) {
        return Err(format!("{step} is stale at once: {found}"));
    }
    ovs::perform(ovs, &target, owner, change);
    Ok(())
}

fn planned(observed: &Observed, desired: &Desired) -> Plan {
    plan(observed, desired, &Profiles::default())
}

/// Everything that is not ours, by object: what of it must stay as it is.
fn foreign(observed: &Observed, desired: &Desired) -> BTreeMap<String, String> {
    let ours = |owner: Option<&str>| desired.documents.iter().any(|one| Some(one.name.as_str()) == owner);
    let adopted = |bridge: &str| {
        desired.documents.iter().flat_map(|one| &one.ovs.bridges).any(|one| one.name == bridge && one.adopt)
    };
    let collected = |port: &Port| port.gone_for.is_some() && port.external_ids.contains_key("owner");
    let mut rows = BTreeMap::new();
    for bridge in observed.ovs.iter().flat_map(|ovs| &ovs.bridges) {
        let Bridge { name, ports, mirrors, .. } = bridge;
        if !ours(bridge.owner()) && !adopted(name) {
            let bare = Bridge { ports: Vec::new(), mirrors: Vec::new(), ..bridge.clone() };
            rows.insert(format!("bridge {name}"), format!("{bare:?}"));
        }
        for port in ports.iter().filter(|port| port.name != *name) {
            if !ours(port.owner()) && !adopted(name) && !collected(port) {
                rows.insert(format!("port {name}/{}", port.name), format!("{port:?}"));
            }
        }
        for (number, mirror) in
            mirrors.iter().filter(|mirror| !ours(mirror.owner()) && !adopted(name)).enumerate()
        {
            // Open vSwitch itself takes ports that go out of a mirror.
            let Mirror { name: mirror_name, copies, external_ids, counts: _, judged: _ } = mirror;
            let bare = (copies.all, &copies.vlans, copies.output_vlan, copies.snaplen, external_ids);
            rows.insert(format!("mirror {name}/{mirror_name}/{number}"), format!("{bare:?}"));
        }
    }
    rows
}

/// What must not happen to an unlisted port on an adopted bridge.
fn unlisted_stay(before: &Observed, after: &Observed, desired: &Desired) -> Checked {
    let find = |observed: &Observed, bridge: &str, port: &str| {
        observed.ovs.as_ref()?.bridge(bridge)?.port(port).cloned()
    };
    for wish in desired.documents.iter().flat_map(|one| &one.ovs.bridges).filter(|one| one.adopt) {
        let Some(bridge) = before.ovs.as_ref().and_then(|ovs| ovs.bridge(&wish.name)) else { continue };
        for port in bridge.others().filter(|port| !port.external_ids.contains_key(OWNER_KEY)) {
            let listed = desired.documents.iter().flat_map(|one| &one.ovs.bridges).any(|one| {
                one.ports.iter().any(|listed| listed.name == port.name)
                    || one
                        .uplinks
                        .iter()
                        .any(|uplink| format!("{uplink:?}").contains(&format!("{:?}", port.name)))
            });
            if !listed
                && port.gone_for.is_none()
                && find(after, &wish.name, &port.name).as_ref() != Some(port)
            {
                return Err(format!("unlisted port {} of an adopted bridge was changed", port.name));
            }
        }
    }
    Ok(())
}

fn protected(plan: &Plan, observed: &Observed) -> Checked {
    let path = portwright_core::management::management_path(observed);
    let ovs = observed.ovs.as_ref().ok_or("no switch")?;
    for step in &plan.steps {
        let Some(name) = step.object.to_string().split("/port/").nth(1).map(ToOwned::to_owned) else {
            continue;
        };
        let takes = matches!(step.change.action(), "remove-port" | "set-port-vlan" | "set-bond-members");
        let members = ovs.port(&name).map(|(_, port)| port.interfaces.clone()).unwrap_or_default();
        if takes && members.iter().any(|one| one.kind == "system" && path.netdevs.contains_key(&one.name)) {
            return Err(format!("{step} touches the management path"));
        }
    }
    for step in &plan.steps {
        spares_the_way_out(step, observed, ovs)?;
        let bridge = step.object.bridge().and_then(|name| ovs.bridge(name));
        let Some(bridge) = bridge.filter(|_| !step.object.to_string().contains("/port/")) else { continue };
        let carries = bridge.interfaces().any(|one| path.netdevs.contains_key(&one.name));
        let harmful =
            ["set-fail-mode", "set-stp", "set-rstp", "set-mtu-request", "set-datapath", "remove-bridge"];
        if carries && harmful.contains(&step.change.action()) {
            return Err(format!("{step} is on a bridge that the node is reached over"));
        }
    }
    Ok(())
}

/// Who is cut off by a step has to be asked first: the policy, users of VFs, and whoever has ports there.
fn disruption_is_asked_for(plan: &Plan, observed: &Observed, desired: &Desired) -> Checked {
    let ours = |port: &Port| desired.documents.iter().any(|one| Some(one.name.as_str()) == port.owner());
    let adopts = |bridge: &str| {
        desired.documents.iter().flat_map(|one| &one.ovs.bridges).any(|one| one.name == bridge && one.adopt)
    };
    let mut now = observed.clone();
    for step in &plan.steps {
        let before = now.clone();
        run(&mut now, step)?;
        let ovs = before.ovs.as_ref().ok_or("no switch")?;
        let Change::Ovs { owner, .. } = &step.change else { continue };
        let Some(bridge) = step.object.bridge().and_then(|name| ovs.bridge(name)) else { continue };
        let cut: Vec<&Port> = match (step.change.action(), Target::of(&step.object)) {
            ("set-fail-mode" | "set-stp" | "set-rstp" | "set-datapath" | "remove-bridge", _) => {
                bridge.others().collect()
            }
            (
                "set-interface-type" | "set-bond-mode" | "set-lacp" | "set-bond-members" | "remove-port",
                Some(target),
            ) => {
                let ovs::Target::Bridge(_, ovs::Part::Port(name)) = target else { continue };
                bridge.port(&name).into_iter().collect()
            }
            _ => continue,
        };
        let cut: Vec<&Port> = cut.into_iter().filter(|port| port.gone_for.is_none()).collect();
        if cut.is_empty() {
            continue;
        }
        if step.disruption != Disruption::Bridge {
            return Err(format!("{step} cuts ports and is called harmless"));
        }
        let policy = desired.documents.iter().find(|one| one.name == *owner).map(|one| one.disruption);
        if policy == Some(DisruptionPolicy::Never) {
            return Err(format!("{step} under Never"));
        }
        let vfs = || observed.pfs.iter().flat_map(|pf| &pf.vfs).filter(|vf| !vf.holders.is_empty());
        let held = |port: &&&Port| vfs().any(|vf| vf.representor.as_ref() == Some(&port.name));
        if let Some(port) = cut.iter().find(held)
            && !(policy == Some(DisruptionPolicy::Force) && step.force)
        {
            return Err(format!("{step} cuts off the user of a VF behind {}", port.name));
        }
        let foreign = cut.iter().find(|port| !ours(port) && !adopts(&bridge.name));
        if let Some(port) = foreign.filter(|_| !desired.allow_disruption) {
            return Err(format!("{step} cuts off {} of others", port.name));
        }
    }
    Ok(())
}

/// A port that gets a mirror's copies loses its own traffic: it is none with the node's address, and not the only way out of
/// a bridge that has such a port.
fn spares_the_way_out(step: &Step, observed: &Observed, ovs: &ovs::Ovs) -> Checked {
    let Change::Ovs { change, .. } = &step.change else { return Ok(()) };
    let (ovs::Change::AddMirror { to } | ovs::Change::SetMirror { to, .. }) = change.as_ref() else {
        return Ok(());
    };
    let starts: Vec<&str> =
        observed.management.default_routes.iter().map(|route| route.interface.as_str()).collect();
    let Some((bridge, output)) = to.output_port.as_ref().and_then(|output| ovs.port(output)) else {
        return Ok(());
    };
    if bridge.mirrors.iter().any(|mirror| mirror.copies.output_port == to.output_port) {
        return Ok(());
    }
    let has = |port: &Port| port.interfaces.iter().any(|one| starts.contains(&one.name.as_str()));
    let outside = |port: &&Port| port.interfaces.iter().any(|one| one.kind != "internal");
    let alone = outside(&output) && bridge.ports.iter().filter(outside).count() == 1;
    if has(output) || (alone && bridge.ports.iter().any(has)) {
        return Err(format!("{step} drops what the node is reached by"));
    }
    Ok(())
}

fn play(numbers: &[u16], tally: &mut BTreeMap<&'static str, u32>) -> Checked {
    let mut choices = Choices::new(numbers);
    let (mut observed, desired) = generate::case(&mut choices);
    let first = planned(&observed, &desired);
    let allowed = desired.documents.iter().any(|one| {
        one.ovs.bridges.iter().any(|bridge| bridge.uplinks.iter().any(|uplink| uplink.allow_management_path))
    });
    if !allowed {
        protected(&first, &observed)?;
    }
    disruption_is_asked_for(&first, &observed, &desired)?;
    if first != planned(&observed, &desired) {
        return Err("two plans of one node differ".to_owned());
    }
    let before = observed.clone();
    let kept = foreign(&observed, &desired);
    let stop = choices.below(first.steps.len() + 1);
    for step in first.steps.iter().take(if choices.chance(50) { stop } else { usize::MAX }) {
        *tally.entry(step.change.action()).or_default() += 1;
        run(&mut observed, step)?;
    }
    let second = planned(&observed, &desired);
    for step in &second.steps {
        run(&mut observed, step)?;
    }
    let last = planned(&observed, &desired);
    if let Some(step) = last.steps.first() {
        return Err(format!("not converged: {step} of {}", last.steps.len()));
    }
    let after = foreign(&observed, &desired);
    for (row, content) in &kept {
        if after.get(row) != Some(content) {
            return Err(format!("{row} is not ours and was {content}, is {:?}", after.get(row)));
        }
    }
    unlisted_stay(&before, &observed, &desired)
}

#[test]
fn plans_converge_and_leave_what_is_not_ours() {
    let seed = number("PORTWRIGHT_SEED", 1);
    let mut bytes = [0_u8; 32];
    bytes[..4].copy_from_slice(&seed.to_le_bytes());
    let cases = number("PORTWRIGHT_CASES", CASES);
    let config = Config { cases, max_shrink_iters: 20_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let tally = std::cell::RefCell::new(BTreeMap::new());
    let outcome = runner.run(&vec(any::<u16>(), 0..300), |numbers| {
        play(&numbers, &mut tally.borrow_mut()).map_err(TestCaseError::fail)
    });
    println!("{cases} cases with PORTWRIGHT_SEED={seed}: {:?}", tally.borrow());
    if let Err(error) = outcome {
        if let TestError::Fail(why, numbers) = &error {
            let (observed, desired) = generate::case(&mut Choices::new(numbers));
            let text = portwright_core::plan::text::render(&planned(&observed, &desired));
            panic!("PORTWRIGHT_SEED={seed}: {why}\n{text}\n{:#?}\n{desired:#?}", observed.ovs);
        }
        panic!("PORTWRIGHT_SEED={seed}: {error}");
    }
    let actions = [
        "create-bridge",
        "remove-bridge",
        "add-port",
        "remove-port",
        "collect-port",
        "replug-port",
        "set-owner",
        "set-port-vlan",
        "set-datapath",
        "add-mirror",
        "set-mirror",
        "remove-mirror",
        "set-flood-vlans",
    ];
    for action in actions {
        assert!(tally.borrow().contains_key(action), "no case has {action}");
    }
}
