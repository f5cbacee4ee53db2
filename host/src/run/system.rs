//! Changes of the node: the udev rule and kernel modules.

use std::time::Duration;

use portwright_core::observed::module_name;
use portwright_core::{Object, PciAddress, udev_rule};

use super::{Done, HostError};
use crate::node::{HostNode, unless_stale};
use crate::program::{self, Ended, MODPROBE};
use crate::write;

/// A module's own start-up may probe devices.
const MODPROBE_WITHIN: Duration = Duration::from_secs(60);
const UDEVADM_WITHIN: Duration = Duration::from_secs(10);

/// Writes the rule and lets udevd know. Without udevd the file is enough: it reads its rules when it starts.
pub(super) fn write_udev_rule(node: &mut HostNode, content: &str) -> Done {
    let path = node.root().join(udev_rule::PATH);
    write::replace(&path, content.as_bytes(), 0o644, 0o755).map_err(|source| HostError::Write { source })?;
    if let Some(udevadm) = program::find(node.root(), &["usr/bin/udevadm", "bin/udevadm", "sbin/udevadm"])
        && node.root().is_host()
    {
        // udevd also notices changed folders by itself, so that a refusal here changes nothing.
        program::run(&udevadm, &["control", "--reload"], UDEVADM_WITHIN).map(drop).unwrap_or_default();
    }
    Ok(())
}

/// Loads a module with the host's `modprobe` and sees that its driver is registered.
pub(super) fn load_module(node: &mut HostNode, pf: PciAddress, module: &str) -> Done {
    const PROGRAM: &str = "modprobe";
    let Some(modprobe) = program::find(node.root(), &MODPROBE) else {
        let looked_for = MODPROBE.iter().map(|place| node.root().join(place)).collect();
        return Err(HostError::NoProgram { program: PROGRAM, looked_for });
    };
    let mut words = vec!["--", module];
    words.extend(binding_nothing(module));
    let ended = program::run(&modprobe, &words, MODPROBE_WITHIN)
        .map_err(|source| HostError::Program { program: PROGRAM, source })?;
    let command = format!("{PROGRAM} {}", words.get(1..).unwrap_or_default().join(" "));
    match ended {
        Ended::Well => {}
        Ended::Badly(text) => return Err(HostError::ProgramFailed { command, text }),
        Ended::Late => {
            let text = format!("it had not ended after {} s", MODPROBE_WITHIN.as_secs());
            return Err(HostError::ProgramFailed { command, text });
        }
    }
    if unless_stale(Object::Pci(pf), node.look().driver_registered(module))? {
        return Ok(());
    }
    Err(HostError::NotReadBack {
        object: Object::Pci(pf),
        what: "loading a module for its VFs",
        wanted: format!("driver {module}"),
        found: "none of that name".to_owned(),
    })
}

/// What keeps a module from binding devices as it is loaded: that is no step of the plan. Hosts with DPDK often have
/// `options vfio-pci ids=…` in `/etc/modprobe.d`, by which the module takes every unbound device of that kind; what is said
/// on the command line comes last and counts.
fn binding_nothing(module: &str) -> Option<&'static str> {
    (module_name(module) == "vfio_pci").then_some("ids=")
}
