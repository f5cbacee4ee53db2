//! The comma form: `[namespace/]name[@interface], …`.

use super::{Element, MAX_INTERFACE, Selection, SelectionError, element_error, is_label, is_label_pattern};

pub(super) fn parse(text: &str) -> Result<Selection, SelectionError> {
    let mut elements = Vec::new();
    for (index, item) in text.split(',').enumerate() {
        let item = item.trim();
        elements.push(element(item).map_err(|problem| element_error(index + 1, item, problem))?);
    }
    Ok(Selection { elements, warnings: Vec::new() })
}

fn element(item: &str) -> Result<Element, String> {
    let slashes: Vec<&str> = item.split('/').collect();
    let (namespace, rest) = match slashes.as_slice() {
        [rest] => ("", *rest),
        [namespace, rest] => (namespace.trim(), *rest),
        _ => return Err("more than one '/'; write [namespace/]name[@interface]".to_owned()),
    };
    let ats: Vec<&str> = rest.split('@').collect();
    let (name, interface) = match ats.as_slice() {
        [name] => (name.trim(), ""),
        [name, interface] => (name.trim(), interface.trim()),
        _ => return Err("more than one '@'; write [namespace/]name[@interface]".to_owned()),
    };
    if name.is_empty() {
        return Err("the network's name is missing".to_owned());
    }
    if !is_label_pattern(name) || name.len() > 253 {
        return Err(format!(
            "{name:?} is no network name; use lower-case letters, digits and inner hyphens (names with dots need the JSON form)"
        ));
    }
    if !namespace.is_empty() && !is_label(namespace) {
        return Err(format!("{namespace:?} is no namespace name"));
    }
    check_interface(interface)?;
    Ok(Element {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        interface: interface.to_owned(),
        gateways: Vec::new(),
    })
}

fn check_interface(interface: &str) -> Result<(), String> {
    if interface.len() > MAX_INTERFACE {
        return Err(format!("interface name {interface:?} is longer than {MAX_INTERFACE} characters"));
    }
    if interface.contains([' ', '\t', '\n', '\u{b}', '\u{c}', '\r', '/']) {
        return Err(format!("interface name {interface:?} contains a space or '/'"));
    }
    Ok(())
}
