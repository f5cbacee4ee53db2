//! Our copy of the followed tables. Rows and tables are shared and copied on write: a reader holds a [`View`] that
//! never changes, the owner task builds the next one beside it, and an update that does not fit changes nothing.

pub(crate) mod apply;
pub(crate) mod decode;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::schema::{ColumnType, Schema};
use super::{Datum, Uuid};

/// Name and followed columns of a table.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    table: String,
    /// Sorted by name.
    columns: Vec<(String, ColumnType)>,
}

impl Layout {
    /// The table's name.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Names and types of the columns, sorted by name.
    #[must_use]
    pub fn columns(&self) -> &[(String, ColumnType)] {
        &self.columns
    }

    pub(crate) fn index(&self, column: &str) -> Option<usize> {
        self.columns.binary_search_by(|(name, _)| name.as_str().cmp(column)).ok()
    }

    pub(crate) fn new(schema: &Schema, table: &str, columns: &[String]) -> Self {
        let columns = columns
            .iter()
            .filter_map(|name| Some((name.clone(), schema.column(table, name)?.kind.clone())))
            .collect();
        Self { table: table.to_owned(), columns }
    }

    pub(crate) fn default_row(self: &Arc<Self>) -> Row {
        let data = self.columns.iter().map(|(_, kind)| kind.default_datum()).collect();
        Row { layout: Arc::clone(self), data }
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    layout: Arc<Layout>,
    data: Box<[Datum]>,
}

impl Row {
    /// A column's value; none if the column is not followed or this server lacks it.
    #[must_use]
    pub fn get(&self, column: &str) -> Option<&Datum> {
        self.data.get(self.layout.index(column)?)
    }

    /// Names and values, sorted by name.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &Datum)> {
        self.layout.columns.iter().map(|(name, _)| name.as_str()).zip(self.data.iter())
    }
}

/// The rows of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    layout: Arc<Layout>,
    rows: BTreeMap<Uuid, Arc<Row>>,
}

impl Table {
    /// Name and columns.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// A row by its identity.
    #[must_use]
    pub fn get(&self, uuid: Uuid) -> Option<&Arc<Row>> {
        self.rows.get(&uuid)
    }

    /// All rows, sorted by identity.
    pub fn rows(&self) -> impl Iterator<Item = (Uuid, &Arc<Row>)> {
        self.rows.iter().map(|(uuid, row)| (*uuid, row))
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Rows whose string column has this value.
    pub fn find(&self, column: &str, value: &str) -> impl Iterator<Item = (Uuid, &Arc<Row>)> {
        let index = self.layout.index(column);
        self.rows.iter().filter_map(move |(uuid, row)| {
            let have = row.data.get(index?)?.scalar()?.as_str()?;
            (have == value).then_some((*uuid, row))
        })
    }
}

/// A consistent state of all followed tables, as of one committed transaction.
#[derive(Debug, Clone)]
pub struct View {
    schema: Arc<Schema>,
    tables: BTreeMap<String, Arc<Table>>,
}

impl View {
    pub(crate) fn empty(schema: Arc<Schema>, columns: &BTreeMap<String, Vec<String>>) -> Self {
        let tables = columns
            .iter()
            .map(|(name, columns)| {
                let layout = Arc::new(Layout::new(&schema, name, columns));
                (name.clone(), Arc::new(Table { layout, rows: BTreeMap::new() }))
            })
            .collect();
        Self { schema, tables }
    }

    /// The schema of the server that this came from.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// A followed table.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.get(name).map(AsRef::as_ref)
    }

    /// All followed tables, sorted by name.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.values().map(AsRef::as_ref)
    }

    /// A row by table and identity.
    #[must_use]
    pub fn row(&self, table: &str, uuid: Uuid) -> Option<&Arc<Row>> {
        self.table(table)?.get(uuid)
    }
}

/// What happened to one row.
#[derive(Debug, Clone)]
pub struct Change {
    /// The row.
    pub uuid: Uuid,
    /// As it was; none if it is new.
    pub old: Option<Arc<Row>>,
    /// As it is; none if it is gone.
    pub new: Option<Arc<Row>>,
    pub(crate) layout: Arc<Layout>,
}

impl Change {
    /// The table's name.
    #[must_use]
    pub fn table(&self) -> &str {
        self.layout.table()
    }

    /// The row as it is, or as it was when it is gone.
    #[must_use]
    pub fn row(&self) -> Option<&Row> {
        self.new.as_deref().or(self.old.as_deref())
    }
}
