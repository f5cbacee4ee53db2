//! An OVSDB client (RFC 7047 and ovsdb-server(7)) that could stand alone: it knows nothing of bridges.
//!
//! From the wire upwards: `wire` cuts the byte stream into messages, `session` owns a connection that stays,
//! `replica` keeps a copy of the followed tables, `txn` builds transactions that can only touch rows that they
//! name. Everything that waits takes a [`Deadline`].

mod backoff;
mod datum;
mod diff;
mod error;
mod json;
mod monitor;
mod remote;
pub(crate) mod replica;
mod schema;
mod session;
pub(crate) mod txn;
mod uuid;
pub(crate) mod wire;

pub use backoff::Backoff;
pub use datum::{Atom, Datum};
pub use error::{Class, Error, LinkError};
pub use monitor::{Monitor, MonitorTable, SchemaMismatch};
pub use remote::{Remote, RemoteError};
pub use replica::apply::Inconsistent;
pub use replica::{Change, Layout, Row, Table, View};
pub use schema::{AtomKind, Column, ColumnType, Schema, Table as TableSchema};
pub use session::{
    Batch, Cause, Changes, Deadline, Event, InvalidLockName, Link, Lock, LockName, LockState, MonitorMethod,
    Options, Session, State,
};
pub use txn::{Committed, Mutation, NewRow, Ref, Selected, Target, Txn, TxnError, Value};
pub use uuid::{InvalidUuid, Uuid};
pub use wire::{MessageError, SplitError, Splitter};
