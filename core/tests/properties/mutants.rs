//! Planners with a mistake. Each is the planner with one thing done wrong, the way somebody might write it wrong; the
//! properties must catch every one, or they are not worth their time.

use std::cell::Cell;

use portwright_core::desired::{Desired, DisruptionPolicy};
use portwright_core::id::{MacAddress, Object, PciAddress, VfRef};
use portwright_core::observed::{Holder, Observed, Sight};
use portwright_core::step::{Change, Disruption, DriverTarget, Step};
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
    all.extend(wishes());
    all.extend(values());
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

fn wishes() -> Vec<Mutant> {
    vec![
        mutant("ignores disruption: Never", |o, d, p| {
            deaf(o, d, p, |d| {
                for document in &mut d.documents {
                    if document.disruption == DisruptionPolicy::Never {
                        document.disruption = DisruptionPolicy::WhenIdle;
                    }
                }
            })
        }),
        mutant("always forces", |o, d, p| {
            deaf(o, d, p, |d| {
                d.documents.iter_mut().for_each(|document| document.disruption = DisruptionPolicy::Force)
            })
        }),
        mutant("takes Force to mean VFIO as well", |o, d, p| {
            let forced = d.documents.iter().any(|document| document.disruption == DisruptionPolicy::Force);
            blind(o, d, p, |o| {
                if forced {
                    forget_holders(o, |holder| matches!(holder, Holder::File { .. }));
                }
            })
        }),
        mutant("never forces", |o, d, p| {
            steps(o, d, p, |steps| steps.iter_mut().for_each(|step| step.force = false))
        }),
        mutant("ignores priorities", |o, d, p| {
            deaf(o, d, p, |d| d.documents.iter_mut().for_each(|document| document.priority = 0))
        }),
        mutant("takes the lowest priority", |o, d, p| {
            deaf(o, d, p, |d| {
                d.documents.iter_mut().for_each(|document| document.priority = -document.priority)
            })
        }),
        mutant("forgets older bindings", |o, d, p| deaf(o, d, p, |d| d.bindings.clear())),
        mutant("ignores externallyManaged", |o, d, p| {
            deaf(o, d, p, |d| entries(d).for_each(|entry| entry.externally_managed = false))
        }),
        mutant("always allows the management path", |o, d, p| {
            deaf(o, d, p, |d| entries(d).for_each(|entry| entry.allow_management_path = true))
        }),
        mutant("makes one VF less", |o, d, p| {
            deaf(o, d, p, |d| {
                entries(d).for_each(|entry| entry.vfs = entry.vfs.map(|vfs| vfs.saturating_sub(1)));
            })
        }),
        mutant("clamps the number of VFs silently", |o, d, p| {
            let most = o.pfs.iter().map(|pf| pf.total_vfs).min().unwrap_or(0);
            deaf(o, d, p, |d| entries(d).for_each(|entry| entry.vfs = entry.vfs.map(|vfs| vfs.min(most))))
        }),
        mutant("forgets groups", |o, d, p| {
            deaf(o, d, p, |d| entries(d).for_each(|entry| entry.groups.clear()))
        }),
    ]
}

thread_local! {
    static TURN: Cell<u32> = const { Cell::new(0) };
}

fn values() -> Vec<Mutant> {
    vec![
        mutant("takes the VF beside", |o, d, p| {
            steps(o, d, p, |steps| {
                for step in steps {
                    if let Object::Vf(VfRef { index, .. }) = &mut step.object {
                        *index += 1;
                    }
                }
            })
        }),
        mutant("takes the other PF", |o, d, p| {
            let pfs: Vec<PciAddress> = o.pfs.iter().map(|pf| pf.address).collect();
            steps(o, d, p, |steps| {
                for step in steps {
                    if let Object::Pci(pf) = &mut step.object
                        && let Some(other) = pfs.iter().find(|other| *other != pf)
                    {
                        *pf = *other;
                    }
                }
            })
        }),
        mutant("goes from a number to another as if from 0", |o, d, p| {
            steps(o, d, p, |steps| {
                for step in steps {
                    if let Change::SetNumVfs { from, to } = &mut step.change
                        && *to > 0
                    {
                        *from = 0;
                    }
                }
            })
        }),
        mutant("does every step twice", |o, d, p| {
            steps(o, d, p, |steps| {
                *steps = steps.iter().flat_map(|step| [step.clone(), step.clone()]).collect()
            })
        }),
        mutant("always finds something to do", |o, d, p| {
            let pf = o.pfs.iter().find_map(|pf| Some((pf.address, *pf.netdev()?.mtu.known()?)));
            steps(o, d, p, |steps| {
                steps.extend(pf.map(|(pf, mtu)| Step {
                    object: Object::Pci(pf),
                    change: Change::SetPfMtu { from: mtu, to: mtu },
                    disruption: Disruption::None,
                    force: false,
                }));
            })
        }),
        mutant("calls every step harmless", |o, d, p| {
            steps(o, d, p, |steps| steps.iter_mut().for_each(|step| step.disruption = Disruption::None))
        }),
        mutant("sets force on every step", |o, d, p| {
            steps(o, d, p, |steps| steps.iter_mut().for_each(|step| step.force = true))
        }),
        mutant("expects values that it has not seen", |o, d, p| {
            steps(o, d, p, |steps| {
                for step in steps {
                    if let Change::SetVfVlan { from: Some(from), .. } = &mut step.change {
                        from.id ^= 1;
                    }
                }
            })
        }),
        mutant("does not say what it expects of a VF", |o, d, p| {
            steps(o, d, p, |steps| {
                for step in steps {
                    if let Change::SetVfTrust { from, .. } = &mut step.change {
                        *from = None;
                    }
                }
            })
        }),
        mutant("gives every VF the same MAC", |o, d, p| {
            steps(o, d, p, |steps| {
                for step in steps {
                    if let Change::SetVfMac { to, .. } = &mut step.change {
                        *to = MacAddress([2, 0, 0, 0, 0, 1]);
                    }
                }
            })
        }),
        mutant("binds everything to vfio-pci", |o, d, p| {
            steps(o, d, p, |steps| {
                for step in steps {
                    if let Change::BindVf { to, .. } = &mut step.change {
                        *to = DriverTarget::Named { driver: "vfio-pci".to_owned(), keep_override: true };
                    }
                }
            })
        }),
        mutant("does not keep the override", |o, d, p| {
            steps(o, d, p, |steps| {
                for step in steps {
                    if let Change::BindVf { to: DriverTarget::Named { keep_override, .. }, .. } =
                        &mut step.change
                    {
                        *keep_override = false;
                    }
                }
            })
        }),
        mutant("comes out otherwise every time", |o, d, p| {
            let turn = TURN.with(|turn| turn.replace(turn.get() + 1));
            steps(o, d, p, |steps| {
                if turn % 2 == 1 {
                    steps.reverse();
                }
            })
        }),
        mutant("tells obstacles that are none", |o, d, p| {
            let mut made = plan(o, d, p);
            made.blocked.extend(o.pfs.first().map(|pf| {
                let object = Object::Pci(pf.address);
                portwright_core::Blocked::new(object, portwright_core::Reason::VfInUse, "is in use", "wait")
            }));
            made
        }),
    ]
}
