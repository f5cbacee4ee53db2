//! Values of columns. OVSDB knows atoms, sets and maps (RFC 7047 §5.1); a scalar is a set of one and an optional
//! scalar a set of none or one, so two kinds are enough. Elements are kept sorted and unique in one exact allocation:
//! a node with thousands of ports holds hundreds of thousands of these.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use super::Uuid;

/// One value without structure.
#[derive(Clone)]
pub enum Atom {
    /// A signed 64-bit integer.
    Integer(i64),
    /// A floating-point number; ordered by IEEE 754 total order.
    Real(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// A string, UTF-8.
    String(Box<str>),
    /// A reference to a row, or a row's own `_uuid`.
    Uuid(Uuid),
}

impl Atom {
    fn rank(&self) -> u8 {
        match self {
            Self::Integer(_) => 0,
            Self::Real(_) => 1,
            Self::Boolean(_) => 2,
            Self::String(_) => 3,
            Self::Uuid(_) => 4,
        }
    }

    /// The text, if this is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The number, if this is an integer.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        if let Self::Integer(number) = self { Some(*number) } else { None }
    }

    /// The row identity, if this is one.
    #[must_use]
    pub fn as_uuid(&self) -> Option<Uuid> {
        if let Self::Uuid(uuid) = self { Some(*uuid) } else { None }
    }
}

impl Ord for Atom {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Real(a), Self::Real(b)) => a.total_cmp(b),
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (Self::Uuid(a), Self::Uuid(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PartialOrd for Atom {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Atom {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Atom {}

impl fmt::Debug for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => write!(f, "{number}"),
            Self::Real(number) => write!(f, "{number:?}"),
            Self::Boolean(flag) => write!(f, "{flag}"),
            Self::String(text) => write!(f, "{text:?}"),
            Self::Uuid(uuid) => write!(f, "{uuid}"),
        }
    }
}

impl From<i64> for Atom {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<bool> for Atom {
    fn from(flag: bool) -> Self {
        Self::Boolean(flag)
    }
}

impl From<&str> for Atom {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Atom {
    fn from(text: String) -> Self {
        Self::String(text.into_boxed_str())
    }
}

impl From<Uuid> for Atom {
    fn from(uuid: Uuid) -> Self {
        Self::Uuid(uuid)
    }
}

/// The value of one column of one row: elements sorted and unique.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Datum {
    /// A set; scalars are sets of one.
    Set(Box<[Atom]>),
    /// A map, sorted by key.
    Map(Box<[(Atom, Atom)]>),
}

impl Datum {
    /// A set; duplicates are dropped.
    pub fn set<A: Into<Atom>>(elements: impl IntoIterator<Item = A>) -> Self {
        let mut elements: Vec<Atom> = elements.into_iter().map(Into::into).collect();
        elements.sort_unstable();
        elements.dedup();
        Self::Set(elements.into_boxed_slice())
    }

    /// A map; of two pairs with the same key the last one stays.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let pairs: BTreeMap<Atom, Atom> =
            pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self::Map(pairs.into_iter().collect())
    }

    /// The set without elements.
    #[must_use]
    pub fn empty_set() -> Self {
        Self::Set(Box::new([]))
    }

    /// The map without pairs.
    #[must_use]
    pub fn empty_map() -> Self {
        Self::Map(Box::new([]))
    }

    /// How many elements or pairs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Set(elements) => elements.len(),
            Self::Map(pairs) => pairs.len(),
        }
    }

    /// Whether there is no element or pair.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements of a set; nothing for a map.
    #[must_use]
    pub fn elements(&self) -> &[Atom] {
        match self {
            Self::Set(elements) => elements,
            Self::Map(_) => &[],
        }
    }

    /// The pairs of a map; nothing for a set.
    #[must_use]
    pub fn pairs(&self) -> &[(Atom, Atom)] {
        match self {
            Self::Set(_) => &[],
            Self::Map(pairs) => pairs,
        }
    }

    /// The only element of a set, if it has exactly one.
    #[must_use]
    pub fn scalar(&self) -> Option<&Atom> {
        if let [only] = self.elements() { Some(only) } else { None }
    }

    /// The value of a string key in a map.
    #[must_use]
    pub fn value_of(&self, key: &str) -> Option<&str> {
        let pairs = self.pairs();
        let at = pairs
            .binary_search_by(|(have, _)| have.as_str().map_or(Ordering::Less, |have| have.cmp(key)))
            .ok()?;
        pairs.get(at)?.1.as_str()
    }
}

impl fmt::Debug for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(elements) => match elements.as_ref() {
                [only] => only.fmt(f),
                elements => f.debug_set().entries(elements).finish(),
            },
            Self::Map(pairs) => f.debug_map().entries(pairs.iter().map(|(key, value)| (key, value))).finish(),
        }
    }
}

impl<A: Into<Atom>> From<A> for Datum {
    fn from(atom: A) -> Self {
        Self::Set(Box::new([atom.into()]))
    }
}
