//! A connected socket of either family, used without splitting: `try_read` and `try_write` borrow it shared, so one
//! task can wait for both directions at once.

use std::io;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep_until, timeout};

use crate::ovsdb::error::LinkError;
use crate::ovsdb::remote::Remote;

/// How long to leave a busy listener alone. A unix listener with a full queue refuses with EAGAIN instead of waiting.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Bytes asked for per read.
const READ_SIZE: usize = 64 * 1024;

#[derive(Debug)]
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    pub(super) async fn connect(remote: &Remote, within: Duration) -> Result<Self, LinkError> {
        match timeout(within, Self::connect_patiently(remote)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(source)) => Err(LinkError::Connect { remote: remote.clone(), source }),
            Err(_elapsed) => Err(LinkError::ConnectTimedOut { remote: remote.clone(), within }),
        }
    }

    async fn connect_patiently(remote: &Remote) -> io::Result<Self> {
        loop {
            let attempt = match remote {
                Remote::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
                Remote::Tcp { host, port } => TcpStream::connect((host.as_str(), *port)).await.map(Self::Tcp),
            };
            match attempt {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    sleep_until(Instant::now() + BUSY_PAUSE).await
                }
                Ok(Self::Tcp(stream)) => {
                    stream.set_nodelay(true)?;
                    return Ok(Self::Tcp(stream));
                }
                other => return other,
            }
        }
    }

    pub(super) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Self::Unix(stream) => stream.ready(interest).await,
            Self::Tcp(stream) => stream.ready(interest).await,
        }
    }

    /// Reads once. None if nothing is there; zero at the end of the stream.
    pub(super) fn fill(&self, buffer: &mut BytesMut) -> io::Result<Option<usize>> {
        buffer.reserve(READ_SIZE);
        let result = match self {
            Self::Unix(stream) => stream.try_read_buf(buffer),
            Self::Tcp(stream) => stream.try_read_buf(buffer),
        };
        would_block(result)
    }

    /// Writes as much as the socket takes.
    pub(super) fn drain(&self, buffer: &mut BytesMut) -> io::Result<()> {
        while !buffer.is_empty() {
            let result = match self {
                Self::Unix(stream) => stream.try_write(buffer),
                Self::Tcp(stream) => stream.try_write(buffer),
            };
            match would_block(result)? {
                None => return Ok(()),
                Some(0) => return Err(io::ErrorKind::WriteZero.into()),
                Some(written) => buffer.advance(written),
            }
        }
        Ok(())
    }
}

fn would_block<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
