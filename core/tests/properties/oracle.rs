//! What must be true of a plan, and of a node on which the plan has come out empty: judged from the simulated kernel and
//! the policy's text, without the planner's own functions.

use std::collections::BTreeSet;

use portwright_core::desired::{
    Desired, DisruptionPolicy, DriverWish, EswitchMode, MacPolicy, NicEntry, TxRate, VfGroup,
};
use portwright_core::id::{MacAddress, Object, PciAddress, VfRef};
use portwright_core::observed::Sight;
use portwright_core::sim::family::EswitchRule;
use portwright_core::sim::{Family, SimNode, SimPf, SimVf};
use portwright_core::step::{Change, Disruption, DriverTarget, Step};
use portwright_core::{Observed, Plan, Reason, mac};

use crate::policy::{Binding, binding};

type Checked = Result<(), String>;

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// A plan before it is run.
pub fn check_plan(node: &SimNode, observed: &Observed, desired: &Desired, plan: &Plan) -> Checked {
    for step in &plan.steps {
        check_step(node, observed, desired, plan, step)?;
    }
    for blocked in &plan.blocked {
        check_reason(node, desired, &blocked.object, blocked.reason)
            .map_err(|why| format!("blocked {} on {}: {why}", blocked.reason, blocked.object))?;
    }
    let told: BTreeSet<&portwright_core::Blocked> = plan.blocked.iter().collect();
    ensure(told.len() == plan.blocked.len(), || format!("an obstacle is told twice: {:?}", plan.blocked))?;
    expected_obstacles(node, desired, plan)
}

fn check_step(node: &SimNode, observed: &Observed, desired: &Desired, plan: &Plan, step: &Step) -> Checked {
    let Some(pf) = step.object.pf() else {
        let of_node = matches!(step.change, Change::WriteUdevRule { .. } | Change::LoadModule { .. });
        return ensure(of_node && step.object == Object::Node, || format!("`{step}` is about no PF"));
    };
    let Binding::To(document, entry) = binding(desired, &node.kernel, pf) else {
        // Only what an interrupted run owes is put back on a PF that nobody speaks of.
        let owed = observed.pf(pf).and_then(|pf| pf.saved_autoprobe);
        if matches!(step.change, Change::SetAutoprobe { to, .. } if Some(to) == owed) {
            return Ok(());
        }
        return Err(format!("`{step}` touches a PF that no policy binds"));
    };
    let entry = &desired.documents[document].nics[entry];
    let remakes = matches!(step.change, Change::SetNumVfs { .. } | Change::SetEswitch { .. });
    ensure(!(remakes && entry.externally_managed), || {
        format!("`{step}` although the VFs are managed by somebody else")
    })?;
    let policy = desired.documents[document].disruption;
    ensure(!step.force || policy == DisruptionPolicy::Force, || {
        format!("`{step}` forces, {policy:?} does not")
    })?;
    ensure(policy != DisruptionPolicy::Never || step.disruption == Disruption::None, || {
        format!("`{step}` disrupts although the policy says Never")
    })?;
    let least = match &step.change {
        Change::SetNumVfs { .. } | Change::SetEswitch { .. } => Disruption::Pf,
        Change::UnbindVf { .. } | Change::ReprobeVf { .. } | Change::BindVf { from: Some(_), .. } => {
            Disruption::Vf
        }
        _ => Disruption::None,
    };
    ensure(step.disruption >= least, || format!("`{step}` says it disrupts {:?}", step.disruption))?;
    let (from, to) = step.change.values();
    let reprobe = matches!(step.change, Change::ReprobeVf { .. });
    ensure(from != to || reprobe, || format!("`{step}` changes nothing"))?;
    check_from(node, observed, plan, step, pf)
}

/// A VF that shares its IOMMU group with a function outside cannot be used through VFIO.
fn check_group(node: &SimNode, step: &Step) -> Checked {
    let (Object::Vf(vf), Change::BindVf { to: DriverTarget::Named { driver, .. }, .. }) =
        (&step.object, &step.change)
    else {
        return Ok(());
    };
    let shared = node.kernel.vf(*vf).is_some_and(|vf| !vf.group_peers.is_empty());
    ensure(!(shared && driver == "vfio-pci"), || format!("`{step}` although its IOMMU group is shared"))
}

