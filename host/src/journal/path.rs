//! The management path as it was last seen, kept over boots: `management-path.json` in the state directory.

use std::path::{Path, PathBuf};

use portwright_core::drive::chain;
use portwright_core::management::to_remember;
use portwright_core::observed::{PathSeen, Problem};
use portwright_core::{Object, Observed};

use crate::root::Root;
use crate::write::{self, WriteError};

const FILE: &str = "management-path.json";
/// Some dozens of names with their reasons.
const LARGEST: usize = 1024 * 1024;

fn file(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// Reads it. A file that cannot be read is a problem, and what it knew is not known.
pub(crate) fn path_seen(root: &Root, state_dir: &Path, problems: &mut Vec<Problem>) -> Option<PathSeen> {
    let path = file(state_dir);
    let mut tell = |why: String| {
        let reason = format!("{}, the management path as last seen, is not used: {why}", path.display());
        problems.push(Problem { object: Object::Node, reason });
    };
    match root.document(&path, LARGEST) {
        Ok(text) => match serde_json::from_str(&text) {
            Ok(seen) => Some(seen),
            Err(error) => {
                tell(error.to_string());
                None
            }
        },
        Err(error) if error.is_absent() => None,
        Err(error) => {
            tell(chain(&error));
            None
        }
    }
}

/// Keeps what the node is reached over, for times when nothing shows it; written only when it runs over something else.
pub(crate) fn note_path(state_dir: &Path, observed: &mut Observed) {
    let now = to_remember(observed);
    let kept = observed.management.last_seen.as_ref();
    if now == PathSeen::default() || kept.is_some_and(|kept| kept.runs_as(&now)) {
        return;
    }
    if let Err(error) = keep(state_dir, &now) {
        observed.problems.push(Problem { object: Object::Node, reason: chain(&error) });
    }
    observed.management.last_seen = Some(now);
}

fn keep(state_dir: &Path, seen: &PathSeen) -> Result<(), WriteError> {
    let text = serde_json::to_vec_pretty(seen).unwrap_or_default();
    write::replace(&file(state_dir), &text, 0o600, 0o700)
}
