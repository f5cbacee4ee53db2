//! Rows to [`Vswitch`]. A column that this server lacks reads as its neutral value; a value that does not fit its range
//! was refused by the server itself, so it reads the same way.

use std::collections::{BTreeMap, BTreeSet};

use super::model::Map;
use super::model::{Bridge, Has, Interface, Mirror, Ofport, Port, Qos, Queue, Vswitch};
use crate::ovsdb::{Atom, Datum, Row, Uuid, View};

/// The database is not that of a virtual switch that was set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The one row of Open_vSwitch is missing.
    #[error("the database has no Open_vSwitch row; ovs-ctl or `ovs-vsctl --no-wait init` makes it")]
    NotInitialised,
}

impl Vswitch {
    /// Reads a view of a session that follows [`super::monitor`].
    ///
    /// # Errors
    /// [`ReadError::NotInitialised`].
    pub fn read(view: &View) -> Result<Self, ReadError> {
        let rows = |table| view.table(table).into_iter().flat_map(crate::ovsdb::Table::rows);
        let (uuid, row) = rows("Open_vSwitch").next().ok_or(ReadError::NotInitialised)?;
        let names = rows("Port").map(|(uuid, row)| (uuid, string(row, "name"))).collect();
        let bridges = uuids(row, "bridges")
            .filter_map(|uuid| bridge(view, &names, uuid))
            .map(|bridge| (bridge.name.clone(), bridge))
            .collect();
        let has = |table, column| view.schema().column(table, column).is_some();
        Ok(Self {
            uuid,
            schema_version: view.schema().version.clone(),
            ovs_version: optional_string(row, "ovs_version").filter(|version| !version.is_empty()),
            next_cfg: integer(row, "next_cfg"),
            cur_cfg: integer(row, "cur_cfg"),
            datapath_types: strings(row, "datapath_types"),
            iface_types: strings(row, "iface_types"),
            dpdk_initialized: boolean(row, "dpdk_initialized"),
            other_config: map(row, "other_config"),
            external_ids: map(row, "external_ids"),
            bridges,
            qos: rows("QoS").map(|(uuid, row)| (uuid, qos(row))).collect(),
            queues: rows("Queue").map(|(uuid, row)| (uuid, queue(row))).collect(),
            has: Has {
                mirror_filter: has("Mirror", "filter"),
                mirror_snaplen: has("Mirror", "snaplen"),
                cvlans: has("Port", "cvlans"),
            },
        })
    }
}

fn bridge(view: &View, names: &BTreeMap<Uuid, String>, uuid: Uuid) -> Option<Bridge> {
    let row = view.row("Bridge", uuid)?;
    let ports = uuids(row, "ports").filter_map(|uuid| port(view, uuid)).map(|port| (port.name.clone(), port));
    let mut mirrors: Vec<Mirror> =
        uuids(row, "mirrors").filter_map(|uuid| mirror(view, names, uuid)).collect();
    mirrors.sort_by(|a, b| (&a.name, a.uuid).cmp(&(&b.name, b.uuid)));
    Some(Bridge {
        uuid,
        name: string(row, "name"),
        datapath_type: match string(row, "datapath_type").as_str() {
            "" => "system".into(),
            word => word.into(),
        },
        datapath_id: optional_string(row, "datapath_id"),
        fail_mode: optional_string(row, "fail_mode").map(|word| word.as_str().into()),
        stp_enable: boolean(row, "stp_enable"),
        rstp_enable: boolean(row, "rstp_enable"),
        mcast_snooping_enable: boolean(row, "mcast_snooping_enable"),
        flood_vlans: vlans(row, "flood_vlans"),
        controllers: row.get("controller").map_or(0, Datum::len),
        other_config: map(row, "other_config"),
        external_ids: map(row, "external_ids"),
        ports: ports.collect(),
        mirrors,
    })
}

fn port(view: &View, uuid: Uuid) -> Option<Port> {
    let row = view.row("Port", uuid)?;
    let mut interfaces: Vec<Interface> = uuids(row, "interfaces")
        .filter_map(|uuid| Some(interface(uuid, view.row("Interface", uuid)?)))
        .collect();
    interfaces.sort_by(|a, b| a.name.cmp(&b.name));
    let word = |column| optional_string(row, column);
    Some(Port {
        uuid,
        name: string(row, "name"),
        interfaces,
        vlan_mode: word("vlan_mode").map(|word| word.as_str().into()),
        tag: optional_integer(row, "tag").and_then(|tag| u16::try_from(tag).ok()),
        trunks: vlans(row, "trunks"),
        cvlans: vlans(row, "cvlans"),
        bond_mode: word("bond_mode").map(|word| word.as_str().into()),
        lacp: word("lacp").map(|word| word.as_str().into()),
        bond_updelay: integer(row, "bond_updelay"),
        bond_downdelay: integer(row, "bond_downdelay"),
        bond_active: word("bond_active_slave"),
        qos: uuids(row, "qos").next(),
        fake_bridge: boolean(row, "fake_bridge"),
        protected: boolean(row, "protected"),
        other_config: map(row, "other_config"),
        external_ids: map(row, "external_ids"),
    })
}

