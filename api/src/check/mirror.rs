//! Checks of `spec.mirrors`: what is selected, where it goes, and that a mirror does not feed itself.

use std::collections::BTreeSet;

use crate::check::{Errors, Unique};
use crate::convert::pattern;
use crate::names;
use crate::policy::{Mirror, MirrorOutput, MirrorSelect, PodSelect};

/// Everything wrong with the mirrors of a policy.
pub(super) fn check_all(mirrors: &[Mirror], errors: &mut Errors) {
    let mut taken = Unique::default();
    for (index, mirror) in mirrors.iter().enumerate() {
        let path = format!("spec.mirrors[{index}]");
        let Mirror { name, bridge, select, output, snaplen } = mirror;
        errors.rule(format!("{path}.name"), names::column_key(name));
        errors.rule(format!("{path}.bridge"), names::interface(bridge));
        taken.take_as(&format!("{bridge}/{name}"), name, &format!("{path}.name"), errors);
        check_select(select, &format!("{path}.select"), errors);
        check_output(output, select, &format!("{path}.output"), errors);
        if let Some(snaplen) = snaplen.filter(|bytes| !(14..=65535).contains(bytes)) {
            let what = format!("{snaplen} is not between 14 and 65535");
            errors.add_with_hint(format!("{path}.snaplen"), what, "leave it out to copy whole frames");
        }
    }
}

fn check_select(select: &MirrorSelect, path: &str, errors: &mut Errors) {
    let MirrorSelect { ports, pods, vlans, all, direction: _ } = select;
    if ports.is_empty() && pods.is_none() && vlans.is_empty() && !all {
        let hint = "name ports, pods or VLANs, or write `all: true`";
        errors.add_with_hint(path, "selects nothing", hint);
    }
    if *all && (!ports.is_empty() || pods.is_some()) {
        let hint = "remove `all`, or remove `ports` and `pods`";
        errors.add_with_hint(
            format!("{path}.all"),
            "means every port, but ports or pods are named too",
            hint,
        );
    }
    for (index, port) in ports.iter().enumerate() {
        errors.rule(format!("{path}.ports[{index}]"), pattern(port).map(drop));
    }
    if let Some(PodSelect { namespace, match_labels }) = pods {
        errors.rule(format!("{path}.pods.namespace"), names::label(namespace));
        for (key, value) in match_labels {
            let path = format!("{path}.pods.matchLabels[{key}]");
            errors.rule(path.clone(), names::label_key(key));
            errors.rule(path, names::label_value(value));
        }
    }
    let mut seen = BTreeSet::new();
    for (index, vlan) in vlans.iter().enumerate() {
        if *vlan > 4094 {
            errors.add(format!("{path}.vlans[{index}]"), format!("{vlan} is not a VLAN from 0 to 4094"));
        } else if !seen.insert(vlan) {
            errors.add(format!("{path}.vlans[{index}]"), format!("VLAN {vlan} is named twice"));
        }
    }
}

fn check_output(output: &MirrorOutput, select: &MirrorSelect, path: &str, errors: &mut Errors) {
    let MirrorOutput { port, vlan } = output;
    match (port, vlan) {
        (None, None) => errors.add(path, "names neither a port nor a VLAN; a mirror needs one of them"),
        (Some(_), Some(_)) => {
            errors.add(path, "names both a port and a VLAN; Open vSwitch would ignore the VLAN")
        }
        (Some(port), None) => {
            errors.rule(format!("{path}.port"), names::port(port));
            if select.ports.contains(port) {
                errors.add(
                    format!("{path}.port"),
                    format!("`{port}` is also mirrored; it would copy its own copies"),
                );
            }
        }
        (None, Some(vlan)) => {
            if !(1..=4094).contains(vlan) {
                errors.add(format!("{path}.vlan"), format!("{vlan} is not a VLAN from 1 to 4094"));
            } else if select.vlans.contains(vlan) {
                errors.add(
                    format!("{path}.vlan"),
                    format!("VLAN {vlan} is also mirrored; it would copy its own copies"),
                );
            }
        }
    }
}
