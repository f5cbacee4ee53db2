//! One netlink socket: requests with a deadline, whole answers, the kernel's own words on refusal.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST,
    NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader,
};
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};

use super::attr::attrs;
use super::error::NetlinkError;
use crate::deadline::Deadline;

/// How long the kernel may take to answer. It answers at once unless its netlink lock is held by a slow driver.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Room for one datagram. A link with 256 VFs takes about 60 KiB; only pages that are written to become resident.
const BUFFER: usize = 256 * 1024;
/// How often a list that changes while it is read is read again.
const LIST_ATTEMPTS: u32 = 5;
const HEADER: usize = 16;
/// `NLMSGERR_ATTR_MSG`.
const EXTACK_TEXT: u16 = 1;

/// What is attempted on what, for errors.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) operation: &'static str,
    pub(crate) object: String,
}

impl Ask {
    pub(crate) fn new(operation: &'static str, object: impl Into<String>) -> Ask {
        Ask { operation, object: object.into() }
    }

    pub(crate) fn malformed(&self, why: impl Into<String>) -> NetlinkError {
        NetlinkError::Malformed { operation: self.operation, object: self.object.clone(), why: why.into() }
    }

    fn transfer(&self, source: io::Error) -> NetlinkError {
        NetlinkError::Transfer { operation: self.operation, object: self.object.clone(), source }
    }
}

/// One message of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: u16,
    pub(crate) body: Vec<u8>,
}

/// A socket connected to the kernel.
pub(crate) struct Connection {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Connection {
    /// Route netlink in the present network namespace.
    pub(crate) fn route() -> Result<Connection, NetlinkError> {
        Connection::open("route", netlink_sys::protocols::NETLINK_ROUTE)
    }

    /// Generic netlink.
    pub(crate) fn generic() -> Result<Connection, NetlinkError> {
        Connection::open("generic", netlink_sys::protocols::NETLINK_GENERIC)
    }

    fn open(family: &'static str, protocol: isize) -> Result<Connection, NetlinkError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(protocol)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)?;
            Ok(socket)
        };
        let socket = open().map_err(|source| NetlinkError::Open { family, source })?;
        Ok(Connection { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER) })
    }

    /// Sends one request and returns what comes back before its acknowledgement.
    pub(crate) fn request(
        &mut self,
        ask: &Ask,
        kind: u16,
        flags: u16,
        body: &[u8],
    ) -> Result<Vec<Message>, NetlinkError> {
        let flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        self.exchange(ask, kind, flags, body).map(|(messages, _)| messages)
    }

    /// Asks for a list. One that changed while it was read is read again.
    pub(crate) fn list(&mut self, ask: &Ask, kind: u16, body: &[u8]) -> Result<Vec<Message>, NetlinkError> {
        for _ in 0..LIST_ATTEMPTS {
            let (messages, unsteady) = self.exchange(ask, kind, NLM_F_REQUEST | NLM_F_DUMP, body)?;
            if !unsteady {
                return Ok(messages);
            }
        }
        let (operation, object) = (ask.operation, ask.object.clone());
        Err(NetlinkError::Unsteady { operation, object, attempts: LIST_ATTEMPTS })
    }

    /// Sends a request and receives until its end; the flag says whether a list changed meanwhile.
    fn exchange(
        &mut self,
        ask: &Ask,
        kind: u16,
        flags: u16,
        body: &[u8],
    ) -> Result<(Vec<Message>, bool), NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = encode(kind, flags, self.sequence, body).map_err(|why| ask.malformed(why))?;
        self.socket.send(&bytes, 0).map_err(|source| ask.transfer(source))?;
        let deadline = Deadline::after(ANSWER_WITHIN);
        let mut answer = Answer { ask, sequence: self.sequence, messages: Vec::new(), unsteady: false };
        loop {
            let datagram = receive(&self.socket, &mut self.buffer, ask, deadline)?;
            if answer.take(datagram)? {
                return Ok((answer.messages, answer.unsteady));
            }
        }
    }
}

/// What has come back so far.
struct Answer<'a> {
    ask: &'a Ask,
    sequence: u32,
    messages: Vec<Message>,
    unsteady: bool,
}

