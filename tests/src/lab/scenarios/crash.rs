//! The agent dies, at every point where that could matter, and the next run finishes what was begun.

use super::{Lab, Scenario, iommu};
use crate::lab::gate::Gate;
use crate::lab::{cli, guest, policy, sys};
use anyhow::{Context as _, Result, bail, ensure};
use std::time::Duration;

pub(super) fn table() -> Vec<Scenario> {
    vec![
        iommu("crash-chain-along-the-big-plan", chain),
        iommu("crash-before-each-kind-of-step", before_each_kind),
        iommu("crash-before-writing-the-number-of-vfs", before_number),
        iommu("crash-before-binding-a-vf", before_bind),
        iommu("crash-before-overriding-a-driver", before_override),
        Scenario { long: true, ..iommu("crash-matrix-after-every-step", matrix) },
    ]
}

/// More runs than the big plan has steps would mean that runs make no progress.
const MOST_RUNS: usize = 60;

/// One chain without resets: each run is killed as soon as it reports its first step, so each gets one step further.
fn chain(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    let document = policy::document(&[policy::nic(&pf, &policy::three_groups(100))]);
    let steps = cli::plan(&document)?.steps.len();
    let mut killed = 0;
    loop {
        ensure!(killed < MOST_RUNS, "{killed} runs were killed and the plan is still not done");
        if !killed_after(&document, 1).with_context(|| format!("run {killed}"))? {
            break;
        }
        killed += 1;
    }
    lab.note(&format!("{killed} runs killed along a plan of {steps} steps"))?;
    ensure!(killed >= 5, "only {killed} runs could be killed: this shows nothing");
    finished(&pf, &document)
}

/// Starts an apply and kills it right after it reported step number `step`. False if it ended by itself.
fn killed_after(document: &str, step: usize) -> Result<bool> {
    let mut running = cli::start_apply(document)?;
    let mark = format!("[{step}/");
    loop {
        match running.next_line(cli::DEADLINE) {
            Some(line) if line.starts_with(&mark) => {
                running.kill()?;
                running.finish(Duration::from_secs(30))?;
                return Ok(true);
            }
            Some(_) => {}
            None => {
                let output = running.finish(Duration::from_secs(30))?;
                match output.code {
                    Some(0) => return Ok(false),
                    _ => bail!("an apply after a crash failed:\n{output}"),
                }
            }
        }
    }
}

/// The next run converges, with autoprobe as it was found and every VF at its driver.
fn finished(pf: &str, document: &str) -> Result<()> {
    guest::wait_for_carrier(pf)?;
    cli::converge(document)?;
    ensure!(guest::attribute(pf, "sriov_drivers_autoprobe")? == "1", "autoprobe was not put back");
    let drivers: Vec<String> =
        guest::vfs(pf).iter().map(|(_, vf)| guest::driver(vf).unwrap_or_else(|| "none".to_owned())).collect();
    let want = ["vfio-pci", "vfio-pci", "igbvf", "igbvf", "igbvf", "igbvf", "igbvf"];
    ensure!(drivers == want, "drivers are {drivers:?}");
    Ok(())
}

/// Kills the run just before the first step of each kind, from a clean start each time.
fn before_each_kind(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    let document = policy::document(&[policy::nic(&pf, &policy::three_groups(100))]);
    fresh(lab)?;
    let mut first: Vec<(String, usize)> = Vec::new();
    for (position, step) in cli::plan(&document)?.steps.iter().enumerate() {
        let kind = cli::field(step, "action");
        if !first.iter().any(|(known, _)| known == kind) {
            first.push((kind.to_owned(), position));
        }
    }
    // Nothing stands before the very first step.
    for (kind, done) in first.iter().filter(|(_, done)| *done > 0) {
        fresh(lab)?;
        killed_after(&document, *done)?;
        finished(&pf, &document).with_context(|| format!("after a kill before {kind}"))?;
    }
    let kinds: Vec<&str> = first.iter().map(|(kind, _)| kind.as_str()).collect();
    lab.note(&format!("killed before each of: {}", kinds.join(", ")))
}

/// A machine on which the big plan has every kind of step.
fn fresh(lab: &mut Lab) -> Result<()> {
    lab.reset()?;
    sys::run(sys::command("modprobe", &["-r", "vfio-pci"]), Duration::from_secs(10)).map(|_| ())
}

fn before_number(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    let document = policy::document(&[policy::nic(&pf, &policy::three_groups(100))]);
    killed_at(&format!("/sys/bus/pci/devices/{pf}/sriov_numvfs"), &document)?;
    ensure!(guest::vfs(&pf).is_empty(), "the write went through");
    finished(&pf, &document)
}

/// Binding is `drivers_probe` once the override is in place.
fn before_bind(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    let document = policy::document(&[policy::nic(&pf, &policy::three_groups(100))]);
    killed_at("/sys/bus/pci/drivers_probe", &document)?;
    let bound = guest::vfs(&pf).iter().filter(|(_, vf)| guest::driver(vf).is_some()).count();
    ensure!(bound == 0, "{bound} VFs were bound");
    finished(&pf, &document)
}

fn before_override(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    guest::set_attribute(&pf, "sriov_numvfs", "7")?;
    let vf = guest::vf(&pf, 1)?;
    let document = policy::document(&[policy::nic(&pf, &policy::three_groups(100))]);
    killed_at("/sys/bus/pci/drivers/igbvf/unbind", &document)?;
    ensure!(guest::driver(&vf).as_deref() == Some("igbvf"), "the write went through");
    finished(&pf, &document)
}

/// Runs an apply, stops it exactly where it opens this file for writing, and kills it there.
fn killed_at(file: &str, document: &str) -> Result<()> {
    let gate = Gate::before(file)?;
    let mut running = cli::start_apply(document)?;
    let reached = gate.reached(Duration::from_secs(40));
    running.kill()?;
    let output = running.finish(Duration::from_secs(30))?;
    reached.with_context(|| format!("apply never wrote {file}:\n{output}"))?;
    gate.open()
}

/// Every step of the big plan, from a clean start each time.
fn matrix(lab: &mut Lab) -> Result<()> {
    let pf = lab.card(0)?;
    let document = policy::document(&[policy::nic(&pf, &policy::three_groups(100))]);
    let steps = cli::plan(&document)?.steps.len();
    for step in 1..=steps {
        lab.reset()?;
        // The last steps may be done before the kill arrives.
        killed_after(&document, step)?;
        finished(&pf, &document).with_context(|| format!("after a kill behind step {step}"))?;
    }
    lab.note(&format!("{steps} kill points"))?;
    sys::remove("/tmp/policy.yaml")
}
