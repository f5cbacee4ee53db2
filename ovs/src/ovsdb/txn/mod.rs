//! Typed transactions (RFC 7047 §5.2). Every operation on a row that is there names that row, is preceded by a `wait`
//! that proves it is still as believed, and must count exactly one row afterwards: OVSDB itself reports success when
//! a change matches nothing.

mod encode;
mod outcome;
mod target;
mod value;

use std::collections::BTreeMap;

pub(crate) use encode::Expect;
pub(crate) use outcome::read as read_answer;
pub use outcome::{Committed, Selected};
pub use target::Target;
pub use value::{NewRow, Ref, Value};

use super::schema::{Column, Schema};
use super::session::LockName;
use super::{Atom, Datum};

/// A transaction under construction. Nothing happens until a session commits it.
#[derive(Debug, Clone)]
pub struct Txn {
    comment: String,
    operations: Vec<Operation>,
    new_rows: usize,
    locks: Vec<String>,
    durable: bool,
}

#[derive(Debug, Clone)]
enum Operation {
    Guard { target: Target, rows: BTreeMap<String, Value> },
    Insert { table: String, name: NewRow, row: BTreeMap<String, Value> },
    Update { target: Target, row: BTreeMap<String, Value> },
    Mutate { target: Target, mutations: Vec<Mutation> },
    Delete { target: Target },
    Read { target: Target, columns: Vec<String> },
    ReadAll { table: String, columns: Vec<String> },
}

/// A transaction that cannot be sent to this server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TxnError {
    /// The server's schema lacks the table.
    #[error("the server's database {database} (schema {version}) has no table {table}")]
    NoTable {
        /// The database.
        database: String,
        /// Its schema's version.
        version: String,
        /// The table.
        table: String,
    },
    /// The server's schema lacks the column.
    #[error("the server's database {database} (schema {version}) has no column {column} in table {table}")]
    NoColumn {
        /// The database.
        database: String,
        /// Its schema's version.
        version: String,
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The value does not have the column's type.
    #[error("the value for {table}.{column} does not have the column's type")]
    WrongType {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The column can only be set when the row is made.
    #[error("{table}.{column} cannot be changed once the row is there")]
    Immutable {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The table's only row holds everything else; removing it wipes the database.
    #[error("the only row of {table} cannot be deleted: everything in the database hangs from it")]
    DeletesRoot {
        /// The table.
        table: String,
    },
}

/// A change of part of a column; leaves what it does not name alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation {
    column: String,
    change: MutationKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum MutationKind {
    Insert(Value),
    Remove(Value),
    RemoveKeys(Datum),
    Put(Atom, Atom),
    Add(i64),
}

impl Mutation {
    /// Adds elements to a set.
    pub fn insert(column: &str, elements: impl Into<Value>) -> Self {
        Self { column: column.to_owned(), change: MutationKind::Insert(elements.into()) }
    }

    /// Takes elements out of a set, or pairs with exactly these values out of a map.
    pub fn remove(column: &str, elements: impl Into<Value>) -> Self {
        Self { column: column.to_owned(), change: MutationKind::Remove(elements.into()) }
    }

    /// Takes keys out of a map, whatever their values are.
    pub fn remove_keys<K: Into<Atom>>(column: &str, keys: impl IntoIterator<Item = K>) -> Self {
        Self { column: column.to_owned(), change: MutationKind::RemoveKeys(Datum::set(keys)) }
    }

    /// Gives a key of a map this value, whether it was there or not (`insert` alone does not overwrite).
    pub fn put(column: &str, key: impl Into<Atom>, value: impl Into<Atom>) -> Self {
        Self { column: column.to_owned(), change: MutationKind::Put(key.into(), value.into()) }
    }

    /// Adds to an integer.
    #[must_use]
    pub fn add(column: &str, number: i64) -> Self {
        Self { column: column.to_owned(), change: MutationKind::Add(number) }
    }
}

impl Txn {
    /// An empty transaction. `who` and `why` become its comment in the database's log (`ovsdb-tool show-log`).
    #[must_use]
    pub fn new(who: &str, why: &str) -> Self {
        let comment = format!("{who}: {why}");
        Self { comment, operations: Vec::new(), new_rows: 0, locks: Vec::new(), durable: false }
    }

    /// A transaction that only reads says nothing in the log.
    pub(crate) fn reading() -> Self {
        Self {
            comment: String::new(),
            operations: Vec::new(),
            new_rows: 0,
            locks: Vec::new(),
            durable: false,
        }
    }

    /// Whether it would change nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.iter().all(|operation| match operation {
            Operation::Guard { .. } | Operation::Read { .. } | Operation::ReadAll { .. } => true,
            Operation::Insert { .. }
            | Operation::Update { .. }
            | Operation::Mutate { .. }
            | Operation::Delete { .. } => false,
        })
    }

    /// Commits only if this lock is ours at that moment.
    pub fn require_lock(&mut self, name: &LockName) {
        self.locks.push(name.to_string());
    }

    /// Answers only when the change is on disk (about 4 ms); otherwise a power cut may lose it.
    pub fn make_durable(&mut self) {
        self.durable = true;
    }

    /// Commits only if the row is there, meets the target's conditions and its columns have these values.
    pub fn guard<C: Into<String>>(&mut self, target: Target, columns: impl IntoIterator<Item = (C, Value)>) {
        self.operations.push(Operation::Guard { target, rows: own(columns) });
    }

    /// Makes a row. A row of a table that is no root vanishes at once unless something refers to it.
    pub fn insert<C: Into<String>>(
        &mut self,
        table: &str,
        columns: impl IntoIterator<Item = (C, Value)>,
    ) -> NewRow {
        let name = NewRow(self.new_rows);
        self.new_rows += 1;
        self.operations.push(Operation::Insert { table: table.to_owned(), name, row: own(columns) });
        name
    }

    /// Gives columns of one row new values.
    pub fn update<C: Into<String>>(&mut self, target: Target, columns: impl IntoIterator<Item = (C, Value)>) {
        self.operations.push(Operation::Update { target, row: own(columns) });
    }

    /// Changes parts of columns of one row.
    pub fn mutate(&mut self, target: Target, mutations: impl IntoIterator<Item = Mutation>) {
        self.operations.push(Operation::Mutate { target, mutations: mutations.into_iter().collect() });
    }

    /// Deletes one row. Usually only rows of root tables need this: others go when nothing refers to them.
    pub fn delete(&mut self, target: Target) {
        self.operations.push(Operation::Delete { target });
    }

    /// Reads columns of one row as they are at this point of the transaction.
    pub fn read(&mut self, target: Target, columns: &[&str]) {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        self.operations.push(Operation::Read { target, columns });
    }

    /// Reads columns of every row of a table.
    pub(crate) fn read_all(&mut self, table: &str, columns: &[&str]) {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        self.operations.push(Operation::ReadAll { table: table.to_owned(), columns });
    }
}

fn own<C: Into<String>>(columns: impl IntoIterator<Item = (C, Value)>) -> BTreeMap<String, Value> {
    columns.into_iter().map(|(name, value)| (name.into(), value)).collect()
}

fn column<'s>(schema: &'s Schema, table: &str, name: &str) -> Result<&'s Column, TxnError> {
    let found = schema.tables.get(table).ok_or_else(|| TxnError::NoTable {
        database: schema.name.clone(),
        version: schema.version.clone(),
        table: table.to_owned(),
    })?;
    found.columns.get(name).ok_or_else(|| TxnError::NoColumn {
        database: schema.name.clone(),
        version: schema.version.clone(),
        table: table.to_owned(),
        column: name.to_owned(),
    })
}
