//! Updates and snapshots to the next view. An update is first worked out against the current view, and only when all
//! of it fits is anything changed: a copy that may be half right is worse than one that is fetched again.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::decode::{RowUpdate, TableUpdate};
use super::{Change, Layout, Row, Table, View};
use crate::ovsdb::{Datum, Uuid, diff};

/// An update contradicts our copy; the copy must be fetched again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistent {
    /// A change or deletion of a row that we do not have.
    #[error("an update of {table} row {uuid}, which is not in our copy")]
    UnknownRow {
        /// The table.
        table: String,
        /// The row.
        uuid: Uuid,
    },
    /// An insertion of a row that we have, or a row named twice.
    #[error("an update inserts {table} row {uuid}, which is in our copy already")]
    KnownRow {
        /// The table.
        table: String,
        /// The row.
        uuid: Uuid,
    },
    /// A difference leads to a value that the column cannot hold.
    #[error(
        "an update of {table} row {uuid} leaves {column} with {elements} elements, which its type does not allow"
    )]
    Cardinality {
        /// The table.
        table: String,
        /// The row.
        uuid: Uuid,
        /// The column.
        column: String,
        /// How many elements it would have.
        elements: usize,
    },
}

impl View {
    /// Applies an update and tells what changed, in order of table and row.
    pub(crate) fn apply(&mut self, updates: Vec<TableUpdate>) -> Result<Vec<Change>, Inconsistent> {
        let mut changes = Vec::new();
        for TableUpdate { layout, rows } in updates {
            let table = self.tables.get(&layout.table);
            let mut changed = BTreeMap::new();
            for (uuid, update) in rows {
                let old = table.and_then(|table| table.get(uuid)).cloned();
                let change = work_out(&layout, uuid, old, update)?;
                if changed.insert(uuid, change).is_some() {
                    return Err(Inconsistent::KnownRow { table: layout.table.clone(), uuid });
                }
            }
            changes.extend(changed.into_values().filter(|change| change.old != change.new));
        }
        self.commit(&changes);
        Ok(changes)
    }

    fn commit(&mut self, changes: &[Change]) {
        for change in changes {
            let Some(table) = self.tables.get_mut(change.table()) else { continue };
            let table = Arc::make_mut(table);
            match &change.new {
                Some(row) => table.rows.insert(change.uuid, Arc::clone(row)),
                None => table.rows.remove(&change.uuid),
            };
        }
    }

    /// What must happen to `old` to become this view. Tables that only `old` follows are not mentioned.
    pub(crate) fn changes_since(&self, old: Option<&Self>) -> Vec<Change> {
        let mut changes = Vec::new();
        for table in self.tables() {
            let before = old.and_then(|view| view.table(&table.layout.table));
            compare(before, table, &mut changes);
        }
        changes
    }
}

fn work_out(
    layout: &Arc<Layout>,
    uuid: Uuid,
    old: Option<Arc<Row>>,
    update: RowUpdate,
) -> Result<Change, Inconsistent> {
    let unknown = || Inconsistent::UnknownRow { table: layout.table.clone(), uuid };
    let new = match update {
        RowUpdate::Insert(_) if old.is_some() => {
            return Err(Inconsistent::KnownRow { table: layout.table.clone(), uuid });
        }
        RowUpdate::Insert(row) | RowUpdate::Replace(row) => Some(Arc::new(row)),
        RowUpdate::Modify(columns) => {
            Some(Arc::new(modify(layout, uuid, old.as_deref().ok_or_else(unknown)?, columns)?))
        }
        RowUpdate::Delete if old.is_none() => return Err(unknown()),
        RowUpdate::Delete => None,
    };
    Ok(Change { uuid, old, new, layout: Arc::clone(layout) })
}

fn modify(layout: &Layout, uuid: Uuid, old: &Row, columns: Vec<(usize, Datum)>) -> Result<Row, Inconsistent> {
    let mut row = old.clone();
    for (index, difference) in columns {
        let (Some(slot), Some((name, kind))) = (row.data.get_mut(index), layout.columns.get(index)) else {
            continue;
        };
        *slot = diff::apply(kind, slot, difference);
        if !kind.allows(slot.len()) {
            return Err(Inconsistent::Cardinality {
                table: layout.table.clone(),
                uuid,
                column: name.clone(),
                elements: slot.len(),
            });
        }
    }
    Ok(row)
}

fn compare(before: Option<&Table>, now: &Table, changes: &mut Vec<Change>) {
    let mut push = |uuid: Uuid, old: Option<&Arc<Row>>, new: Option<&Arc<Row>>| {
        changes.push(Change { uuid, old: old.cloned(), new: new.cloned(), layout: Arc::clone(&now.layout) });
    };
    for (uuid, new) in now.rows() {
        let old = before.and_then(|table| table.get(uuid));
        if old != Some(new) {
            push(uuid, old, Some(new));
        }
    }
    for (uuid, old) in before.into_iter().flat_map(Table::rows) {
        if now.get(uuid).is_none() {
            push(uuid, Some(old), None);
        }
    }
}
