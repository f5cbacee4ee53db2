//! The kernel's own device events, and waiting for something to become true.
//!
//! udevd's re-broadcast is heard only where udevd runs; the kernel's socket (group 1) is heard everywhere. An event is
//! only a trigger: what it says (a name, for example) may be outdated by the time it is read, so that whoever waits looks
//! again at the thing itself. Changes of links are the second trigger, for what has no uevent (up, carrier, MTU).
//!
//! Netdev events reach the network namespace of the netdev only: the agent needs the host's.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;

use netlink_sys::protocols::{NETLINK_KOBJECT_UEVENT, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{setsockopt, sockopt};

use crate::deadline::Deadline;
use crate::netlink::NetlinkError;

/// Group of the kernel's uevents.
const KERNEL_GROUP: u32 = 1;
/// `RTMGRP_LINK`.
const LINK_GROUP: u32 = 1;
/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV4_ROUTE`, `RTMGRP_IPV6_IFADDR` and `RTMGRP_IPV6_ROUTE`.
const NETWORK_GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// Bytes of a netlink message's head.
const NETLINK_HEAD: usize = 16;
/// `RTM_NEWROUTE` and `RTM_DELROUTE`.
const ROUTE_MESSAGES: [u16; 2] = [24, 25];
/// Receive buffer in bytes: several hundred VFs appear in one burst.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;
/// A uevent is at most `UEVENT_BUFFER_SIZE` (2 KiB) and its header.
const DATAGRAM: usize = 64 * 1024;

/// One device event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uevent {
    /// `add`, `remove`, `change`, `move`, `bind`, `unbind`, `online`, `offline`.
    pub action: String,
    /// Path below `/sys`, with a leading slash.
    pub devpath: String,
    /// All keys; `SUBSYSTEM` and, for PCI functions, `PCI_SLOT_NAME` are the useful ones.
    pub keys: BTreeMap<String, String>,
}

impl Uevent {
    /// The value of a key.
    pub fn key(&self, name: &str) -> Option<&str> {
        self.keys.get(name).map(String::as_str)
    }
}

/// What woke us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A device event.
    Device(Uevent),
    /// A link of this network namespace changed; for those who listen to the [network](Uevents::open_network) also an
    /// address or a default route.
    Link,
    /// Events were lost: look at everything again.
    Overflow,
}

/// Parses one datagram of the kernel: `action@devpath`, then `KEY=value`, each ended by a zero byte. `None` for anything
/// else. Bytes that are no UTF-8 become replacement characters.
pub fn parse(datagram: &[u8]) -> Option<Uevent> {
    let mut parts = datagram.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    let head = String::from_utf8_lossy(parts.next()?).into_owned();
    let (action, devpath) = head.split_once('@')?;
    let is_word = !action.is_empty() && action.bytes().all(|byte| byte.is_ascii_lowercase());
    if !is_word || !devpath.starts_with('/') {
        return None;
    }
    let keys = parts.filter_map(|part| {
        let text = String::from_utf8_lossy(part).into_owned();
        let (key, value) = text.split_once('=')?;
        Some((key.to_owned(), value.to_owned()))
    });
    Some(Uevent { action: action.to_owned(), devpath: devpath.to_owned(), keys: keys.collect() })
}

/// Listens from the moment it is opened: open it before the action whose effect is waited for.
pub struct Uevents {
    devices: Socket,
    links: Socket,
    buffer: Vec<u8>,
}

impl Uevents {
    /// Starts listening in the present network namespace.
    pub fn open() -> Result<Uevents, NetlinkError> {
        Uevents::open_groups(LINK_GROUP)
    }

    /// The same, and hears of addresses and default routes too: what the management path is found by.
    pub fn open_network() -> Result<Uevents, NetlinkError> {
        Uevents::open_groups(NETWORK_GROUPS)
    }

    fn open_groups(groups: u32) -> Result<Uevents, NetlinkError> {
        Ok(Uevents {
            devices: listen(NETLINK_KOBJECT_UEVENT, KERNEL_GROUP, "uevent")?,
            links: listen(NETLINK_ROUTE, groups, "route")?,
            buffer: Vec::with_capacity(DATAGRAM),
        })
    }

    /// Waits until `found` gives something, looking at once and then after each burst of events; `None` when the deadline
    /// has passed. It is asked once more at the end, so that a lost event costs time but never the result.
    pub fn wait_until<T>(&mut self, deadline: Deadline, mut found: impl FnMut() -> Option<T>) -> Option<T> {
        loop {
            if let Some(result) = found() {
                return Some(result);
            }
            match self.next(deadline) {
                Ok(Some(_)) => while matches!(self.take(), Some(Ok(_))) {},
                Ok(None) | Err(_) => return found(),
            }
        }
    }

    /// The next event; `None` when the deadline has passed.
    pub fn next(&mut self, deadline: Deadline) -> Result<Option<Event>, NetlinkError> {
        loop {
            if let Some(event) = self.take() {
                return event.map(Some);
            }
            let mut wait = [
                PollFd::new(self.devices.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.links.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut wait, deadline.poll_timeout()) {
                Ok(0) if deadline.expired() => return Ok(None),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
        }
    }

    /// An event that is already there.
    fn take(&mut self) -> Option<Result<Event, NetlinkError>> {
        loop {
            match receive(&self.devices, &mut self.buffer) {
                Received::Datagram => {
                    if let Some(uevent) = parse(&self.buffer) {
                        return Some(Ok(Event::Device(uevent)));
                    }
                }
                Received::Stranger => {}
                Received::Lost => return Some(Ok(Event::Overflow)),
                Received::Nothing => break,
                Received::Failed(error) => return Some(Err(failed(error))),
            }
        }
        loop {
            match receive(&self.links, &mut self.buffer) {
                Received::Datagram if is_other_route(&self.buffer) => {}
                Received::Datagram => return Some(Ok(Event::Link)),
                Received::Stranger => {}
                Received::Lost => return Some(Ok(Event::Overflow)),
                Received::Nothing => return None,
                Received::Failed(error) => return Some(Err(failed(error))),
            }
        }
    }
}

/// Whether a message is about a route that is no default route: a node that speaks BGP hears thousands of them.
fn is_other_route(message: &[u8]) -> bool {
    let kind = message.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    // `struct rtmsg` has the length of the destination's prefix as its second byte.
    let prefix = message.get(NETLINK_HEAD + 1).copied().unwrap_or_default();
    kind.is_some_and(|kind| ROUTE_MESSAGES.contains(&kind)) && prefix != 0
}

impl AsFd for Uevents {
    /// The device events' socket, for an event loop of one's own.
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.devices.as_fd()
    }
}

enum Received {
    Datagram,
    /// Sent by a process, not by the kernel.
    Stranger,
    /// The buffer ran over.
    Lost,
    Nothing,
    Failed(io::Error),
}

fn receive(socket: &Socket, buffer: &mut Vec<u8>) -> Received {
    buffer.clear();
    match socket.recv_from(buffer, libc::MSG_DONTWAIT) {
        Ok((_, sender)) if sender.port_number() == 0 => Received::Datagram,
        Ok(_) => Received::Stranger,
        Err(error) => match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOBUFS) => Received::Lost,
            Some(Errno::EAGAIN | Errno::EINTR) => Received::Nothing,
            Some(_) | None => Received::Failed(error),
        },
    }
}

fn listen(protocol: isize, group: u32, family: &'static str) -> Result<Socket, NetlinkError> {
    let open = || -> io::Result<Socket> {
        let mut socket = Socket::new(protocol)?;
        // The forced size may exceed rmem_max. Without the privilege the kernel's limit stays, and a burst is an
        // overflow, which is handled.
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)
            .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER))?;
        socket.bind(&SocketAddr::new(0, group))?;
        Ok(socket)
    };
    open().map_err(|source| NetlinkError::Open { family, source })
}

fn failed(source: io::Error) -> NetlinkError {
    NetlinkError::Transfer { operation: "listen for", object: "device events".to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::{is_other_route, parse};

    #[test]
    fn of_routes_only_default_ones_are_told() {
        let message = |kind: u16, prefix: u8| {
            let mut bytes = vec![0_u8; 28];
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes[17] = prefix;
            bytes
        };
        assert!(is_other_route(&message(24, 24)) && is_other_route(&message(25, 128)));
        assert!(!is_other_route(&message(24, 0)), "a default route");
        assert!(!is_other_route(&message(16, 24)), "a link");
        assert!(!is_other_route(&[]));
    }

    #[test]
    fn the_kernels_form_is_read_and_nothing_else() {
        let event =
            parse(b"add@/devices/virtual/net/uv1\0ACTION=add\0SUBSYSTEM=net\0INTERFACE=uv1\0").unwrap();
        assert_eq!((event.action.as_str(), event.devpath.as_str()), ("add", "/devices/virtual/net/uv1"));
        assert_eq!((event.key("INTERFACE"), event.key("SEQNUM")), (Some("uv1"), None));
        // udevd's messages begin with a magic word; the rest is nonsense.
        for bad in [&b"libudev\0\xfe\xed\xca\xfe"[..], b"", b"\0\0", b"add", b"@/x", b"Add@/x", b"add@x"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
        assert_eq!(parse(b"add@/\xff\0A=\xff\0novalue\0").unwrap().keys.len(), 1);
    }
}
