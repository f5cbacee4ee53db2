//! The few times and sizes of a session, and deadlines.

use std::time::Duration;

use tokio::time::Instant;

/// How patient a session is.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connecting may take this long. Default 5 s.
    pub connect_timeout: Duration,
    /// Schema and first snapshot may take this long, together. Default 10 s.
    pub greeting_timeout: Duration,
    /// After this much silence the server is sent an echo, after twice as much the connection is dropped.
    /// Default 5 s.
    pub probe_interval: Duration,
    /// The longest message that is accepted, in bytes. Default 64 MiB; 2,000 ports are about 1.3 MB.
    pub max_message: usize,
    /// The first wait after a failed attempt; doubles each time. Default 0.1 s.
    pub backoff_first: Duration,
    /// The longest wait between attempts. Default 5 s.
    pub backoff_most: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            greeting_timeout: Duration::from_secs(10),
            probe_interval: Duration::from_secs(5),
            max_message: 64 << 20,
            backoff_first: Duration::from_millis(100),
            backoff_most: Duration::from_secs(5),
        }
    }
}

/// When a call gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    pub(crate) at: Instant,
    within: Duration,
}

impl Deadline {
    /// That long from now. Must be called within a tokio runtime.
    #[must_use]
    pub fn after(within: Duration) -> Self {
        Self { at: Instant::now() + within, within }
    }

    /// How long it was from the start, for messages.
    #[must_use]
    pub fn within(self) -> Duration {
        self.within
    }

    /// How much of it is left.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}
