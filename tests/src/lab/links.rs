//! What iproute2 says about links: a reader of the kernel that shares no code with ours.

use super::sys;
use anyhow::{Context as _, Result};
use serde_json::Value;

/// `ip -j -d link show dev NAME`.
pub(crate) fn show(netdev: &str) -> Result<Value> {
    let text = sys::tool("ip", &["-j", "-d", "link", "show", "dev", netdev])?;
    let all: Value = serde_json::from_str(&text).context("ip printed no JSON")?;
    all.get(0).cloned().with_context(|| format!("ip knows no link {netdev}"))
}

/// The PF's record of one VF: mac, vlan_list, rate, spoofchk, trust, link_state.
pub(crate) fn vf_info(pf_netdev: &str, index: u32) -> Result<Value> {
    let link = show(pf_netdev)?;
    let list = link.get("vfinfo_list").and_then(Value::as_array).context("no vfinfo_list")?;
    let found = list.iter().find(|vf| vf.get("vf").and_then(Value::as_u64) == Some(u64::from(index)));
    found.cloned().with_context(|| format!("{pf_netdev} lists no VF {index}"))
}

/// A number in a link's record.
pub(crate) fn number(value: &Value, pointer: &str) -> Result<u64> {
    value
        .pointer(pointer)
        .and_then(Value::as_u64)
        .with_context(|| format!("no number at {pointer} in {value}"))
}

/// A text in a link's record.
pub(crate) fn text(value: &Value, pointer: &str) -> Result<String> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.map(str::to_owned).with_context(|| format!("no text at {pointer} in {value}"))
}

/// Whether a link is administratively up.
pub(crate) fn is_up(link: &Value) -> bool {
    link.get("flags").and_then(Value::as_array).is_some_and(|flags| flags.iter().any(|flag| flag == "UP"))
}
