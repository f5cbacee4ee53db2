//! Rows that are made, and settings of ports.

use std::collections::BTreeSet;

use portwright_core::ovs::{IFINDEX_KEY, NewBridge, NewPort, OWNER_KEY, QosSetting, Setting};

use super::build::Build;
use super::columns::{self, Columns, ids, owned_by, put};
use crate::ovsdb::{self, Mutation, NewRow, Ref, Txn, Value};
use crate::vswitch::{Map, Port};

/// Columns of a bridge, without ports and mirrors.
pub(super) fn bridge(name: &str, owner: &str, to: &NewBridge) -> Columns {
    let NewBridge {
        datapath,
        fail_mode,
        stp,
        rstp,
        mcast_snooping,
        flood_vlans,
        // It is the local interface's.
        mtu_request: _,
        other_config,
        external_ids,
    } = to;
    let mut row = Columns::new();
    put(&mut row, "name", name);
    put(&mut row, "datapath_type", datapath.as_str());
    put(&mut row, "external_ids", ids(owner, external_ids));
    put(&mut row, "other_config", Value::from(other_config));
    put(&mut row, "fail_mode", columns::text(fail_mode.as_ref()));
    put(&mut row, "flood_vlans", columns::numbers(flood_vlans));
    for (column, on) in
        [("stp_enable", stp), ("rstp_enable", rstp), ("mcast_snooping_enable", mcast_snooping)]
    {
        // Old servers may lack a column that is not wanted.
        if *on {
            put(&mut row, column, true);
        }
    }
    row
}

/// A bridge's own port.
pub(super) fn local_port(txn: &mut Txn, name: &str, mtu_request: Option<u32>) -> NewRow {
    let mut row = Columns::new();
    put(&mut row, "name", name);
    put(&mut row, "type", "internal");
    if mtu_request.is_some() {
        put(&mut row, "mtu_request", columns::number(mtu_request));
    }
    let interface = txn.insert("Interface", row);
    txn.insert("Port", [("name", Value::from(name)), ("interfaces", interface.into())])
}

/// A port with its interfaces and its QoS row.
pub(super) fn port(txn: &mut Txn, name: &str, owner: &str, to: &NewPort, has_cvlans: bool) -> NewRow {
    let NewPort { kind, interfaces, options, vlan, bond_mode, lacp, qos, policing, ifindex } = to;
    let mut rows = Vec::new();
    for interface in interfaces {
        let mut row = interface_row(interface, kind, options);
        if let Some(limit) = policing {
            columns::policing(*limit, &mut row);
        }
        rows.push(txn.insert("Interface", row));
    }
    let mut notes = Map::new();
    notes.extend(ifindex.map(|number| (IFINDEX_KEY.to_owned(), number.to_string())));
    let mut row = Columns::new();
    put(&mut row, "name", name);
    put(&mut row, "interfaces", Value::refs(rows));
    put(&mut row, "external_ids", ids(owner, &notes));
    if let Some(vlan) = vlan {
        columns::vlan(vlan, has_cvlans, &mut row);
    }
    for (column, word) in [("bond_mode", bond_mode), ("lacp", lacp)] {
        if word.is_some() {
            put(&mut row, column, columns::text(word.as_ref()));
        }
    }
    if let Some(qos) = qos {
        put(&mut row, "qos", qos_row(txn, owner, qos));
    }
    txn.insert("Port", row)
}

/// Columns of an interface.
pub(super) fn interface_row(name: &str, kind: &str, options: &Map) -> Columns {
    let mut row = Columns::new();
    put(&mut row, "name", name);
    put(&mut row, "type", if kind == "system" { "" } else { kind });
    put(&mut row, "options", Value::from(options));
    row
}

fn qos_row(txn: &mut Txn, owner: &str, qos: &QosSetting) -> NewRow {
    let QosSetting { kind, other_config } = qos;
    let columns = [
        ("type", Value::from(kind.as_str())),
        ("other_config", Value::from(other_config)),
        ("external_ids", ids(owner, &Map::new())),
    ];
    txn.insert("QoS", columns)
}

