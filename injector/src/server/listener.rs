//! The accept loop of the webhook.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::activity::{Connections, Phase, Place};
use super::io::Timed;
use super::webhook::Webhook;
use super::{HANDSHAKE_TIMEOUT, Stage, reached};
use crate::metrics::{Metrics, Reason};

/// What the TLS side of new connections is; absent until there is a certificate.
pub type Tls = watch::Receiver<Option<Arc<ServerConfig>>>;

/// Largest head; API servers send well under 2 KiB.
const MAX_HEAD: usize = 64 * 1024;
/// After a failed accept (no file descriptors), wait this long instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long an answer that is written may take to leave once its connection is closing.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long requests under way may take once we are closing.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(10);

/// Accepts connections until the process closes, then waits for requests under way.
pub async fn serve(listener: TcpListener, tls: Tls, webhook: Arc<Webhook>, connections: Arc<Connections>) {
    let tasks = TaskTracker::new();
    let mut stage = webhook.stage.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = reached(&mut stage, Stage::Closing) => break,
        };
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, peer.ip()),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep_until(Instant::now() + ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some((place, evicted)) = connections.enter(peer) else {
            ended(&webhook.metrics, "no_room");
            continue;
        };
        if evicted.is_some() {
            ended(&webhook.metrics, "made_room");
        }
        let current = tls.borrow().clone();
        let Some(config) = current else {
            ended(&webhook.metrics, "no_certificate");
            continue;
        };
        tasks.spawn(connection(stream, config, Arc::clone(&webhook), place));
    }
    drop(listener);
    tasks.close();
    if timeout(CLOSING_TIMEOUT, tasks.wait()).await.is_err() {
        tracing::warn!(left = tasks.len(), "requests under way did not end in time");
    }
}

async fn connection(stream: TcpStream, config: Arc<ServerConfig>, webhook: Arc<Webhook>, place: Place) {
    let metrics = Arc::clone(&webhook.metrics);
    metrics.connections.inc();
    let shaken = tokio::select! {
        // Whoever is thrown out while shaking hands has nothing to finish.
        () = place.activity.ended.cancelled() => None,
        shaken = timeout(HANDSHAKE_TIMEOUT, handshake(stream, config)) => Some(shaken),
    };
    let reason = match shaken {
        None => None,
        Some(Err(_)) => Some("handshake_timeout"),
        Some(Ok(Err(error))) => {
            tracing::debug!(%error, "TLS handshake failed");
            Some("handshake_failed")
        }
        Some(Ok(Ok(stream))) => {
            requests(Timed::new(stream, Arc::clone(&place.activity)), webhook, &place).await
        }
    };
    if let Some(reason) = reason {
        ended(&metrics, reason);
    }
    metrics.connections.dec();
}

async fn handshake(
    stream: TcpStream,
    config: Arc<ServerConfig>,
) -> io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
    // Answers are small and somebody waits for each.
    stream.set_nodelay(true)?;
    TlsAcceptor::from(config).accept(stream).await
}

/// Serves a connection's requests; the reason if it was us who ended it.
async fn requests(
    stream: Timed<tokio_rustls::server::TlsStream<TcpStream>>,
    webhook: Arc<Webhook>,
    place: &Place,
) -> Option<&'static str> {
    let mut stage = webhook.stage.clone();
    let activity = Arc::clone(&place.activity);
    let service = service_fn(move |request| {
        let answered = Arc::clone(&webhook).serve(request, Arc::clone(&activity));
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .keep_alive(true)
            .serve_connection(TokioIo::new(stream), service)
    );
    let reason = tokio::select! {
        served = connection.as_mut() => return served.err().and_then(|error| error_reason(&error)),
        () = place.activity.ended.cancelled() => None,
        () = reached(&mut stage, Stage::Closing) => Some("closing"),
    };
    // A request that is being worked on is finished, an answer is written; one that only trickles in is not waited for.
    let patience = match place.activity.phase() {
        Phase::Busy => CLOSING_TIMEOUT,
        Phase::Idle if place.activity.has_served() => LAST_WORDS,
        Phase::Head | Phase::Body if reason.is_some() => CLOSING_TIMEOUT,
        Phase::Handshake | Phase::Idle | Phase::Head | Phase::Body => return reason,
    };
    connection.as_mut().graceful_shutdown();
    if timeout(patience, connection).await.is_err() {
        return Some("closing_timeout");
    }
    reason
}

fn error_reason(error: &hyper::Error) -> Option<&'static str> {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if inner.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::TimedOut) {
            return Some("too_slow");
        }
        source = inner.source();
    }
    if error.is_parse() { Some("not_http") } else { None }
}

fn ended(metrics: &Metrics, reason: &'static str) {
    metrics.connections_ended.get_or_create(&Reason { reason }).inc();
}
