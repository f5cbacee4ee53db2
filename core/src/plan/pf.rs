//! One PF: its link, MTU, e-switch and number of VFs, in the only order that works on every known driver.
//!
//! PF up before VF drivers probe; MTU raised first and lowered last; autoprobe off around the creation so that each VF is
//! probed once, with its MAC in place; e-switch where its driver allows it.

use super::gate::{Request, gate};
use super::{Context, Findings, on_management_path};
use crate::blocked::{Blocked, Reason};
use crate::desired::{Document, EswitchMode, NicEntry};
use crate::fact::{Absence, Fact};
use crate::id::{Object, VfRef};
use crate::observed::{Pf, Sight, Vf};
use crate::profile::{Configure, EswitchOrder, Profile};
use crate::step::{Change, Disruption};
use crate::usage::{Use, uses};

/// What one PF is planned with.
pub(super) struct PfPlanner<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) pf: &'a Pf,
    pub(super) document: &'a Document,
    pub(super) entry: &'a NicEntry,
    pub(super) profile: Option<&'a Profile>,
}

/// What is to be changed on the PF as a whole.
struct Remake {
    /// VFs now.
    current: u16,
    /// VFs wanted.
    target: u16,
    /// E-switch change, if one is wanted and possible.
    eswitch: Option<(EswitchMode, EswitchMode)>,
    /// When the e-switch can be changed.
    order: EswitchOrder,
    /// Whether all VFs are made anew.
    recreate: bool,
    /// Whether VFs in use are taken from pods and namespaces.
    force: bool,
    /// What the PF's link is when all is done.
    link: Link,
}

/// A PF's link when all is done.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Link {
    /// Its MTU: no VF may have a larger one.
    pub(super) mtu: Option<u32>,
    /// Whether it is up. Some VF drivers must not probe before that.
    pub(super) up: bool,
}

/// Plans one PF.
pub(super) fn plan_pf<'a>(
    context: &'a Context<'a>,
    pf: &'a Pf,
    document: &'a Document,
    entry: &'a NicEntry,
    profile: Option<&'a Profile>,
) -> Findings {
    let planner = PfPlanner { context, pf, document, entry, profile };
    let mut findings = Findings::default();
    let object = Object::Pci(pf.address);
    if let Some(stuck) = &pf.stuck {
        let hint = "find and end what holds its VFs; a reboot is the last resort";
        findings.blocked.push(Blocked::new(object, Reason::Stuck, stuck.clone(), hint));
    } else if pf.driver.is_none() {
        let hint = "load or bind the NIC's driver on the host";
        findings.blocked.push(Blocked::new(object, Reason::PfNoDriver, "no driver is bound to it", hint));
        // It is the PCI device's, and stays as it is until a driver comes back.
        planner.plan_autoprobe_restore(&mut findings);
    } else {
        planner.plan(&mut findings);
    }
    findings
}

