//! What a `modify` of update2 and update3 means (ovsdb-server(7)): for a column that can hold several elements the
//! server sends a difference, for any other the new value. In a set's difference an element that we have goes and
//! one that we lack comes. In a map's difference a pair that we have goes, a key that we have with another value is
//! changed, and a key that we lack comes.

use std::cmp::Ordering;
use std::iter::Peekable;

use super::schema::ColumnType;
use super::{Atom, Datum};

/// Applies `diff` to `old`. Both must have the column's kind.
pub(crate) fn apply(kind: &ColumnType, old: &Datum, diff: Datum) -> Datum {
    if !kind.is_composite() {
        return diff;
    }
    match (old, diff) {
        (Datum::Set(old), Datum::Set(diff)) => Datum::Set(symmetric_difference(old, diff)),
        (Datum::Map(old), Datum::Map(diff)) => Datum::Map(patch(old, diff)),
        (Datum::Set(_), diff @ Datum::Map(_)) | (Datum::Map(_), diff @ Datum::Set(_)) => diff,
    }
}

fn symmetric_difference(old: &[Atom], diff: Box<[Atom]>) -> Box<[Atom]> {
    let mut result = Vec::with_capacity(old.len() + diff.len());
    let mut old = old.iter().peekable();
    for element in diff.into_vec() {
        copy_below(&mut old, &mut result, |have| have.cmp(&element));
        match old.next_if(|have| **have == element) {
            Some(_removed) => {}
            None => result.push(element),
        }
    }
    result.extend(old.cloned());
    result.into_boxed_slice()
}

fn patch(old: &[(Atom, Atom)], diff: Box<[(Atom, Atom)]>) -> Box<[(Atom, Atom)]> {
    let mut result = Vec::with_capacity(old.len() + diff.len());
    let mut old = old.iter().peekable();
    for (key, value) in diff.into_vec() {
        copy_below(&mut old, &mut result, |(have, _)| have.cmp(&key));
        match old.next_if(|(have, _)| *have == key) {
            Some((_, same)) if *same == value => {}
            Some(_) | None => result.push((key, value)),
        }
    }
    result.extend(old.cloned());
    result.into_boxed_slice()
}

fn copy_below<'a, T: Clone + 'a>(
    old: &mut Peekable<impl Iterator<Item = &'a T>>,
    result: &mut Vec<T>,
    compare: impl Fn(&T) -> Ordering,
) {
    while let Some(element) = old.next_if(|have| compare(have) == Ordering::Less) {
        result.push(element.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema::AtomKind;
    use super::*;

    const SET: ColumnType = ColumnType { key: AtomKind::Integer, value: None, min: 0, max: None };
    const MAP: ColumnType =
        ColumnType { key: AtomKind::String, value: Some(AtomKind::String), min: 0, max: None };
    const OPTIONAL: ColumnType = ColumnType { key: AtomKind::Integer, value: None, min: 0, max: Some(1) };

    #[test]
    fn sets_take_the_symmetric_difference() {
        for (old, diff, new) in [
            (vec![], vec![1, 2], vec![1, 2]),
            (vec![1, 2, 3], vec![1, 3, 4], vec![2, 4]),
            (vec![1, 2], vec![1, 2], vec![]),
            (vec![5], vec![0, 9], vec![0, 5, 9]),
        ] {
            assert_eq!(apply(&SET, &Datum::set(old), Datum::set(diff)), Datum::set(new));
        }
    }

    #[test]
    fn maps_drop_equal_pairs_and_take_changed_ones() {
        // As ovsdb-server 3.1.0 sends it: b had the value 99 and goes, v comes.
        let old = Datum::map([("a", "1"), ("b", "99"), ("c", "3")]);
        let diff = Datum::map([("b", "99"), ("c", "4"), ("v", "1")]);
        assert_eq!(apply(&MAP, &old, diff), Datum::map([("a", "1"), ("c", "4"), ("v", "1")]));
    }

    #[test]
    fn optional_scalars_are_replaced() {
        assert_eq!(apply(&OPTIONAL, &Datum::from(5), Datum::from(7)), Datum::from(7));
        assert_eq!(apply(&OPTIONAL, &Datum::from(5), Datum::empty_set()), Datum::empty_set());
    }
}
