//! Planners with a mistake. Each is the planner with one thing done wrong, the way somebody might write it wrong; the
//! properties must catch every one, or they are not worth their time.

mod values;

use portwright_core::desired::Desired;
use portwright_core::id::PciAddress;
use portwright_core::observed::{Holder, Observed, Sight};
use portwright_core::step::{Change, Step};
use portwright_core::{Plan, Profiles, plan};

/// A planner with a mistake and what the mistake is.
pub struct Mutant {
    pub mistake: &'static str,
    pub plan: fn(&Observed, &Desired, &Profiles) -> Plan,
}

/// Applies a correction for the worse to the plan's steps.
fn steps(o: &Observed, d: &Desired, p: &Profiles, change: impl FnOnce(&mut Vec<Step>)) -> Plan {
    let mut plan = plan(o, d, p);
    change(&mut plan.steps);
    plan
}

/// Leaves out steps.
fn without(o: &Observed, d: &Desired, p: &Profiles, unwanted: impl Fn(&Change) -> bool) -> Plan {
    steps(o, d, p, |steps| steps.retain(|step| !unwanted(&step.change)))
}

/// Plans for a node that looks otherwise than it does.
fn blind(o: &Observed, d: &Desired, p: &Profiles, change: impl FnOnce(&mut Observed)) -> Plan {
    let mut seen = o.clone();
    change(&mut seen);
    plan(&seen, d, p)
}

/// Plans for another policy than the one given.
fn deaf(o: &Observed, d: &Desired, p: &Profiles, change: impl FnOnce(&mut Desired)) -> Plan {
    let mut heard = d.clone();
    change(&mut heard);
    plan(o, &heard, p)
}

/// Moves steps in front of the first of the others of the same PF, or behind the last.
fn moved(o: &Observed, d: &Desired, p: &Profiles, to_front: bool, which: impl Fn(&Change) -> bool) -> Plan {
    steps(o, d, p, |steps| {
        // The sort is stable: PFs keep their order, and so do the steps that are not moved.
        let order: Vec<Option<PciAddress>> = steps.iter().map(|step| step.object.pf()).collect();
        let place = |pf: Option<PciAddress>| order.iter().position(|other| *other == pf);
        steps.sort_by_key(|step| (place(step.object.pf()), which(&step.change) != to_front));
    })
}

fn forget_holders(o: &mut Observed, which: fn(&Holder) -> bool) {
    for vf in o.pfs.iter_mut().flat_map(|pf| pf.vfs.iter_mut()) {
        vf.holders.retain(|holder| !which(holder));
    }
}

fn is_attribute(change: &Change) -> bool {
    matches!(
        change,
        Change::SetVfMac { .. }
            | Change::SetVfVlan { .. }
            | Change::SetVfSpoofCheck { .. }
            | Change::SetVfTrust { .. }
            | Change::SetVfRate { .. }
            | Change::SetVfLinkState { .. }
    )
}

fn entries(d: &mut Desired) -> impl Iterator<Item = &mut portwright_core::desired::NicEntry> {
    d.documents.iter_mut().flat_map(|document| document.nics.iter_mut())
}

/// All of them.
pub fn all() -> Vec<Mutant> {
    let mut all = order();
    all.extend(omissions());
    all.extend(senses());
    all.extend(values::wishes());
    all.extend(values::values());
    all
}

fn mutant(mistake: &'static str, plan: fn(&Observed, &Desired, &Profiles) -> Plan) -> Mutant {
    Mutant { mistake, plan }
}

