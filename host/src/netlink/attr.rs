//! Attributes of netlink answers, walked one by one.
//!
//! A value shorter than its type is an error. A longer one is read by its beginning, as the kernel's own rule for user
//! space has it: structures only ever grow at their end.

use netlink_packet_core::NlasIterator;

use portwright_core::MacAddress;

/// Length of an attribute's own header in bytes.
const HEADER: usize = 4;

/// What is wrong with an answer, as a sentence.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) String);

/// One attribute.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attr<'a> {
    /// Number, without the flags for nesting and byte order.
    pub(crate) kind: u16,
    /// Value.
    pub(crate) value: &'a [u8],
}

/// The attributes in `bytes`.
pub(crate) fn attrs(bytes: &[u8]) -> impl Iterator<Item = Result<Attr<'_>, Malformed>> {
    NlasIterator::new(bytes).map(|item| {
        let nla = item.map_err(|error| Malformed(format!("attribute list: {error}")))?;
        let (kind, length) = (nla.kind(), usize::from(nla.length()));
        // The iterator has checked that the length covers the header and stays within the buffer.
        Ok(Attr { kind, value: nla.into_inner().get(HEADER..length).unwrap_or_default() })
    })
}

impl<'a> Attr<'a> {
    /// The first `N` bytes.
    pub(crate) fn bytes<const N: usize>(&self) -> Result<[u8; N], Malformed> {
        self.value.first_chunk::<N>().copied().ok_or_else(|| {
            Malformed(format!("attribute {} has {} bytes where {N} are due", self.kind, self.value.len()))
        })
    }

    /// The `index`-th 32-bit word of a structure, in host byte order.
    pub(crate) fn word(&self, index: usize) -> Result<u32, Malformed> {
        let start = index * 4;
        let found = self.value.get(start..).and_then(|rest| rest.first_chunk::<4>());
        found.map(|bytes| u32::from_ne_bytes(*bytes)).ok_or_else(|| {
            Malformed(format!(
                "attribute {} has {} bytes where at least {} are due",
                self.kind,
                self.value.len(),
                start + 4
            ))
        })
    }

    /// A 32-bit number.
    pub(crate) fn u32(&self) -> Result<u32, Malformed> {
        self.word(0)
    }

    /// A 16-bit number.
    pub(crate) fn u16(&self) -> Result<u16, Malformed> {
        self.bytes::<2>().map(u16::from_ne_bytes)
    }

    /// An 8-bit number.
    pub(crate) fn u8(&self) -> Result<u8, Malformed> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    /// A string; the terminating zero is optional. Bytes that are no UTF-8 are shown as replacement characters.
    pub(crate) fn text(&self) -> String {
        let end = self.value.iter().position(|byte| *byte == 0).unwrap_or(self.value.len());
        String::from_utf8_lossy(self.value.get(..end).unwrap_or_default()).into_owned()
    }

    /// An Ethernet address; `None` for hardware addresses of other lengths.
    pub(crate) fn mac(&self) -> Option<MacAddress> {
        <[u8; 6]>::try_from(self.value).ok().map(MacAddress)
    }

    /// Lower-case hexadecimal digits, as sysfs prints identifiers.
    pub(crate) fn hex(&self) -> String {
        self.value.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The attributes nested in it.
    pub(crate) fn nested(&self) -> impl Iterator<Item = Result<Attr<'a>, Malformed>> + 'a + use<'a> {
        attrs(self.value)
    }
}
