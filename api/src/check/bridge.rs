//! Checks of `spec.bridges`: names, uplinks, bonds and options. Ports are in [`super::port`].

use crate::check::{Errors, Unique, port};
use crate::convert;
use crate::names;
use crate::policy::{Bond, BondMode, Bridge, BridgeOptions, Lacp, Uplink};

/// Names that Open vSwitch wants to be unique over all bridges: those of its Port and of its Interface table.
#[derive(Debug, Default)]
pub(super) struct SwitchNames {
    ports: Unique,
    interfaces: Unique,
}

impl SwitchNames {
    /// Takes a name for a port and the interface of the same name.
    pub(super) fn take(&mut self, name: &str, path: &str, errors: &mut Errors) {
        if self.ports.take(name, path, errors) {
            self.interfaces.take(name, path, errors);
        }
    }
}

/// Everything wrong with the bridges of a policy.
pub(super) fn check_all(bridges: &[Bridge], errors: &mut Errors) {
    let mut names = SwitchNames::default();
    // Bridges first: a port that takes a bridge's name is the mistake, in whatever order they stand.
    for (index, bridge) in bridges.iter().enumerate() {
        names.take(&bridge.name, &format!("spec.bridges[{index}].name"), errors);
    }
    for (index, bridge) in bridges.iter().enumerate() {
        check(bridge, &format!("spec.bridges[{index}]"), &mut names, errors);
    }
    port::patch_pairs(bridges, errors);
}

fn check(bridge: &Bridge, path: &str, names: &mut SwitchNames, errors: &mut Errors) {
    let Bridge { name, datapath, fail_mode: _, uplinks, ports, options, adopt: _, advertise } = bridge;
    errors.rule(format!("{path}.name"), names::interface(name));
    for (index, entry) in uplinks.iter().enumerate() {
        uplink(entry, &format!("{path}.uplinks[{index}]"), names, errors);
    }
    for (index, entry) in ports.iter().enumerate() {
        port::check(entry, *datapath, &format!("{path}.ports[{index}]"), names, errors);
    }
    if let Some(options) = options {
        bridge_options(options, &format!("{path}.options"), errors);
    }
    if let Some(advertise) = advertise {
        errors.rule(format!("{path}.advertise.prefix"), names::resource_prefix(&advertise.prefix));
        if names::qualified_part(name).is_err() {
            let what = format!("`{name}` cannot be advertised: it is no name that a resource may have");
            let hint = "rename the bridge, or leave `advertise` out; resource names are letters, digits, `-`, `_` and `.`";
            errors.add_with_hint(format!("{path}.name"), what, hint);
        }
    }
}

fn uplink(uplink: &Uplink, path: &str, names: &mut SwitchNames, errors: &mut Errors) {
    let Uplink { interface, select, bond, allow_management_path: _ } = uplink;
    let given =
        [interface.is_some(), select.is_some(), bond.is_some()].into_iter().filter(|given| *given).count();
    if given != 1 {
        let found = if given == 0 { "names none" } else { "names more than one" };
        errors.add(
            path,
            format!("{found} of `interface`, `select` and `bond`; an uplink is exactly one of them"),
        );
    }
    if let Some(interface) = interface {
        let path = format!("{path}.interface");
        errors.rule(path.clone(), names::interface(interface));
        names.take(interface, &path, errors);
    }
    if let Some(select) = select {
        // What cannot be parsed is reported; the parsed selector is not needed here.
        convert::selector(select, &format!("{path}.select"), errors);
    }
    if let Some(entry) = bond {
        check_bond(entry, &format!("{path}.bond"), names, errors);
    }
}

fn check_bond(bond: &Bond, path: &str, names: &mut SwitchNames, errors: &mut Errors) {
    let Bond { name, mode, lacp, interfaces } = bond;
    let own = format!("{path}.name");
    errors.rule(own.clone(), names::interface(name));
    names.ports.take(name, &own, errors);
    if interfaces.len() < 2 {
        let hint = "for one interface write `interface` in place of `bond`";
        errors.add_with_hint(format!("{path}.interfaces"), "a bond has two interfaces or more", hint);
    }
    for (index, interface) in interfaces.iter().enumerate() {
        let path = format!("{path}.interfaces[{index}]");
        errors.rule(path.clone(), names::interface(interface));
        names.interfaces.take(interface, &path, errors);
    }
    if *mode == Some(BondMode::BalanceTcp) && matches!(lacp, None | Some(Lacp::Off)) {
        let hint =
            "without LACP Open vSwitch drops the bond's traffic; write `lacp: active`, or use balance-slb";
        errors.add_with_hint(format!("{path}.mode"), "balance-tcp needs LACP", hint);
    }
}

fn bridge_options(options: &BridgeOptions, path: &str, errors: &mut Errors) {
    let BridgeOptions { stp, rstp, mcast_snooping: _, mtu_request, other_config, external_ids } = options;
    if *stp == Some(true) && *rstp == Some(true) {
        errors.add_with_hint(
            format!("{path}.rstp"),
            "cannot be on together with `stp`",
            "choose one of them",
        );
    }
    errors.rule(format!("{path}.mtuRequest"), names::mtu(*mtu_request));
    for key in other_config.keys() {
        errors.rule(format!("{path}.otherConfig[{key}]"), names::column_key(key));
    }
    for key in external_ids.keys() {
        let path = format!("{path}.externalIds[{key}]");
        errors.rule(path.clone(), names::column_key(key));
        if key.starts_with("portwright.dev/") {
            let hint = "keys below portwright.dev/ say which rows are ours; choose another key";
            errors.add_with_hint(path, "is written by portwright itself", hint);
        }
    }
}