fn interface(uuid: Uuid, row: &Row) -> Interface {
    let up = |column| optional_string(row, column).map(|state| state == "up");
    Interface {
        uuid,
        name: string(row, "name"),
        kind: Some(string(row, "type"))
            .filter(|kind| !kind.is_empty())
            .unwrap_or_else(|| "system".to_owned()),
        options: map(row, "options"),
        ofport: match optional_integer(row, "ofport") {
            None => Ofport::Pending,
            Some(number) => u16::try_from(number).map_or(Ofport::Failed, Ofport::Open),
        },
        ofport_request: optional_integer(row, "ofport_request").and_then(|number| u16::try_from(number).ok()),
        error: optional_string(row, "error"),
        admin_up: up("admin_state"),
        link_up: up("link_state"),
        mac_in_use: optional_string(row, "mac_in_use"),
        mtu: optional_integer(row, "mtu"),
        mtu_request: optional_integer(row, "mtu_request"),
        ifindex: optional_integer(row, "ifindex"),
        policing_rate: integer(row, "ingress_policing_rate"),
        policing_burst: integer(row, "ingress_policing_burst"),
        other_config: map(row, "other_config"),
        external_ids: map(row, "external_ids"),
    }
}

fn mirror(view: &View, names: &BTreeMap<Uuid, String>, uuid: Uuid) -> Option<Mirror> {
    let row = view.row("Mirror", uuid)?;
    let ports = |column| uuids(row, column).filter_map(|uuid| names.get(&uuid).cloned());
    Some(Mirror {
        uuid,
        name: string(row, "name"),
        select_all: boolean(row, "select_all"),
        select_src_port: ports("select_src_port").collect(),
        select_dst_port: ports("select_dst_port").collect(),
        select_vlan: vlans(row, "select_vlan"),
        output_port: ports("output_port").next(),
        output_vlan: optional_integer(row, "output_vlan").and_then(|vlan| u16::try_from(vlan).ok()),
        snaplen: optional_integer(row, "snaplen").and_then(|length| u32::try_from(length).ok()),
        filter: optional_string(row, "filter"),
        external_ids: map(row, "external_ids"),
    })
}

fn qos(row: &Row) -> Qos {
    let queues = row.get("queues").map_or(&[][..], Datum::pairs);
    Qos {
        kind: string(row, "type"),
        other_config: map(row, "other_config"),
        queues: queues
            .iter()
            .filter_map(|(number, queue)| Some((number.as_integer()?, queue.as_uuid()?)))
            .collect(),
        external_ids: map(row, "external_ids"),
    }
}

fn queue(row: &Row) -> Queue {
    Queue {
        dscp: optional_integer(row, "dscp"),
        other_config: map(row, "other_config"),
        external_ids: map(row, "external_ids"),
    }
}

fn scalar<'r>(row: &'r Row, column: &str) -> Option<&'r Atom> {
    row.get(column)?.scalar()
}

fn optional_string(row: &Row, column: &str) -> Option<String> {
    Some(scalar(row, column)?.as_str()?.to_owned())
}

fn string(row: &Row, column: &str) -> String {
    optional_string(row, column).unwrap_or_default()
}

fn optional_integer(row: &Row, column: &str) -> Option<i64> {
    scalar(row, column)?.as_integer()
}

fn integer(row: &Row, column: &str) -> i64 {
    optional_integer(row, column).unwrap_or_default()
}

fn boolean(row: &Row, column: &str) -> bool {
    matches!(scalar(row, column), Some(Atom::Boolean(true)))
}

fn elements<'r>(row: &'r Row, column: &str) -> std::slice::Iter<'r, Atom> {
    row.get(column).map_or(&[][..], Datum::elements).iter()
}

fn uuids(row: &Row, column: &str) -> impl Iterator<Item = Uuid> {
    elements(row, column).filter_map(Atom::as_uuid)
}

fn strings(row: &Row, column: &str) -> BTreeSet<String> {
    elements(row, column).filter_map(|atom| atom.as_str().map(str::to_owned)).collect()
}

fn vlans(row: &Row, column: &str) -> BTreeSet<u16> {
    elements(row, column).filter_map(|atom| u16::try_from(atom.as_integer()?).ok()).collect()
}

fn map(row: &Row, column: &str) -> Map {
    let pairs = row.get(column).map_or(&[][..], Datum::pairs).iter();
    pairs.filter_map(|(key, value)| Some((key.as_str()?.to_owned(), value.as_str()?.to_owned()))).collect()
}
