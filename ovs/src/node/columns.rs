//! Settings as column values.

use std::collections::{BTreeMap, BTreeSet};

use portwright_core::ovs::{Copies, Map, OWNER_KEY, Policing, VlanSetting};

use crate::ovsdb::{Datum, Ref, Value};

/// Columns of one row by name.
pub(crate) type Columns = BTreeMap<String, Value>;

/// Adds a column.
pub(crate) fn put(columns: &mut Columns, name: &str, value: impl Into<Value>) {
    columns.insert(name.to_owned(), value.into());
}

/// A text or none.
pub(crate) fn text(value: Option<&String>) -> Value {
    Value::optional(value.map(String::as_str))
}

/// A number or none.
pub(crate) fn number<N: Into<i64>>(value: Option<N>) -> Value {
    Value::optional(value.map(Into::into))
}

/// A set of numbers.
pub(crate) fn numbers(set: &BTreeSet<u16>) -> Value {
    Datum::set(set.iter().map(|one| i64::from(*one))).into()
}

/// `external_ids` with the owner in it.
pub(crate) fn ids(owner: &str, others: &Map) -> Value {
    let mut ids = others.clone();
    ids.insert(OWNER_KEY.to_owned(), owner.to_owned());
    Value::from(&ids)
}

/// The owner key, for conditions.
pub(crate) fn owned_by(owner: &str) -> Datum {
    Datum::map([(OWNER_KEY, owner)])
}

/// VLAN columns of a port. `cvlans` only where the server has the column, or where it is needed.
pub(crate) fn vlan(vlan: &VlanSetting, has_cvlans: bool, columns: &mut Columns) {
    put(columns, "vlan_mode", text(vlan.mode.as_ref()));
    put(columns, "tag", number(vlan.tag));
    put(columns, "trunks", numbers(&vlan.trunks));
    if has_cvlans || !vlan.cvlans.is_empty() {
        put(columns, "cvlans", numbers(&vlan.cvlans));
    }
}

/// Policing columns of an interface.
pub(crate) fn policing(policing: Policing, columns: &mut Columns) {
    put(columns, "ingress_policing_rate", i64::from(policing.rate));
    put(columns, "ingress_policing_burst", i64::from(policing.burst));
}

/// Columns of a mirror. `port` gives the row of a port by name; names without a row are left out, and planning again shows
/// that they are missing.
pub(crate) fn mirror(
    copies: &Copies,
    has_snaplen: bool,
    port: &dyn Fn(&str) -> Option<Ref>,
    columns: &mut Columns,
) {
    let Copies { all, sources, destinations, vlans, output_port, output_vlan, snaplen } = copies;
    let refs = |names: &BTreeSet<String>| Value::refs(names.iter().filter_map(|name| port(name)));
    put(columns, "select_all", *all);
    put(columns, "select_src_port", refs(sources));
    put(columns, "select_dst_port", refs(destinations));
    put(columns, "select_vlan", numbers(vlans));
    put(columns, "output_port", Value::refs(output_port.iter().filter_map(|name| port(name))));
    put(columns, "output_vlan", number(*output_vlan));
    if has_snaplen || snaplen.is_some() {
        put(columns, "snaplen", number(*snaplen));
    }
}
