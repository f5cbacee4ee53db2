//! Plays a case with a planner: plan, apply (cut off, crashed, disturbed), plan again, until the plan is empty; and checks
//! after each move what must hold.

use portwright_core::desired::Desired;
use portwright_core::drive::{Node, Outcome, run_steps};
use portwright_core::id::VfRef;
use portwright_core::sim::{Kernel, SimNode, SimVf};
use portwright_core::step::Change;
use portwright_core::{Observed, Plan, Profiles};

use crate::case::{Case, Stage};
use crate::oracle;
use crate::policy::{Binding, binding};

/// Anything that plans: the planner, or one with a mistake.
pub type Planner<'a> = dyn Fn(&Observed, &Desired, &Profiles) -> Plan + 'a;

/// How often a plan may be made before it has to be empty: interruptions come at most four times in a stage.
const ROUNDS: usize = 12;

/// What a case exercised, to see that the generator is worth its time.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub plans: u64,
    pub steps: u64,
    pub blocked: u64,
    pub crashes: u64,
    pub failures: u64,
}

/// The profiles of the families that are played, as they ship, and with gaps: a family without profile is untested hardware.
pub struct Shelf {
    sets: Vec<Profiles>,
}

impl Shelf {
    pub fn new() -> Shelf {
        let always = [
            ("igb.toml", include_str!("../../../hw-profiles/igb.toml")),
            ("mlx4.toml", include_str!("../../../hw-profiles/mlx4.toml")),
            ("cxgb4.toml", include_str!("../../../hw-profiles/cxgb4.toml")),
        ];
        let ice = ("ice.toml", include_str!("../../../hw-profiles/ice.toml"));
        let mlx5 = ("mlx5.toml", include_str!("../../../hw-profiles/mlx5.toml"));
        let sets = [vec![ice, mlx5], vec![mlx5], vec![ice], vec![]]
            .into_iter()
            .map(|some| Profiles::parse(always.into_iter().chain(some)).unwrap())
            .collect();
        Shelf { sets }
    }

    /// What is known in a case.
    pub fn of(&self, case: &Case) -> &Profiles {
        &self.sets[case.gaps]
    }
}

/// Plays a case; the error is the first thing that must not be.
pub fn play(case: &Case, shelf: &Shelf, planner: &Planner<'_>, tally: &mut Tally) -> Result<(), String> {
    let profiles = shelf.of(case);
    let mut node = case.node.clone();
    for (number, stage) in case.stages.iter().enumerate() {
        play_stage(&mut node, stage, profiles, planner, tally)
            .map_err(|why| format!("stage {number}: {why}"))?;
        node.remember();
        for event in &stage.afterwards {
            node.happen(event);
        }
    }
    Ok(())
}

fn play_stage(
    node: &mut SimNode,
    stage: &Stage,
    profiles: &Profiles,
    planner: &Planner<'_>,
    tally: &mut Tally,
) -> Result<(), String> {
    for (offset, event) in &stage.before_step {
        node.schedule.before_step.entry(node.steps + offset).or_default().push(event.clone());
    }
    for (offset, event) in &stage.before_write {
        node.schedule.before_write.entry(node.writes + offset).or_default().push(event.clone());
    }
    let mut must_be_empty = false;
    for round in 0..ROUNDS {
        allow(&mut node.kernel, &stage.desired);
        let plan = plan_checked(node, &stage.desired, profiles, planner)?;
        tally.plans += 1;
        tally.blocked += u64::try_from(plan.blocked.len()).unwrap();
        if plan.steps.is_empty() {
            node.schedule = Default::default();
            return oracle::check_goal(node, &stage.desired, &plan);
        }
        if must_be_empty {
            return Err(format!("a complete and undisturbed apply left: {}", texts(&plan)));
        }
        let cut = stage.cut.filter(|_| round == 0).map(|part| plan.steps.len() * part / 1000);
        must_be_empty = run(node, &plan, cut, tally)? && cut.is_none();
    }
    Err("does not converge".to_owned())
}