impl PfPlanner<'_> {
    fn plan(&self, findings: &mut Findings) {
        let mut own = Findings::default();
        self.plan_up(&mut own);
        let (lowering, by_force) = self.plan_mtu(&mut own).unzip();
        let target = self.target(&mut own);
        let eswitch = self.eswitch_change(&mut own);
        let current = self.pf.num_vfs();
        let order = self.eswitch_order();
        let order_recreates = eswitch.is_some() && order == EswitchOrder::WithoutVfs && current > 0;
        let recreate = target != current || order_recreates;
        let mut ahead = Findings::default();
        self.check_drivers(&mut ahead, target, recreate);
        self.check_iommu_groups(&mut ahead, target, recreate);
        self.check_attributes(&mut ahead, target);
        if recreate {
            self.check_number(&mut ahead, target);
            self.check_callback(&mut ahead, target);
        }
        let mut remake =
            Remake { current, target, eswitch, order, recreate, force: false, link: Link::default() };
        let touches = recreate || remake.eswitch.is_some();
        let mut notes = Vec::new();
        if touches {
            match self.may_remake(&remake, &mut notes) {
                Ok(force) => remake.force = force,
                Err(mut obstacles) => ahead.blocked.append(&mut obstacles),
            }
        }
        let hindered = touches && !(ahead.blocked.is_empty() && own.blocked.is_empty());
        let protected = self.protect(&mut own, &lowering, touches, &remake);
        // Modules are loaded even where nothing is remade: a VF may only lack its driver.
        findings.blocked.append(&mut own.blocked);
        findings.unknown.append(&mut own.unknown);
        findings.steps.append(&mut own.steps);
        remake.link = self.link_afterwards(findings, lowering.as_ref().filter(|_| !protected));
        let stop = hindered || (protected && touches);
        if stop || !touches {
            self.plan_autoprobe_restore(findings);
        }
        if !stop {
            findings.steps.append(&mut ahead.steps);
            if touches {
                findings.notes.append(&mut notes);
                self.plan_remake(findings, &remake);
            }
            self.plan_vfs(findings, &remake);
        }
        // While the VFs have to stay as they are, one of them may still need the larger frames.
        let lowering = lowering.filter(|_| !stop || current == 0);
        if let (false, Some(change)) = (protected, lowering) {
            let force = by_force.unwrap_or(false);
            findings.notes.append(&mut own.notes);
            findings.step(Object::Pci(self.pf.address), change, Disruption::None, force);
        }
        findings.blocked.append(&mut ahead.blocked);
        findings.unknown.append(&mut ahead.unknown);
        self.note_untested(findings);
    }

    fn plan_vfs(&self, findings: &mut Findings, remake: &Remake) {
        let unbound = remake.eswitch.is_some() && remake.order == EswitchOrder::VfsUnbound;
        if remake.recreate {
            for index in 0..remake.target {
                self.plan_new_vf(findings, index, self.probes_itself(remake), remake.link);
            }
            return;
        }
        // Numbers may have gaps, so it is what exists that counts.
        for vf in &self.pf.vfs {
            self.plan_existing_vf(findings, vf, unbound.then_some(remake.force), remake.link);
        }
    }

    /// Whether autoprobe is off while the VFs are made. Groups want each VF to be probed once, with its settings in place.
    fn turns_autoprobe_off(&self, remake: &Remake) -> bool {
        let unbound_order = remake.eswitch.is_some() && remake.order == EswitchOrder::VfsUnbound;
        let grouped = self.groups_below(remake.target).next().is_some();
        remake.recreate && remake.target > 0 && (grouped || unbound_order)
    }

    /// Whether the kernel itself binds the VFs that are made.
    fn probes_itself(&self, remake: &Remake) -> bool {
        self.steady_autoprobe() == Some(true) && !self.turns_autoprobe_off(remake)
    }

    fn note_untested(&self, findings: &mut Findings) {
        match self.profile {
            None => findings
                .notes
                .push("untested hardware: no profile fits, generic behaviour is used".to_owned()),
            Some(profile) if profile.tested.is_none() => {
                findings
                    .notes
                    .push(format!("untested hardware: profile {} comes from sources only", profile.name));
            }
            Some(_) => {}
        }
    }

    /// The number of VFs to have. For an externally managed PF it is what is there.
    fn target(&self, own: &mut Findings) -> u16 {
        let current = self.pf.num_vfs();
        if !self.entry.externally_managed {
            return self.entry.vfs.unwrap_or(current);
        }
        if let Some(wanted) = self.entry.vfs.filter(|wanted| *wanted > current) {
            own.blocked.push(Blocked::new(
                Object::Pci(self.pf.address),
                Reason::ExternallyManaged,
                format!(
                    "{wanted} VFs are wanted, {current} exist, and `externallyManaged` forbids making any"
                ),
                "let the external manager make them, or take `externallyManaged` away",
            ));
        }
        current
    }

    fn plan_up(&self, own: &mut Findings) {
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

    /// Plans raising the MTU; a lowering is given back, because it comes last; beside it
    /// stands whether it takes larger frames from VFs by force.
    fn plan_mtu(&self, own: &mut Findings) -> Option<(Change, bool)> {
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
        if target > current {
            own.step(object, Change::SetPfMtu { from: current, to: target }, Disruption::None, false);
        } else if target < current {
            let larger = |vf: &&Vf| {
                vf.netdevs.first().is_none_or(|netdev| netdev.mtu.known().is_none_or(|mtu| *mtu > target))
            };
            let users =
                self.users().into_iter().filter(|(vf, _)| self.pf.vf(vf.index).as_ref().is_some_and(larger));
            let request = Request {
                object,
                what: "lowering the port's MTU",
                consequence: "drop its larger frames",
                alternative: Some(format!("keep mtu at {current}")),
                disruption: Disruption::None,
                users: users.collect(),
            };
            match gate(self.document.disruption, request, &mut own.notes) {
                Ok(force) => return Some((Change::SetPfMtu { from: current, to: target }, force)),
                Err(mut obstacles) => own.blocked.append(&mut obstacles),
            }
        }
        None
    }

    fn link_afterwards(&self, findings: &Findings, lowering: Option<&Change>) -> Link {
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

    fn eswitch_order(&self) -> EswitchOrder {
        // Without VFs is the order that every driver accepts.
        self.profile
            .and_then(|profile| profile.eswitch_order.as_ref())
            .map_or(EswitchOrder::WithoutVfs, |order| order.value)
    }

    fn eswitch_change(&self, own: &mut Findings) -> Option<(EswitchMode, EswitchMode)> {
        let wish = self.entry.eswitch?;
        match self.pf.eswitch {
            Fact::Known(mode) if mode == wish => None,
            Fact::Known(mode) if self.entry.externally_managed => {
                own.blocked.push(Blocked::new(
                    Object::Pci(self.pf.address),
                    Reason::ExternallyManaged,
                    format!("e-switch mode {wish} is wanted, it is {mode}, and `externallyManaged` forbids changing it"),
                    "let the external manager change it, or take `externallyManaged` away",
                ));
                None
            }
            Fact::Known(mode) => Some((mode, wish)),
            Fact::Absent(Absence::Unknown) => {
                own.unknown(Object::Pci(self.pf.address), "e-switch mode");
                None
            }
            // A driver without e-switch modes is what legacy means.
            Fact::Absent(Absence::Unsupported) if wish == EswitchMode::Legacy => None,
            Fact::Absent(Absence::Unsupported) => {
                let what =
                    format!("e-switch mode {wish} is wanted and driver {} has no e-switch", self.driver());
                own.blocked.push(self.unsupported(what, "leave `eswitch` out for this NIC"));
                None
            }
        }
    }

    fn check_callback(&self, ahead: &mut Findings, target: u16) {
        if target == self.pf.num_vfs() {
            return;
        }
        let how = match self.profile.and_then(|profile| profile.configure.as_ref()).map(|how| how.value) {
            None | Some(Configure::Sysfs) => return,
            Some(Configure::ModuleParameter) => "a module parameter",
            Some(Configure::External) => "firmware or management software",
        };
        let what = format!(
            "driver {} takes the number of VFs from {how}, not from the kernel's file",
            self.driver()
        );
        ahead.blocked.push(self.unsupported(what, "make the VFs that way and set `externallyManaged: true`"));
    }

    /// Whether the VFs may be made anew or the e-switch changed; the answer says whether by force.
    fn may_remake(&self, remake: &Remake, notes: &mut Vec<String>) -> Result<bool, Vec<Blocked>> {
        if let Some(stuck) = self.context.stuck {
            let hint = "wait until that write has returned";
            let what =
                format!("a write on {stuck} has not returned and holds a lock that every such write needs");
            return Err(vec![Blocked::new(Object::Pci(self.pf.address), Reason::Stuck, what, hint)]);
        }
        let (what, consequence) = if remake.recreate {
            ("resizing", "remove it")
        } else {
            ("changing the e-switch mode", "cut it off")
        };
        let keep = (remake.target != remake.current).then(|| format!("keep vfs at {}", remake.current));
        let force = gate(
            self.document.disruption,
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
            return Err(vec![Blocked::new(
                Object::Pci(self.pf.address),
                Reason::VfInUse,
                format!("changing the e-switch mode cuts off VFs, and who has them cannot be seen: {why}"),
                unseen.hint(),
            )]);
        }
        Ok(force)
    }

    /// The VFs in use. One that the node is reached over is left out: it is told as such, and must not be freed.
    fn users(&self) -> Vec<(VfRef, Vec<Use>)> {
        let on_path =
            |vf: &&Vf| !self.entry.allow_management_path && self.context.management.why(vf.address).is_some();
        let vfs = self.pf.vfs.iter().filter(|vf| !on_path(vf));
        let vfs = vfs.map(|vf| VfRef { pf: self.pf.address, index: vf.index });
        vfs.map(|vf| (vf, uses(self.context.observed, vf))).filter(|(_, uses)| !uses.is_empty()).collect()
    }

    /// Says what the management path forbids and takes it out of the steps. The answer is whether anything was forbidden: then
    /// VFs are not remade and the MTU is not lowered.
    fn protect(&self, own: &mut Findings, lowering: &Option<Change>, remakes: bool, remake: &Remake) -> bool {
        if self.entry.allow_management_path {
            return false;
        }
        let path = &self.context.management;
        let name = self.pf.name.as_deref().unwrap_or("it").to_owned();
        let of_pf = path.why(self.pf.address).map(|why| (name, why));
        let of_vf = || {
            let vf = self.pf.vfs.iter().find_map(|vf| Some((vf.index, path.why(vf.address)?)));
            vf.map(|(index, why)| (format!("VF {index}"), why))
        };
        let on_pf = of_pf.is_some();
        let Some((name, why)) = of_pf.or_else(of_vf) else { return false };
        // A VF on the path does not mind that its PF is set up; count, e-switch and MTU reach through to it.
        let harmless = |change: &Change| !on_pf && matches!(change, Change::SetPfUp { .. });
        let planned = own.steps.iter().map(|step| &step.change).chain(lowering);
        let mut forbidden: Vec<String> = planned.filter(|change| !harmless(change)).map(words).collect();
        if remakes && remake.recreate {
            forbidden.push(format!("set VFs {} → {}", remake.current, remake.target));
        }
        if let (true, Some((from, to))) = (remakes, remake.eswitch) {
            forbidden.push(format!("set e-switch {from} → {to}"));
        }
        if forbidden.is_empty() {
            return false;
        }
        own.steps.retain(|step| harmless(&step.change));
        let what = format!("`{}`", forbidden.join("`, `"));
        own.blocked.push(on_management_path(Object::Pci(self.pf.address), &name, why, &what));
        true
    }

    fn plan_remake(&self, findings: &mut Findings, remake: &Remake) {
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

    fn plan_unbinding(&self, findings: &mut Findings, force: bool) {
        for vf in &self.pf.vfs {
            if let Some(from) = &vf.driver {
                let object = Object::Vf(VfRef { pf: self.pf.address, index: vf.index });
                findings.step(object, Change::UnbindVf { from: from.clone() }, Disruption::Vf, force);
            }
        }
    }

    /// Puts autoprobe back after a crash between switching it off and back on.
    fn plan_autoprobe_restore(&self, findings: &mut Findings) {
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

    /// The kernel's driver for this PF's VFs, if it is known.
    pub(super) fn vf_driver(&self) -> Option<&str> {
        self.profile?.vf_driver.as_ref().map(|driver| driver.value.as_str())
    }

    pub(super) fn driver(&self) -> &str {
        self.pf.driver.as_deref().unwrap_or("(none)")
    }

    pub(super) fn unsupported(&self, message: String, hint: &str) -> Blocked {
        Blocked::new(Object::Pci(self.pf.address), Reason::PfUnsupported, message, hint)
    }
}

fn words(change: &Change) -> String {
    let (from, to) = change.texts();
    format!("{} {from} → {to}", change.words())
}
