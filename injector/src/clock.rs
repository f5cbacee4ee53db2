//! The one place that reads the wall clock: certificates expire by it.
#![allow(clippy::disallowed_methods, reason = "this is the seam through which the wall clock is read")]

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01 UTC.
pub fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
