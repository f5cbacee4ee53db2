//! The way in: an accept loop of our own on HTTP/1.1 and TLS.
//!
//! Ready-made servers fit badly here. API servers keep connections open for a minute and a half between calls and do
//! not repeat a call that meets a closing connection, while the usual header timeout counts that idle time as well. So
//! each connection carries its own notion of what it is waiting for ([`activity`]), and every wait has its own limit
//! ([`io`]). HTTP/2 is not offered: API servers do not use it for webhooks.

pub mod activity;
pub mod body;
mod finished;
pub mod io;
pub mod listener;
pub mod places;
pub mod probes;
pub mod tls_policy;
pub mod webhook;

use std::time::Duration;

use tokio::sync::watch;

/// How long a TLS handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request's head may take from its first byte.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request's body may take from the end of the head.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may wait for its next request. API servers close theirs after about 90 s, and must be the
/// ones who do.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(180);
/// How long the other side may refuse to take our bytes.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest request body; API requests are at most 3 MiB, and a review can be about twice its object.
pub const MAX_BODY: usize = 7 * 1024 * 1024;
/// What all bodies that are being received or worked on may take together.
pub const MAX_BODIES: usize = 48 * 1024 * 1024;
/// Our own limit for one request, if the API server allows more.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What the process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Serving.
    Serving,
    /// Told to stop: not ready, still serving, asking clients to go elsewhere.
    Draining,
    /// No new connections; requests under way are finished.
    Closing,
}

/// Waits until the process has come at least to `stage`.
pub async fn reached(receiver: &mut watch::Receiver<Stage>, stage: Stage) {
    // An error means that the sender is gone, so the process is ending anyway.
    receiver.wait_for(|now| *now >= stage).await.ok();
}
