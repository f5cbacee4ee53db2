//! Every fixture says whether it was captured from a real system or written by hand.

use super::Files;
use std::collections::BTreeSet;

/// Fixture folders whose nearest README does not say it.
pub(super) fn check(files: &Files) -> Vec<String> {
    let folders: BTreeSet<String> = files.keys().filter_map(|path| fixture_folder(path)).collect();
    let says = |folder: &str| {
        let readme = |name| files.get(&format!("{folder}/{name}"));
        [readme("README.md"), readme("README.txt")].into_iter().flatten().any(|text| says_origin(text))
    };
    folders
        .into_iter()
        .filter(|folder| !ancestors(folder).any(says))
        .map(|folder| {
            format!("{folder}: no README here or above says whether it was captured or written by hand")
        })
        .collect()
}

/// The folder of a file that lies below a folder named `fixtures`.
fn fixture_folder(path: &str) -> Option<String> {
    let (folder, _) = path.rsplit_once('/')?;
    folder.split('/').any(|part| part == "fixtures").then(|| folder.to_owned())
}

/// The folder itself and those above it, up to the one named `fixtures`.
fn ancestors(folder: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(folder), |folder| above(folder))
}

fn above(folder: &str) -> Option<&str> {
    let (above, name) = folder.rsplit_once('/')?;
    (name != "fixtures").then_some(above)
}

fn says_origin(text: &str) -> bool {
    let text = text.to_lowercase();
    ["captured", "by hand", "hand-written"].iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::Files;

    fn files(entries: &[(&str, &str)]) -> Files {
        entries.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn the_nearest_readme_up_to_the_fixtures_folder_counts() {
        let a = ("tests/fixtures/a/x.json", "{}");
        assert_eq!(check(&files(&[a])).len(), 1);
        assert_eq!(check(&files(&[a, ("tests/README.md", "captured")])).len(), 1, "too far up");
        assert!(check(&files(&[a, ("tests/fixtures/README.md", "All written by hand.")])).is_empty());
        assert!(check(&files(&[a, ("tests/fixtures/a/README.md", "Captured on 6.12.")])).is_empty());
        assert!(check(&files(&[a, ("tests/fixtures/a/README.txt", "Written by hand.")])).is_empty());
        assert_eq!(check(&files(&[a, ("tests/fixtures/a/README.md", "Nice.")])).len(), 1);
        assert!(check(&files(&[("src/x.rs", "")])).is_empty());
    }
}
