//! One vocabulary: every reason that the product gives is explained in docs/errors.md, and nothing else is.

use super::Files;
use std::collections::BTreeSet;

const SOURCE: &str = "core/src/blocked.rs";
const CATALOGUE: &str = "docs/errors.md";

/// Reasons without a heading, and headings without a reason.
pub(super) fn check(files: &Files) -> Vec<String> {
    let (Some(source), Some(catalogue)) = (files.get(SOURCE), files.get(CATALOGUE)) else {
        return vec![format!("{SOURCE} or {CATALOGUE} is missing")];
    };
    let variants = variants(source);
    if variants.is_empty() {
        return vec![format!("{SOURCE}: no reasons found; has the list moved?")];
    }
    let headings: BTreeSet<String> = catalogue
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|line| line.trim().to_owned())
        .collect();
    let missing = variants.difference(&headings).map(|name| format!("{CATALOGUE}: no heading `## {name}`"));
    // Headings of several words are chapters, not reasons.
    let extra = headings.difference(&variants).filter(|name| is_variant(name));
    missing.chain(extra.map(|name| format!("{CATALOGUE}: {name} is no reason in {SOURCE}"))).collect()
}

/// The names in the list that follows `reasons! {` or `enum Reason {`, one a line.
fn variants(source: &str) -> BTreeSet<String> {
    let starts = |line: &&str| {
        let line = line.trim();
        line == "reasons! {" || line == "pub enum Reason {"
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
    use super::{CATALOGUE, SOURCE, check};
    use crate::tidy::Files;

    fn files(source: &str, catalogue: &str) -> Files {
        Files::from([(SOURCE.to_owned(), source.to_owned()), (CATALOGUE.to_owned(), catalogue.to_owned())])
    }

    #[test]
    fn both_directions() {
        let source = "reasons! {\n    /// Why.\n    VfInUse,\n    PfMissing,\n}\n";
        assert!(check(&files(source, "# T\n## VfInUse\n## PfMissing\n## How to read\n")).is_empty());
        assert_eq!(check(&files(source, "## VfInUse\n")).len(), 1);
        assert_eq!(check(&files(source, "## VfInUse\n## PfMissing\n## Gone\n")).len(), 1);
        assert_eq!(check(&files("enum Other { A }", "")).len(), 1);
    }
}
