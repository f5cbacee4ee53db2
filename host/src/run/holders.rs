//! Holders, looked at again right before a step: between planning and doing, a pod may have come. A VF in use is not touched
//! even by what disrupts nobody: its trust, rate, name and MTU are its user's.

use portwright_core::drive::RunError;
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

/// The VFs that the step takes from whoever uses them, or changes under them.
fn touched(observed: &Observed, step: &Step) -> Vec<VfRef> {
    match (&step.object, &step.change) {
        (Object::Vf(vf), _) => vec![*vf],
        (Object::Pci(pf), Change::SetNumVfs { .. } | Change::SetEswitch { .. }) => {
            let vfs = observed.pf(*pf).map(|pf| pf.vfs.as_slice()).unwrap_or_default();
            vfs.iter().map(|vf| VfRef { pf: *pf, index: vf.index }).collect()
        }
        (Object::Pci(_) | Object::Node | Object::Policy(..) | Object::Named(_), _) => Vec::new(),
    }
}
