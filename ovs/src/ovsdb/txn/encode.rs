//! A transaction to the `params` of `transact`, checked against the server's schema first so that a mistake of ours
//! or an older server gives an error that names table and column.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::{Mutation, MutationKind, NewRow, Operation, Target, Txn, TxnError, Value, column};
use crate::ovsdb::schema::Schema;

/// What the answer to one operation must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expect {
    /// An empty object: `comment`, `commit`.
    Nothing,
    /// The guard's `wait`; it fails with `timed out` when the row is not as believed.
    Guard { believed: String },
    /// The lock's `assert`; it fails with `not owner`.
    Lock { name: String },
    /// `insert` gives the identity.
    Inserted { row: NewRow },
    /// `update`, `mutate` or `delete` of one row.
    CountOne { what: String },
    /// `select` gives rows.
    Rows,
    /// `abort`, which fails on purpose.
    Abort,
}

/// A transaction as it is sent.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) params: Json,
    pub(crate) expected: Vec<Expect>,
}

struct Encoder<'s> {
    schema: &'s Schema,
    params: Vec<Json>,
    expected: Vec<Expect>,
}

impl Txn {
    pub(crate) fn encode(&self, schema: &Schema, dry_run: bool) -> Result<Encoded, TxnError> {
        let mut encoder = Encoder { schema, params: vec![json!(schema.name)], expected: Vec::new() };
        if !self.comment.is_empty() {
            encoder.push(json!({"op": "comment", "comment": self.comment}), Expect::Nothing);
        }
        for name in &self.locks {
            encoder.push(json!({"op": "assert", "lock": name}), Expect::Lock { name: name.clone() });
        }
        encoder.guards(&self.operations)?;
        for operation in &self.operations {
            encoder.operation(operation)?;
        }
        if dry_run {
            encoder.push(json!({"op": "abort"}), Expect::Abort);
        } else if self.durable {
            encoder.push(json!({"op": "commit", "durable": true}), Expect::Nothing);
        }
        Ok(Encoded { params: Json::Array(encoder.params), expected: encoder.expected })
    }
}

impl Encoder<'_> {
    fn push(&mut self, operation: Json, expect: Expect) {
        self.params.push(operation);
        self.expected.push(expect);
    }

    /// All guards come before the first change, so that they speak of the database as it was.
    fn guards(&mut self, operations: &[Operation]) -> Result<(), TxnError> {
        let mut seen: Vec<&Target> = Vec::new();
        for operation in operations {
            let (target, columns) = match operation {
                Operation::Guard { target, rows } => (target, Some(rows)),
                Operation::Update { target, .. }
                | Operation::Mutate { target, .. }
                | Operation::Delete { target }
                | Operation::Read { target, .. } => (target, None),
                Operation::Insert { .. } | Operation::ReadAll { .. } => continue,
            };
            if columns.is_none() && seen.last() == Some(&target) {
                continue;
            }
            seen.push(target);
            let row = match columns {
                Some(columns) => self.row(&target.table, columns, false)?,
                None => json!({}),
            };
            let names: Vec<&String> = columns.into_iter().flat_map(BTreeMap::keys).collect();
            let mut believed = target.to_string();
            for name in &names {
                believed = format!("{believed}, {name} = {}", row.get(name.as_str()).unwrap_or(&Json::Null));
            }
            let wait = json!({
                "op": "wait", "timeout": 0, "table": target.table, "where": target.encode(self.schema)?,
                "columns": names, "until": "==", "rows": [row],
            });
            self.push(wait, Expect::Guard { believed });
        }
        Ok(())
    }

    fn operation(&mut self, operation: &Operation) -> Result<(), TxnError> {
        match operation {
            Operation::Guard { .. } => {}
            Operation::Insert { table, name, row } => {
                let row = self.row(table, row, false)?;
                let op = json!({"op": "insert", "table": table, "uuid-name": name.wire_name(), "row": row});
                self.push(op, Expect::Inserted { row: *name });
            }
            Operation::Update { target, row } => {
                let row = self.row(&target.table, row, true)?;
                let op = json!({"op": "update", "table": target.table, "where": target.encode(self.schema)?, "row": row});
                self.push(op, count_one("update", target));
            }
            Operation::Mutate { target, mutations } => {
                let mutations = self.mutations(&target.table, mutations)?;
                let clause = target.encode(self.schema)?;
                let op =
                    json!({"op": "mutate", "table": target.table, "where": clause, "mutations": mutations});
                self.push(op, count_one("mutate", target));
            }
            Operation::Delete { target } => {
                if self
                    .schema
                    .tables
                    .get(&target.table)
                    .is_some_and(|table| table.is_root && table.max_rows == Some(1))
                {
                    return Err(TxnError::DeletesRoot { table: target.table.clone() });
                }
                let op = json!({"op": "delete", "table": target.table, "where": target.encode(self.schema)?});
                self.push(op, count_one("delete", target));
            }
            Operation::Read { target, columns } => {
                let clause = target.encode(self.schema)?;
                self.select(&target.table, clause, columns)?;
            }
            Operation::ReadAll { table, columns } => self.select(table, json!([]), columns)?,
        }
        Ok(())
    }

    fn select(&mut self, table: &str, clause: Json, columns: &[String]) -> Result<(), TxnError> {
        // Every row has an identity, which no schema mentions.
        for name in columns.iter().filter(|name| *name != "_uuid") {
            column(self.schema, table, name)?;
        }
        self.push(json!({"op": "select", "table": table, "where": clause, "columns": columns}), Expect::Rows);
        Ok(())
    }

    fn row(&self, table: &str, columns: &BTreeMap<String, Value>, changes: bool) -> Result<Json, TxnError> {
        let mut row = serde_json::Map::new();
        for (name, value) in columns {
            let found = column(self.schema, table, name)?;
            if changes && !found.mutable {
                return Err(TxnError::Immutable { table: table.to_owned(), column: name.clone() });
            }
            let encoded = value
                .encode(&found.kind)
                .filter(|_| found.kind.allows(value.len()))
                .ok_or_else(|| wrong_type(table, name))?;
            row.insert(name.clone(), encoded);
        }
        Ok(Json::Object(row))
    }

    fn mutations(&self, table: &str, mutations: &[Mutation]) -> Result<Vec<Json>, TxnError> {
        let mut encoded = Vec::new();
        for Mutation { column: name, change } in mutations {
            let found = column(self.schema, table, name)?;
            if !found.mutable {
                return Err(TxnError::Immutable { table: table.to_owned(), column: name.clone() });
            }
            let value = |value: &Value| value.encode(&found.kind).ok_or_else(|| wrong_type(table, name));
            match change {
                MutationKind::Insert(elements) => encoded.push(json!([name, "insert", value(elements)?])),
                MutationKind::Remove(elements) => encoded.push(json!([name, "delete", value(elements)?])),
                MutationKind::RemoveKeys(keys) => encoded.push(json!([name, "delete", keys])),
                MutationKind::Put(key, new) => {
                    let pair = Value::Datum(crate::ovsdb::Datum::map([(key.clone(), new.clone())]));
                    encoded.push(json!([name, "delete", ["set", [key]]]));
                    encoded.push(json!([name, "insert", value(&pair)?]));
                }
                MutationKind::Add(number) => encoded.push(json!([name, "+=", number])),
            }
        }
        Ok(encoded)
    }
}

fn count_one(verb: &str, target: &Target) -> Expect {
    Expect::CountOne { what: format!("{verb} of {target}") }
}

fn wrong_type(table: &str, column: &str) -> TxnError {
    TxnError::WrongType { table: table.to_owned(), column: column.to_owned() }
}
