//! What concerns the node as a whole: kernel, IOMMU, lockdown, drivers that are there and drivers that could be loaded.

use std::collections::BTreeSet;

use portwright_core::observed::{NodeFacts, Problem, Sight};
use portwright_core::{Fact, Object, mac, udev_rule};

use crate::proc::module;
use crate::program::{self, MODPROBE};
use crate::root::{ReadError, Root};
use crate::sysfs::{Reasons, parse};

/// More than any distribution's `modules.dep` (about 1 MB).
const MODULES_LIMIT: usize = 16 << 20;
/// More than our own rule file can have.
const RULE_LIMIT: usize = 1 << 20;

/// Reads the node's facts; `sight` is left for [`super::holders`] to say.
pub(crate) fn facts(root: &Root, problems: &mut Vec<Problem>) -> NodeFacts {
    let mut reasons = Reasons::default();
    let kernel = reasons.take(attribute(root, "proc/sys/kernel", "osrelease")).unwrap_or_default();
    let facts = NodeFacts {
        mac_seed: mac_seed(root, &mut reasons),
        iommu: iommu(root, &mut reasons),
        lockdown: lockdown(root, &mut reasons),
        drivers: reasons.take(root.names("sys/bus/pci/drivers")).unwrap_or_default().into_iter().collect(),
        modules: modules(root, &kernel, &mut reasons),
        modprobe: program::find(root, &MODPROBE).is_some(),
        udev_rule: reasons.take(root.document(udev_rule::PATH, RULE_LIMIT)),
        sight: Sight::Complete,
        kernel,
    };
    problems.extend(reasons.0.into_iter().map(|reason| Problem { object: Object::Node, reason }));
    facts
}

fn attribute(root: &Root, folder: &str, name: &str) -> Result<String, ReadError> {
    root.dir(folder)?.attribute(name)
}

/// The seed of stable MACs. Only its hash leaves this function.
fn mac_seed(root: &Root, reasons: &mut Reasons) -> Option<String> {
    let machine_id = match attribute(root, "etc", "machine-id") {
        Ok(text) => text,
        Err(ReadError::Unparsable { path, expected, .. }) => {
            reasons.0.push(format!("{} does not hold {expected}", path.display()));
            return None;
        }
        Err(error) => return reasons.take(Err(error)),
    };
    let plain = machine_id.len() == 32 && machine_id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !plain {
        reasons
            .0
            .push(format!("{} does not hold 32 hexadecimal digits", root.join("etc/machine-id").display()));
        return None;
    }
    Some(mac::seed(&machine_id))
}

fn iommu(root: &Root, reasons: &mut Reasons) -> Fact<bool> {
    match root.names("sys/class/iommu") {
        Ok(names) => Fact::Known(!names.is_empty()),
        // A kernel without IOMMU support has no such class; a tree may just not hold it.
        Err(error) if error.is_absent() && root.is_host() => Fact::Known(false),
        Err(error) => reasons.fact(Err(error)),
    }
}

fn lockdown(root: &Root, reasons: &mut Reasons) -> Fact<portwright_core::observed::Lockdown> {
    let read = root.dir("sys/kernel/security").and_then(|security| {
        security.parsed("lockdown", "a list of modes with one in brackets", parse::lockdown)
    });
    match read {
        // The folder is there and mounted: this kernel has no lockdown.
        Err(error)
            if error.is_absent()
                && root.names("sys/kernel/security").is_ok_and(|names| !names.is_empty()) =>
        {
            Fact::UNSUPPORTED
        }
        read => reasons.fact(read),
    }
}

fn modules(root: &Root, kernel: &str, reasons: &mut Reasons) -> BTreeSet<String> {
    // The release becomes part of a path.
    if kernel.is_empty() || kernel.contains('/') || kernel.starts_with('.') {
        return BTreeSet::new();
    }
    let text = root.document(format!("lib/modules/{kernel}/modules.dep"), MODULES_LIMIT);
    reasons.take(text).map(|text| module::network_modules(&text)).unwrap_or_default()
}
