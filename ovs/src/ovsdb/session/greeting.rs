//! What is said on a fresh connection, and again when the server changes its schema: who are you, what do your tables
//! look like, tell us about changes. Servers since 2.12 take `monitor_cond_since`, older ones `monitor_cond` or only
//! RFC 7047's `monitor`; a server that does not know a method says so and the next one is tried.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::connection::Connection;
use super::options::Options;
use crate::ovsdb::Uuid;
use crate::ovsdb::error::LinkError;
use crate::ovsdb::monitor::Monitor;
use crate::ovsdb::replica::View;
use crate::ovsdb::replica::decode::{self, Notation};
use crate::ovsdb::schema::Schema;
use crate::ovsdb::wire::message::RpcError;

/// A monitor method of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MonitorMethod {
    /// RFC 7047.
    Monitor,
    /// Since Open vSwitch 2.6: differences.
    MonitorCond,
    /// Since Open vSwitch 2.12: differences and transaction ids.
    MonitorCondSince,
}

impl MonitorMethod {
    /// Best first.
    const ALL: [Self; 3] = [Self::MonitorCondSince, Self::MonitorCond, Self::Monitor];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Monitor => "monitor",
            Self::MonitorCond => "monitor_cond",
            Self::MonitorCondSince => "monitor_cond_since",
        }
    }

    /// The notification that brings its updates.
    pub(super) fn update(self) -> &'static str {
        match self {
            Self::Monitor => "update",
            Self::MonitorCond => "update2",
            Self::MonitorCondSince => "update3",
        }
    }

    pub(super) fn notation(self) -> Notation {
        match self {
            Self::Monitor => Notation::OldNew,
            Self::MonitorCond | Self::MonitorCondSince => Notation::Diff,
        }
    }
}

/// What a server told us when we met.
#[derive(Debug)]
pub(super) struct Met {
    /// Changes when the server restarts; none if it is too old to say.
    pub(super) server_id: Option<String>,
    pub(super) method: MonitorMethod,
    pub(super) monitor_id: String,
}

pub(super) async fn greet(
    connection: &mut Connection,
    monitor: &Monitor,
    options: &Options,
    round: u64,
) -> Result<(Met, View), LinkError> {
    let deadline = Instant::now() + options.greeting_timeout;
    let server_id = connection.greet("get_server_id", json!([]), deadline, options).await?;
    let server_id = server_id.ok().and_then(|raw| serde_json::from_slice::<String>(&raw).ok());
    // Without this an older or stricter server ends the connection when it changes its schema. Refusal is harmless.
    let _aware: Result<Bytes, RpcError> =
        connection.greet("set_db_change_aware", json!([true]), deadline, options).await?;

    let raw = connection.greet("get_schema", json!([monitor.database]), deadline, options).await?;
    let raw = raw.map_err(|error| refused("get_schema", error))?;
    let schema = Schema::from_json(&raw)
        .map_err(|source| LinkError::Contents { what: "the server's schema", source })?;
    let columns = monitor.resolve(&schema).map_err(|source| LinkError::Schema { source })?;
    let mut view = View::empty(Arc::new(schema), &columns);
    let requests: Json = columns
        .iter()
        .map(|(table, columns)| (table.clone(), json!([{"columns": columns}])))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let requests_v1: Json = columns
        .iter()
        .map(|(table, columns)| (table.clone(), json!({"columns": columns})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let monitor_id = format!("monitor-{round}");

    for method in MonitorMethod::ALL {
        let params = match method {
            MonitorMethod::MonitorCondSince => {
                json!([monitor.database, monitor_id, requests, Uuid::ZERO.to_string()])
            }
            MonitorMethod::MonitorCond => json!([monitor.database, monitor_id, requests]),
            MonitorMethod::Monitor => json!([monitor.database, monitor_id, requests_v1]),
        };
        match connection.greet(method.name(), params, deadline, options).await? {
            Ok(raw) => {
                snapshot(&mut view, method, &raw)?;
                return Ok((Met { server_id, method, monitor_id }, view));
            }
            Err(error) if error.tag == "unknown method" && method != MonitorMethod::Monitor => {}
            Err(error) => return Err(refused(method.name(), error)),
        }
    }
    Err(refused("monitor", RpcError { tag: "unknown method".to_owned(), details: String::new() }))
}

fn refused(method: &'static str, error: RpcError) -> LinkError {
    LinkError::GreetingRefused { method, tag: error.tag, details: error.details }
}

fn snapshot(view: &mut View, method: MonitorMethod, raw: &[u8]) -> Result<(), LinkError> {
    #[derive(Deserialize)]
    struct Since<'a>(
        // Found or not: a node's database keeps no history, so the answer is always the whole of it.
        serde::de::IgnoredAny,
        serde::de::IgnoredAny,
        #[serde(borrow)] &'a RawValue,
    );
    let contents = |source| LinkError::Contents { what: "the first snapshot", source };
    let text = match method {
        MonitorMethod::MonitorCondSince => {
            let Since(_, _, updates) = serde_json::from_slice(raw).map_err(contents)?;
            updates.get()
        }
        MonitorMethod::Monitor | MonitorMethod::MonitorCond => {
            let updates: &RawValue = serde_json::from_slice(raw).map_err(contents)?;
            updates.get()
        }
    };
    let updates = decode::tables(view, method.notation(), text).map_err(contents)?;
    view.apply(updates).map_err(|source| LinkError::Inconsistent { source })?;
    Ok(())
}
