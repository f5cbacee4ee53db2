//! What the server says its tables look like (RFC 7047 §3.2). Only what a client needs is kept: kinds and how many
//! elements a column may have, which decides what a diff means. Ranges and enumerations are the server's to check.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Atom, Datum};

/// The kind of an atom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtomKind {
    /// A signed 64-bit integer.
    Integer,
    /// A floating-point number.
    Real,
    /// A truth value.
    Boolean,
    /// A string.
    String,
    /// A reference.
    Uuid,
}

/// The type of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnType {
    /// Kind of the elements, or of a map's keys.
    pub key: AtomKind,
    /// Kind of a map's values; none for a set.
    pub value: Option<AtomKind>,
    /// Fewest elements: 0 or 1.
    pub min: u64,
    /// Most elements; none means unlimited.
    pub max: Option<u64>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its type.
    pub kind: ColumnType,
    /// False: it can be set when the row is made and never again.
    pub mutable: bool,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its columns by name, without `_uuid` and `_version`.
    pub columns: BTreeMap<String, Column>,
    /// True: rows live without being referenced.
    pub is_root: bool,
    /// Most rows, if limited.
    pub max_rows: Option<u64>,
}

/// A database's schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// The database's name, such as `Open_vSwitch`.
    pub name: String,
    /// The schema's version, such as `8.3.1`; empty if the server does not say.
    pub version: String,
    /// Tables by name.
    pub tables: BTreeMap<String, Table>,
}

impl Schema {
    /// Reads the answer to `get_schema`.
    ///
    /// # Errors
    /// The JSON reader's, with line and column, if it is not a schema.
    pub fn from_json(text: &[u8]) -> Result<Self, serde_json::Error> {
        let raw: RawSchema = serde_json::from_slice(text)?;
        let tables = raw.tables.into_iter().map(|(name, table)| (name, table.into())).collect();
        Ok(Self { name: raw.name, version: raw.version, tables })
    }

    /// A column, if this server has it.
    #[must_use]
    pub fn column(&self, table: &str, column: &str) -> Option<&Column> {
        self.tables.get(table)?.columns.get(column)
    }
}

impl ColumnType {
    /// What a column holds when the server does not mention it (RFC 7047 §5.2.1).
    #[must_use]
    pub fn default_datum(&self) -> Datum {
        match (self.value, self.min) {
            (Some(_), 0) => Datum::empty_map(),
            (None, 0) => Datum::empty_set(),
            (Some(value), _) => Datum::Map(Box::new([(self.key.default_atom(), value.default_atom())])),
            (None, _) => Datum::Set(Box::new([self.key.default_atom()])),
        }
    }

    /// Turns what was read into this column's kind: integers become reals where reals are due, an empty set an
    /// empty map. None if it does not fit.
    #[must_use]
    pub fn conform(&self, datum: Datum) -> Option<Datum> {
        match (datum, self.value) {
            (Datum::Set(mut elements), None) => {
                let fits = elements.iter_mut().all(|atom| self.key.conform(atom));
                if self.key == AtomKind::Real {
                    // `[-2.5, 0]` was sorted as a real and an integer.
                    elements.sort_unstable();
                }
                fits.then_some(Datum::Set(elements))
            }
            (Datum::Map(mut pairs), Some(value)) => {
                let fits = pairs.iter_mut().all(|(key, atom)| self.key.conform(key) && value.conform(atom));
                if self.key == AtomKind::Real {
                    pairs.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
                }
                fits.then_some(Datum::Map(pairs))
            }
            (Datum::Set(elements), Some(_)) => elements.is_empty().then(Datum::empty_map),
            (Datum::Map(_), None) => None,
        }
    }

    /// Whether that many elements are allowed.
    #[must_use]
    pub fn allows(&self, elements: usize) -> bool {
        let elements = elements as u64;
        elements >= self.min && self.max.is_none_or(|max| elements <= max)
    }

    /// Whether a change arrives as a difference: only columns that can hold more than one element do.
    #[must_use]
    pub fn is_composite(&self) -> bool {
        self.max != Some(1)
    }
}