fn order() -> Vec<Mutant> {
    vec![
        mutant("binds before it creates", |o, d, p| {
            moved(o, d, p, true, |c| matches!(c, Change::BindVf { .. }))
        }),
        mutant("sets attributes before it creates", |o, d, p| moved(o, d, p, true, is_attribute)),
        mutant("sets the PF up last", |o, d, p| {
            moved(o, d, p, false, |c| matches!(c, Change::SetPfUp { .. }))
        }),
        mutant("raises the PF's MTU after the VFs'", |o, d, p| {
            moved(o, d, p, false, |c| matches!(c, Change::SetPfMtu { from, to } if to > from))
        }),
        mutant("lowers the PF's MTU before the VFs'", |o, d, p| {
            moved(o, d, p, true, |c| matches!(c, Change::SetPfMtu { from, to } if to < from))
        }),
        mutant("changes the e-switch first", |o, d, p| {
            moved(o, d, p, true, |c| matches!(c, Change::SetEswitch { .. }))
        }),
        mutant("changes the e-switch last", |o, d, p| {
            moved(o, d, p, false, |c| matches!(c, Change::SetEswitch { .. }))
        }),
        mutant("gives the MAC after the driver has probed", |o, d, p| {
            moved(o, d, p, false, |c| matches!(c, Change::SetVfMac { .. }))
        }),
        mutant("turns autoprobe off after the creation", |o, d, p| {
            moved(o, d, p, false, |c| matches!(c, Change::SetAutoprobe { to: false, .. }))
        }),
        mutant("writes the udev rule last", |o, d, p| {
            steps(o, d, p, |steps| {
                steps.sort_by_key(|step| matches!(step.change, Change::WriteUdevRule { .. }))
            })
        }),
        mutant("loads modules last", |o, d, p| {
            moved(o, d, p, false, |c| matches!(c, Change::LoadModule { .. }))
        }),
        mutant("runs everything backwards", |o, d, p| steps(o, d, p, |steps| steps.reverse())),
    ]
}

fn omissions() -> Vec<Mutant> {
    vec![
        mutant("says that there is nothing to do", |_, _, _| Plan::default()),
        mutant("does nothing and tells the obstacles", |o, d, p| steps(o, d, p, Vec::clear)),
        mutant("forgets to put autoprobe back", |o, d, p| {
            without(o, d, p, |c| matches!(c, Change::SetAutoprobe { to: true, .. }))
        }),
        mutant("forgets to turn autoprobe off", |o, d, p| {
            without(o, d, p, |c| matches!(c, Change::SetAutoprobe { .. }))
        }),
        mutant("forgets to set the PF up", |o, d, p| {
            without(o, d, p, |c| matches!(c, Change::SetPfUp { .. }))
        }),
        mutant("forgets the udev rule", |o, d, p| {
            without(o, d, p, |c| matches!(c, Change::WriteUdevRule { .. }))
        }),
        mutant("forgets to load modules", |o, d, p| {
            without(o, d, p, |c| matches!(c, Change::LoadModule { .. }))
        }),
        mutant("forgets to unbind before the e-switch", |o, d, p| {
            without(o, d, p, |c| matches!(c, Change::UnbindVf { .. }))
        }),
        mutant("drops the step to 0 before the e-switch", |o, d, p| {
            without(o, d, p, |c| matches!(c, Change::SetNumVfs { to: 0, .. }))
        }),
        mutant("forgets to probe again", |o, d, p| {
            without(o, d, p, |c| matches!(c, Change::ReprobeVf { .. }))
        }),
        mutant("forgets the name after a pod", |o, d, p| {
            without(o, d, p, |c| matches!(c, Change::RenameVf { .. }))
        }),
        mutant("forgets the VLAN", |o, d, p| without(o, d, p, |c| matches!(c, Change::SetVfVlan { .. }))),
        mutant("forgets trust", |o, d, p| without(o, d, p, |c| matches!(c, Change::SetVfTrust { .. }))),
        mutant("forgets the spoof check", |o, d, p| {
            without(o, d, p, |c| matches!(c, Change::SetVfSpoofCheck { .. }))
        }),
        mutant("forgets rates", |o, d, p| without(o, d, p, |c| matches!(c, Change::SetVfRate { .. }))),
        mutant("forgets the link state", |o, d, p| {
            without(o, d, p, |c| matches!(c, Change::SetVfLinkState { .. }))
        }),
        mutant("forgets the VF's MTU", |o, d, p| without(o, d, p, |c| matches!(c, Change::SetVfMtu { .. }))),
        mutant("forgets the PF's MTU", |o, d, p| without(o, d, p, |c| matches!(c, Change::SetPfMtu { .. }))),
        mutant("forgets the MAC", |o, d, p| without(o, d, p, |c| matches!(c, Change::SetVfMac { .. }))),
        mutant("forgets the last step", |o, d, p| steps(o, d, p, |steps| drop(steps.pop()))),
        mutant("tells only the first obstacle", |o, d, p| {
            let mut plan = plan(o, d, p);
            plan.blocked.truncate(1);
            plan
        }),
    ]
}