/// Gives a port that is there another setting.
pub(super) fn set_port(build: &mut Build<'_>, port: &Port, owner: &str, to: &Setting) {
    let target = build.target("Port", port.uuid, &port.external_ids);
    let interface = port.interfaces.first().map(|interface| ovsdb::Target::row("Interface", interface.uuid));
    let mut row = Columns::new();
    match to {
        Setting::Vlan(vlan) => columns::vlan(vlan, build.found.has.cvlans, &mut row),
        Setting::BondMode(mode) => put(&mut row, "bond_mode", columns::text(mode.as_ref())),
        Setting::Lacp(lacp) => put(&mut row, "lacp", columns::text(lacp.as_ref())),
        Setting::Members(members) => put(&mut row, "interfaces", members_of(build, port, members)),
        Setting::Qos(Some(qos)) => match own_qos(build, port) {
            Some(target) => {
                let QosSetting { kind, other_config } = qos;
                let columns =
                    [("type", Value::from(kind.as_str())), ("other_config", Value::from(other_config))];
                build.txn.update(target, columns);
            }
            None => put(&mut row, "qos", qos_row(&mut build.txn, owner, qos)),
        },
        Setting::Qos(None) => match own_qos(build, port) {
            Some(_) => build.drop_qos(port),
            None => put(&mut row, "qos", Value::refs::<Ref>([])),
        },
        Setting::Kind(kind) => of_interface(build, interface, &target, |columns| {
            put(columns, "type", if kind == "system" { "" } else { kind.as_str() });
        }),
        Setting::Policing(limit) => {
            of_interface(build, interface, &target, |columns| columns::policing(*limit, columns));
        }
        Setting::InterfaceOption(key, value) => {
            if let Some(interface) = interface {
                build.txn.guard::<&str>(target.clone(), []);
                let mutation = match value {
                    Some(value) => Mutation::put("options", key.as_str(), value.as_str()),
                    None => Mutation::remove_keys("options", [key.as_str()]),
                };
                build.txn.mutate(interface, [mutation]);
            }
        }
        // These are no settings of a port, or are handled where rows are taken over.
        Setting::Owner(_)
        | Setting::OtherConfig(..)
        | Setting::ExternalId(..)
        | Setting::FailMode(_)
        | Setting::Stp(_)
        | Setting::Rstp(_)
        | Setting::McastSnooping(_)
        | Setting::FloodVlans(_)
        | Setting::MtuRequest(_) => {}
    }
    if !row.is_empty() {
        build.txn.update(target, row);
    }
}

/// Sets columns of the port's interface while the port is ours: an interface carries no key of its own.
fn of_interface(
    build: &mut Build<'_>,
    interface: Option<ovsdb::Target>,
    port: &ovsdb::Target,
    fill: impl FnOnce(&mut Columns),
) {
    let Some(interface) = interface else { return };
    let mut columns = Columns::new();
    fill(&mut columns);
    build.txn.guard::<&str>(port.clone(), []);
    build.txn.update(interface, columns);
}

/// The port's QoS row, if it is ours.
fn own_qos(build: &Build<'_>, port: &Port) -> Option<ovsdb::Target> {
    let uuid = port.qos?;
    let owner = build.found.qos.get(&uuid)?.external_ids.get(OWNER_KEY)?;
    Some(ovsdb::Target::row("QoS", uuid).includes("external_ids", owned_by(owner)))
}

/// Interfaces of a bond: those that stay keep their rows.
fn members_of(build: &mut Build<'_>, port: &Port, members: &BTreeSet<String>) -> Value {
    let mut refs: Vec<Ref> = Vec::new();
    for name in members {
        match port.interfaces.iter().find(|interface| interface.name == *name) {
            Some(interface) => refs.push(Ref::Row(interface.uuid)),
            None => {
                let row = interface_row(name, "system", &Map::new());
                refs.push(Ref::New(build.txn.insert("Interface", row)));
            }
        }
    }
    Value::refs(refs)
}
