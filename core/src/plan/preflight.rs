//! Whether what is wanted of a PF's VFs can be done at all: found out before the first VF is made.

use std::collections::BTreeMap;

use super::Findings;
use super::pf::PfPlanner;
use crate::blocked::{Blocked, Reason};
use crate::desired::{DriverWish, EswitchMode, VfGroup, VlanProtocol};
use crate::id::{Object, VfRef};
use crate::observed::{Pf, Vf};
use crate::profile::VfAttribute;
use crate::range::IndexSet;
use crate::step::{Change, Disruption, DriverTarget};

/// Whether a driver gives devices to user space through VFIO, which needs an IOMMU.
pub(super) fn is_vfio(driver: &str) -> bool {
    driver.contains("vfio")
}

/// Whether a driver gives devices to user space at all.
pub(super) fn for_user_space(driver: &str) -> bool {
    is_vfio(driver) || driver.contains("uio") || driver.contains("pci-stub")
}

impl PfPlanner<'_> {
    /// Whether so many VFs can be had.
    pub(super) fn check_number(&self, findings: &mut Findings, target: u16) {
        let pf = self.pf;
        let object = Object::Pci(pf.address);
        let firmware = self.profile.and_then(|profile| profile.firmware_hint.as_ref());
        let firmware = firmware.map(|hint| hint.value.replace("ADDRESS", &pf.address.to_string()));
        let limit = self.profile.and_then(|profile| profile.max_vfs.as_ref()).map(|max| max.value);
        if target > 0 && pf.total_vfs == 0 {
            findings.blocked.push(Blocked::new(
                object,
                Reason::FirmwareLimit,
                format!("{target} VFs are wanted and the firmware offers none (sriov_totalvfs is 0)"),
                firmware
                    .unwrap_or_else(|| "enable SR-IOV in the NIC's firmware or in the BIOS setup".to_owned()),
            ));
        } else if target > pf.total_vfs {
            findings.blocked.push(Blocked::new(
                object,
                Reason::TooManyVfs,
                format!("{target} VFs are wanted and the function offers {} (sriov_totalvfs)", pf.total_vfs),
                firmware.unwrap_or_else(|| format!("set vfs to {} or less", pf.total_vfs)),
            ));
        } else if let Some(limit) = limit.filter(|limit| target > *limit) {
            findings.blocked.push(Blocked::new(
                object,
                Reason::TooManyVfs,
                format!("{target} VFs are wanted and this NIC family can have {limit} per port"),
                format!("set vfs to {limit} or less"),
            ));
        }
    }

    /// Whether the groups' drivers can be had; modules that have to be loaded become steps.
    pub(super) fn check_drivers(&self, findings: &mut Findings, target: u16, recreate: bool) {
        let mut wanted: BTreeMap<&str, &VfGroup> = BTreeMap::new();
        for group in self.groups_below(target) {
            if let Some(driver) = self.driver_of(group) {
                wanted.entry(driver).or_insert(group);
            }
        }
        self.check_nameless(findings, target, recreate);
        for (driver, group) in wanted {
            if is_vfio(driver) {
                self.check_iommu(findings, driver, group);
            }
            self.check_module(findings, driver, group, recreate);
        }
    }

    /// A kernel driver whose name nobody knows can only be bound by the kernel itself, which autoprobe may forbid.
    fn check_nameless(&self, findings: &mut Findings, target: u16, recreate: bool) {
        if self.vf_driver().is_some() || self.steady_autoprobe() != Some(false) {
            return;
        }
        let has_one = |index: u16| {
            self.pf.vf(index).is_some_and(|vf| self.has_driver(vf.driver.as_ref(), &DriverTarget::Default))
        };
        let lacks = |group: &&VfGroup| {
            group.driver == DriverWish::Kernel
                && group.vfs.iter().any(|index| index < target && (recreate || !has_one(index)))
        };
        if let Some(group) = self.groups_below(target).find(lacks) {
            findings.blocked.push(Blocked::new(
                Object::Pci(self.pf.address),
                Reason::DriverMissing,
                format!(
                    "{} the kernel's driver, whose name is not known for this NIC, and sriov_drivers_autoprobe is 0, so the kernel does not choose",
                    want(group)
                ),
                "name the driver in the group (`driver: igbvf`), or write 1 to the PF's sriov_drivers_autoprobe",
            ));
        }
    }

    /// Autoprobe as it is when we are not in between.
    pub(super) fn steady_autoprobe(&self) -> Option<bool> {
        self.pf.saved_autoprobe.or(self.pf.autoprobe.known().copied())
    }

    /// Whether a driver can be bound at all; if not, the PF's obstacles say why.
    pub(super) fn can_bind(&self, to: &DriverTarget) -> bool {
        let node = &self.context.observed.node;
        let DriverTarget::Named { driver, .. } = to else { return self.steady_autoprobe() != Some(false) };
        let silent = node.drivers.is_empty() && node.modules.is_empty();
        let loadable = node.module_available(driver) && node.modprobe;
        let untranslated = is_vfio(driver) && !node.iommu.is(&true);
        !untranslated && (silent || node.driver_loaded(driver) || loadable)
    }

    /// The driver's name that a group wants, if it is known.
    pub(super) fn driver_of<'b>(&'b self, group: &'b VfGroup) -> Option<&'b str> {
        match &group.driver {
            DriverWish::Named(driver) => Some(driver),
            DriverWish::Kernel => self.vf_driver(),
        }
    }

    fn check_iommu(&self, findings: &mut Findings, driver: &str, group: &VfGroup) {
        let iommu = &self.context.observed.node.iommu;
        if iommu.is(&false) {
            findings.blocked.push(Blocked::new(
                Object::Pci(self.pf.address),
                Reason::NoIommu,
                format!("{} {driver}, which needs an IOMMU, and none is on", want(group)),
                "enable VT-d or AMD-Vi in the BIOS and boot with `intel_iommu=on iommu=pt` (Intel) or `iommu=pt` (AMD)",
            ));
        } else if iommu.is_unknown() && self.somebody_lacks(driver) {
            findings.unknown(Object::Node, "IOMMU");
        }
    }

    /// Whether VFs that are to go to VFIO share their IOMMU group with functions that do not: VFIO opens whole groups. What a
    /// VF shares it will share again when it is made anew.
    pub(super) fn check_iommu_groups(&self, findings: &mut Findings, target: u16, recreate: bool) {
        for vf in self.pf.vfs.iter().filter(|vf| vf.index < target || !recreate) {
            let Some(VfGroup { driver: DriverWish::Named(driver), .. }) = self.entry.group(vf.index) else {
                continue;
            };
            let to = DriverTarget::Named { driver: driver.clone(), keep_override: true };
            if !recreate && self.has_driver(vf.driver.as_ref(), &to) {
                continue;
            }
            let Some(peer) = self.foreign_group_peer(vf, &to) else { continue };
            let group = vf.iommu_group.unwrap_or_default();
            findings.blocked.push(Blocked::new(
                Object::Vf(VfRef { pf: self.pf.address, index: vf.index }),
                Reason::IommuGroupShared,
                format!("it shares IOMMU group {group} with {peer}, which does not go to VFIO"),
                "enable ACS in the BIOS, or put every function of the group into a group with the same driver",
            ));
        }
    }

    /// Whether a VF still has to be bound to the driver.
    fn somebody_lacks(&self, driver: &str) -> bool {
        let has = |index: u16| self.pf.vf(index).is_some_and(|vf| vf.driver.as_deref() == Some(driver));
        let wants = |group: &&VfGroup| self.driver_of(group) == Some(driver);
        self.entry.groups.iter().filter(wants).flat_map(|group| group.vfs.iter()).any(|index| !has(index))
    }

    fn check_module(&self, findings: &mut Findings, driver: &str, group: &VfGroup, recreate: bool) {
        let node = &self.context.observed.node;
        // A document without the lists (written by hand) says nothing about drivers.
        let silent = node.drivers.is_empty() && node.modules.is_empty();
        if silent || node.driver_loaded(driver) || !self.somebody_lacks(driver) {
            return;
        }
        let module = crate::observed::module_name(driver);
        let object = Object::Pci(self.pf.address);
        if node.module_available(driver) && node.modprobe {
            findings.step(object, Change::LoadModule { module }, Disruption::None, false);
            findings.notes.extend(self.bound_by_loading(driver, recreate));
            return;
        }
        let hint = if node.module_available(driver) {
            format!("run `modprobe {module}` on the host; no modprobe was found that could be run from here")
        } else {
            format!(
                "install the package that has module {module} for kernel {}, then `modprobe {module}`",
                node.kernel
            )
        };
        findings.blocked.push(Blocked::new(
            object,
            Reason::DriverMissing,
            format!("{} driver {driver}, which is not there", want(group)),
            hint,
        ));
    }

    /// Says which VFs the kernel binds by itself as a VF driver comes: all of its kind that have none, of any port that probes.
    /// A module for user space is loaded so that it binds nothing.
    fn bound_by_loading(&self, driver: &str, recreate: bool) -> Option<String> {
        let probes = |pf: &&Pf| {
            let (profile, _) = self.context.profiles.find(pf);
            let kind = profile.and_then(|profile| profile.vf_driver.as_ref());
            pf.autoprobe.is(&true) && kind.is_some_and(|kind| kind.value == driver)
        };
        let taken = |pf: &Pf| {
            let own = pf.address == self.pf.address;
            // The plan removes or binds them itself.
            let planned = |index: u16| {
                own && (recreate
                    || self.entry.group(index).is_some_and(|group| self.driver_of(group) == Some(driver)))
            };
            let free = |vf: &&Vf| {
                let open = vf.driver_override.as_ref().is_none_or(|name| name == driver);
                vf.driver.is_none() && open && !planned(vf.index)
            };
            let vfs = IndexSet::from_indexes(pf.vfs.iter().filter(free).map(|vf| vf.index))?;
            Some(format!("VFs {vfs} of {}", pf.address))
        };
        let taken: Vec<String> = self.context.observed.pfs.iter().filter(probes).filter_map(taken).collect();
        (!taken.is_empty()).then(|| {
            format!(
                "as {driver} is loaded, the kernel binds to it what has no driver on ports whose sriov_drivers_autoprobe is on: {}",
                taken.join(", ")
            )
        })
    }

    /// Whether the PF's driver takes an attribute, as far as its profile says.
    pub(super) fn takes(&self, attribute: VfAttribute) -> bool {
        let taken = self.profile.and_then(|profile| profile.vf_attributes.as_ref());
        taken.is_none_or(|taken| taken.value.contains(&attribute)) && !self.refuses_in_switchdev(attribute)
    }

    /// Whether the driver refuses an attribute in the e-switch mode that the PF is to have.
    fn refuses_in_switchdev(&self, attribute: VfAttribute) -> bool {
        let refused = self.profile.and_then(|profile| profile.switchdev_refuses.as_ref());
        let wanted = self.entry.eswitch.filter(|_| !self.entry.externally_managed);
        let mode = wanted.or(self.pf.eswitch.known().copied());
        mode == Some(EswitchMode::Switchdev)
            && refused.is_some_and(|refused| refused.value.contains(&attribute))
    }

    /// What to add to a refusal that holds in one e-switch mode only.
    fn in_mode(&self, attribute: VfAttribute) -> &'static str {
        if self.refuses_in_switchdev(attribute) { " in switchdev mode" } else { "" }
    }

    /// Whether the PF's driver takes the attributes that groups want.
    pub(super) fn check_attributes(&self, findings: &mut Findings, target: u16) {
        for group in self.groups_below(target) {
            let wanted = wanted_attributes(group);
            let Some(first) = wanted.first() else { continue };
            if self.pf.netdev().is_none() && self.pf.name.is_none() {
                findings.blocked.push(self.unsupported(
                    format!(
                        "{} {}, which is set through the PF's netdev, and it has none",
                        want(group),
                        first.1
                    ),
                    "leave the attribute out, or let the pod's CNI plugin set it on the VF itself",
                ));
                continue;
            }
            for (attribute, name) in &wanted {
                if !self.takes(*attribute) {
                    findings.blocked.push(self.unsupported(
                        format!(
                            "{} {name}, which driver {} does not take{}",
                            want(group),
                            self.driver(),
                            self.in_mode(*attribute)
                        ),
                        "leave the attribute out of this group",
                    ));
                }
            }
        }
    }

    /// The groups that have a VF: one below the number, or one that exists (numbers may have gaps).
    pub(super) fn groups_below(&self, target: u16) -> impl Iterator<Item = &VfGroup> {
        let has = move |index: u16| index < target || self.pf.vf(index).is_some();
        self.entry.groups.iter().filter(move |group| group.vfs.iter().any(has))
    }
}

