//! Rules for names, one function for each kind: what Kubernetes, Linux and Open vSwitch accept. Each says what is wrong
//! in words that follow the field's path.

use crate::tree::shortened;

/// A DNS subdomain (RFC 1123), as Kubernetes wants for object names and resource prefixes: at most 253 characters, parts
/// of lower-case letters, digits and hyphens between dots.
pub(crate) fn subdomain(name: &str) -> Result<(), String> {
    let good = !name.is_empty() && name.len() <= 253 && name.split('.').all(label_part);
    refuse_unless(
        good,
        name,
        "lower-case letters, digits, `-` and `.`, starting and ending with a letter or digit",
    )
}

fn label_part(part: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
}

/// The part of a qualified name after the slash: at most 63 letters, digits, `-`, `_` and `.`, beginning and ending with a
/// letter or digit. Resource names, label names and label values follow it.
pub(crate) fn qualified_part(name: &str) -> Result<(), String> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    let good = name.len() <= 63
        && name.bytes().all(inner)
        && edge(name.bytes().next())
        && edge(name.bytes().next_back());
    refuse_unless(
        good,
        name,
        "at most 63 letters, digits, `-`, `_` and `.`, starting and ending with a letter or digit",
    )
}

/// A label key: a qualified part, with or without a subdomain and a slash before it.
pub(crate) fn label_key(key: &str) -> Result<(), String> {
    match key.split_once('/') {
        Some((prefix, name)) => subdomain(prefix).and_then(|()| qualified_part(name)),
        None => qualified_part(key),
    }
}

/// A label value: empty, or a qualified part.
pub(crate) fn label_value(value: &str) -> Result<(), String> {
    if value.is_empty() { Ok(()) } else { qualified_part(value) }
}

/// A network interface's name as the kernel checks it (`dev_valid_name`): 1 to 15 bytes, no `/`, `:` or white space, and
/// not `.` or `..`. Control characters, which the kernel would take, are refused too.
pub(crate) fn interface(name: &str) -> Result<(), String> {
    let inner = |c: char| c != '/' && c != ':' && !c.is_whitespace() && !c.is_control();
    let good = !name.is_empty() && name.len() <= 15 && name != "." && name != ".." && name.chars().all(inner);
    refuse_unless(good, name, "1 to 15 bytes without spaces, `/` and `:`")
}

/// The name of a kernel driver as sysfs spells it.
pub(crate) fn driver(name: &str) -> Result<(), String> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let good = !name.is_empty() && name.len() <= 63 && name.bytes().all(inner) && name != "." && name != "..";
    refuse_unless(good, name, "a kernel driver's name: letters, digits, `-`, `_` and `.`")
}

/// One part of a DNS name (RFC 1123 label), as Kubernetes wants for namespaces.
pub(crate) fn label(name: &str) -> Result<(), String> {
    let good = name.len() <= 63 && label_part(name);
    refuse_unless(
        good,
        name,
        "at most 63 lower-case letters, digits and `-`, starting and ending with a letter or digit",
    )
}

/// The prefix of an extended resource. Kubernetes keeps `kubernetes.io` and `requests.` for itself, and puts
/// `requests.` before the name for quotas, which leaves 244 characters.
pub(crate) fn resource_prefix(prefix: &str) -> Result<(), String> {
    subdomain(prefix)?;
    if prefix.ends_with("kubernetes.io") || prefix.starts_with("requests.") {
        return Err(format!(
            "`{}` belongs to Kubernetes itself; use a domain of your own",
            shortened(prefix)
        ));
    }
    if prefix.len() > 244 {
        return Err("is longer than 244 characters".to_owned());
    }
    Ok(())
}

/// The name of an Open vSwitch port without a network interface of the kernel: 1 to 63 bytes, otherwise as
/// [`interface`].
pub(crate) fn port(name: &str) -> Result<(), String> {
    let inner = |c: char| c != '/' && !c.is_whitespace() && !c.is_control();
    let good = !name.is_empty() && name.len() <= 63 && name.chars().all(inner);
    refuse_unless(good, name, "1 to 63 bytes without spaces and `/`")
}

/// A key of a column such as `other_config`, or another name that Open vSwitch only stores: any text of 1 to 255 bytes
/// without control characters.
pub(crate) fn column_key(key: &str) -> Result<(), String> {
    let good = !key.is_empty() && key.len() <= 255 && !key.chars().any(char::is_control);
    refuse_unless(good, key, "1 to 255 bytes without control characters")
}

/// An MTU in bytes: what IPv4 needs at least (RFC 791) to the largest that an IP packet can fill.
pub(crate) fn mtu(mtu: Option<u32>) -> Result<(), String> {
    match mtu {
        Some(mtu) if !(68..=65535).contains(&mtu) => Err(format!("{mtu} is not between 68 and 65535")),
        Some(_) | None => Ok(()),
    }
}

fn refuse_unless(good: bool, name: &str, rule: &str) -> Result<(), String> {
    if good {
        return Ok(());
    }
    if name.is_empty() {
        return Err(format!("is empty; expected {rule}"));
    }
    Err(format!("`{}` is not {rule}", shortened(name)))
}
