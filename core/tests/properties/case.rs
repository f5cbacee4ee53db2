//! A case: a node, and a story of policies, interruptions and other people.

use portwright_core::desired::{Desired, EswitchMode, NicEntry};
use portwright_core::id::{PciAddress, VfRef};
use portwright_core::sim::{Errno, Event, SimNode};

use crate::choices::Choices;
use crate::node::{self, open_file};
use crate::policy;

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    pub node: SimNode,
    pub stages: Vec<Stage>,
    /// Which profiles are missing: 1 is ice's, 2 is mlx5's, 3 both.
    pub gaps: usize,
}

/// One policy and what happens while it is applied and after.
#[derive(Debug, Clone)]
pub struct Stage {
    pub desired: Desired,
    /// Stop after so many thousandths of the first plan's steps.
    pub cut: Option<usize>,
    /// Counted from the stage's first step.
    pub before_step: Vec<(u32, Event)>,
    /// Counted from the stage's first write.
    pub before_write: Vec<(u32, Event)>,
    /// After the plan has come out empty.
    pub afterwards: Vec<Event>,
}

impl Case {
    pub fn new(numbers: &[u16]) -> Case {
        let mut choices = Choices::new(numbers);
        let node = node::node(&mut choices);
        let count = 1 + choices.below(3);
        let stages: Vec<Stage> = (0..count).map(|_| stage(&mut choices, &node)).collect();
        // Nobody could foresee that a driver whose name is not known is missing, nor what it refuses in switchdev mode.
        let foreseeable = node.kernel.node.driver_loaded("iavf") && !speaks_of_switchdev(&node, &stages);
        let gaps = if choices.chance(12) && foreseeable { choices.below(4) } else { 0 };
        Case { node, stages, gaps }
    }
}

fn stage(choices: &mut Choices<'_>, node: &SimNode) -> Stage {
    let desired = policy::desired(choices, &node.kernel);
    let cut = choices.chance(30).then(|| choices.below(1001));
    let mut stage =
        Stage { desired, cut, before_step: Vec::new(), before_write: Vec::new(), afterwards: Vec::new() };
    if choices.chance(40) {
        for _ in 0..=choices.below(2) {
            stage.before_write.push((offset(choices), Event::Crash));
        }
    }
    if choices.chance(25) {
        let at = offset(choices);
        let pf = some_pf(choices, node);
        let event = fault(choices, pf);
        stage.before_write.push((at, event));
    }
    if choices.chance(25) {
        let at = offset(choices);
        let vf = some_vf(choices, node);
        let event = taking(choices, vf);
        stage.before_step.push((at, event));
    }
    for _ in 0..choices.below(4) {
        let event = later(choices, node);
        stage.afterwards.push(event);
    }
    stage
}

/// Small ones more often: most plans are short.
fn offset(choices: &mut Choices<'_>) -> u32 {
    let most = choices.of(&[6, 12, 30, 80]);
    1 + u32::try_from(choices.below(most)).unwrap()
}

fn some_pf(choices: &mut Choices<'_>, node: &SimNode) -> PciAddress {
    let all: Vec<PciAddress> = node.kernel.pfs.keys().copied().collect();
    choices.of(&all)
}

fn some_vf(choices: &mut Choices<'_>, node: &SimNode) -> VfRef {
    let pf = some_pf(choices, node);
    VfRef { pf, index: choices.count(7) }
}

fn fault(choices: &mut Choices<'_>, pf: PciAddress) -> Event {
    match choices.below(6) {
        0 => Event::EnablesAtMost(pf, choices.count(3)),
        1 => Event::NumVfsFails(pf, Errno::NoSpace),
        2 => Event::LateNetdevs(pf, 1 + choices.count(3)),
        3 => Event::PfDown(pf),
        4 => Event::PfVanishes(pf),
        _ => Event::PfDriverUnbound(pf),
    }
}

fn taking(choices: &mut Choices<'_>, vf: VfRef) -> Event {
    match choices.below(3) {
        0 => Event::Allocated(vf, "late-0".to_owned()),
        1 => Event::NetdevLeaves(vf, "late".to_owned()),
        _ => {
            let vfio = choices.chance(50);
            Event::Opened(vf, open_file(choices, vfio))
        }
    }
}

/// What pods, administrators and hardware do between two applies.
fn later(choices: &mut Choices<'_>, node: &SimNode) -> Event {
    let (pf, vf) = (some_pf(choices, node), some_vf(choices, node));
    match choices.below(8) {
        0 => Event::NetdevLeaves(vf, "pod".to_owned()),
        1 => Event::NetdevReturns(vf),
        2 => Event::Freed(vf),
        3 => Event::Closed(vf),
        4 => Event::PfReturns(pf),
        5 => Event::PfDriverBound(pf),
        6 => taking(choices, vf),
        _ => fault(choices, pf),
    }
}

fn speaks_of_switchdev(node: &SimNode, stages: &[Stage]) -> bool {
    let wanted = |entry: &NicEntry| entry.eswitch == Some(EswitchMode::Switchdev);
    node.kernel.pfs.values().any(|pf| pf.eswitch == EswitchMode::Switchdev)
        || stages
            .iter()
            .any(|stage| stage.desired.documents.iter().any(|document| document.nics.iter().any(wanted)))
}
