//! Takes a port out and puts it in again. It takes two transactions: in one, ovs-vswitchd sees the same port before and
//! after and keeps its dead device. Between them the port is missing, and a plan made then adds it.

use portwright_core::ovs::{IFINDEX_KEY, OWNER_KEY, Part, Target};

use super::OvsError;
use super::columns::{self, Columns, owned_by, put};
use crate::ovsdb::{self, Deadline, Mutation, NewRow, Txn, Value};
use crate::vswitch::{Bridge, Interface, Map, Port, Switch, Vswitch};

/// Plugs a port again; its netdev has the interface index `ifindex` now.
pub(super) async fn replug(
    switch: &Switch,
    found: &Vswitch,
    target: &Target,
    owner: &str,
    ifindex: u32,
    deadline: Deadline,
) -> Result<(), OvsError> {
    let Target::Bridge(bridge, Part::Port(name)) = target else { return Ok(()) };
    let there = found.bridges.get(bridge).and_then(|bridge| Some((bridge, bridge.ports.get(name)?)));
    let Some((bridge, port)) = there else { return Ok(()) };
    let failed = |source| OvsError::Change { target: target.to_string(), source: Box::new(source) };
    let row = ovsdb::Target::row("Bridge", bridge.uuid);
    let mut out =
        Txn::new("portwright", &format!("policy {owner}: take out {name}, whose netdev was made anew"));
    out.guard::<&str>(ovsdb::Target::row("Port", port.uuid).includes("external_ids", owned_by(owner)), []);
    out.mutate(row.clone(), [Mutation::remove("ports", port.uuid)]);
    switch.apply(out, deadline).await.map_err(failed)?;
    let mut back = Txn::new("portwright", &format!("policy {owner}: put {name} in again"));
    let made = insert(&mut back, port, ifindex, found.has.cvlans);
    back.mutate(row, [Mutation::insert("ports", made)]);
    link(&mut back, bridge, port, made);
    switch.apply(back, deadline).await.map_err(failed)?;
    Ok(())
}

/// The same port as a new row.
fn insert(txn: &mut Txn, port: &Port, ifindex: u32, has_cvlans: bool) -> NewRow {
    let Port {
        name,
        interfaces,
        vlan_mode,
        tag,
        trunks,
        cvlans,
        qos,
        protected,
        other_config,
        external_ids,
        ..
    } = port;
    let rows: Vec<NewRow> = interfaces.iter().map(|one| interface(txn, one)).collect();
    let mut notes: Map = external_ids.clone();
    notes.insert(IFINDEX_KEY.to_owned(), ifindex.to_string());
    let mut row = Columns::new();
    put(&mut row, "name", name.as_str());
    put(&mut row, "interfaces", Value::refs(rows));
    put(&mut row, "external_ids", Value::from(&notes));
    put(&mut row, "other_config", Value::from(other_config));
    let vlan = portwright_core::ovs::VlanSetting {
        mode: vlan_mode.as_ref().map(ToString::to_string),
        tag: *tag,
        trunks: trunks.clone(),
        cvlans: cvlans.clone(),
    };
    columns::vlan(&vlan, has_cvlans, &mut row);
    put(&mut row, "qos", Value::refs(*qos));
    if *protected {
        put(&mut row, "protected", true);
    }
    txn.insert("Port", row)
}

fn interface(txn: &mut Txn, interface: &Interface) -> NewRow {
    let Interface {
        name,
        kind,
        options,
        ofport_request,
        mtu_request,
        policing_rate,
        policing_burst,
        other_config,
        external_ids,
        ..
    } = interface;
    let mut row = super::parts::interface_row(name, kind, options);
    put(&mut row, "other_config", Value::from(other_config));
    put(&mut row, "external_ids", Value::from(external_ids));
    put(&mut row, "ofport_request", columns::number(*ofport_request));
    put(&mut row, "mtu_request", columns::number(*mtu_request));
    put(&mut row, "ingress_policing_rate", *policing_rate);
    put(&mut row, "ingress_policing_burst", *policing_burst);
    txn.insert("Interface", row)
}

/// Mirrors forget a port that goes. Ours get it back in the same transaction.
fn link(txn: &mut Txn, bridge: &Bridge, port: &Port, made: NewRow) {
    for mirror in &bridge.mirrors {
        let Some(owner) = mirror.external_ids.get(OWNER_KEY) else { continue };
        let target = ovsdb::Target::row("Mirror", mirror.uuid).includes("external_ids", owned_by(owner));
        let columns = [
            ("select_src_port", mirror.select_src_port.contains(&port.name)),
            ("select_dst_port", mirror.select_dst_port.contains(&port.name)),
            ("output_port", mirror.output_port.as_ref() == Some(&port.name)),
        ];
        let mutations: Vec<Mutation> = columns
            .iter()
            .filter(|(_, had)| *had)
            .map(|(column, _)| Mutation::insert(column, made))
            .collect();
        if !mutations.is_empty() {
            txn.mutate(target, mutations);
        }
    }
}