/// The first step of its sort on an object expects what was observed. (What later ones expect shows when they run.)
fn check_from(node: &SimNode, observed: &Observed, plan: &Plan, step: &Step, pf: PciAddress) -> Checked {
    let remade = plan
        .steps
        .iter()
        .take_while(|other| *other != step)
        .any(|other| other.object == Object::Pci(pf) && matches!(other.change, Change::SetNumVfs { .. }));
    let Object::Vf(vf) = &step.object else { return Ok(()) };
    if remade {
        return Ok(());
    }
    check_group(node, step)?;
    let admin = &observed.vf(*vf).ok_or_else(|| format!("`{step}` is about a VF that does not exist"))?.admin;
    let holds = match &step.change {
        Change::SetVfMac { from, .. } => from.is_some() && from.as_ref() == admin.mac.known(),
        Change::SetVfVlan { from, .. } => from.is_some() && from.as_ref() == admin.vlan.known(),
        Change::SetVfSpoofCheck { from, .. } => from.is_some() && from.as_ref() == admin.spoof_check.known(),
        Change::SetVfTrust { from, .. } => from.is_some() && from.as_ref() == admin.trust.known(),
        Change::SetVfRate { from, .. } => from.is_some() && from.as_ref() == admin.tx_rate.known(),
        Change::SetVfLinkState { from, .. } => from.is_some() && from.as_ref() == admin.link_state.known(),
        _ => true,
    };
    ensure(holds, || format!("`{step}` does not start from what was observed"))
}

/// An obstacle must be a true one.
fn check_reason(node: &SimNode, desired: &Desired, object: &Object, reason: Reason) -> Checked {
    let kernel = &node.kernel;
    if reason == Reason::PfMissing {
        return ensure(matches!(object, Object::Policy(..)), || "is about no policy".to_owned());
    }
    let pf = object.pf().ok_or("is about no PF")?;
    if reason == Reason::PolicyConflict {
        return ensure(binding(desired, kernel, pf) == Binding::Conflict, || "there is none".to_owned());
    }
    let Binding::To(document, entry) = binding(desired, kernel, pf) else {
        return Err("no policy binds the PF".to_owned());
    };
    let policy = desired.documents[document].disruption;
    let entry = &desired.documents[document].nics[entry];
    let sim = kernel.pf(pf).ok_or("the PF is not there")?;
    let traits = sim.family.traits();
    let mut vfs = kernel.vfs().filter(|vf| vf.pf == pf);
    let used = match object {
        Object::Vf(vf) => kernel.in_use(*vf),
        _ => vfs.any(|vf| kernel.in_use(vf)) || kernel.sight != Sight::Complete,
    };
    let driver = |group: &VfGroup| match &group.driver {
        DriverWish::Kernel => traits.vf_driver.to_owned(),
        DriverWish::Named(name) => name.clone(),
    };
    let holds = match reason {
        Reason::VfInUse => used,
        Reason::NeedsCluster => used && policy == DisruptionPolicy::Evict,
        Reason::NeedsDisruption => policy == DisruptionPolicy::Never,
        Reason::TooManyVfs => entry.vfs.is_some_and(|vfs| vfs > sim.shown.total_vfs.min(limit(sim.family))),
        Reason::FirmwareLimit => sim.shown.total_vfs == 0,
        Reason::PfNoDriver => sim.driver.is_none(),
        Reason::PfUnsupported => {
            let switchdev =
                entry.eswitch == Some(EswitchMode::Switchdev) || sim.eswitch == EswitchMode::Switchdev;
            !traits.refuses.is_empty()
                || (switchdev && !traits.refuses_in_switchdev.is_empty())
                || !traits.configurable
                || !traits.netdev
                || traits.eswitch == EswitchRule::Never
        }
        Reason::NoCarrier => traits.rate_needs_carrier && !(sim.up() && sim.cable),
        Reason::ManagementPath => {
            let on_path = |address: &PciAddress| {
                kernel.protected.contains(address) || kernel.left_path.contains(address)
            };
            !entry.allow_management_path && (on_path(&pf) || sim.vfs.values().any(|vf| on_path(&vf.address)))
        }
        Reason::NoIommu => kernel.node.iommu.is(&false),
        Reason::IommuGroupShared => sim.vfs.values().any(|vf| !vf.group_peers.is_empty()),
        Reason::DriverMissing => {
            // Without a profile and with autoprobe off nobody knows what to bind.
            let nameless = !sim.autoprobe;
            nameless || entry.groups.iter().any(|group| !kernel.node.driver_loaded(&driver(group)))
        }
        Reason::ExternallyManaged => entry.externally_managed,
        Reason::Stuck => kernel.pfs.values().any(|pf| pf.stuck.is_some()),
        Reason::PfMissing
        | Reason::PolicyConflict
        | Reason::NotReadBack
        | Reason::Contended
        | Reason::Releasing
        | Reason::FellBack => false,
        // These policies want nothing of Open vSwitch.
        Reason::NameConflict
        | Reason::ForeignPorts
        | Reason::UplinkInUse
        | Reason::UplinkLoop
        | Reason::InterfaceMissing
        | Reason::BridgeMissing
        | Reason::MirrorOutputMissing
        | Reason::TooManyMirrors
        | Reason::DatapathMissing
        | Reason::OvsUnreachable
        | Reason::NotApplied => false,
    };
    ensure(holds, || "is not so".to_owned())
}

