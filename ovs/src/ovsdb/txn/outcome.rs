//! Reading the answer to `transact`: one element per operation, null after the first that failed, and one extra
//! element when the commit itself failed (RFC 7047 §4.1.3).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::NewRow;
use super::encode::Expect;
use crate::ovsdb::error::Error;
use crate::ovsdb::wire::message::{RpcError, shorten};
use crate::ovsdb::{Datum, Uuid};

/// A row that a `select` or a read within a transaction gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected(BTreeMap<String, Datum>);

impl Selected {
    /// A column's value, if it was asked for.
    #[must_use]
    pub fn get(&self, column: &str) -> Option<&Datum> {
        self.0.get(column)
    }

    /// Names and values, sorted by name.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &Datum)> {
        self.0.iter().map(|(name, datum)| (name.as_str(), datum))
    }
}

/// What a transaction did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Committed {
    inserted: BTreeMap<NewRow, Uuid>,
    reads: Vec<Vec<Selected>>,
}

impl Committed {
    /// The identity that the server gave a row of this transaction.
    #[must_use]
    pub fn uuid(&self, row: NewRow) -> Option<Uuid> {
        self.inserted.get(&row).copied()
    }

    pub(crate) fn into_reads(self) -> Vec<Vec<Selected>> {
        self.reads
    }

    /// Each read's rows, in the order of the reads.
    #[must_use]
    pub fn reads(&self) -> &[Vec<Selected>] {
        &self.reads
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default)]
    count: Option<i64>,
    #[serde(default)]
    uuid: Option<Datum>,
    #[serde(default)]
    rows: Option<Vec<Selected>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Selected {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(Self)
    }
}

/// Reads the answer. An abort that was asked for is a success.
pub(crate) fn read(result: &RawValue, expected: &[Expect]) -> Result<Committed, Error> {
    let answers: Vec<&RawValue> = serde_json::from_str(result.get()).map_err(|source| Error::Answer {
        method: "transact".to_owned(),
        start: shorten(result.get()),
        source: source.into(),
    })?;
    let mut committed = Committed::default();
    for (position, raw) in answers.iter().enumerate() {
        let what = expected.get(position);
        if raw.get() == "null" {
            return Err(Error::Unexpected {
                what: "an operation was left out although none failed".to_owned(),
            });
        }
        let answer: Answer<'_> = serde_json::from_str(raw.get()).map_err(|source| Error::Answer {
            method: "transact".to_owned(),
            start: shorten(raw.get()),
            source: source.into(),
        })?;
        if answer.error.is_some() {
            // The answer's own object is the error object.
            return failed(RpcError::from_raw(raw), what, committed);
        }
        take(answer, what, &mut committed)?;
    }
    if answers.len() < expected.len() || expected.contains(&Expect::Abort) {
        return Err(Error::Unexpected {
            what: "the answer to a transaction has too few elements".to_owned(),
        });
    }
    Ok(committed)
}

fn failed(error: RpcError, what: Option<&Expect>, committed: Committed) -> Result<Committed, Error> {
    let RpcError { tag, details } = error;
    match (what, tag.as_str()) {
        (Some(Expect::Abort), "aborted") => Ok(committed),
        (Some(Expect::Guard { believed }), "timed out") => {
            Err(Error::GuardFailed { believed: believed.clone() })
        }
        (Some(Expect::Lock { name }), "not owner") => Err(Error::LockNotHeld { name: name.clone() }),
        (
            Some(
                Expect::Nothing
                | Expect::Guard { .. }
                | Expect::Lock { .. }
                | Expect::Inserted { .. }
                | Expect::CountOne { .. }
                | Expect::Rows
                | Expect::Abort,
            )
            | None,
            _,
        ) => {
            let during = match what {
                Some(Expect::Inserted { .. }) => "an insert".to_owned(),
                Some(Expect::CountOne { what }) => what.clone(),
                Some(Expect::Guard { believed }) => format!("the check of {believed}"),
                Some(Expect::Lock { .. } | Expect::Nothing | Expect::Rows | Expect::Abort) => {
                    "the transaction".to_owned()
                }
                None => "the commit".to_owned(),
            };
            Err(Error::Refused { during, tag, details })
        }
    }
}

fn take(answer: Answer<'_>, what: Option<&Expect>, committed: &mut Committed) -> Result<(), Error> {
    let unexpected = |what: &str| Err(Error::Unexpected { what: what.to_owned() });
    match what {
        Some(Expect::Inserted { row }) => {
            let uuid = answer.uuid.as_ref().and_then(Datum::scalar).and_then(crate::ovsdb::Atom::as_uuid);
            match uuid {
                Some(uuid) => committed.inserted.insert(*row, uuid),
                None => return unexpected("the answer to an insert has no row identity"),
            };
        }
        Some(Expect::CountOne { what }) if answer.count != Some(1) => {
            return Err(Error::Miscounted { what: what.clone(), count: answer.count.unwrap_or(0) });
        }
        Some(Expect::Rows) => match answer.rows {
            Some(rows) => committed.reads.push(rows),
            None => return unexpected("the answer to a select has no rows"),
        },
        Some(Expect::Abort) => return unexpected("the server committed a dry run"),
        Some(Expect::CountOne { .. } | Expect::Nothing | Expect::Guard { .. } | Expect::Lock { .. }) => {}
        None => return unexpected("the answer to a transaction has too many elements"),
    }
    Ok(())
}
