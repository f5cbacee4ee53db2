//! One connection: bytes in and out, request ids, and the answer to the server's own echo. It knows nothing about
//! who asked for what.

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::io::Interest;
use tokio::time::{Instant, timeout_at};

use super::options::Options;
use super::stream::Stream;
use crate::ovsdb::error::LinkError;
use crate::ovsdb::remote::Remote;
use crate::ovsdb::wire::message::{Incoming, RpcError};
use crate::ovsdb::wire::{MessageError, SplitError, Splitter};

/// Above this many unsent bytes no further calls are taken on.
const BACKLOG: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    splitter: Splitter,
    out: BytesMut,
    next_id: u64,
    last_heard: Instant,
    /// Messages that came during a greeting and are not part of it.
    aside: Vec<Bytes>,
    aside_limit: usize,
}

#[derive(Serialize)]
struct Request<'a, P> {
    id: Option<u64>,
    method: &'a str,
    params: P,
}

#[derive(Serialize)]
struct Reply<'a> {
    id: &'a RawValue,
    result: &'a RawValue,
    error: Option<()>,
}

impl Connection {
    pub(super) async fn open(remote: &Remote, options: &Options) -> Result<Self, LinkError> {
        let stream = Stream::connect(remote, options.connect_timeout).await?;
        Ok(Self {
            stream,
            splitter: Splitter::new(options.max_message),
            out: BytesMut::new(),
            next_id: 1,
            last_heard: Instant::now(),
            aside: Vec::new(),
            aside_limit: options.max_message,
        })
    }

    /// When the server last sent anything.
    pub(super) fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// Whether the server takes what we send fast enough for more.
    pub(super) fn has_room(&self) -> bool {
        self.out.len() < BACKLOG
    }

    /// Whether this id was given out on this connection.
    pub(super) fn is_ours(&self, id: u64) -> bool {
        id >= 1 && id < self.next_id
    }

    /// The id that the next request will have.
    pub(super) fn next_id(&self) -> u64 {
        self.next_id
    }

    /// Sends a request and returns its id.
    pub(super) fn request(&mut self, method: &str, params: impl Serialize) -> Result<u64, LinkError> {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&Request { id: Some(id), method, params })?;
        Ok(id)
    }

    pub(super) fn notify(&mut self, method: &str, params: impl Serialize) -> Result<(), LinkError> {
        self.send(&Request { id: None, method, params })
    }

    /// Answers an echo with what it carried.
    pub(super) fn answer_echo(&mut self, id: &RawValue, params: &RawValue) -> Result<(), LinkError> {
        self.send(&Reply { id, result: params, error: None })
    }

    fn send(&mut self, message: &impl Serialize) -> Result<(), LinkError> {
        let text = serde_json::to_vec(message)
            .map_err(|source| LinkError::Contents { what: "our own request", source })?;
        self.out.extend_from_slice(&text);
        self.stream.drain(&mut self.out).map_err(|source| LinkError::Io { source })
    }

    /// The next message's bytes; writes what is waiting meanwhile. May be dropped and called again at any point.
    pub(super) async fn receive(&mut self) -> Result<Bytes, LinkError> {
        loop {
            let next = self.splitter.next_message().map_err(|source| LinkError::Split { source })?;
            if let Some(message) = next {
                return Ok(message);
            }
            let io = |source| LinkError::Io { source };
            let interest = if self.out.is_empty() {
                Interest::READABLE
            } else {
                Interest::READABLE | Interest::WRITABLE
            };
            let ready = self.stream.ready(interest).await.map_err(io)?;
            if ready.is_writable() {
                self.stream.drain(&mut self.out).map_err(io)?;
            }
            if ready.is_readable() || ready.is_read_closed() {
                match self.stream.fill(self.splitter.buffer()).map_err(io)? {
                    Some(0) => return Err(LinkError::Closed { mid_message: self.splitter.is_mid_message() }),
                    Some(_) => self.last_heard = Instant::now(),
                    None => {}
                }
            }
        }
    }

    /// A call of the greeting: sends, waits, answers echoes, and keeps everything else for later.
    pub(super) async fn greet(
        &mut self,
        method: &'static str,
        params: impl Serialize,
        deadline: Instant,
        options: &Options,
    ) -> Result<Result<Bytes, RpcError>, LinkError> {
        let id = self.request(method, params)?;
        loop {
            let message = timeout_at(deadline, self.receive())
                .await
                .map_err(|_elapsed| LinkError::Greeting { method, within: options.greeting_timeout })??;
            match Incoming::parse(&message).map_err(|source| LinkError::Message { source })? {
                Incoming::Reply { id: got, result } if got == id => {
                    return Ok(result.map(|raw| match raw {
                        Some(raw) => message.slice_ref(raw.get().as_bytes()),
                        None => Bytes::from_static(b"null"),
                    }));
                }
                Incoming::Reply { id, .. } if !self.is_ours(id) => {
                    return Err(LinkError::Message {
                        source: MessageError::ForeignId { id: id.to_string() },
                    });
                }
                Incoming::Request { id, method, params } if method == "echo" => {
                    self.answer_echo(id, params)?
                }
                Incoming::Reply { .. } | Incoming::Request { .. } | Incoming::Notification { .. } => {
                    self.put_aside(message)?;
                }
            }
        }
    }

    fn put_aside(&mut self, message: Bytes) -> Result<(), LinkError> {
        self.aside.push(message);
        let held: usize = self.aside.iter().map(Bytes::len).sum();
        if held > self.aside_limit {
            return Err(LinkError::Split { source: SplitError::TooLong { limit: self.aside_limit } });
        }
        Ok(())
    }

    /// What came during the greeting and was not part of it.
    pub(super) fn take_aside(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.aside)
    }
}