/// `VFs 0-3 want`, `VF 4 wants`.
fn want(group: &VfGroup) -> String {
    match group.vfs.iter().count() {
        1 => format!("VF {} wants", group.vfs),
        _ => format!("VFs {} want", group.vfs),
    }
}

/// What a group wants through the PF's netdev, each with its name. A default MAC is not counted: it is set where it can be.
pub(super) fn wanted_attributes(group: &VfGroup) -> Vec<(VfAttribute, &'static str)> {
    let vlan = group.vlan.filter(|vlan| vlan.id != 0);
    let rate = group.tx_rate;
    [
        (group.macs == Some(crate::desired::MacPolicy::Stable), VfAttribute::Mac, "a stable MAC"),
        (vlan.is_some(), VfAttribute::Vlan, "a VLAN"),
        (
            vlan.is_some_and(|vlan| vlan.protocol == VlanProtocol::Dot1ad),
            VfAttribute::VlanDot1ad,
            "VLAN protocol 802.1ad",
        ),
        (group.spoof_check.is_some(), VfAttribute::SpoofCheck, "a spoof check setting"),
        (group.trust.is_some(), VfAttribute::Trust, "a trust setting"),
        (rate.and_then(|rate| rate.max).is_some_and(|max| max > 0), VfAttribute::MaxRate, "an upper rate"),
        (
            rate.and_then(|rate| rate.min).is_some_and(|min| min > 0),
            VfAttribute::MinRate,
            "a guaranteed rate",
        ),
        (group.link_state.is_some(), VfAttribute::LinkState, "a link state"),
    ]
    .into_iter()
    .filter_map(|(wanted, attribute, name)| wanted.then_some((attribute, name)))
    .collect()
}