fn senses() -> Vec<Mutant> {
    vec![
        mutant("does not see pods", |o, d, p| {
            blind(o, d, p, |o| forget_holders(o, |holder| matches!(holder, Holder::Pod { .. })))
        }),
        mutant("does not see network namespaces", |o, d, p| {
            blind(o, d, p, |o| forget_holders(o, |holder| matches!(holder, Holder::Namespace { .. })))
        }),
        mutant("does not see open files", |o, d, p| {
            blind(o, d, p, |o| forget_holders(o, |holder| matches!(holder, Holder::File { .. })))
        }),
        mutant("does not see files that could be several VFs'", |o, d, p| {
            blind(o, d, p, |o| {
                forget_holders(o, |holder| matches!(holder, Holder::File { shared: true, .. }))
            })
        }),
        mutant("does not see masters and addresses", |o, d, p| {
            blind(o, d, p, |o| {
                for link in &mut o.links {
                    link.addresses.clear();
                    link.master = None;
                }
            })
        }),
        mutant("does not see what is stacked on top", |o, d, p| {
            blind(o, d, p, |o| o.links.iter_mut().for_each(|link| link.lowers.clear()))
        }),
        mutant("thinks that it sees everything", |o, d, p| {
            blind(o, d, p, |o| o.node.sight = Sight::Complete)
        }),
        mutant("does not know the management path", |o, d, p| {
            blind(o, d, p, |o| o.management = Default::default())
        }),
        mutant("knows default routes only", |o, d, p| {
            blind(o, d, p, |o| {
                o.management.sessions.clear();
                o.management.node_addresses.clear();
            })
        }),
        mutant("knows no IPv6", |o, d, p| {
            blind(o, d, p, |o| o.management.default_routes.retain(|route| route.family == 4))
        }),
        mutant("does not look through OVS", |o, d, p| {
            blind(o, d, p, |o| {
                o.ovs = None;
                o.links.iter_mut().for_each(|link| {
                    link.kind.take_if(|kind| kind == "openvswitch");
                });
            })
        }),
        mutant("thinks that there is an IOMMU", |o, d, p| blind(o, d, p, |o| o.node.iommu = true.into())),
        mutant("does not know the journal", |o, d, p| {
            blind(o, d, p, |o| o.pfs.iter_mut().for_each(|pf| pf.saved_autoprobe = None))
        }),
        mutant("does not ask for shared IOMMU groups", |o, d, p| {
            blind(o, d, p, |o| {
                o.pfs.iter_mut().flat_map(|pf| pf.vfs.iter_mut()).for_each(|vf| vf.group_peers.clear());
            })
        }),
        mutant("does not ask how many VFs there can be", |o, d, p| {
            blind(o, d, p, |o| o.pfs.iter_mut().for_each(|pf| pf.total_vfs = u16::MAX))
        }),
        mutant("thinks that all drivers are there", |o, d, p| {
            blind(o, d, p, |o| {
                o.node.drivers.clear();
                o.node.modules.clear();
            })
        }),
        mutant("knows no hardware", |o, d, _| plan(o, d, &Profiles::default())),
    ]
}