/// Runs a plan or the beginning of it. The answer is whether it was all done and nothing else happened.
fn run(node: &mut SimNode, plan: &Plan, cut: Option<usize>, tally: &mut Tally) -> Result<bool, String> {
    let mut part = plan.clone();
    part.steps.truncate(cut.unwrap_or(usize::MAX));
    let pending = scheduled(node);
    // A pod whose VF was taken away by force has it again as soon as it is made, which nobody sees before.
    let ghosts = node.kernel.kubelet.keys().any(|vf| node.kernel.vf(*vf).is_none());
    let disturbed = armed(node) || ghosts;
    let reports = run_steps(node, &part, &mut |_| {});
    if let Some(violation) = node.violations().first() {
        return Err(format!("{violation}; the plan was: {}", texts(plan)));
    }
    tally.steps += u64::try_from(reports.len()).unwrap();
    // A module that is loaded takes devices by itself, so later steps may find them bound.
    let loads = plan.steps.iter().any(|step| matches!(step.change, Change::LoadModule { .. }));
    // Whether a port gets carrier is known only when it is up.
    let no_cable = node.kernel.pfs.values().any(|pf| !pf.cable);
    let hopes = no_cable && plan.steps.iter().any(|step| matches!(step.change, Change::SetPfUp { .. }));
    let disturbed = disturbed || scheduled(node) != pending || loads || hopes;
    for report in &reports {
        if let Outcome::Failed { why } | Outcome::Stale { found: why } = &report.outcome {
            tally.failures += 1;
            if !disturbed {
                return Err(format!(
                    "`{}` failed without cause: {why}; the plan was: {}",
                    report.step,
                    texts(plan)
                ));
            }
        }
    }
    if node.crashed() {
        tally.crashes += 1;
        node.restart();
    }
    Ok(!disturbed)
}

/// Plans twice (it must come out the same) and checks the plan.
fn plan_checked(
    node: &mut SimNode,
    desired: &Desired,
    profiles: &Profiles,
    planner: &Planner<'_>,
) -> Result<Plan, String> {
    let observed = node.observe().map_err(|error| error.to_string())?;
    let plan = planner(&observed, desired, profiles);
    if planner(&observed, desired, profiles) != plan {
        return Err("planning is not deterministic".to_owned());
    }
    if node.observe().map_err(|error| error.to_string())? != observed {
        // Something that was late has arrived; what was planned may be stale, and nothing else.
        return plan_checked(node, desired, profiles, planner);
    }
    oracle::check_plan(node, &observed, desired, &plan)
        .map_err(|why| format!("{why}; the plan was: {}; {:?}", texts(&plan), plan.blocked))?;
    Ok(plan)
}

/// Functions that their policy allows to touch although the node is reached over them.
pub fn allow(kernel: &mut Kernel, desired: &Desired) {
    let mut allowed = Vec::new();
    for (address, pf) in &kernel.pfs {
        if let Binding::To(document, entry) = binding(desired, kernel, *address)
            && desired.documents[document].nics[entry].allow_management_path
        {
            allowed.push(*address);
            let vf = |index| SimVf::new(VfRef { pf: *address, index }, false, false).address;
            allowed.extend((0..=pf.shown.total_vfs).map(vf));
        }
    }
    kernel.allowed = allowed.into_iter().collect();
}

fn scheduled(node: &SimNode) -> usize {
    node.schedule.before_step.len() + node.schedule.before_write.len()
}

/// Whether a fault waits for its write.
fn armed(node: &SimNode) -> bool {
    node.kernel.pfs.values().any(|pf| !pf.enables.is_empty() || pf.refuses.is_some() || pf.late_netdevs > 0)
}

pub fn texts(plan: &Plan) -> String {
    plan.steps.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A failing case, short enough to be read.
pub fn describe(case: &Case) -> String {
    let mut text = String::new();
    let kernel = &case.node.kernel;
    let facts = &kernel.node;
    text += &format!(
        "iommu {:?}, drivers {:?}, rule {}\n",
        facts.iommu,
        facts.drivers,
        facts.udev_rule.is_some()
    );
    text += &format!("profile gaps {}\n", case.gaps);
    text += &format!("protected {:?} links {:?} {:?}\n", kernel.protected, kernel.links, kernel.management);
    for (address, pf) in &kernel.pfs {
        text += &format!(
            "{address} {:?} driver {:?} total {} autoprobe {} {} {:?}\n",
            pf.family, pf.driver, pf.shown.total_vfs, pf.autoprobe, pf.eswitch, pf.netdev
        );
        for (index, vf) in &pf.vfs {
            let netdev = vf
                .netdev
                .as_ref()
                .map(|n| (&n.name, n.mac.to_string(), n.mtu, &n.master, &n.addresses, &n.away));
            let SimVf { driver, driver_override, files, group_peers, late, admin, .. } = vf;
            text += &format!(
                "  {index}: {driver:?} override {driver_override:?} {netdev:?} {} {files:?} {group_peers:?} {late} {:?}\n",
                admin.mac, admin.vlan
            );
        }
    }
    text += &format!("{:?} {:?}\n", kernel.kubelet, case.node.state_dir);
    for stage in &case.stages {
        text += &format!(
            "stage {:?} {:?} {:?} {:?} bindings {:?}\n",
            stage.cut, stage.before_step, stage.before_write, stage.afterwards, stage.desired.bindings
        );
        for document in &stage.desired.documents {
            text +=
                &format!("  {} priority {} {:?}\n", document.name, document.priority, document.disruption);
            for entry in &document.nics {
                text += &format!("    {entry:?}\n");
            }
        }
    }
    text
}
