//! Targets of the fuzzing loop in `tests/fuzz`: safe functions that take whatever bytes.

use super::range::FunctionRange;
use super::{config, spec};

/// A whole config.json: an answer, whatever it holds, and one that is the same the second time.
pub fn fuzz_config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let read = config::parse(&text, spec::CONFIG_PREFIX);
    assert_eq!(read, config::parse(&text, spec::CONFIG_PREFIX), "reading is a function of the text");
    if let Ok(config) = read {
        let specs = spec::of_config(&config, None);
        assert!(spec::twice(&specs).is_none(), "no name twice in what was accepted");
    }
}

/// An entry of `pfNames`: what is printed selects the same.
pub fn fuzz_range(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (range, mistake) = FunctionRange::read(&text);
    let empty = range.indexes.as_ref().is_some_and(Vec::is_empty);
    if mistake.is_none() && !empty && !range.name.contains('#') {
        assert_eq!(FunctionRange::read(&range.to_string()).0, range, "{text:?}");
    }
    assert!(range.indexes.is_none() || !range.holds(None), "an unknown number never matches a list");
}
