//! One PF: its link, MTU, e-switch and number of VFs, in the only order that works on every known driver.
//!
//! PF up before VF drivers probe; MTU raised first and lowered last; autoprobe off around the creation so that each VF is
//! probed once, with its MAC in place; e-switch where its driver allows it.

use super::gate::{Leave, Permit};
use super::link::Link;
use super::preflight::for_user_space;
use super::remake::Remake;
use super::{Context, Findings, on_management_path};
use crate::blocked::{Blocked, Reason};
use crate::desired::{Document, EswitchMode, NicEntry};
use crate::fact::{Absence, Fact};
use crate::id::{Object, VfRef};
use crate::observed::{Pf, Vf};
use crate::profile::{Configure, EswitchOrder, Profile};
use crate::range::IndexSet;
use crate::step::{Change, Step};
use crate::usage::{Use, uses};

/// What one PF is planned with.
pub(super) struct PfPlanner<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) pf: &'a Pf,
    pub(super) document: &'a Document,
    pub(super) entry: &'a NicEntry,
    pub(super) profile: Option<&'a Profile>,
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
    } else if let Some(driver) = pf.driver.as_deref().filter(|driver| for_user_space(driver)) {
        findings.blocked.push(planner.unsupported(
            format!(
                "the port itself is given to user space by driver {driver}: a VM or a DPDK process has it"
            ),
            "bind it to the NIC's kernel driver, or narrow the policy's `select`",
        ));
    } else {
        planner.plan(&mut findings);
    }
    findings
}

impl PfPlanner<'_> {
    /// What the policy lets be disrupted.
    pub(super) fn permit(&self) -> Permit<'_> {
        let Context { cluster, pods, .. } = *self.context;
        Permit { policy: self.document.disruption, cluster, pods }
    }

    fn plan(&self, findings: &mut Findings) {
        let mut own = Findings::default();
        self.plan_up(&mut own);
        let (lowering, leave) = self.plan_mtu(&mut own).unzip();
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
                Err(refusal) => ahead.refused(refusal),
            }
        }
        let hindered = touches && !(ahead.blocked.is_empty() && own.blocked.is_empty());
        let protected = self.protect(&mut own, &lowering, touches, &remake);
        // Modules are loaded even where nothing is remade: a VF may only lack its driver.
        findings.blocked.append(&mut own.blocked);
        findings.held.append(&mut own.held);
        findings.unknown.append(&mut own.unknown);
        findings.steps.append(&mut own.steps);
        if !protected {
            findings.notes.append(&mut own.notes);
        }
        remake.link = self.link_afterwards(findings, lowering.as_ref().filter(|_| !protected));
        let stop = hindered || (protected && touches);
        if stop || !touches {
            self.plan_autoprobe_restore(findings);
        }
        if !stop {
            findings.steps.append(&mut ahead.steps);
            findings.notes.append(&mut ahead.notes);
            if touches {
                findings.notes.append(&mut notes);
                let up = self.postponed_up(findings, &remake);
                self.plan_remake(findings, &remake);
                findings.steps.extend(up);
            }
            self.plan_vfs(findings, &remake);
        }
        // While the VFs have to stay as they are, one of them may still need the larger frames.
        let lowering = lowering.filter(|_| !stop || current == 0);
        if let (false, Some(change)) = (protected, lowering) {
            let Leave { disruption, force } = leave.unwrap_or_default();
            findings.step(Object::Pci(self.pf.address), change, disruption, force);
        }
        findings.blocked.append(&mut ahead.blocked);
        findings.held.append(&mut ahead.held);
        findings.unknown.append(&mut ahead.unknown);
        self.note_missing_vfs(findings, &remake);
        self.note_untested(findings);
    }

    /// Takes the step that sets the port up out of the plan where it may come after the VFs are made: some drivers make them
    /// faster on a port that is down, and VFs need it up only when their drivers probe.
    fn postponed_up(&self, findings: &mut Findings, remake: &Remake) -> Option<Step> {
        let down =
            self.profile.and_then(|profile| profile.makes_vfs_down.as_ref()).is_some_and(|down| down.value);
        if !down || !remake.recreate || self.probes_itself(remake) {
            return None;
        }
        let up = findings.steps.iter().position(|step| matches!(step.change, Change::SetPfUp { .. }))?;
        Some(findings.steps.remove(up))
    }

    /// Says which groups speak of VFs that will not be there: a pool without devices should not come as a surprise.
    fn note_missing_vfs(&self, findings: &mut Findings, remake: &Remake) {
        let there = |index: u16| {
            if remake.recreate { index < remake.target } else { self.pf.vf(index).is_some() }
        };
        for group in &self.entry.groups {
            if let Some(missing) = IndexSet::from_indexes(group.vfs.iter().filter(|index| !there(*index))) {
                let pool = group.pool.as_ref().map(|pool| format!(" of pool {pool}")).unwrap_or_default();
                findings.notes.push(format!("VFs {missing}{pool} do not exist"));
            }
        }
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

    fn note_untested(&self, findings: &mut Findings) {
        match self.profile {
            None => findings
                .notes
                .push("untested hardware: no profile fits, generic behaviour is used".to_owned()),
            Some(profile) if profile.tested_on(self.pf).is_none() => {
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

    /// The VFs in use. One that the node is reached over is left out: it is told as such, and must not be freed.
    pub(super) fn users(&self) -> Vec<(VfRef, Vec<Use>)> {
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
        let of_pf = path.why_pf(self.pf.address).map(|why| (name, why));
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

/// A change in a few words: `set MTU 1500 → 9000`.
pub(super) fn words(change: &Change) -> String {
    let (from, to) = change.texts();
    format!("{} {from} → {to}", change.words())
}
