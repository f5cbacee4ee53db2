//! How much room there is. A NodeState has to stay far below what etcd takes; what does not fit is left out, and how much
//! that was is told.

use std::collections::BTreeMap;

use portwright_api::state::limit;
use serde_json::Value;

/// A text is never cut shorter than this many bytes.
const SHORTEST: usize = 64;

/// The room for one attempt, and what was left out in it.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// How often every limit is halved.
    halvings: u32,
    /// Field path and how many members are not shown.
    pub(super) omitted: BTreeMap<String, u32>,
}

impl Room {
    /// Room after so many attempts that were too large.
    pub(super) fn new(halvings: u32) -> Room {
        Room { halvings, omitted: BTreeMap::new() }
    }

    fn most(&self, limit: usize) -> usize {
        (limit >> self.halvings.min(16)).max(1)
    }

    /// The first members, as many as there is room for.
    pub(super) fn fit<T>(&mut self, field: &str, limit: usize, mut list: Vec<T>) -> Vec<T> {
        let most = self.most(limit);
        let left_out = list.len().saturating_sub(most);
        if left_out > 0 {
            list.truncate(most);
            let count = self.omitted.entry(field.to_owned()).or_default();
            *count = count.saturating_add(number(left_out));
        }
        list
    }

    /// As [`Room::fit`], but of a list that does not fit those members stay that come first in the order of `rank`. The
    /// order of the list stays.
    pub(super) fn fit_by<T, R: Ord>(
        &mut self,
        field: &str,
        limit: usize,
        list: Vec<T>,
        rank: impl Fn(&T) -> R,
    ) -> Vec<T> {
        if list.len() <= self.most(limit) {
            return list;
        }
        let mut numbered: Vec<(usize, T)> = list.into_iter().enumerate().collect();
        numbered.sort_by_key(|(_, member)| rank(member));
        let mut kept = self.fit(field, limit, numbered);
        kept.sort_by_key(|(position, _)| *position);
        kept.into_iter().map(|(_, member)| member).collect()
    }

    /// A text, cut if it is too long.
    pub(super) fn text(&self, text: &str) -> String {
        let most = self.most(limit::TEXT).max(SHORTEST);
        if text.len() <= most {
            return text.to_owned();
        }
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        format!("{}…", text.get(..end).unwrap_or_default())
    }

    /// A value of a step: none for null, and as cut text if it is too large.
    pub(super) fn value(&self, value: Value) -> Option<Value> {
        if value.is_null() {
            return None;
        }
        let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        let cut = self.text(&text);
        Some(if cut == text { value } else { Value::String(cut) })
    }
}

/// A number of members.
pub(super) fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_left_out_is_counted() {
        let mut room = Room::default();
        assert_eq!(room.fit("a", 3, vec![1, 2, 3]), [1, 2, 3]);
        assert!(room.omitted.is_empty());
        assert_eq!(room.fit("a", 2, vec![1, 2, 3]), [1, 2]);
        assert_eq!(room.fit_by("a", 3, vec![5, 4, 1, 3, 2], |number| *number), [1, 3, 2]);
        assert_eq!(room.omitted, BTreeMap::from([("a".to_owned(), 3)]));
        let mut little = Room::new(40);
        assert_eq!(little.fit("b", 4096, vec![1, 2, 3]), [1]);
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let room = Room::new(20);
        let long = "ä".repeat(100);
        assert_eq!(room.text(&long), format!("{}…", "ä".repeat(32)));
        assert_eq!(room.text("short"), "short");
        assert_eq!(room.value(Value::Null), None);
        assert_eq!(room.value(json!(7)), Some(json!(7)));
        assert_eq!(room.value(json!({"a": 1})), Some(json!({"a": 1})));
        assert!(room.value(json!({"a": long})).unwrap().is_string());
    }
}
