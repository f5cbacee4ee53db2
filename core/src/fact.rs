//! What is known of one value: the value, that the kernel cannot say, or that nobody looked.
//!
//! `unknown` is never equal to a wish and never becomes a step; a wish that depends on it makes `plan` say so and
//! exit 2. `unsupported` means that the driver or kernel has no such thing at all.

use serde::{Deserialize, Serialize};

/// A value as it could be read. In JSON: the value itself, `"unknown"` or `"unsupported"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Fact<T> {
    /// Nobody could tell: the source (a tree on disk, for example) does not hold it.
    Absent(Absence),
    /// The value as the kernel reports it.
    Known(T),
}

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Absence {
    /// Not read: the source does not hold it, or reading failed (see `problems`).
    Unknown,
    /// The driver or the kernel does not have it.
    Unsupported,
}

impl<T> Default for Fact<T> {
    fn default() -> Self {
        Fact::UNKNOWN
    }
}

impl<T> Fact<T> {
    /// Nobody looked, or the source cannot hold it.
    pub const UNKNOWN: Fact<T> = Fact::Absent(Absence::Unknown);
    /// The driver or kernel has no such thing.
    pub const UNSUPPORTED: Fact<T> = Fact::Absent(Absence::Unsupported);

    /// The value, if there is one.
    pub fn known(&self) -> Option<&T> {
        match self {
            Fact::Known(value) => Some(value),
            Fact::Absent(_) => None,
        }
    }

    /// Whether nobody could tell (as opposed to a value or "unsupported").
    pub fn is_unknown(&self) -> bool {
        matches!(self, Fact::Absent(Absence::Unknown))
    }

    /// Whether driver or kernel lack it.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Fact::Absent(Absence::Unsupported))
    }
}

impl<T: PartialEq> Fact<T> {
    /// Whether the value is known and equal to `wish`. Unknown is never equal.
    pub fn is(&self, wish: &T) -> bool {
        self.known() == Some(wish)
    }
}

impl<T> From<T> for Fact<T> {
    fn from(value: T) -> Self {
        Fact::Known(value)
    }
}
