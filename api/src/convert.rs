//! The one conversion from what was written to what the planner works with: texts become addresses, ranges and
//! patterns, absent stays absent, and what cannot be is refused with the field's path.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use portwright_core::desired::{
    DisruptionPolicy, Document, DriverWish, EswitchMode, LinkState, MacPolicy, Mode, NicEntry, PoolWish,
    Prefer, TxRateWish, VfGroup, Vlan, VlanProtocol,
};
use portwright_core::id::PciAddress;
use portwright_core::range::IndexSet;
use portwright_core::select::{Pattern, Selector};

use crate::check::{Errors, sections};
use crate::convert_ovs;
use crate::error::FieldError;
use crate::names;
use crate::policy::{
    self, DisruptionMode, Eswitch, LinkStateMode, MacsMode, Nic, NicSelect, NodePolicy, NodePolicySpec,
    PolicyMode, TxRate, VlanTag, VlanTagProtocol,
};
use crate::tree::shortened;

/// A policy as the planner wants it, or everything that is wrong with it.
pub fn convert(policy: &NodePolicy) -> Result<Document, Vec<FieldError>> {
    let mut errors = Errors::default();
    let nics = sections(policy, &mut errors);
    if !errors.list.is_empty() {
        return Err(errors.list);
    }
    // The other fields steer the daemon in a cluster.
    let NodePolicySpec { priority, mode, disruption, .. } = &policy.spec;
    Ok(Document {
        name: policy.metadata.name.clone().unwrap_or_default(),
        priority: *priority,
        mode: match mode {
            PolicyMode::Apply => Mode::Apply,
            PolicyMode::Plan => Mode::Plan,
        },
        disruption: match disruption {
            DisruptionMode::WhenIdle => DisruptionPolicy::WhenIdle,
            DisruptionMode::Evict => DisruptionPolicy::Evict,
            DisruptionMode::Force => DisruptionPolicy::Force,
            DisruptionMode::Never => DisruptionPolicy::Never,
        },
        nics,
        pools: policy.spec.pools.iter().map(pool).collect(),
        ovs: convert_ovs::wishes(&policy.spec),
    })
}

fn pool(written: &policy::Pool) -> PoolWish {
    let policy::Pool { name, prefix, exclude_topology, vhost_net, rdma, prefer, iommufd, carrier } = written;
    PoolWish {
        name: name.clone(),
        prefix: prefix.clone(),
        exclude_topology: *exclude_topology,
        vhost_net: *vhost_net,
        rdma: *rdma,
        prefer: match prefer {
            Some(policy::Prefer::Pack) | None => Prefer::Pack,
            Some(policy::Prefer::Spread) => Prefer::Spread,
            Some(policy::Prefer::None) => Prefer::None,
        },
        iommufd: *iommufd,
        carrier: *carrier,
    }
}

/// One entry of `spec.nics`; `None` when something in it was refused, which is then among the errors.
pub(crate) fn nic(nic: &Nic, path: &str, errors: &mut Errors) -> Option<NicEntry> {
    let before = errors.list.len();
    let Nic { select, vfs, mtu, eswitch, externally_managed, allow_management_path, vf_groups } = nic;
    let select = selector(select, &format!("{path}.select"), errors);
    errors.rule(format!("{path}.mtu"), names::mtu(*mtu));
    let mut groups: Vec<VfGroup> = Vec::new();
    let mut ranges: Vec<(String, IndexSet)> = Vec::new();
    for (index, written) in vf_groups.iter().enumerate() {
        let path = format!("{path}.vfGroups[{index}]");
        let converted = group(written, &path, errors);
        group_in_nic(written, &path, nic, errors);
        let Some(converted) = converted else { continue };
        vfs_in_nic(&converted.vfs, &path, *vfs, &ranges, errors);
        ranges.push((path, converted.vfs.clone()));
        groups.push(converted);
    }
    (errors.list.len() == before).then(|| NicEntry {
        path: path.to_owned(),
        select,
        vfs: *vfs,
        mtu: *mtu,
        eswitch: eswitch.map(|mode| match mode {
            Eswitch::Legacy => EswitchMode::Legacy,
            Eswitch::Switchdev => EswitchMode::Switchdev,
        }),
        externally_managed: *externally_managed,
        allow_management_path: *allow_management_path,
        groups,
    })
}

