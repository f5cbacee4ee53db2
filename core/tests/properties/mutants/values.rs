//! Mistakes about what is wanted and which values are set.

use std::cell::Cell;

use portwright_core::desired::DisruptionPolicy;
use portwright_core::id::{MacAddress, Object, PciAddress, VfRef};
use portwright_core::observed::Holder;
use portwright_core::plan;
use portwright_core::step::{Change, Disruption, DriverTarget, Step};

use super::{Mutant, blind, deaf, entries, forget_holders, mutant, steps};

pub(super) fn wishes() -> Vec<Mutant> {
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

pub(super) fn values() -> Vec<Mutant> {
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
