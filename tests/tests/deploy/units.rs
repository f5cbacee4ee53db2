//! The systemd units agree with the program and with the manifests.

use std::collections::{BTreeMap, BTreeSet};

use clap::Parser as _;
use portwright::cli::{Cli, Verb};

use crate::manifests::{capabilities, environment};
use crate::read;

/// Values by section and key. Keys may be given several times.
fn unit(name: &str) -> BTreeMap<(String, String), Vec<String>> {
    let (mut found, mut section) = (BTreeMap::new(), String::new());
    for line in read(&format!("deploy/systemd/{name}")).lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            let values: &mut Vec<String> = found.entry((section.clone(), key.to_owned())).or_default();
            values.push(value.to_owned());
        } else {
            assert!(line.is_empty() || line.starts_with('#'), "{name}: {line}");
        }
    }
    found
}

fn value(name: &str, section: &str, key: &str) -> String {
    let unit = unit(name);
    let values =
        unit.get(&(section.to_owned(), key.to_owned())).unwrap_or_else(|| panic!("{name}: no {key}"));
    values.join(" ")
}

const UNITS: [&str; 2] = ["portwright-boot.service", "portwright.service"];

#[test]
fn the_program_takes_what_the_units_start() {
    for name in UNITS {
        let line = value(name, "Service", "ExecStart");
        let cli = Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{name}: {error}"));
        let Verb::Run(run) = cli.verb else { panic!("{line}") };
        let boot = name.contains("boot");
        assert_eq!((run.once, run.before_kubelet, run.policy.is_empty()), (boot, boot, boot));
    }
}

#[test]
fn the_daemon_has_the_environment_of_the_daemonset() {
    let wanted = BTreeMap::from([("MALLOC_ARENA_MAX".to_owned(), "1".to_owned())]);
    assert_eq!(environment(), wanted, "what `cargo xtask bench idle` measures with");
    let given = value("portwright.service", "Service", "Environment");
    let given = given.split(' ').filter_map(|one| one.split_once('='));
    assert_eq!(
        given.map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>(),
        wanted
    );
}

#[test]
fn the_boot_unit_ends_before_kubelet_begins() {
    let name = UNITS[0];
    assert_eq!(value(name, "Service", "Type"), "oneshot", "else kubelet would not wait for its end");
    assert!(value(name, "Unit", "Before").split(' ').any(|unit| unit == "kubelet.service"));
    assert!(value(name, "Unit", "After").split(' ').any(|unit| unit == "ovs-vswitchd.service"));
    assert_eq!(value(name, "Unit", "ConditionPathExists"), portwright_host::journal::STATE_DIR);
    assert!(
        value(name, "Service", "TimeoutStartSec").parse::<u32>().unwrap() >= 60,
        "it can never hold up kubelet for ever"
    );
}

#[test]
fn units_have_the_capabilities_of_the_daemonset_and_nothing_in_the_way() {
    // The container's programs are below another root; the host's are not.
    let mut wanted: BTreeSet<String> = capabilities().into_iter().map(|name| format!("CAP_{name}")).collect();
    assert!(wanted.remove("CAP_SYS_CHROOT"));
    for name in UNITS {
        let given: BTreeSet<String> =
            value(name, "Service", "CapabilityBoundingSet").split(' ').map(str::to_owned).collect();
        assert_eq!(given, wanted, "{name}");
        assert_eq!(value(name, "Service", "KillMode"), "process", "a writer that hangs is left alone");
        let unit = unit(name);
        for key in [
            "ProtectKernelTunables",
            "ProtectKernelModules",
            "ProtectProc",
            "PrivateNetwork",
            "PrivateUsers",
            "PrivateDevices",
        ] {
            assert!(
                !unit.contains_key(&("Service".to_owned(), key.to_owned())),
                "{name}: {key} would be in the way"
            );
        }
        // /etc is read-only otherwise.
        assert!(value(name, "Service", "ReadWritePaths").contains("/etc/udev/rules.d"));
        assert!(portwright_core::udev_rule::PATH.starts_with("etc/udev/rules.d/"));
    }
}