/// The wanted number of VFs and the other groups leave room for these VFs.
fn vfs_in_nic(
    vfs: &IndexSet,
    path: &str,
    total: Option<u16>,
    others: &[(String, IndexSet)],
    errors: &mut Errors,
) {
    if let (Some(last), Some(total)) = (vfs.last(), total)
        && last >= total
    {
        let what = match total.checked_sub(1) {
            Some(highest) => format!("VF {last} does not exist among {total} VFs, which are 0 to {highest}"),
            None => format!("VF {last} does not exist: the entry wants no VFs"),
        };
        errors.add_with_hint(format!("{path}.vfs"), what, "VFs are numbered from 0");
    }
    for (other, theirs) in others {
        if let Some(index) = vfs.overlap(theirs) {
            errors.add_with_hint(
                format!("{path}.vfs"),
                format!("VF {index} is also in {other}.vfs"),
                "each VF belongs to at most one group",
            );
        }
    }
}

/// What a group asks for fits the entry that it is in.
fn group_in_nic(group: &policy::VfGroup, path: &str, nic: &Nic, errors: &mut Errors) {
    if let (Some(ours), Some(theirs)) = (group.mtu, nic.mtu)
        && ours > theirs
    {
        errors.add_with_hint(
            format!("{path}.mtu"),
            format!("{ours} is above the MTU of the PF, {theirs}"),
            "a VF's MTU cannot exceed its PF's: raise the PF's or lower this one",
        );
    }
}

fn group(written: &policy::VfGroup, path: &str, errors: &mut Errors) -> Option<VfGroup> {
    let policy::VfGroup { vfs, pool, driver, mtu, trust, spoof_check, vlan, tx_rate, link_state, macs } =
        written;
    let range = match vfs {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text.clone(),
    };
    let indexes = parsed(&format!("{path}.vfs"), range.parse::<IndexSet>(), errors);
    if let Some(pool) = pool {
        errors.rule(format!("{path}.pool"), names::qualified_part(pool));
    }
    if let Some(driver) = driver {
        errors.rule(format!("{path}.driver"), names::driver(driver));
    }
    errors.rule(format!("{path}.mtu"), names::mtu(*mtu));
    let vlan = vlan.as_ref().map(|tag| vlan_tag(tag, &format!("{path}.vlan"), errors));
    let tx_rate = tx_rate.as_ref().map(|rate| tx_rates(rate, &format!("{path}.txRate"), errors));
    Some(VfGroup {
        vfs: indexes?,
        pool: pool.clone(),
        driver: match driver.as_deref() {
            None | Some("kernel") => DriverWish::Kernel,
            Some(name) => DriverWish::Named(name.to_owned()),
        },
        mtu: *mtu,
        trust: *trust,
        spoof_check: *spoof_check,
        vlan,
        tx_rate,
        link_state: link_state.map(|state| match state {
            LinkStateMode::Auto => LinkState::Auto,
            LinkStateMode::Enable => LinkState::Enable,
            LinkStateMode::Disable => LinkState::Disable,
        }),
        macs: macs.map(|mode| match mode {
            MacsMode::Stable => MacPolicy::Stable,
            MacsMode::Keep => MacPolicy::Keep,
            MacsMode::Random => MacPolicy::Random,
        }),
    })
}

