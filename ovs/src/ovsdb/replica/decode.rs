//! Table updates from the wire: `update` (RFC 7047 §4.1.6, old and new rows), `update2` and `update3`
//! (ovsdb-server(7): initial, insert, modify as a difference, delete). Rows are read straight into their layout.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{Layout, Row, View};
use crate::ovsdb::{Datum, Uuid};

/// Which of the two notations an update is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notation {
    /// `old` and `new`.
    OldNew,
    /// `initial`, `insert`, `modify`, `delete`.
    Diff,
}

/// What an update says about one row.
#[derive(Debug)]
pub(crate) enum RowUpdate {
    /// The row is new and looks like this.
    Insert(Row),
    /// The row looks like this, whether it is new or not.
    Replace(Row),
    /// These columns changed, by difference.
    Modify(Vec<(usize, Datum)>),
    /// The row is gone.
    Delete,
}

/// The updates of one table.
#[derive(Debug)]
pub(crate) struct TableUpdate {
    pub(crate) layout: Arc<Layout>,
    pub(crate) rows: Vec<(Uuid, RowUpdate)>,
}

/// Reads the updates of all tables of `view`; a table or column that we do not follow is an error.
pub(crate) fn tables(
    view: &View,
    notation: Notation,
    json: &str,
) -> Result<Vec<TableUpdate>, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let tables = Tables { view, notation }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(tables)
}

#[derive(Deserialize, PartialEq, Eq)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Visits a JSON object whose keys are handled by a function; saves one visitor type per object.
struct Object<'a, F, T> {
    what: &'a str,
    read: F,
    result: PhantomData<T>,
}

trait ReadObject<'de> {
    type Value;
    fn read<A: MapAccess<'de>>(&self, map: A) -> Result<Self::Value, A::Error>;
}

impl<'de, F: ReadObject<'de, Value = T>, T> Visitor<'de> for Object<'_, F, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        self.read.read(map)
    }
}

macro_rules! seed {
    ($name:ident, $what:literal) => {
        impl<'de> DeserializeSeed<'de> for $name<'_> {
            type Value = <Self as ReadObject<'de>>::Value;

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
                deserializer.deserialize_map(Object { what: $what, read: self, result: PhantomData })
            }
        }
    };
}

struct Tables<'a> {
    view: &'a View,
    notation: Notation,
}
seed!(Tables, "an object of table updates");

impl<'de> ReadObject<'de> for Tables<'_> {
    type Value = Vec<TableUpdate>;

    fn read<A: MapAccess<'de>>(&self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut tables: Vec<TableUpdate> = Vec::new();
        while let Some(Key(name)) = map.next_key()? {
            let layout = &self
                .view
                .tables
                .get(name.as_ref())
                .ok_or_else(|| {
                    de::Error::custom(format_args!("an update of the table {name:?}, which we do not follow"))
                })?
                .layout;
            if tables.iter().any(|table| table.layout.table == name) {
                return Err(de::Error::custom(format_args!("the table {name} is there twice")));
            }
            let rows = map.next_value_seed(Rows { layout, notation: self.notation })?;
            tables.push(TableUpdate { layout: Arc::clone(layout), rows });
        }
        Ok(tables)
    }
}

struct Rows<'a> {
    layout: &'a Arc<Layout>,
    notation: Notation,
}
seed!(Rows, "an object of row updates");

impl<'de> ReadObject<'de> for Rows<'_> {
    type Value = Vec<(Uuid, RowUpdate)>;

    fn read<A: MapAccess<'de>>(&self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut rows = Vec::new();
        while let Some(uuid) = map.next_key::<Uuid>()? {
            let update = match self.notation {
                Notation::Diff => map.next_value_seed(DiffRow { layout: self.layout })?,
                Notation::OldNew => map.next_value_seed(OldNewRow { layout: self.layout })?,
            };
            rows.push((uuid, update));
        }
        Ok(rows)
    }
}

