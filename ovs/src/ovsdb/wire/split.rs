//! Finds where one JSON-RPC message ends and the next begins. OVSDB sends objects back to back without a length or a
//! separator, and a read may end anywhere, also within an escape or a UTF-8 sequence. So a scanner remembers depth
//! and whether it is inside a string, looks at each byte once, and leaves it to the JSON reader to judge the rest.

use bytes::{Buf, Bytes, BytesMut};

/// How deep arrays and objects may nest. A table update needs about eight levels.
const MAX_DEPTH: u32 = 100;

/// From this many bytes on, a message's memory is given back at once instead of being used again.
const LARGE: usize = 256 * 1024;

/// Why a byte stream cannot be OVSDB.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// A message starts with something other than `{`.
    #[error("expected a JSON object, got the byte 0x{byte:02x}")]
    NotAnObject {
        /// The first byte that is neither white space nor `{`.
        byte: u8,
    },
    /// The message is longer than we are willing to hold.
    #[error("a message is longer than {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// The message nests deeper than any that OVSDB has.
    #[error("a message nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    String,
    Escape,
}

/// Collects bytes and gives back whole messages, in linear time and bounded space.
#[derive(Debug)]
pub struct Splitter {
    buffer: BytesMut,
    /// Bytes of `buffer` that were looked at.
    scanned: usize,
    depth: u32,
    place: Place,
    limit: usize,
}

impl Splitter {
    /// A splitter that refuses messages longer than `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, depth: 0, place: Place::Outside, limit }
    }

    /// Where a reader appends what arrived.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether part of a message is waiting for the rest.
    #[must_use]
    pub fn is_mid_message(&self) -> bool {
        self.depth > 0
    }

    /// The next whole message, or none until more bytes arrive.
    ///
    /// # Errors
    /// [`SplitError`]; the stream cannot be followed any further after that.
    pub fn next_message(&mut self) -> Result<Option<Bytes>, SplitError> {
        if self.depth == 0 {
            self.skip_space()?;
        }
        let rest = self.buffer.get(self.scanned..).unwrap_or_default();
        let outcome = scan(rest, &mut self.depth, &mut self.place);
        match outcome {
            Scan::End(length) => {
                let end = self.scanned + length;
                self.scanned = 0;
                if end > self.limit {
                    return Err(SplitError::TooLong { limit: self.limit });
                }
                let message = self.buffer.split_to(end).freeze();
                if end > LARGE {
                    // Otherwise what comes next would keep the whole of a large snapshot's memory.
                    self.buffer = BytesMut::from(self.buffer.as_ref());
                }
                Ok(Some(message))
            }
            Scan::More => {
                self.scanned = self.buffer.len();
                if self.scanned > self.limit {
                    return Err(SplitError::TooLong { limit: self.limit });
                }
                Ok(None)
            }
            Scan::TooDeep => Err(SplitError::TooDeep),
        }
    }

    fn skip_space(&mut self) -> Result<(), SplitError> {
        let space = self.buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.buffer.advance(space);
        self.scanned = 0;
        match self.buffer.first() {
            None | Some(b'{') => Ok(()),
            Some(&byte) => Err(SplitError::NotAnObject { byte }),
        }
    }
}

enum Scan {
    /// The message ends after that many bytes.
    End(usize),
    More,
    TooDeep,
}

const OPEN: u8 = 1;
const CLOSE: u8 = 2;
const QUOTE: u8 = 4;
const BACKSLASH: u8 = 8;

/// What each byte means to the scanner; most mean nothing.
#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which refuses an index out of bounds"
)]
const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    class[b'{' as usize] = OPEN;
    class[b'[' as usize] = OPEN;
    class[b'}' as usize] = CLOSE;
    class[b']' as usize] = CLOSE;
    class[b'"' as usize] = QUOTE;
    class[b'\\' as usize] = BACKSLASH;
    class
};

#[expect(clippy::indexing_slicing, reason = "a byte is always below 256, and the compiler drops the check")]
fn class(byte: u8) -> u8 {
    CLASS[usize::from(byte)]
}

