//! The PF's own link: up, and its MTU. The MTU is raised first and lowered last, so that no VF ever has a larger one. Some
//! drivers reset the port for either, which cuts its VFs off for seconds: that waits for their users.

use super::Findings;
use super::gate::{Leave, Request, gate};
use super::pf::PfPlanner;
use crate::affected::may_be_in_use;
use crate::fact::{Absence, Fact};
use crate::id::Object;
use crate::observed::Vf;
use crate::step::{Change, Disruption};

/// A PF's link when all is done.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Link {
    /// Its MTU: no VF may have a larger one.
    pub(super) mtu: Option<u32>,
    /// Whether it is up. Some VF drivers must not probe before that.
    pub(super) up: bool,
}

impl PfPlanner<'_> {
    pub(super) fn plan_up(&self, own: &mut Findings) {
        let Some(netdev) = self.pf.netdev() else { return };
        let object = Object::Pci(self.pf.address);
        match netdev.up {
            Fact::Known(true) | Fact::Absent(Absence::Unsupported) => {}
            Fact::Known(false) => {
                let wants_rate = self.entry.groups.iter().any(|group| group.tx_rate.is_some());
                let needs = self.profile.and_then(|profile| profile.rate_needs_carrier.as_ref());
                let wait = self.profile.and_then(|profile| profile.carrier_deadline_ms.as_ref());
                let waits = wants_rate && needs.is_some_and(|needs| needs.value);
                let wait_carrier_ms = if waits { wait.map_or(5_000, |wait| wait.value) } else { 0 };
                own.step(object, Change::SetPfUp { wait_carrier_ms }, Disruption::None, false);
            }
            Fact::Absent(Absence::Unknown) => own.unknown(object, "link state"),
        }
    }

    /// Plans raising the MTU; a lowering is given back, because it comes last; beside it stands what it disrupts.
    pub(super) fn plan_mtu(&self, own: &mut Findings) -> Option<(Change, Leave)> {
        let object = Object::Pci(self.pf.address);
        let Some(netdev) = self.pf.netdev() else {
            if self.entry.mtu.is_some() && self.pf.name.is_none() {
                own.blocked.push(
                    self.unsupported("an MTU is wanted and it has no netdev".to_owned(), "leave `mtu` out"),
                );
            }
            return None;
        };
        let wish = self.entry.mtu.or(self.entry.largest_group_mtu())?;
        let Some(current) = netdev.mtu.known().copied() else {
            own.unknown(object, "MTU");
            return None;
        };
        // A group's MTU raises the PF's but never lowers it.
        let target = if self.entry.mtu.is_some() { wish } else { wish.max(current) };
        if target == current {
            return None;
        }
        let change = Change::SetPfMtu { from: current, to: target };
        let leave = self.leave_for_mtu(current, target, own)?;
        if target < current {
            return Some((change, leave));
        }
        own.step(object, change, leave.disruption, leave.force);
        None
    }

    /// Whether the MTU may be changed, and what that disrupts. What is in the way goes to the findings.
    fn leave_for_mtu(&self, current: u32, target: u32, own: &mut Findings) -> Option<Leave> {
        let keeps = self.profile.and_then(|profile| profile.mtu_keeps_vfs.as_ref());
        // VFs that this plan makes first are nobody's yet.
        let observed = self.context.observed;
        let known = self.pf.netdev().is_some_and(|netdev| observed.link(&netdev.name).is_some());
        let noticed = !self.pf.vfs.is_empty() || (known && may_be_in_use(self.pf, observed));
        let resets = !keeps.is_some_and(|keeps| keeps.value) && noticed;
        let larger = |vf: &Vf| {
            vf.netdevs.first().is_none_or(|netdev| netdev.mtu.known().is_none_or(|mtu| *mtu > target))
        };
        let affected = |vf: &Vf| resets || (target < current && larger(vf));
        let users = self.users().into_iter();
        let users = users.filter(|(vf, _)| self.pf.vf(vf.index).is_some_and(affected)).collect();
        let what = if target > current { "raising the port's MTU" } else { "lowering the port's MTU" };
        let consequence = if resets { "cut it off while the port resets" } else { "drop its larger frames" };
        let disruption = if resets { Disruption::Pf } else { Disruption::None };
        let alternative = Some(format!("keep mtu at {current}"));
        let object = Object::Pci(self.pf.address);
        let request = Request { object, what, consequence, alternative, disruption, users };
        let free = if resets { self.port_is_free(what, &mut own.notes) } else { Ok(()) };
        match free.and_then(|()| gate(self.permit(), request, &mut own.notes)) {
            Ok(force) => Some(Leave { disruption, force }),
            Err(refusal) => {
                own.refused(refusal);
                None
            }
        }
    }

    pub(super) fn link_afterwards(&self, findings: &Findings, lowering: Option<&Change>) -> Link {
        let mut link = Link {
            mtu: self.pf.netdev().and_then(|netdev| netdev.mtu.known().copied()),
            up: self.pf.netdev().is_none_or(|netdev| !netdev.up.is(&false)),
        };
        for change in lowering.into_iter().chain(findings.steps.iter().map(|step| &step.change)) {
            if let Change::SetPfMtu { to, .. } = change {
                link.mtu = Some(*to);
            }
            link.up |= matches!(change, Change::SetPfUp { .. });
        }
        link
    }
}
