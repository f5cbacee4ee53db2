//! Which row an operation is about. There is no way to say "all rows": a target is one identity, and conditions can
//! only narrow it, so a slip cannot empty a table (`delete` with `where: []` is legal OVSDB and wipes every bridge).

use std::fmt;

use serde_json::json;

use super::TxnError;
use crate::ovsdb::schema::Schema;
use crate::ovsdb::{Datum, Uuid};

/// One row that must exist and, if conditions were added, must meet them when the transaction commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub(super) table: String,
    pub(super) uuid: Uuid,
    conditions: Vec<(String, Function, Datum)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Equals,
    Includes,
    Excludes,
}

impl Function {
    fn wire_name(self) -> &'static str {
        match self {
            Self::Equals => "==",
            Self::Includes => "includes",
            Self::Excludes => "excludes",
        }
    }
}

impl Target {
    /// The row of `table` with this identity.
    #[must_use]
    pub fn row(table: &str, uuid: Uuid) -> Self {
        Self { table: table.to_owned(), uuid, conditions: Vec::new() }
    }

    /// The row.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Only while `column` equals `value`.
    #[must_use]
    pub fn equals(self, column: &str, value: impl Into<Datum>) -> Self {
        self.and(column, Function::Equals, value.into())
    }

    /// Only while `column` holds all of `value`, such as our owner key in `external_ids`.
    #[must_use]
    pub fn includes(self, column: &str, value: impl Into<Datum>) -> Self {
        self.and(column, Function::Includes, value.into())
    }

    /// Only while `column` holds none of `value`.
    #[must_use]
    pub fn excludes(self, column: &str, value: impl Into<Datum>) -> Self {
        self.and(column, Function::Excludes, value.into())
    }

    fn and(mut self, column: &str, function: Function, value: Datum) -> Self {
        self.conditions.push((column.to_owned(), function, value));
        self
    }

    /// The `where` clause.
    pub(super) fn encode(&self, schema: &Schema) -> Result<serde_json::Value, TxnError> {
        let mut clause = vec![json!(["_uuid", "==", ["uuid", self.uuid.to_string()]])];
        for (column, function, value) in &self.conditions {
            let kind = &super::column(schema, &self.table, column)?.kind;
            let value = kind
                .conform(value.clone())
                .and_then(|value| serde_json::to_value(value).ok())
                .ok_or_else(|| TxnError::WrongType { table: self.table.clone(), column: column.clone() })?;
            clause.push(json!([column, function.wire_name(), value]));
        }
        Ok(clause.into())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} row {}", self.table, self.uuid)?;
        for (column, function, value) in &self.conditions {
            write!(f, " with {column} {} {value:?}", function.wire_name())?;
        }
        Ok(())
    }
}