impl Answer<'_> {
    /// Takes in one datagram; true at the end of the answer.
    fn take(&mut self, mut datagram: &[u8]) -> Result<bool, NetlinkError> {
        while !datagram.is_empty() {
            let message = NetlinkBuffer::new_checked(datagram)
                .map_err(|error| self.ask.malformed(format!("message header: {error}")))?;
            let length = usize::try_from(message.length()).unwrap_or(usize::MAX);
            datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
            if message.sequence_number() != self.sequence {
                continue; // The rest of an answer that an earlier caller gave up on.
            }
            self.unsteady |= message.flags() & NLM_F_DUMP_INTR != 0;
            match message.message_type() {
                NLMSG_ERROR | NLMSG_DONE => {
                    verdict(self.ask, message.message_type(), message.flags(), message.payload())?;
                    return Ok(true);
                }
                kind => self.messages.push(Message { kind, body: message.payload().to_vec() }),
            }
        }
        Ok(false)
    }
}

/// Header and body as one message.
fn encode(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Result<Vec<u8>, String> {
    let length = HEADER + body.len();
    let mut header = NetlinkHeader::default();
    header.length = u32::try_from(length).map_err(|_| format!("a request of {length} bytes is too long"))?;
    header.message_type = kind;
    header.flags = flags;
    header.sequence_number = sequence;
    let mut bytes = vec![0_u8; HEADER];
    header.emit(&mut bytes);
    bytes.extend_from_slice(body);
    Ok(bytes)
}

/// Waits for one datagram and checks that it came whole.
fn receive<'b>(
    socket: &Socket,
    buffer: &'b mut Vec<u8>,
    ask: &Ask,
    deadline: Deadline,
) -> Result<&'b [u8], NetlinkError> {
    loop {
        let mut wait = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut wait, deadline.poll_timeout()) {
            Ok(0) => {
                return Err(NetlinkError::Deadline {
                    operation: ask.operation,
                    object: ask.object.clone(),
                    millis: ANSWER_WITHIN.as_millis(),
                });
            }
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(ask.transfer(errno.into())),
        }
        buffer.clear();
        match socket.recv(buffer, libc::MSG_DONTWAIT | libc::MSG_TRUNC) {
            Ok(length) if length > buffer.len() => {
                let (operation, object) = (ask.operation, ask.object.clone());
                return Err(NetlinkError::Truncated { operation, object, length });
            }
            Ok(_) => return Ok(buffer),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(ask.transfer(error)),
        }
    }
}

/// What an acknowledgement or the end of a list says.
fn verdict(ask: &Ask, kind: u16, flags: u16, payload: &[u8]) -> Result<(), NetlinkError> {
    let Some(code) = payload.first_chunk::<4>().map(|bytes| i32::from_ne_bytes(*bytes)) else {
        // The end of a list may come without a code on old kernels.
        return if kind == NLMSG_DONE {
            Ok(())
        } else {
            Err(ask.malformed("an acknowledgement without code"))
        };
    };
    if code == 0 || (kind == NLMSG_DONE && code > 0) {
        return Ok(());
    }
    let errno = Errno::from_raw(code.saturating_neg());
    let text = (flags & NLM_F_ACK_TLVS != 0).then(|| extack_text(kind, flags, payload)).flatten();
    Err(NetlinkError::Refused { operation: ask.operation, object: ask.object.clone(), errno, text })
}

/// The driver's sentence: attributes after the code and, for an error, after the header (and body, unless capped) of the
/// request that it answers.
fn extack_text(kind: u16, flags: u16, payload: &[u8]) -> Option<String> {
    let mut start = 4;
    if kind == NLMSG_ERROR {
        let request = payload.get(4..)?;
        let length = request.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes))?;
        let whole = usize::try_from(length).ok()?.next_multiple_of(4);
        start += if flags & NLM_F_CAPPED != 0 { HEADER } else { whole };
    }
    let found =
        attrs(payload.get(start..)?).find_map(|attr| attr.ok().filter(|attr| attr.kind == EXTACK_TEXT));
    found.map(|attr| attr.text()).filter(|text| !text.is_empty())
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
