//! Rewrites `:authority` in a block of compressed headers (RFC 7541).
//!
//! The new value has as many bytes as the old one, so that the receiver's dynamic table, whose limit counts bytes, stays
//! in step with the sender's.

use super::huffman;

/// Index of `:authority` in the static table.
const AUTHORITY: usize = 1;

/// A legal authority of the same length, if the value is not one. `-` stands for what may not be there.
pub(super) fn legal(value: &[u8]) -> Option<Vec<u8>> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let host = |byte: &u8| plain(byte) || matches!(byte, b':' | b'[' | b']' | b'@');
    if value.iter().all(host) {
        return None;
    }
    Some(value.iter().map(|byte| if plain(byte) { *byte } else { b'-' }).collect())
}

/// The block with a legal authority; `None` if there is nothing to change or the block cannot be read.
pub(super) fn rewrite(block: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader { bytes: block, at: 0 };
    let mut out = Vec::with_capacity(block.len().saturating_add(32));
    let mut changed = false;
    while let Some(first) = reader.peek() {
        let start = reader.at;
        let prefix = match first {
            0x80..=0xff => {
                reader.number(7)?;
                out.extend_from_slice(block.get(start..reader.at)?);
                continue;
            }
            0x40..=0x7f => 6,
            0x20..=0x3f => {
                reader.number(5)?;
                out.extend_from_slice(block.get(start..reader.at)?);
                continue;
            }
            0x00..=0x1f => 4,
        };
        let index = reader.number(prefix)?;
        let is_authority = if index == 0 { reader.text()? == b":authority" } else { index == AUTHORITY };
        let name_end = reader.at;
        if !is_authority {
            reader.skip_text()?;
            out.extend_from_slice(block.get(start..reader.at)?);
            continue;
        }
        let value = reader.text()?;
        match legal(&value) {
            None => out.extend_from_slice(block.get(start..reader.at)?),
            Some(value) => {
                out.extend_from_slice(block.get(start..name_end)?);
                put_text(&value, &mut out);
                changed = true;
            }
        }
    }
    changed.then_some(out)
}

/// A string that is not Huffman-coded.
fn put_text(text: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(text.len()) {
        Ok(short) if short < 127 => out.push(short),
        Ok(_) | Err(_) => {
            out.push(127);
            let mut rest = text.len().saturating_sub(127);
            while rest >= 128 {
                out.push(u8::try_from(rest & 0x7f).unwrap_or_default() | 0x80);
                rest >>= 7;
            }
            out.push(u8::try_from(rest).unwrap_or_default());
        }
    }
    out.extend_from_slice(text);
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at = self.at.saturating_add(1);
        Some(byte)
    }

    /// An integer with a prefix of so many bits (RFC 7541, 5.1); larger ones than any header has are refused.
    fn number(&mut self, prefix: u32) -> Option<usize> {
        let most = (1_usize << prefix).saturating_sub(1);
        let first = usize::from(self.byte()?) & most;
        if first < most {
            return Some(first);
        }
        let mut value = most;
        for shift in [0, 7, 14] {
            let byte = usize::from(self.byte()?);
            value = value.saturating_add((byte & 0x7f) << shift);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn raw(&mut self) -> Option<(bool, &[u8])> {
        let coded = self.peek()? & 0x80 != 0;
        let length = self.number(7)?;
        let end = self.at.checked_add(length)?;
        let text = self.bytes.get(self.at..end)?;
        self.at = end;
        Some((coded, text))
    }

    fn skip_text(&mut self) -> Option<()> {
        self.raw().map(drop)
    }

    fn text(&mut self) -> Option<Vec<u8>> {
        let (coded, text) = self.raw()?;
        if coded { huffman::decode(text) } else { Some(text.to_vec()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBELET: &[u8] = b"%2Fvar%2Flib%2Fkubelet%2Fplugins_registry%2Fintel.com_sriov.sock";
    const LEGAL: &[u8] = b"-2Fvar-2Flib-2Fkubelet-2Fplugins_registry-2Fintel.com_sriov.sock";

    fn coded(text: &[u8]) -> Vec<u8> {
        let bytes = huffman::encode(text);
        [&[0x80 | u8::try_from(bytes.len()).unwrap()], &bytes[..]].concat()
    }

    fn plain(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_text(text, &mut out);
        out
    }

    #[test]
    fn only_an_illegal_authority_is_changed() {
        // :method POST, :scheme http, then the authority, then a header with a name of its own.
        let before = [0x83, 0x86];
        let after = [&[0x40][..], &coded(b"te"), &plain(b"trailers")].concat();
        let heads: [Vec<u8>; 4] =
            [vec![0x41], vec![0x01], vec![0x11], [&[0x40][..], &coded(b":authority")].concat()];
        for head in heads {
            for value in [plain(KUBELET), coded(KUBELET)] {
                let block = [&before[..], &head, &value, &after].concat();
                let expected = [&before[..], &head, &plain(LEGAL), &after].concat();
                assert_eq!(rewrite(&block), Some(expected));
            }
            for good in [&b"localhost"[..], b"[::1]:80", b"kubelet.sock"] {
                let block = [&before[..], &head, &coded(good), &after].concat();
                assert_eq!(rewrite(&block), None, "nothing to change");
            }
        }
    }

    #[test]
    fn long_values_keep_their_length_and_nonsense_is_left_alone() {
        let long = [b"%2F".as_slice(), &[b'a'; 400]].concat();
        let rewritten = rewrite(&[&[0x41][..], &plain(&long)].concat()).unwrap();
        let mut reader = Reader { bytes: &rewritten, at: 1 };
        assert_eq!(reader.text().unwrap().len(), long.len());
        for nonsense in [&[0x41][..], &[0x41, 0x85, 1], &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff], &[0x40, 0x7f]]
        {
            assert_eq!(rewrite(nonsense), None);
        }
    }
}
