//! Holders and the management path, looked at again right before a step: between planning and doing, a pod may have come. A VF in use is not touched
//! even by what disrupts nobody: its trust, rate, name and MTU are its user's.

use portwright_core::drive::RunError;
use portwright_core::management::ManagementPath;
use portwright_core::usage::uses;
use portwright_core::{Change, Disruption, Object, Observed, Step, VfRef};

use super::{Checked, Look};

/// Whether a step takes a VF from whoever uses it, or changes one under its user. Where there is no VF yet, or none with a
/// driver, there is no user, and the node need not be looked at again.
pub(crate) fn touches_vfs(look: Look<'_>, step: &Step) -> Checked<bool> {
    match &step.object {
        Object::Pci(pf) => Ok(step.disruption != Disruption::None && look.vf_count(*pf)? > 0),
        Object::Vf(_) if step.disruption != Disruption::None => Ok(true),
        Object::Vf(vf) => Ok(look.driver(look.vf(*vf)?)?.is_some()),
        Object::Node | Object::Policy(..) | Object::Named(_) => Ok(false),
    }
}

/// Refuses a step if somebody uses a VF that it disrupts: whoever it is came after the plan was made. `Force` takes VFs from
/// pods and namespaces, never from open device files.
pub(crate) fn check_holders(observed: &Observed, step: &Step) -> Checked<()> {
    for vf in touched(observed, step) {
        let mut users = uses(observed, vf);
        users.retain(|user| !(step.force && user.yields_to_force()));
        if !users.is_empty() {
            let users: Vec<String> = users.iter().map(ToString::to_string).collect();
            let users = users.join(", and ");
            return Err(RunError::Stale { found: format!("VfInUse: VF {} of {} {users}", vf.index, vf.pf) });
        }
    }
    Ok(())
}

/// Whether a step on a port would cut the node off if the node were reached over that port.
pub(crate) fn may_cut_off(step: &Step) -> bool {
    let disrupts = step.disruption != Disruption::None || matches!(step.change, Change::SetPfMtu { .. });
    disrupts && matches!(step.object, Object::Pci(_))
}

/// Refuses a step on a port that the node has come to be reached over since it was observed: an address, a route or a session
/// was set up meanwhile. A port that was on the path already is on it with the policy's leave.
pub(crate) fn check_management(before: &ManagementPath, now: &ManagementPath, step: &Step) -> Checked<()> {
    let Object::Pci(pf) = step.object else { return Ok(()) };
    match now.why_pf(pf).filter(|_| before.why_pf(pf).is_none()) {
        Some(why) => Err(RunError::Stale { found: format!("ManagementPath: {pf} {why}") }),
        None => Ok(()),
    }
}

/// The VFs that the step takes from whoever uses them, or changes under them.
fn touched(observed: &Observed, step: &Step) -> Vec<VfRef> {
    match (&step.object, &step.change) {
        (Object::Vf(vf), _) => vec![*vf],
        // A change of the MTU disrupts only where the driver resets the port for it.
        (Object::Pci(_), Change::SetPfMtu { .. }) if step.disruption == Disruption::None => Vec::new(),
        (Object::Pci(pf), Change::SetNumVfs { .. } | Change::SetEswitch { .. } | Change::SetPfMtu { .. }) => {
            let vfs = observed.pf(*pf).map(|pf| pf.vfs.as_slice()).unwrap_or_default();
            vfs.iter().map(|vf| VfRef { pf: *pf, index: vf.index }).collect()
        }
        (Object::Pci(_) | Object::Node | Object::Policy(..) | Object::Named(_), _) => Vec::new(),
    }
}