impl AtomKind {
    fn default_atom(self) -> Atom {
        match self {
            Self::Integer => Atom::Integer(0),
            Self::Real => Atom::Real(0.0),
            Self::Boolean => Atom::Boolean(false),
            Self::String => Atom::String("".into()),
            Self::Uuid => Atom::Uuid(super::Uuid::ZERO),
        }
    }

    fn conform(self, atom: &mut Atom) -> bool {
        match (self, &*atom) {
            (Self::Real, Atom::Integer(number)) => {
                // OVSDB reals are doubles; an integer literal beyond 2^53 loses digits there too.
                *atom = Atom::Real(*number as f64);
                true
            }
            (Self::Integer, Atom::Integer(_))
            | (Self::Real, Atom::Real(_))
            | (Self::Boolean, Atom::Boolean(_))
            | (Self::String, Atom::String(_))
            | (Self::Uuid, Atom::Uuid(_)) => true,
            (Self::Integer | Self::Real | Self::Boolean | Self::String | Self::Uuid, _) => false,
        }
    }
}

#[derive(Deserialize)]
struct RawSchema {
    name: String,
    #[serde(default)]
    version: String,
    tables: BTreeMap<String, RawTable>,
}

#[derive(Deserialize)]
struct RawTable {
    columns: BTreeMap<String, RawColumn>,
    #[serde(default, rename = "isRoot")]
    is_root: bool,
    #[serde(default, rename = "maxRows")]
    max_rows: Option<u64>,
}

#[derive(Deserialize)]
struct RawColumn {
    #[serde(rename = "type")]
    kind: RawType,
    #[serde(default = "yes")]
    mutable: bool,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a column type: a name or {key, value, min, max}")]
enum RawType {
    Scalar(AtomKind),
    Full {
        key: RawBase,
        value: Option<RawBase>,
        #[serde(default = "one")]
        min: u64,
        #[serde(default)]
        max: RawMax,
    },
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a base type: a name or {type, …}")]
enum RawBase {
    Name(AtomKind),
    Full {
        #[serde(rename = "type")]
        kind: AtomKind,
    },
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a number or \"unlimited\"")]
enum RawMax {
    Number(u64),
    Word(Unlimited),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Unlimited {
    Unlimited,
}

impl Default for RawMax {
    fn default() -> Self {
        Self::Number(1)
    }
}

impl<'de> Deserialize<'de> for AtomKind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Name {
            Integer,
            Real,
            Boolean,
            String,
            Uuid,
        }
        Ok(match Name::deserialize(deserializer)? {
            Name::Integer => Self::Integer,
            Name::Real => Self::Real,
            Name::Boolean => Self::Boolean,
            Name::String => Self::String,
            Name::Uuid => Self::Uuid,
        })
    }
}

fn yes() -> bool {
    true
}

fn one() -> u64 {
    1
}

impl From<RawBase> for AtomKind {
    fn from(base: RawBase) -> Self {
        match base {
            RawBase::Name(kind) | RawBase::Full { kind } => kind,
        }
    }
}

impl From<RawTable> for Table {
    fn from(raw: RawTable) -> Self {
        let columns = raw
            .columns
            .into_iter()
            .filter(|(name, _)| !name.starts_with('_'))
            .map(|(name, column)| (name, Column { kind: column.kind.into(), mutable: column.mutable }))
            .collect();
        Self { columns, is_root: raw.is_root, max_rows: raw.max_rows }
    }
}

impl From<RawType> for ColumnType {
    fn from(raw: RawType) -> Self {
        match raw {
            RawType::Scalar(key) => Self { key, value: None, min: 1, max: Some(1) },
            RawType::Full { key, value, min, max } => Self {
                key: key.into(),
                value: value.map(Into::into),
                min,
                max: match max {
                    RawMax::Number(number) => Some(number),
                    RawMax::Word(Unlimited::Unlimited) => None,
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_among_reals_become_reals_in_their_place() {
        let kind = ColumnType { key: AtomKind::Real, value: None, min: 0, max: None };
        let read: Datum = serde_json::from_str("[\"set\",[1e300,0,-2.5,1]]").unwrap();
        let Some(Datum::Set(elements)) = kind.conform(read) else { unreachable!() };
        assert_eq!(*elements, [-2.5, 0.0, 1.0, 1e300].map(Atom::Real));
    }
}