struct DiffRow<'a> {
    layout: &'a Arc<Layout>,
}
seed!(DiffRow, "an object with initial, insert, modify or delete");

impl<'de> ReadObject<'de> for DiffRow<'_> {
    type Value = RowUpdate;

    fn read<A: MapAccess<'de>>(&self, mut map: A) -> Result<RowUpdate, A::Error> {
        let Some(Key(kind)) = map.next_key()? else {
            return Err(de::Error::custom("a row update is empty"));
        };
        let update = match kind.as_ref() {
            "initial" | "insert" => RowUpdate::Insert(map.next_value_seed(WholeRow { layout: self.layout })?),
            "modify" => RowUpdate::Modify(map.next_value_seed(Columns { layout: self.layout })?),
            "delete" => {
                map.next_value::<IgnoredAny>()?;
                RowUpdate::Delete
            }
            other => return Err(de::Error::custom(format_args!("{other:?} is no kind of row update"))),
        };
        match map.next_key::<Key<'_>>()? {
            None => Ok(update),
            Some(Key(more)) => {
                Err(de::Error::custom(format_args!("a row update has a second kind, {more:?}")))
            }
        }
    }
}

struct OldNewRow<'a> {
    layout: &'a Arc<Layout>,
}
seed!(OldNewRow, "an object with old and new");

impl<'de> ReadObject<'de> for OldNewRow<'_> {
    type Value = RowUpdate;

    fn read<A: MapAccess<'de>>(&self, mut map: A) -> Result<RowUpdate, A::Error> {
        let (mut old, mut new) = (false, None);
        while let Some(Key(kind)) = map.next_key()? {
            match kind.as_ref() {
                "old" => {
                    map.next_value::<IgnoredAny>()?;
                    old = true;
                }
                "new" => new = Some(map.next_value_seed(WholeRow { layout: self.layout })?),
                other => return Err(de::Error::custom(format_args!("{other:?} is no part of a row update"))),
            }
        }
        match (old, new) {
            (_, Some(row)) => Ok(RowUpdate::Replace(row)),
            (true, None) => Ok(RowUpdate::Delete),
            (false, None) => Err(de::Error::custom("a row update is empty")),
        }
    }
}

struct WholeRow<'a> {
    layout: &'a Arc<Layout>,
}
seed!(WholeRow, "a row");

impl<'de> ReadObject<'de> for WholeRow<'_> {
    type Value = Row;

    fn read<A: MapAccess<'de>>(&self, map: A) -> Result<Row, A::Error> {
        let columns = Columns { layout: self.layout }.read(map)?;
        let mut row = self.layout.default_row();
        for (index, datum) in columns {
            let (Some(slot), Some((name, kind))) = (row.data.get_mut(index), self.layout.columns.get(index))
            else {
                continue;
            };
            if !kind.allows(datum.len()) {
                return Err(de::Error::custom(format_args!(
                    "{}.{name} holds {} elements, which its type does not allow",
                    self.layout.table,
                    datum.len()
                )));
            }
            *slot = datum;
        }
        Ok(row)
    }
}

struct Columns<'a> {
    layout: &'a Arc<Layout>,
}
seed!(Columns, "an object of columns");

impl<'de> ReadObject<'de> for Columns<'_> {
    type Value = Vec<(usize, Datum)>;

    fn read<A: MapAccess<'de>>(&self, mut map: A) -> Result<Self::Value, A::Error> {
        let table = &self.layout.table;
        let mut columns = Vec::new();
        while let Some(Key(name)) = map.next_key()? {
            let found =
                self.layout.index(&name).and_then(|index| Some((index, self.layout.columns.get(index)?)));
            let Some((index, (_, kind))) = found else {
                return Err(de::Error::custom(format_args!(
                    "a value for {table}.{name}, which we do not follow"
                )));
            };
            let datum = kind.conform(map.next_value()?).ok_or_else(|| {
                de::Error::custom(format_args!("the value of {table}.{name} does not have the column's type"))
            })?;
            columns.push((index, datum));
        }
        Ok(columns)
    }
}
