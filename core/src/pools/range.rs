//! `pfNames` and `rootDevices` entries of config.json: `ens1f0`, `ens1f0#0-3,7`.

use std::fmt;

/// A PF and the numbers of its functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionRange {
    /// Netdev name or PCI address of the PF.
    pub name: String,
    /// Inclusive runs of VF or SF numbers; `None` takes all functions, also those whose number is not known.
    pub indexes: Option<Vec<(u32, u32)>>,
}

impl FunctionRange {
    /// Reads an entry. Numbers are taken from left to right up to the first mistake, as the original does; the mistake is
    /// the second value, for the log.
    pub fn read(text: &str) -> (FunctionRange, Option<String>) {
        let Some((name, list)) = text.split_once('#') else {
            return (FunctionRange { name: text.to_owned(), indexes: None }, None);
        };
        let mut runs = Vec::new();
        let mut mistake = None;
        for item in list.split(',') {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first > last => {
                    mistake.get_or_insert_with(|| {
                        format!("`{item}` in `{text}` runs backwards and selects nothing")
                    });
                }
                (Some(first), Some(last)) => runs.push((first, last)),
                (None, _) | (_, None) => {
                    mistake = Some(format!(
                        "`{item}` in `{text}` is no number such as `3` and no range such as `0-3`; it and what follows select nothing"
                    ));
                    break;
                }
            }
        }
        (FunctionRange { name: name.to_owned(), indexes: Some(runs) }, mistake)
    }

    /// Adds another entry for the same PF.
    pub fn unite(&mut self, other: FunctionRange) {
        match (&mut self.indexes, other.indexes) {
            (Some(runs), Some(more)) => runs.extend(more),
            (indexes, None) => *indexes = None,
            (None, Some(_)) => {}
        }
    }

    /// Whether a function of this number is meant; an unknown number only where no numbers are given.
    pub fn holds(&self, index: Option<u32>) -> bool {
        match (&self.indexes, index) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(runs), Some(index)) => runs.iter().any(|(first, last)| (*first..=*last).contains(&index)),
        }
    }
}

/// Digits only: no sign, no space.
fn number(digits: &str) -> Option<u32> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

impl fmt::Display for FunctionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        let Some(runs) = &self.indexes else { return Ok(()) };
        let each = |(first, last): &(u32, u32)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        };
        write!(f, "#{}", runs.iter().map(each).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_up_to_the_first_mistake() {
        let cases: [(&str, Option<&[u32]>, bool); 11] = [
            ("p0", None, false),
            ("p0#0-2,7", Some(&[0, 1, 2, 7]), false),
            ("p0#0,x", Some(&[0]), true),
            ("p0#0, 2", Some(&[0]), true),
            ("p0#", Some(&[]), true),
            ("p0#1-2-3", Some(&[]), true),
            ("p0#-1", Some(&[]), true),
            ("p0#1#2", Some(&[]), true),
            ("p0#5-3,1", Some(&[1]), true),
            ("p0#99999999999", Some(&[]), true),
            ("p0#3,,4", Some(&[3]), true),
        ];
        for (text, taken, wrong) in cases {
            let (range, mistake) = FunctionRange::read(text);
            assert_eq!(mistake.is_some(), wrong, "{text}: {mistake:?}");
            assert_eq!(range.name, "p0", "{text}");
            match taken {
                None => assert!(range.holds(None) && range.holds(Some(9)), "{text}"),
                Some(taken) => {
                    let found: Vec<u32> = (0..200).filter(|index| range.holds(Some(*index))).collect();
                    assert_eq!(found, taken, "{text}");
                    assert!(!range.holds(None), "{text}: an unknown number never matches a list");
                }
            }
        }
    }
}