fn vlan_tag(tag: &VlanTag, path: &str, errors: &mut Errors) -> Vlan {
    let VlanTag { id, qos, protocol } = tag;
    let qos = qos.unwrap_or_default();
    if *id > 4094 {
        errors.add_with_hint(
            format!("{path}.id"),
            format!("{id} is no VLAN"),
            "VLANs are 1 to 4094; 0 clears it",
        );
    }
    if qos > 7 {
        errors.add(format!("{path}.qos"), format!("{qos} is no priority; expected 0 to 7"));
    }
    if *id == 0 && qos != 0 {
        let hint = "leave qos out, or name a VLAN from 1 to 4094";
        errors.add_with_hint(format!("{path}.qos"), "a priority needs a VLAN; id 0 clears it", hint);
    }
    if *id == 0 && *protocol == Some(VlanTagProtocol::Dot1ad) {
        let hint = "leave protocol out, or name a VLAN from 1 to 4094";
        errors.add_with_hint(format!("{path}.protocol"), "802.1ad needs a VLAN; id 0 clears it", hint);
    }
    let protocol = match protocol {
        None | Some(VlanTagProtocol::Dot1q) => VlanProtocol::Dot1q,
        Some(VlanTagProtocol::Dot1ad) => VlanProtocol::Dot1ad,
    };
    Vlan { id: *id, qos, protocol }
}

fn tx_rates(rate: &TxRate, path: &str, errors: &mut Errors) -> TxRateWish {
    let TxRate { min, max } = rate;
    if let (Some(min), Some(max)) = (min, max)
        && *max != 0
        && min > max
    {
        let hint = "rates are in Mbit/s; a max of 0 is no limit";
        errors.add_with_hint(format!("{path}.min"), format!("{min} is above max, {max}"), hint);
    }
    TxRateWish { min: *min, max: *max }
}

/// A selector; what cannot be parsed is left out of the result and reported.
pub(crate) fn selector(select: &NicSelect, path: &str, errors: &mut Errors) -> Selector {
    let NicSelect { vendors, devices, drivers, names: interfaces, addresses, macs, numa_nodes, switch_ids } =
        select;
    if *select == NicSelect::default() {
        let hint = "name at least one vendor, device, driver, name, address, MAC, NUMA node or switch ID";
        errors.add_with_hint(path, "is empty, which would select every NIC of the node", hint);
    }
    for (index, driver) in drivers.iter().enumerate() {
        errors.rule(format!("{path}.drivers[{index}]"), names::driver(driver));
    }
    for (index, id) in switch_ids.iter().enumerate() {
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            let what = format!("`{}` is not a switch ID of hexadecimal digits", shortened(id));
            errors.add(format!("{path}.switchIds[{index}]"), what);
        }
    }
    Selector {
        vendors: all(&format!("{path}.vendors"), vendors, |text| text.parse(), errors),
        devices: all(&format!("{path}.devices"), devices, |text| text.parse(), errors),
        drivers: drivers.clone(),
        names: all(&format!("{path}.names"), interfaces, pattern, errors),
        addresses: all(&format!("{path}.addresses"), addresses, address_pattern, errors),
        macs: all(&format!("{path}.macs"), macs, |text| text.parse(), errors),
        numa_nodes: numa_nodes.clone(),
        switch_ids: switch_ids.iter().map(|id| id.to_ascii_lowercase()).collect(),
    }
}

/// A pattern over PCI addresses, which sysfs writes in lower case. Without any wildcard it must be an address, or it
/// would silently match nothing.
fn address_pattern(text: &str) -> Result<Pattern, String> {
    let lower = text.to_ascii_lowercase();
    if !lower.contains(['*', '?', '[', '{']) {
        let address: Result<PciAddress, _> = lower.parse();
        address.map_err(|error| error.to_string())?;
    }
    pattern(&lower)
}

/// A pattern; longer ones than any name would only cost time.
pub(crate) fn pattern(text: &str) -> Result<Pattern, String> {
    if text.len() > 255 {
        return Err(format!("`{}` is longer than 255 bytes", shortened(text)));
    }
    Pattern::new(text).map_err(|error| error.to_string())
}

/// Every text of a list, parsed.
fn all<T, E: std::fmt::Display>(
    path: &str,
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, E>,
    errors: &mut Errors,
) -> Vec<T> {
    let one = |(index, text): (usize, &String)| parsed(&format!("{path}[{index}]"), parse(text), errors);
    texts.iter().enumerate().filter_map(one).collect()
}

fn parsed<T, E: std::fmt::Display>(path: &str, result: Result<T, E>, errors: &mut Errors) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            errors.add(path, error.to_string());
            None
        }
    }
}