fn limit(family: Family) -> u16 {
    if family == Family::Igb { 7 } else { u16::MAX }
}

/// Obstacles that must be told, each beside all others.
fn expected_obstacles(node: &SimNode, desired: &Desired, plan: &Plan) -> Checked {
    for (address, sim) in node.kernel.pfs.iter().filter(|(_, sim)| sim.present) {
        let told = |reason: Reason| {
            let object = Object::Pci(*address);
            plan.blocked.iter().any(|blocked| blocked.object == object && blocked.reason == reason)
        };
        let must = |reason: Reason| ensure(told(reason), || format!("{address}: {reason} is not told"));
        let (document, entry) = match binding(desired, &node.kernel, *address) {
            Binding::Free => continue,
            Binding::Conflict => {
                must(Reason::PolicyConflict)?;
                continue;
            }
            Binding::To(document, entry) => (&desired.documents[document], entry),
        };
        let entry = &document.nics[entry];
        if sim.driver.is_none() {
            must(Reason::PfNoDriver)?;
            continue;
        }
        let there = u16::try_from(sim.vfs.len()).unwrap();
        if let Some(wanted) = entry.vfs.filter(|wanted| *wanted != there && !entry.externally_managed) {
            if wanted > sim.shown.total_vfs && sim.shown.total_vfs > 0 {
                must(Reason::TooManyVfs)?;
            }
            if wanted > 0 && sim.shown.total_vfs == 0 {
                must(Reason::FirmwareLimit)?;
            }
            let vfio = |group: &VfGroup| group.driver == DriverWish::Named("vfio-pci".to_owned());
            if entry.groups.iter().any(vfio) && node.kernel.node.iommu.is(&false) {
                must(Reason::NoIommu)?;
            }
            if document.disruption == DisruptionPolicy::Never {
                must(Reason::NeedsDisruption)?;
            }
            if !sim.family.traits().configurable {
                must(Reason::PfUnsupported)?;
            }
        }
    }
    Ok(())
}

/// A node on which the plan has come out without steps.
pub fn check_goal(node: &SimNode, desired: &Desired, plan: &Plan) -> Checked {
    let left_off = node.autoprobe_not_restored();
    for (address, sim) in node.kernel.pfs.iter().filter(|(_, sim)| sim.present) {
        let Binding::To(document, entry) = binding(desired, &node.kernel, *address) else { continue };
        ensure(!left_off.contains(address), || format!("autoprobe of {address} was not put back"))?;
        if sim.driver.is_none() {
            continue;
        }
        let entry = &desired.documents[document].nics[entry];
        let aside = |object: &Object| {
            plan.blocked.iter().any(|blocked| blocked.object == *object)
                || plan.unknown.iter().any(|unknown| unknown.object == *object)
        };
        // A shared group is known before VFs are made, and then none are.
        let shared = |blocked: &portwright_core::Blocked| {
            blocked.reason == Reason::IommuGroupShared && blocked.object.pf() == Some(*address)
        };
        if aside(&Object::Pci(*address)) || plan.blocked.iter().any(shared) {
            continue;
        }
        check_pf(sim, entry).map_err(|why| format!("{address}: {why}"))?;
        for (index, vf) in &sim.vfs {
            let reference = VfRef { pf: *address, index: *index };
            let on_path =
                node.kernel.protected.contains(&vf.address) || node.kernel.left_path.contains(&vf.address);
            let protected = on_path && !entry.allow_management_path;
            if node.kernel.in_use(reference) || protected || aside(&Object::Vf(reference)) {
                continue;
            }
            let remembered = node.state_dir.remembered.get(&reference).map(|known| known.name.as_str());
            check_vf(sim, vf, reference, entry, node, remembered)
                .map_err(|why| format!("{reference}: {why}"))?;
        }
    }
    Ok(())
}

