//! What nobody could read is never equal to a wish and never a step, and a node that is only half known never makes the
//! planner stumble.

use portwright_core::id::{Object, PciAddress};
use portwright_core::observed::{Netdev, Observed, Vf};
use portwright_core::step::{Change, Step};
use portwright_core::{Fact, Plan, Profiles, plan};

use crate::case::Case;
use crate::choices::Choices;

/// Plans from half of what there is to know about the case's node.
pub fn check(case: &Case, numbers: &[u16], profiles: &Profiles) -> Result<(), String> {
    let mut node = case.node.clone();
    let mut observed = portwright_core::drive::Node::observe(&mut node).map_err(|error| error.to_string())?;
    let mut reversed: Vec<u16> = numbers.to_vec();
    reversed.reverse();
    forget(&mut Choices::new(&reversed), &mut observed);
    for stage in &case.stages {
        let made = plan(&observed, &stage.desired, profiles);
        if plan(&observed, &stage.desired, profiles) != made {
            return Err("planning is not deterministic".to_owned());
        }
        for step in &made.steps {
            if let Some(why) = rests_on_nothing(&observed, &made, step) {
                return Err(format!("`{step}` rests on {why}, which is not known"));
            }
        }
    }
    Ok(())
}

fn lose<T>(choices: &mut Choices<'_>, fact: &mut Fact<T>) {
    match choices.below(4) {
        0 | 1 => {}
        2 => *fact = Fact::UNKNOWN,
        _ => *fact = Fact::UNSUPPORTED,
    }
}

/// Forgets here and there.
fn forget(choices: &mut Choices<'_>, observed: &mut Observed) {
    lose(choices, &mut observed.node.iommu);
    if choices.chance(20) {
        observed.node.mac_seed = None;
    }
    if choices.chance(20) {
        observed.links.clear();
    }
    if choices.chance(20) {
        observed.node.drivers.clear();
        observed.node.modules.clear();
    }
    for pf in &mut observed.pfs {
        lose(choices, &mut pf.autoprobe);
        lose(choices, &mut pf.eswitch);
        pf.netdevs.iter_mut().for_each(|netdev| forget_netdev(choices, netdev));
        if choices.chance(10) {
            pf.netdevs.clear();
        }
        // Numbers with gaps, as when VFs were given away one by one.
        let stride = if choices.chance(15) { 3 } else { 1 };
        for vf in &mut pf.vfs {
            vf.index *= stride;
            forget_vf(choices, vf);
        }
    }
}

fn forget_netdev(choices: &mut Choices<'_>, netdev: &mut Netdev) {
    lose(choices, &mut netdev.mtu);
    lose(choices, &mut netdev.up);
    if choices.chance(20) {
        netdev.mac = None;
        netdev.carrier = None;
    }
}

fn forget_vf(choices: &mut Choices<'_>, vf: &mut Vf) {
    lose(choices, &mut vf.admin.mac);
    lose(choices, &mut vf.admin.vlan);
    lose(choices, &mut vf.admin.spoof_check);
    lose(choices, &mut vf.admin.trust);
    lose(choices, &mut vf.admin.tx_rate);
    lose(choices, &mut vf.admin.link_state);
    vf.netdevs.iter_mut().for_each(|netdev| forget_netdev(choices, netdev));
    if choices.chance(10) {
        vf.netdevs.clear();
    }
}

/// What a step expects although nobody knows it; `None` if all is well.
fn rests_on_nothing(observed: &Observed, plan: &Plan, step: &Step) -> Option<&'static str> {
    let pf = observed.pf(step.object.pf()?)?;
    let netdev = pf.netdev();
    let known = match &step.change {
        Change::SetPfUp { .. } => (netdev?.up.is(&false), "the link's state"),
        Change::SetPfMtu { from, .. } => (netdev?.mtu.is(from), "the MTU"),
        Change::SetEswitch { from, .. } => (pf.eswitch.is(from), "the e-switch mode"),
        Change::SetAutoprobe { .. } => (pf.autoprobe.known().is_some(), "autoprobe"),
        _ => return rests_on_no_vf(observed, plan, step, pf.address),
    };
    (!known.0).then_some(known.1)
}

fn rests_on_no_vf(observed: &Observed, plan: &Plan, step: &Step, pf: PciAddress) -> Option<&'static str> {
    let Object::Vf(vf) = &step.object else { return None };
    let remakes =
        |other: &Step| other.object == Object::Pci(pf) && matches!(other.change, Change::SetNumVfs { .. });
    if plan.steps.iter().any(remakes) {
        return None;
    }
    let admin = &observed.vf(*vf)?.admin;
    let known = match &step.change {
        Change::SetVfMac { .. } => (admin.mac.known().is_some(), "the MAC"),
        Change::SetVfVlan { .. } => (admin.vlan.known().is_some(), "the VLAN"),
        Change::SetVfSpoofCheck { .. } => (admin.spoof_check.known().is_some(), "the spoof check"),
        Change::SetVfTrust { .. } => (admin.trust.known().is_some(), "trust"),
        Change::SetVfRate { .. } => (admin.tx_rate.known().is_some(), "the rates"),
        Change::SetVfLinkState { .. } => (admin.link_state.known().is_some(), "the link state"),
        _ => (true, ""),
    };
    (!known.0).then_some(known.1)
}
