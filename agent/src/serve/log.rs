//! Logs go to stderr: text on a terminal, JSON otherwise.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use crate::pools::PoolsError;

/// Begins to log what the filter lets through.
pub fn begin(filter: &str) -> Result<(), PoolsError> {
    let parsed = EnvFilter::try_new(filter);
    let parsed =
        parsed.map_err(|error| PoolsError::Log { filter: filter.to_owned(), why: error.to_string() })?;
    let logger = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(stderr);
    let begun = if stderr().is_terminal() { logger.try_init() } else { logger.json().try_init() };
    // A logger that is there already (in a test) is as good.
    begun.or(Ok(()))
}
