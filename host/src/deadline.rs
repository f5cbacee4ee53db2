//! The one place that looks at a clock: everything that waits takes a [`Deadline`], so that nothing waits for ever.
#![allow(clippy::disallowed_methods, reason = "this is the seam that may look at the clock")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::poll::PollTimeout;

/// A point in time at which waiting ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    at: Instant,
}

impl Deadline {
    /// A deadline that much from now.
    pub fn after(span: Duration) -> Deadline {
        let now = Instant::now();
        // A span beyond what the clock can hold is as good as a year.
        let at = now.checked_add(span).unwrap_or_else(|| now + Duration::from_secs(365 * 24 * 3600));
        Deadline { at }
    }

    /// What is left; zero once it has passed.
    pub fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    pub fn expired(&self) -> bool {
        self.remaining().is_zero()
    }

    /// What is left as `poll(2)` takes it: rounded up to milliseconds, so that waking early never spins.
    pub fn poll_timeout(&self) -> PollTimeout {
        let left = self.remaining();
        let millis = left.as_micros().div_ceil(1000);
        i32::try_from(millis).ok().and_then(|ms| PollTimeout::try_from(ms).ok()).unwrap_or(PollTimeout::MAX)
    }
}

/// How long something took, for metrics.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    began: Instant,
}

impl Stopwatch {
    /// Begins now.
    pub fn start() -> Stopwatch {
        Stopwatch { began: Instant::now() }
    }

    /// Since it began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

/// Seconds since 1970, for journal entries and messages. It jumps, so no decision depends on it alone.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_secs())
}
