//! VF index ranges as policies write them: `0-3`, `5`, `0-3,5`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Why a range was refused; the text names the part and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Nothing between two commas, or nothing at all.
    #[error("`{text}` holds an empty part; write single numbers and ranges such as `0-3,5`")]
    Empty {
        /// The whole text.
        text: String,
    },
    /// A part that is no number.
    #[error("`{part}` in `{text}` is not a VF number between 0 and 65535")]
    NotANumber {
        /// The part.
        part: String,
        /// The whole text.
        text: String,
    },
    /// `5-3`.
    #[error("`{part}` in `{text}` runs backwards; write the smaller number first")]
    Backwards {
        /// The part.
        part: String,
        /// The whole text.
        text: String,
    },
    /// The same VF twice.
    #[error("VF {index} is named twice in `{text}`")]
    Twice {
        /// The VF number.
        index: u16,
        /// The whole text.
        text: String,
    },
}

/// A non-empty set of VF numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexSet(BTreeSet<u16>);

impl IndexSet {
    /// Whether the VF number is in the set.
    pub fn contains(&self, index: u16) -> bool {
        self.0.contains(&index)
    }

    /// The numbers in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().copied()
    }

    /// The largest number.
    pub fn last(&self) -> Option<u16> {
        self.0.last().copied()
    }

    /// The first number that both sets hold.
    pub fn overlap(&self, other: &IndexSet) -> Option<u16> {
        self.0.intersection(&other.0).next().copied()
    }

    /// A set of the given numbers; `None` if there is none.
    pub fn from_indexes(indexes: impl IntoIterator<Item = u16>) -> Option<IndexSet> {
        let set: BTreeSet<u16> = indexes.into_iter().collect();
        (!set.is_empty()).then_some(IndexSet(set))
    }
}

impl FromStr for IndexSet {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut set = BTreeSet::new();
        for part in text.split(',').map(str::trim) {
            if part.is_empty() {
                return Err(RangeError::Empty { text: text.to_owned() });
            }
            let number = |digits: &str| {
                let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                plain
                    .then(|| digits.parse::<u16>().ok())
                    .flatten()
                    .ok_or_else(|| RangeError::NotANumber { part: part.to_owned(), text: text.to_owned() })
            };
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first.trim())?, number(last.trim())?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err(RangeError::Backwards { part: part.to_owned(), text: text.to_owned() });
            }
            for index in first..=last {
                if !set.insert(index) {
                    return Err(RangeError::Twice { index, text: text.to_owned() });
                }
            }
        }
        Ok(IndexSet(set))
    }
}

impl fmt::Display for IndexSet {
    /// The shortest form: neighbours are joined.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut runs: Vec<(u16, u16)> = Vec::new();
        for index in self.iter() {
            match runs.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(index) => *last = index,
                Some(_) | None => runs.push((index, index)),
            }
        }
        for (position, (first, last)) in runs.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written_in_their_shortest_form() {
        for (text, shortest) in [("0-3", "0-3"), ("5", "5"), ("0,1,2,4", "0-2,4"), (" 3 - 4 , 0", "0,3-4")] {
            assert_eq!(text.parse::<IndexSet>().unwrap().to_string(), shortest, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_range_is_said() {
        for (text, says) in [
            ("", "empty part"),
            ("0,", "empty part"),
            ("5-3", "backwards"),
            ("0,x", "`x` in `0,x` is not a VF number"),
            ("1-2-3", "not a VF number"),
            ("-1", "not a VF number"),
            ("70000", "not a VF number"),
            ("0-3,2", "VF 2 is named twice"),
        ] {
            let error = text.parse::<IndexSet>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
