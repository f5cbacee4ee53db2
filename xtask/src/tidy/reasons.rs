//! One vocabulary: every reason that the product gives is explained in docs/errors.md, and nothing else is.

use super::Files;
use std::collections::BTreeSet;

const SOURCE: &str = "core/src/blocked.rs";
/// Further words that conditions use.
const WORDS: &str = "agent/src/daemon/state/word.rs";
const CATALOGUE: &str = "docs/errors.md";

/// Reasons without a heading, and headings without a reason.
pub(super) fn check(files: &Files) -> Vec<String> {
    let (Some(source), Some(catalogue)) = (files.get(SOURCE), files.get(CATALOGUE)) else {
        return vec![format!("{SOURCE} or {CATALOGUE} is missing")];
    };
    let mut all = variants(source);
    for (file, found) in
        [(SOURCE, all.clone()), (WORDS, files.get(WORDS).map(|text| variants(text)).unwrap_or_default())]
    {
        if found.is_empty() {
            return vec![format!("{file}: no reasons found; has the list moved?")];
        }
        all.extend(found);
    }
    let variants = all;
    let headings: BTreeSet<String> = catalogue
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|line| line.trim().to_owned())
        .collect();
    let missing = variants.difference(&headings).map(|name| format!("{CATALOGUE}: no heading `## {name}`"));
    // Headings of several words are chapters, not reasons.
    let extra = headings.difference(&variants).filter(|name| is_variant(name));
    missing
        .chain(extra.map(|name| format!("{CATALOGUE}: {name} is no reason in {SOURCE} or {WORDS}")))
        .collect()
}

/// The names in the list that follows `reasons! {`, `enum Reason {` or `enum Word {`, one a line.
fn variants(source: &str) -> BTreeSet<String> {
    let starts = |line: &&str| {
        let line = line.trim();
        line == "reasons! {" || line == "pub enum Reason {" || line == "pub enum Word {"
    };
    let list = source.lines().skip_while(|line| !starts(line)).skip(1);
    list.take_while(|line| line.trim() != "}")
        .filter_map(|line| line.trim().strip_suffix(','))
        .filter(|name| is_variant(name))
        .map(str::to_owned)
        .collect()
}

fn is_variant(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric())
        && name.chars().filter(char::is_ascii_uppercase).count() < name.len()
}

#[cfg(test)]
mod tests {
    use super::{CATALOGUE, SOURCE, WORDS, check};
    use crate::tidy::Files;

    fn files(source: &str, catalogue: &str) -> Files {
        let words = "pub enum Word {\n    InSync,\n}\n";
        let all = [(SOURCE, source), (WORDS, words), (CATALOGUE, catalogue)];
        Files::from(all.map(|(name, text)| (name.to_owned(), text.to_owned())))
    }

    #[test]
    fn both_directions() {
        let source = "reasons! {\n    /// Why.\n    VfInUse,\n    PfMissing,\n}\n";
        assert!(
            check(&files(source, "# T\n## VfInUse\n## PfMissing\n## InSync\n## How to read\n")).is_empty()
        );
        assert_eq!(check(&files(source, "## VfInUse\n## InSync\n")).len(), 1);
        assert_eq!(check(&files(source, "## VfInUse\n## PfMissing\n## InSync\n## Gone\n")).len(), 1);
        assert_eq!(check(&files("enum Other { A }", "")).len(), 1);
    }
}
