//! Row identities. OVSDB prints them in the canonical 36-character form of RFC 9562; nothing else is accepted.

use std::fmt;
use std::str::FromStr;

/// The identity of a row (`_uuid`), 16 bytes, ordered and printed as OVSDB does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid([u8; 16]);

/// A text that is not a canonical UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a UUID (expected 8-4-4-4-12 hexadecimal digits)")]
pub struct InvalidUuid {
    text: String,
}

impl Uuid {
    /// The UUID whose bytes are all zero; OVSDB uses it for "no transaction known".
    pub const ZERO: Self = Self([0; 16]);

    /// A UUID from its bytes in printing order.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl FromStr for Uuid {
    type Err = InvalidUuid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text.as_bytes()).map(Self).ok_or_else(|| InvalidUuid { text: text.chars().take(64).collect() })
    }
}

fn parse(text: &[u8]) -> Option<[u8; 16]> {
    if text.len() != 36 {
        return None;
    }
    let mut bytes = [0_u8; 16];
    let mut nibbles = 0_usize;
    for (position, &character) in text.iter().enumerate() {
        if matches!(position, 8 | 13 | 18 | 23) {
            if character != b'-' {
                return None;
            }
            continue;
        }
        let digit = match character {
            b'0'..=b'9' => character - b'0',
            b'a'..=b'f' => character - b'a' + 10,
            b'A'..=b'F' => character - b'A' + 10,
            _ => return None,
        };
        let slot = bytes.get_mut(nibbles >> 1)?;
        *slot = (*slot << 4) | digit;
        nibbles += 1;
    }
    Some(bytes)
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_the_canonical_form_only() {
        let text = "8206b002-af40-4ad9-aef3-cb451e15921b";
        assert_eq!(text.parse::<Uuid>().unwrap().to_string(), text);
        for wrong in [
            "",
            "8206b002",
            "8206b002xaf40-4ad9-aef3-cb451e15921b",
            &text.replace('b', "g"),
            &format!("{text}0"),
        ] {
            assert!(wrong.parse::<Uuid>().is_err(), "{wrong}");
        }
    }
}
