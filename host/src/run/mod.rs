//! Steps carried out, each by one small dull function.
//!
//! Whether a step makes sense was decided in `core`. Here it is checked that what it expects is still so ([`check`]) and
//! that nobody has come to use what it disrupts ([`holders`]); then it is done, and read back where the kernel may do less
//! than asked and say nothing.

mod check;
mod error;
mod hint;
mod holders;
mod look;
mod pf;
mod system;
mod vf;

pub use error::HostError;

pub(crate) use check::still_holds;
pub(crate) use holders::{check_holders, check_management, may_cut_off, touches_vfs};
pub(crate) use look::Look;

use portwright_core::drive::RunError;
use portwright_core::{Change, Object, PciAddress, Step, VfRef};

use crate::node::HostNode;

/// How a step ends, from the inside.
pub(crate) type Done = Result<(), HostError>;
/// How a look before a step ends.
pub(crate) type Checked<T> = Result<T, RunError<HostError>>;

/// What was found is not what the step expects.
pub(crate) fn stale<T>(found: impl Into<String>) -> Checked<T> {
    Err(RunError::Stale { found: found.into() })
}

/// Carries out a checked step.
pub(crate) fn carry_out(node: &mut HostNode, step: &Step) -> Done {
    match &step.object {
        Object::Node => on_node(node, &step.change),
        Object::Pci(pf) => on_pf(node, *pf, &step.change),
        Object::Vf(vf) => on_vf(node, *vf, &step.change),
        Object::Policy(..) | Object::Named(_) => not_of(step),
    }
}

fn on_node(node: &mut HostNode, change: &Change) -> Done {
    match change {
        Change::WriteUdevRule { to, .. } => system::write_udev_rule(node, to),
        Change::LoadModule { .. }
        | Change::SetPfUp { .. }
        | Change::SetPfMtu { .. }
        | Change::SetAutoprobe { .. }
        | Change::SetNumVfs { .. }
        | Change::SetEswitch { .. }
        | Change::UnbindVf { .. }
        | Change::BindVf { .. }
        | Change::ReprobeVf { .. }
        | Change::SetVfMac { .. }
        | Change::SetVfVlan { .. }
        | Change::SetVfSpoofCheck { .. }
        | Change::SetVfTrust { .. }
        | Change::SetVfRate { .. }
        | Change::SetVfLinkState { .. }
        | Change::RenameVf { .. }
        | Change::SetVfMtu { .. }
        | Change::Ovs { .. } => misplaced(Object::Node, change),
    }
}

fn on_pf(node: &mut HostNode, pf: PciAddress, change: &Change) -> Done {
    match change {
        Change::SetPfUp { wait_carrier_ms } => pf::set_up(node, pf, *wait_carrier_ms),
        Change::SetPfMtu { to, .. } => pf::set_mtu(node, pf, *to),
        Change::SetAutoprobe { from, to } => pf::set_autoprobe(node, pf, *from, *to),
        Change::SetNumVfs { from, to } => pf::set_num_vfs(node, pf, *from, *to),
        Change::SetEswitch { to, .. } => pf::set_eswitch(node, pf, *to),
        Change::LoadModule { module } => system::load_module(node, pf, module),
        Change::WriteUdevRule { .. }
        | Change::UnbindVf { .. }
        | Change::BindVf { .. }
        | Change::ReprobeVf { .. }
        | Change::SetVfMac { .. }
        | Change::SetVfVlan { .. }
        | Change::SetVfSpoofCheck { .. }
        | Change::SetVfTrust { .. }
        | Change::SetVfRate { .. }
        | Change::SetVfLinkState { .. }
        | Change::RenameVf { .. }
        | Change::SetVfMtu { .. }
        | Change::Ovs { .. } => misplaced(Object::Pci(pf), change),
    }
}

fn on_vf(node: &mut HostNode, vf: VfRef, change: &Change) -> Done {
    match change {
        Change::UnbindVf { .. } => vf::unbind(node, vf),
        Change::BindVf { to, .. } => vf::rebind(node, vf, to),
        Change::ReprobeVf { driver } => vf::reprobe(node, vf, driver),
        Change::SetVfMac { .. }
        | Change::SetVfVlan { .. }
        | Change::SetVfSpoofCheck { .. }
        | Change::SetVfTrust { .. }
        | Change::SetVfRate { .. }
        | Change::SetVfLinkState { .. } => vf::set_attribute(node, vf, change),
        Change::RenameVf { to, .. } => vf::rename(node, vf, to),
        Change::SetVfMtu { to, .. } => vf::set_mtu(node, vf, *to),
        Change::WriteUdevRule { .. }
        | Change::LoadModule { .. }
        | Change::SetPfUp { .. }
        | Change::SetPfMtu { .. }
        | Change::SetAutoprobe { .. }
        | Change::SetNumVfs { .. }
        | Change::SetEswitch { .. }
        | Change::Ovs { .. } => misplaced(Object::Vf(vf), change),
    }
}

fn not_of(step: &Step) -> Done {
    misplaced(step.object.clone(), &step.change)
}

/// A change on an object that cannot have it: the planner makes none, and a step is only data.
fn misplaced(object: Object, change: &Change) -> Done {
    Err(HostError::Misplaced { object, action: change.action() })
}
