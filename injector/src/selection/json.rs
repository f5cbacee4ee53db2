//! The JSON form: a list of selection elements.
//!
//! Read by hand from a JSON value rather than by a derived decoder, because the rules to follow are those of Go's
//! decoder: keys match in any letter case, the last of two equal keys wins, `null` leaves a field alone, unknown keys
//! are ignored, but a known key of the wrong type fails the whole annotation.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::{
    Element, MAX_INTERFACE, Selection, SelectionError, address, element_error, is_label, is_subdomain,
};

/// Keys that Multus gives a meaning, in the spelling of the specification.
const KNOWN: [&str; 13] = [
    "name",
    "namespace",
    "ips",
    "mac",
    "infiniband-guid",
    "interface",
    "interfaceRequest",
    "portMappings",
    "bandwidth",
    "deviceID",
    "cni-args",
    "default-route",
    "ipam-claim-reference",
];

pub(super) fn parse(text: &str) -> Result<Selection, SelectionError> {
    let value: Value = serde_json::from_str(text).map_err(|error| SelectionError::Json(error.to_string()))?;
    let list = match value {
        Value::Null => return Ok(Selection::default()),
        Value::Array(list) => list,
        Value::Object(_) => return Err(SelectionError::NotAList("an object; put it in [ ]")),
        Value::String(_) => return Err(SelectionError::NotAList("a string")),
        Value::Number(_) | Value::Bool(_) => return Err(SelectionError::NotAList("a number or boolean")),
    };
    let mut selection = Selection::default();
    for (index, item) in list.iter().enumerate() {
        let position = index + 1;
        let fail = |problem: String| element_error(position, &item.to_string(), problem);
        let Value::Object(map) = item else {
            return Err(fail("must be an object with at least a \"name\"".to_owned()));
        };
        selection.elements.push(element(map, &mut selection.warnings).map_err(fail)?);
    }
    Ok(selection)
}

fn element(map: &Map<String, Value>, warnings: &mut Vec<String>) -> Result<Element, String> {
    let mut found = Element {
        namespace: String::new(),
        name: String::new(),
        interface: String::new(),
        gateways: Vec::new(),
    };
    let mut old_interface = String::new();
    for (written, value) in map {
        let Some(key) = KNOWN.iter().find(|known| known.eq_ignore_ascii_case(written)) else {
            // Keys with a period are private to somebody; keys without one are reserved by the specification.
            if !written.contains('.') {
                warnings.push(format!(
                    "{}: key {written:?} has no meaning in a network selection",
                    super::NETWORKS
                ));
            }
            continue;
        };
        if key != written {
            warnings.push(format!("{}: write {key:?} instead of {written:?}", super::NETWORKS));
        }
        if value.is_null() {
            continue;
        }
        match *key {
            "name" => found.name = string(key, value)?,
            "namespace" => found.namespace = string(key, value)?,
            "interface" => found.interface = string(key, value)?,
            "interfaceRequest" => old_interface = string(key, value)?,
            "ips" => check_ips(value)?,
            "mac" | "infiniband-guid" => check_hardware(key, &string(key, value)?)?,
            "default-route" => found.gateways = gateways(value)?,
            "portMappings" => check_port_mappings(value)?,
            "bandwidth" => check_numbers(
                key,
                object(key, value)?,
                &["ingressRate", "ingressBurst", "egressRate", "egressBurst"],
            )?,
            "cni-args" => object(key, value).map(|_| ())?,
            _ => string(key, value).map(|_| ())?,
        }
    }
    if found.interface.is_empty() {
        found.interface = old_interface;
    }
    check_names(&found)?;
    if found.interface.len() > MAX_INTERFACE {
        warnings.push(format!(
            "interface name {:?} is longer than Linux allows ({MAX_INTERFACE})",
            found.interface
        ));
    }
    Ok(found)
}

fn check_names(element: &Element) -> Result<(), String> {
    if element.name.is_empty() {
        return Err("\"name\" is missing or empty".to_owned());
    }
    if !is_subdomain(&element.name) {
        return Err(format!("\"name\": {:?} is no object name", element.name));
    }
    if !element.namespace.is_empty() && !is_label(&element.namespace) {
        return Err(format!("\"namespace\": {:?} is no namespace name", element.namespace));
    }
    Ok(())
}

fn string(key: &str, value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("{key:?} must be a string"))
}

fn object<'v>(key: &str, value: &'v Value) -> Result<&'v Map<String, Value>, String> {
    value.as_object().ok_or_else(|| format!("{key:?} must be an object"))
}

fn list<'v>(key: &str, value: &'v Value) -> Result<&'v [Value], String> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| format!("{key:?} must be a list"))
}

fn check_ips(value: &Value) -> Result<(), String> {
    for ip in list("ips", value)? {
        let text = ip.as_str().ok_or("\"ips\" must be a list of strings")?;
        let good = if text.contains('/') { address::is_cidr(text) } else { text.parse::<IpAddr>().is_ok() };
        if !good {
            return Err(format!("\"ips\": {text:?} is no IP address, with or without a prefix length"));
        }
    }
    Ok(())
}

fn check_hardware(key: &str, text: &str) -> Result<(), String> {
    if text.is_empty() || address::is_hardware_address(text) {
        return Ok(());
    }
    Err(format!("{key:?}: {text:?} is no hardware address"))
}

fn gateways(value: &Value) -> Result<Vec<Option<IpAddr>>, String> {
    let mut found = Vec::new();
    for gateway in list("default-route", value)? {
        let text = if gateway.is_null() { Some("") } else { gateway.as_str() };
        let text = text.ok_or("\"default-route\" must be a list of strings")?;
        if text.is_empty() {
            found.push(None);
        } else {
            let ip = text.parse().map_err(|_| format!("\"default-route\": {text:?} is no IP address"))?;
            found.push(Some(ip));
        }
    }
    Ok(found)
}

fn check_port_mappings(value: &Value) -> Result<(), String> {
    for mapping in list("portMappings", value)? {
        if mapping.is_null() {
            continue;
        }
        let mapping = object("portMappings", mapping)?;
        check_numbers("portMappings", mapping, &["hostPort", "containerPort"])?;
        for (key, value) in mapping {
            let text = ["protocol", "hostIP"].iter().any(|known| known.eq_ignore_ascii_case(key));
            if text && !value.is_null() && !value.is_string() {
                return Err(format!("\"portMappings\": {key:?} must be a string"));
            }
        }
    }
    Ok(())
}

fn check_numbers(key: &str, map: &Map<String, Value>, names: &[&str]) -> Result<(), String> {
    for (name, value) in map {
        let known = names.iter().any(|known| known.eq_ignore_ascii_case(name));
        if known && !value.is_null() && !value.is_i64() {
            return Err(format!("{key:?}: {name:?} must be a whole number"));
        }
    }
    Ok(())
}
