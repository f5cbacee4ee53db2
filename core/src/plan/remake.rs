//! Making VFs anew and changing the e-switch: whether it may be done, and the order that every known driver takes.
//!
//! Autoprobe is off while VFs are made that groups want something of, so that each is probed once, with its settings in
//! place; the e-switch is changed where its driver allows it.

use super::Findings;
use super::gate::{Refusal, Request, gate};
use super::link::Link;
use super::pf::PfPlanner;
use crate::blocked::{Blocked, Reason};
use crate::desired::EswitchMode;
use crate::id::{Object, VfRef};
use crate::observed::Sight;
use crate::profile::EswitchOrder;
use crate::step::{Change, Disruption};
use crate::usage::Use;

/// What is to be changed on the PF as a whole.
pub(super) struct Remake {
    /// VFs now.
    pub(super) current: u16,
    /// VFs wanted.
    pub(super) target: u16,
    /// E-switch change, if one is wanted and possible.
    pub(super) eswitch: Option<(EswitchMode, EswitchMode)>,
    /// When the e-switch can be changed.
    pub(super) order: EswitchOrder,
    /// Whether all VFs are made anew.
    pub(super) recreate: bool,
    /// Whether VFs in use are taken from pods and namespaces.
    pub(super) force: bool,
    /// What the PF's link is when all is done.
    pub(super) link: Link,
}

impl PfPlanner<'_> {
    /// Whether autoprobe is off while the VFs are made. Groups want each VF to be probed once, with its settings in place.
    pub(super) fn turns_autoprobe_off(&self, remake: &Remake) -> bool {
        let unbound_order = remake.eswitch.is_some() && remake.order == EswitchOrder::VfsUnbound;
        let grouped = self.groups_below(remake.target).next().is_some();
        remake.recreate && remake.target > 0 && (grouped || unbound_order)
    }

    /// Whether the kernel itself binds the VFs that are made.
    pub(super) fn probes_itself(&self, remake: &Remake) -> bool {
        self.steady_autoprobe() == Some(true) && !self.turns_autoprobe_off(remake)
    }

    /// Whether the VFs may be made anew or the e-switch changed; the answer says whether by force.
    pub(super) fn may_remake(&self, remake: &Remake, notes: &mut Vec<String>) -> Result<bool, Refusal> {
        if let Some(stuck) = self.context.stuck {
            let hint = "wait until that write has returned";
            let what =
                format!("a write on {stuck} has not returned and holds a lock that every such write needs");
            return Err(Refusal::of(Blocked::new(Object::Pci(self.pf.address), Reason::Stuck, what, hint)));
        }
        let (what, consequence) = if remake.recreate {
            ("resizing", "remove it")
        } else {
            ("changing the e-switch mode", "cut it off")
        };
        self.port_is_free(what, notes)?;
        let keep = (remake.target != remake.current).then(|| format!("keep vfs at {}", remake.current));
        let force = gate(
            self.permit(),
            Request {
                object: Object::Pci(self.pf.address),
                what,
                consequence,
                alternative: keep,
                disruption: Disruption::Pf,
                users: self.users(),
            },
            notes,
        )?;
        // The VFs that are made first would count as used before the e-switch changes.
        if let (Sight::Partial { why }, Some(_), EswitchOrder::VfsUnbound) =
            (&self.context.observed.node.sight, remake.eswitch, remake.order)
            && remake.target > 0
        {
            let unseen = Use::Unseen { why: why.clone() };
            return Err(Refusal::of(Blocked::new(
                Object::Pci(self.pf.address),
                Reason::VfInUse,
                format!("changing the e-switch mode cuts off VFs, and who has them cannot be seen: {why}"),
                unseen.hint(),
            )));
        }
        Ok(force)
    }

    pub(super) fn plan_remake(&self, findings: &mut Findings, remake: &Remake) {
        let object = || Object::Pci(self.pf.address);
        let steady = self.steady_autoprobe();
        let off = self.turns_autoprobe_off(remake);
        let mut count = remake.current;
        let mut now = self.pf.autoprobe.known().copied();
        let mut set_count = |findings: &mut Findings, to: u16| {
            if to != count {
                let change = Change::SetNumVfs { from: count, to };
                findings.step(object(), change, Disruption::Pf, remake.force);
                count = to;
            }
        };
        let mut autoprobe = |findings: &mut Findings, to: Option<bool>| {
            if let (Some(from), Some(to)) = (now, to)
                && from != to
            {
                findings.step(object(), Change::SetAutoprobe { from, to }, Disruption::None, false);
                now = Some(to);
            }
        };
        if let (Some((from, to)), EswitchOrder::WithoutVfs) = (remake.eswitch, remake.order) {
            set_count(findings, 0);
            findings.step(object(), Change::SetEswitch { from, to }, Disruption::Pf, remake.force);
        }
        if remake.recreate {
            autoprobe(findings, if off { Some(false) } else { steady });
            set_count(findings, remake.target);
        }
        autoprobe(findings, steady);
        match (remake.eswitch, remake.order) {
            (Some((from, to)), EswitchOrder::VfsUnbound | EswitchOrder::Any) => {
                if !remake.recreate && remake.order == EswitchOrder::VfsUnbound {
                    self.plan_unbinding(findings, remake.force);
                }
                findings.step(object(), Change::SetEswitch { from, to }, Disruption::Pf, remake.force);
            }
            (Some(_), EswitchOrder::WithoutVfs) | (None, _) => {}
        }
    }

    pub(super) fn plan_unbinding(&self, findings: &mut Findings, force: bool) {
        for vf in &self.pf.vfs {
            if let Some(from) = &vf.driver {
                let object = Object::Vf(VfRef { pf: self.pf.address, index: vf.index });
                findings.step(object, Change::UnbindVf { from: from.clone() }, Disruption::Vf, force);
            }
        }
    }

    /// Puts autoprobe back after a crash between switching it off and back on.
    pub(super) fn plan_autoprobe_restore(&self, findings: &mut Findings) {
        if let (Some(to), Some(from)) = (self.pf.saved_autoprobe, self.pf.autoprobe.known().copied())
            && from != to
        {
            findings.step(
                Object::Pci(self.pf.address),
                Change::SetAutoprobe { from, to },
                Disruption::None,
                false,
            );
        }
    }
}
