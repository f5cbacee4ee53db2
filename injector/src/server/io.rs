//! A stream that gives up when the other side keeps it waiting too long.
//!
//! Which limit holds depends on what the connection waits for: a whole head must arrive within [`HEAD_TIMEOUT`] of its
//! first byte, however slowly it drips; between requests there is much more time, because it is the client who should
//! close; and a client that does not take its answer is given up after [`WRITE_TIMEOUT`].

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::activity::{Activity, Phase};
use super::{HEAD_TIMEOUT, IDLE_TIMEOUT, WRITE_TIMEOUT};

/// The stream with its limits.
#[derive(Debug)]
pub struct Timed<S> {
    inner: S,
    activity: Arc<Activity>,
    read_timer: Pin<Box<Sleep>>,
    write_timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Timed<S> {
    /// Wraps a stream on which the handshake is over.
    pub fn new(inner: S, activity: Arc<Activity>) -> Self {
        activity.enter(Phase::Idle);
        Self { inner, activity, read_timer: Box::pin(sleep_until(Instant::now())), write_timer: None }
    }

    fn read_deadline(&self) -> Option<Instant> {
        match self.activity.phase() {
            Phase::Idle => Some(self.activity.since() + IDLE_TIMEOUT),
            Phase::Head => Some(self.activity.since() + HEAD_TIMEOUT),
            // Bodies are timed where they are collected, work where it is done.
            Phase::Body | Phase::Busy | Phase::Handshake => None,
        }
    }

    /// Ready once the client has kept us waiting too long: closed quietly between requests, an error within one.
    fn poll_read_limit(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(deadline) = self.read_deadline() else { return Poll::Pending };
        if self.read_timer.deadline() != deadline {
            self.read_timer.as_mut().reset(deadline);
        }
        match self.read_timer.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) if self.activity.phase() == Phase::Idle => Poll::Ready(Ok(())),
            Poll::Ready(()) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the request's head is too slow")))
            }
        }
    }

    fn poll_write_limit<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.write_timer = None;
            return polled;
        }
        let timer =
            self.write_timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + WRITE_TIMEOUT)));
        match timer.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.inner).poll_read(cx, buf) {
            Poll::Pending => self.poll_read_limit(cx),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                let phase = self.activity.phase();
                if phase == Phase::Idle && buf.filled().len() > before {
                    self.activity.enter(Phase::Head);
                } else if phase == Phase::Head && self.activity.since().elapsed() > HEAD_TIMEOUT {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the request's head is too slow",
                    )));
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, data);
        self.poll_write_limit(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        self.poll_write_limit(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.poll_write_limit(cx, polled)
    }
}