fn check_pf(sim: &SimPf, entry: &NicEntry) -> Checked {
    let there = u16::try_from(sim.vfs.len()).unwrap();
    if let Some(wanted) = entry.vfs.filter(|_| !entry.externally_managed) {
        ensure(there == wanted, || format!("has {there} VFs, {wanted} are wanted"))?;
    }
    if let Some(netdev) = &sim.netdev {
        ensure(netdev.up, || "is down".to_owned())?;
        if let Some(mtu) = entry.mtu {
            ensure(netdev.mtu == mtu, || format!("has MTU {}, {mtu} is wanted", netdev.mtu))?;
        }
        let largest = entry.groups.iter().filter_map(|group| group.mtu).max().unwrap_or(0);
        ensure(netdev.mtu >= largest, || format!("has MTU {}, its VFs want {largest}", netdev.mtu))?;
    }
    if let Some(mode) = entry.eswitch {
        ensure(sim.eswitch == mode, || format!("e-switch is {}, {mode} is wanted", sim.eswitch))?;
    }
    Ok(())
}

fn check_vf(
    sim: &SimPf,
    vf: &SimVf,
    reference: VfRef,
    entry: &NicEntry,
    node: &SimNode,
    remembered: Option<&str>,
) -> Checked {
    let traits = sim.family.traits();
    if let (Some(netdev), Some(remembered)) = (&vf.netdev, remembered) {
        let after_pod = netdev.name.starts_with("net");
        ensure(!after_pod || remembered.starts_with("net"), || {
            format!("kept the pod's name {}", netdev.name)
        })?;
    }
    let group = entry.groups.iter().find(|group| group.vfs.contains(reference.index));
    let Some(group) = group else {
        let loaded = node.kernel.node.driver_loaded(traits.vf_driver);
        let kernel = vf.driver.as_deref() == Some(traits.vf_driver);
        return ensure(kernel || !sim.autoprobe || !loaded, || {
            format!("is in no group and has driver {:?}", vf.driver)
        });
    };
    let wanted = match &group.driver {
        DriverWish::Kernel => traits.vf_driver,
        DriverWish::Named(name) => name,
    };
    ensure(vf.driver.as_deref() == Some(wanted), || format!("has driver {:?}, not {wanted}", vf.driver))?;
    // Without it the next rebinding would give the VF to the kernel's driver.
    let pinned = wanted == traits.vf_driver || vf.driver_override.as_deref() == Some(wanted);
    ensure(pinned, || format!("is bound to {wanted} and not pinned to it"))?;
    check_admin(vf, group, reference, traits.netdev)?;
    let Some(netdev) = vf.netdev.as_ref().filter(|_| wanted == traits.vf_driver) else {
        return ensure(wanted != traits.vf_driver, || "has no netdev".to_owned());
    };
    if let Some(mtu) = group.mtu {
        ensure(netdev.mtu == mtu, || format!("has MTU {}, {mtu} is wanted", netdev.mtu))?;
    }
    let given = !matches!(group.macs, Some(MacPolicy::Keep | MacPolicy::Random)) && traits.netdev;
    ensure(!given || netdev.mac == vf.admin.mac, || {
        format!("its netdev has MAC {}, it was given {}", netdev.mac, vf.admin.mac)
    })
}

fn check_admin(vf: &SimVf, group: &VfGroup, reference: VfRef, settable: bool) -> Checked {
    if !settable {
        return Ok(());
    }
    let stable = mac::stable("5eed", reference);
    match group.macs {
        Some(MacPolicy::Stable) => {
            ensure(vf.admin.mac == stable, || format!("has MAC {}, not {stable}", vf.admin.mac))?;
        }
        None => ensure(vf.admin.mac != MacAddress::ZERO, || "was given no MAC".to_owned())?,
        Some(MacPolicy::Keep | MacPolicy::Random) => {}
    }
    let same = |name: &str, holds: bool| ensure(holds, || format!("{name} is not as wanted: {:?}", vf.admin));
    same("trust", group.trust.is_none_or(|wanted| vf.admin.trust == wanted))?;
    same("spoof check", group.spoof_check.is_none_or(|wanted| vf.admin.spoof_check == wanted))?;
    same("VLAN", group.vlan.is_none_or(|wanted| vf.admin.vlan == wanted))?;
    same("link state", group.link_state.is_none_or(|wanted| vf.admin.link_state == wanted))?;
    let TxRate { min, max } = vf.admin.tx_rate;
    let rate = group.tx_rate.is_none_or(|wish| {
        wish.min.is_none_or(|wanted| min == wanted) && wish.max.is_none_or(|wanted| max == wanted)
    });
    same("rate", rate)
}