fn scan(bytes: &[u8], depth: &mut u32, place: &mut Place) -> Scan {
    let mut rest = bytes.iter();
    loop {
        match *place {
            Place::Escape => {
                if rest.next().is_none() {
                    return Scan::More;
                }
                *place = Place::String;
            }
            Place::String => {
                let Some(&byte) = rest.find(|&&byte| class(byte) & (QUOTE | BACKSLASH) != 0) else {
                    return Scan::More;
                };
                *place = if byte == b'"' { Place::Outside } else { Place::Escape };
            }
            Place::Outside => {
                let Some(&byte) = rest.find(|&&byte| class(byte) & (OPEN | CLOSE | QUOTE) != 0) else {
                    return Scan::More;
                };
                match class(byte) {
                    OPEN => {
                        *depth += 1;
                        if *depth > MAX_DEPTH {
                            return Scan::TooDeep;
                        }
                    }
                    CLOSE => {
                        *depth -= 1;
                        if *depth == 0 {
                            return Scan::End(bytes.len() - rest.len());
                        }
                    }
                    _quote => *place = Place::String,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(chunks: impl IntoIterator<Item = Vec<u8>>, limit: usize) -> Result<Vec<String>, SplitError> {
        let mut splitter = Splitter::new(limit);
        let mut messages = Vec::new();
        for chunk in chunks {
            splitter.buffer().extend_from_slice(&chunk);
            while let Some(message) = splitter.next_message()? {
                messages.push(String::from_utf8(message.to_vec()).unwrap());
            }
        }
        Ok(messages)
    }

    const MESSAGES: [&str; 4] =
        ["{\"a\":\"}\\\"{\\\\\"}", "{}", "{\"é☃\":[1,{\"x\":\"\\u00e9 ]\"}],\"b\":null}", "{\"\":\"\\\\\"}"];

    #[test]
    fn cuts_at_every_byte_give_the_same_messages() {
        let stream = MESSAGES.join(" \n\t").into_bytes();
        assert_eq!(split([stream.clone()], 1000).unwrap(), MESSAGES);
        assert_eq!(split(stream.iter().map(|byte| vec![*byte]), 1000).unwrap(), MESSAGES);
        for at in 0..stream.len() {
            let (a, b) = stream.split_at(at);
            assert_eq!(split([a.to_vec(), b.to_vec()], 1000).unwrap(), MESSAGES, "cut at {at}");
        }
    }

    #[test]
    fn a_large_message_gives_its_memory_back() {
        let mut splitter = Splitter::new(1 << 24);
        let large = format!("{{\"a\":\"{}\"}} {{\"b\":", "x".repeat(1 << 20));
        splitter.buffer().extend_from_slice(large.as_bytes());
        let message = splitter.next_message().unwrap().unwrap();
        let behind = message.as_ptr().wrapping_add(message.len());
        assert_ne!(splitter.buffer().as_ptr(), behind, "the rest lives in the message's allocation");
        splitter.buffer().extend_from_slice(b"1}");
        assert_eq!(splitter.next_message().unwrap().unwrap().as_ref(), b"{\"b\":1}");
    }

    #[test]
    fn garbage_and_excess_are_errors() {
        let cases: [(&[u8], SplitError); 5] = [
            (b"HTTP/1.1 400", SplitError::NotAnObject { byte: b'H' }),
            (b"{} ]", SplitError::NotAnObject { byte: b']' }),
            (b"\0", SplitError::NotAnObject { byte: 0 }),
            (b"{\"a\":\"0123456789", SplitError::TooLong { limit: 10 }),
            (b"{\"a\":\"01234567\"}", SplitError::TooLong { limit: 10 }),
        ];
        for (stream, error) in cases {
            assert_eq!(split([stream.to_vec()], 10).unwrap_err(), error);
        }
        assert_eq!(split([b"{".repeat(200)], 1000).unwrap_err(), SplitError::TooDeep);
    }
}
