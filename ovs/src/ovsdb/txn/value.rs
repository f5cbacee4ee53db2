//! What a transaction writes into a column: a value, or references of which some may be to rows that the same
//! transaction makes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::ovsdb::schema::{AtomKind, ColumnType};
use crate::ovsdb::{Atom, Datum, Uuid};

/// A row that a transaction makes; stands for its identity until the server has chosen one.
///
/// Its name on the wire is made from a counter. Names made from what people call their interfaces (`i-1`, `42`, `é`)
/// are not all legal there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NewRow(pub(super) usize);

impl NewRow {
    pub(super) fn wire_name(self) -> String {
        format!("row{}", self.0)
    }
}

/// A reference to a row that is there or that the same transaction makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ref {
    /// A row that is there.
    Row(Uuid),
    /// A row of this transaction.
    New(NewRow),
}

impl From<Uuid> for Ref {
    fn from(uuid: Uuid) -> Self {
        Self::Row(uuid)
    }
}

impl From<NewRow> for Ref {
    fn from(row: NewRow) -> Self {
        Self::New(row)
    }
}

impl Ref {
    fn to_json(self) -> serde_json::Value {
        match self {
            Self::Row(uuid) => json!(["uuid", uuid.to_string()]),
            Self::New(row) => json!(["named-uuid", row.wire_name()]),
        }
    }
}

/// What is written into a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Plain data.
    Datum(Datum),
    /// A set of references; the server refuses duplicates.
    Refs(BTreeSet<Ref>),
    /// A map from integers to references, such as a QoS row's queues.
    RefMap(BTreeMap<i64, Ref>),
}

impl Value {
    /// A set of references.
    pub fn refs<R: Into<Ref>>(refs: impl IntoIterator<Item = R>) -> Self {
        Self::Refs(refs.into_iter().map(Into::into).collect())
    }

    /// A set of none or one element.
    pub fn optional<A: Into<Atom>>(atom: Option<A>) -> Self {
        Self::Datum(Datum::set(atom))
    }

    /// How the value looks on the wire, if it fits the column.
    pub(super) fn encode(&self, kind: &ColumnType) -> Option<serde_json::Value> {
        match self {
            Self::Datum(datum) => serde_json::to_value(kind.conform(datum.clone())?).ok(),
            Self::Refs(refs) => {
                let fits = kind.key == AtomKind::Uuid && kind.value.is_none();
                fits.then(|| json!(["set", refs.iter().map(|one| one.to_json()).collect::<Vec<_>>()]))
            }
            Self::RefMap(pairs) => {
                let fits = kind.key == AtomKind::Integer && kind.value == Some(AtomKind::Uuid);
                fits.then(|| {
                    let pairs: Vec<_> = pairs.iter().map(|(key, one)| json!([key, one.to_json()])).collect();
                    json!(["map", pairs])
                })
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Datum(datum) => datum.len(),
            Self::Refs(refs) => refs.len(),
            Self::RefMap(pairs) => pairs.len(),
        }
    }
}

impl From<Datum> for Value {
    fn from(datum: Datum) -> Self {
        Self::Datum(datum)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Datum(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Datum(text.into())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Datum(number.into())
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Datum(flag.into())
    }
}

impl From<Uuid> for Value {
    fn from(uuid: Uuid) -> Self {
        Self::Datum(uuid.into())
    }
}

impl From<NewRow> for Value {
    fn from(row: NewRow) -> Self {
        Self::refs([row])
    }
}

impl From<&BTreeMap<String, String>> for Value {
    fn from(map: &BTreeMap<String, String>) -> Self {
        Self::Datum(Datum::map(map.iter().map(|(key, value)| (key.as_str(), value.as_str()))))
    }
}
