//! Logs go to stderr: text on a terminal, JSON otherwise.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::pools::PoolsError;

/// Begins to log what the filter lets through: a level, or `target=level` with commas between them.
pub fn begin(filter: &str) -> Result<(), PoolsError> {
    let parsed = filter.parse::<Targets>();
    let parsed =
        parsed.map_err(|error| PoolsError::Log { filter: filter.to_owned(), why: error.to_string() })?;
    let registry = tracing_subscriber::registry().with(parsed);
    let begun = if stderr().is_terminal() {
        registry.with(layer().with_writer(stderr)).try_init()
    } else {
        registry.with(layer().json().with_writer(stderr)).try_init()
    };
    // A logger that is there already (in a test) is as good.
    begun.or(Ok(()))
}
