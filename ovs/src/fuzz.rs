//! Entry points for fuzzing: whatever the bytes, reading ends with an answer, and what must hold of an answer is
//! asserted. Nothing here is used outside tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::ovsdb::replica::decode::{self, Notation};
use crate::ovsdb::txn::{Expect, Txn, read_answer};
use crate::ovsdb::wire::message::Incoming;
use crate::ovsdb::{Change, Datum, Monitor, Row, Schema, SplitError, Splitter, Target, Uuid, Value, View};

/// Longest message that the targets accept; small, so that the limit is met too.
const LIMIT: usize = 4096;

/// A byte stream in one piece and in pieces of a size that the first byte chooses: both must give the same messages
/// and the same error.
pub fn fuzz_stream(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else { return };
    let pieces = stream.chunks(usize::from(*size % 16) + 1);
    let (messages, error) = split(pieces);
    let (whole, whole_error) = split(std::iter::once(stream));
    assert_eq!(messages, whole, "the cuts change the messages");
    assert_eq!(error, whole_error, "the cuts change the error");
    for message in messages {
        drop(Incoming::parse(&message).map(|message| format!("{message:?}")));
    }
}

fn split<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Option<SplitError>) {
    let (mut splitter, mut messages) = (Splitter::new(LIMIT), Vec::new());
    for piece in pieces {
        splitter.buffer().extend_from_slice(piece);
        loop {
            match splitter.next_message() {
                Ok(Some(message)) => messages.push(message.to_vec()),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

/// A stream of table updates, in the notation that the first byte chooses: an update that fits leads exactly to what
/// its changes say, one that does not fit changes nothing.
pub fn fuzz_update(data: &[u8]) {
    let Some((notation, stream)) = data.split_first() else { return };
    let notation = if notation % 2 == 0 { Notation::Diff } else { Notation::OldNew };
    let Some(mut view) = zoo() else { return };
    let (updates, _) = split(std::iter::once(stream));
    for update in updates {
        let Ok(text) = std::str::from_utf8(&update) else { continue };
        let Ok(updates) = decode::tables(&view, notation, text) else { continue };
        let before = view.clone();
        match view.apply(updates) {
            Err(error) => {
                drop(error.to_string());
                assert_eq!(rows(&view), rows(&before), "a refused update changed the copy");
            }
            Ok(changes) => {
                assert_eq!(
                    replay(rows(&before), &changes),
                    rows(&view),
                    "the changes do not lead to the copy"
                );
                assert_eq!(
                    view.changes_since(Some(&before)).len(),
                    changes.len(),
                    "the difference is another"
                );
            }
        }
        check_types(&view);
    }
}

/// An answer to a transaction of every kind of operation: success only if every element is as it must be.
pub fn fuzz_answer(data: &[u8]) {
    let Ok(raw) = serde_json::from_slice::<&RawValue>(data) else { return };
    let (Some(view), mut txn) = (zoo(), Txn::new("fuzz", "answer")) else { return };
    let target = Target::row("Thing", Uuid::ZERO);
    let row = txn.insert("Thing", [("text", Value::from("x"))]);
    txn.update(target.clone(), [("num", Value::from(1))]);
    txn.read(target, &["num"]);
    let Ok(encoded) = txn.encode(view.schema(), false) else { return };
    match read_answer(raw, &encoded.expected) {
        Ok(committed) => assert!(committed.uuid(row).is_some() && committed.reads().len() == 1),
        Err(error) => drop((error.class(), error.to_string())),
    }
    drop(read_answer(raw, &[Expect::Nothing, Expect::Abort]).map_err(|error| error.to_string()));
}

/// A schema: whatever it says, a copy can be laid out by it or it is refused.
pub fn fuzz_schema(data: &[u8]) {
    let Ok(schema) = Schema::from_json(data) else { return };
    let tables =
        schema.tables.iter().map(|(name, table)| (name.clone(), table.columns.keys().cloned().collect()));
    let columns: BTreeMap<String, Vec<String>> = tables.collect();
    let view = View::empty(Arc::new(schema), &columns);
    check_types(&view);
    drop(Monitor::new("x").table("Thing", &["num"], &["text"]).resolve(view.schema()));
}

/// A table with a column of every kind and two rows.
fn zoo() -> Option<View> {
    const SCHEMA: &[u8] = br#"{"name": "Zoo", "tables": {"Thing": {"isRoot": true, "columns": {
        "num": {"type": "integer"}, "flag": {"type": "boolean"}, "text": {"type": "string"},
        "real": {"type": "real"}, "opt": {"type": {"key": "integer", "min": 0}},
        "nums": {"type": {"key": "integer", "min": 0, "max": "unlimited"}},
        "reals": {"type": {"key": "real", "min": 0, "max": "unlimited"}},
        "few": {"type": {"key": "string", "min": 1, "max": 2}},
        "refs": {"type": {"key": {"type": "uuid", "refTable": "Thing"}, "min": 0, "max": "unlimited"}},
        "map": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}}}}}"#;
    const ROWS: &str = r#"{"Thing": {
        "00000000-0000-0000-0000-000000000001": {"initial": {"nums": ["set", [1, 2]], "opt": 5}},
        "00000000-0000-0000-0000-000000000002": {"initial": {"map": ["map", [["a", "1"], ["b", "2"]]]}}}}"#;
    let schema = Schema::from_json(SCHEMA).ok()?;
    let columns = schema.tables.get("Thing")?.columns.keys().cloned().collect();
    let mut view = View::empty(Arc::new(schema), &BTreeMap::from([("Thing".to_owned(), columns)]));
    let updates = decode::tables(&view, Notation::Diff, ROWS).ok()?;
    view.apply(updates).ok()?;
    Some(view)
}

type Rows = BTreeMap<(String, Uuid), Arc<Row>>;

fn rows(view: &View) -> Rows {
    let all = view.tables().flat_map(|table| {
        table.rows().map(|(uuid, row)| ((table.layout().table().to_owned(), uuid), Arc::clone(row)))
    });
    all.collect()
}

fn replay(mut rows: Rows, changes: &[Change]) -> Rows {
    for change in changes {
        let key = (change.table().to_owned(), change.uuid);
        assert_eq!(rows.get(&key), change.old.as_ref(), "the old row of a change is another");
        match &change.new {
            Some(row) => rows.insert(key, Arc::clone(row)),
            None => rows.remove(&key),
        };
    }
    rows
}

/// Every value has its column's type, is sorted and has no duplicates.
fn check_types(view: &View) {
    for table in view.tables() {
        let kinds: BTreeMap<_, _> =
            table.layout().columns().iter().map(|(name, kind)| (name.as_str(), kind)).collect();
        for (name, datum) in table.rows().flat_map(|(_, row)| row.columns()) {
            let Some(kind) = kinds.get(name) else { continue };
            assert_eq!(kind.conform(datum.clone()).as_ref(), Some(datum), "{name} does not have its type");
            assert!(kind.allows(datum.len()), "{name} has {} elements", datum.len());
            let sorted = match datum {
                Datum::Set(elements) => elements.is_sorted_by(|a, b| a < b),
                Datum::Map(pairs) => pairs.is_sorted_by(|(a, _), (b, _)| a < b),
            };
            assert!(sorted, "{name} is not sorted: {datum:?}");
        }
    }
}
