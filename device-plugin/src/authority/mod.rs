//! Makes kubelet's registration calls acceptable to the HTTP/2 library.
//!
//! In plugin-watcher mode kubelet sends the percent-encoded path of the socket as `:authority`. The library refuses such a
//! stream as malformed, although nothing of it matters on a unix socket. So the bytes that come in pass through here: in
//! frames with headers an authority that the library would refuse is replaced by one that it takes; everything else is
//! handed on as it is. See docs/decisions for what else was considered.

mod block;
mod huffman;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

/// The client's first bytes (RFC 9113, 3.4).
const PREFACE: usize = 24;
/// Length, type, flags and stream of a frame.
const FRAME_HEAD: usize = 9;
/// Largest frame that a client may send us, as we never allow more.
const LARGEST_FRAME: usize = 16_384;
/// Type of a frame with headers.
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// A connection whose authority is legal, and which ends when it is told to.
pub(crate) struct LegalAuthority {
    inner: UnixStream,
    rewriter: Rewriter,
    /// What was read and is not handed on yet.
    ready: Vec<u8>,
    taken: usize,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    _permit: OwnedSemaphorePermit,
}

impl LegalAuthority {
    pub(crate) fn new(
        inner: UnixStream,
        stop: WaitForCancellationFutureOwned,
        permit: OwnedSemaphorePermit,
    ) -> LegalAuthority {
        let (rewriter, stop) = (Rewriter::new(), Box::pin(stop));
        LegalAuthority { inner, rewriter, ready: Vec::new(), taken: 0, stop, _permit: permit }
    }
}

impl AsyncRead for LegalAuthority {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        while this.taken >= this.ready.len() {
            this.ready.clear();
            this.taken = 0;
            let mut bytes = [0_u8; 4096];
            let mut fresh = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut fresh))?;
            if fresh.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.rewriter.take(fresh.filled(), &mut this.ready);
        }
        let rest = this.ready.get(this.taken..).unwrap_or_default();
        let length = rest.len().min(buf.remaining());
        buf.put_slice(rest.get(..length).unwrap_or_default());
        this.taken = this.taken.saturating_add(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LegalAuthority {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

impl Connected for LegalAuthority {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

/// Where in the stream of frames we are.
#[derive(Debug)]
struct Rewriter {
    /// Bytes that pass unseen: the preface, and frames without interest.
    pass: usize,
    /// A frame's head, or a whole frame with headers, as far as it has come.
    held: Vec<u8>,
    /// How long the held piece will be.
    wanted: usize,
}

impl Rewriter {
    fn new() -> Rewriter {
        Rewriter { pass: PREFACE, held: Vec::new(), wanted: FRAME_HEAD }
    }

    /// Takes bytes in and puts those that may go on into `out`.
    fn take(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            if self.pass > 0 {
                let (now, rest) = bytes.split_at(self.pass.min(bytes.len()));
                out.extend_from_slice(now);
                self.pass = self.pass.saturating_sub(now.len());
                bytes = rest;
                continue;
            }
            let missing = self.wanted.saturating_sub(self.held.len());
            let (now, rest) = bytes.split_at(missing.min(bytes.len()));
            self.held.extend_from_slice(now);
            bytes = rest;
            if self.held.len() == self.wanted {
                self.complete(out);
            }
        }
    }

    /// The held piece has come whole.
    fn complete(&mut self, out: &mut Vec<u8>) {
        let Some((head, payload)) = self.held.split_first_chunk::<FRAME_HEAD>() else { return };
        let [a, b, c, kind, flags, ..] = *head;
        let length = (usize::from(a) << 16) | (usize::from(b) << 8) | usize::from(c);
        let interesting =
            kind == HEADERS && flags & END_HEADERS != 0 && length <= LARGEST_FRAME && length > 0;
        if interesting && payload.is_empty() {
            self.wanted = FRAME_HEAD.saturating_add(length);
            return;
        }
        match rewritten(head, payload).filter(|_| interesting) {
            Some(frame) => out.extend_from_slice(&frame),
            None => out.extend_from_slice(&self.held),
        }
        if !interesting {
            self.pass = length;
        }
        self.held.clear();
        self.wanted = FRAME_HEAD;
    }
}

/// The frame with a legal authority, if that is a change.
fn rewritten(head: &[u8; FRAME_HEAD], payload: &[u8]) -> Option<Vec<u8>> {
    let [_, _, _, kind, flags, stream @ ..] = *head;
    let padding = if flags & PADDED == 0 { 0 } else { usize::from(*payload.first()?) };
    let start = usize::from(flags & PADDED != 0) + if flags & PRIORITY == 0 { 0 } else { 5 };
    let end = payload.len().checked_sub(padding)?;
    let block = block::rewrite(payload.get(start..end)?)?;
    let length = payload.len().checked_sub(end.checked_sub(start)?)?.checked_add(block.len())?;
    if length > LARGEST_FRAME {
        return None;
    }
    let [.., a, b, c] = u32::try_from(length).ok()?.to_be_bytes();
    let mut frame = vec![a, b, c, kind, flags];
    frame.extend_from_slice(&stream);
    frame.extend_from_slice(payload.get(..start)?);
    frame.extend_from_slice(&block);
    frame.extend_from_slice(payload.get(end..)?);
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let [.., a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[a, b, c, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn frames_pass_in_whatever_pieces_they_come_and_only_the_authority_changes() {
        let preface = [b'P'; PREFACE];
        let bad = [&[0x83, 0x41, 6][..], b"%2Fvar"].concat();
        let good = [&[0x83, 0x41, 6][..], b"-2Fvar"].concat();
        let padded = |block: &[u8]| [&[2][..], &[0, 0, 0, 0, 9], block, &[0, 0]].concat();
        let data = vec![7_u8; 20_000];
        let stream = |block: &[u8]| {
            [
                preface.to_vec(),
                frame(4, 0, &[]),
                frame(HEADERS, END_HEADERS, block),
                frame(0, 0, &data),
                frame(HEADERS, END_HEADERS | PADDED | PRIORITY, &padded(block)),
                frame(HEADERS, END_HEADERS, &[0x83]),
                frame(HEADERS, END_HEADERS, &[]),
            ]
            .concat()
        };
        for size in [1, 2, 7, 9, 100, 100_000] {
            let (mut rewriter, mut out) = (Rewriter::new(), Vec::new());
            for piece in stream(&bad).chunks(size) {
                rewriter.take(piece, &mut out);
            }
            assert!(out == stream(&good), "in pieces of {size}");
        }
    }

    #[test]
    fn padding_beyond_the_frame_is_left_to_the_library() {
        let bad = frame(HEADERS, END_HEADERS | PADDED, &[200, 0x41, 1, b'%']);
        let (mut rewriter, mut out) = (Rewriter::new(), Vec::new());
        rewriter.take(&[b'P'; PREFACE], &mut out);
        rewriter.take(&bad, &mut out);
        assert_eq!(out.get(PREFACE..), Some(&bad[..]));
    }
}
