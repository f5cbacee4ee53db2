//! What a session keeps a copy of: tables and columns. Columns are named one by one, because a busy node's
//! `statistics` change every few seconds for every port and nobody here looks at them. A column that only newer
//! servers have is asked for when the schema has it.

use std::collections::BTreeMap;

use super::schema::Schema;

/// The tables and columns to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitor {
    /// The database, such as `Open_vSwitch`.
    pub database: String,
    /// Tables by name.
    pub tables: BTreeMap<String, MonitorTable>,
}

/// The columns of one table to follow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MonitorTable {
    /// Without one of these the server cannot be used.
    pub required: Vec<String>,
    /// Followed where the server has them; absent from the rows otherwise.
    pub optional: Vec<String>,
}

/// The server lacks something that is required.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaMismatch {
    /// A whole table.
    #[error("the database {database} (schema {version}) has no table {table}")]
    Table {
        /// The database.
        database: String,
        /// Its schema's version.
        version: String,
        /// The table that was asked for.
        table: String,
    },
    /// A column.
    #[error("the database {database} (schema {version}) has no column {column} in table {table}")]
    Column {
        /// The database.
        database: String,
        /// Its schema's version.
        version: String,
        /// The table.
        table: String,
        /// The column that was asked for.
        column: String,
    },
}

impl Monitor {
    /// Follows nothing yet; such a session can still transact and select.
    #[must_use]
    pub fn new(database: &str) -> Self {
        Self { database: database.to_owned(), tables: BTreeMap::new() }
    }

    /// Adds a table.
    #[must_use]
    pub fn table(mut self, name: &str, required: &[&str], optional: &[&str]) -> Self {
        let own = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let columns = MonitorTable { required: own(required), optional: own(optional) };
        self.tables.insert(name.to_owned(), columns);
        self
    }

    /// The columns that this server has, by table, sorted.
    pub(crate) fn resolve(&self, schema: &Schema) -> Result<BTreeMap<String, Vec<String>>, SchemaMismatch> {
        let mut resolved = BTreeMap::new();
        for (name, wanted) in &self.tables {
            let table = schema.tables.get(name).ok_or_else(|| SchemaMismatch::Table {
                database: schema.name.clone(),
                version: schema.version.clone(),
                table: name.clone(),
            })?;
            let mut columns = Vec::new();
            for column in &wanted.required {
                if !table.columns.contains_key(column) {
                    return Err(SchemaMismatch::Column {
                        database: schema.name.clone(),
                        version: schema.version.clone(),
                        table: name.clone(),
                        column: column.clone(),
                    });
                }
                columns.push(column.clone());
            }
            columns
                .extend(wanted.optional.iter().filter(|column| table.columns.contains_key(*column)).cloned());
            columns.sort_unstable();
            columns.dedup();
            resolved.insert(name.clone(), columns);
        }
        Ok(resolved)
    }
}
