//! PFs with a write that has not returned.
//!
//! Each is a file under `/run/portwright/stuck/`, named as the PF: it outlives the agent, not the node's boot. It counts for
//! as long as the process that makes the write exists; its start time tells it from a later process of the same number.

use std::path::PathBuf;

use portwright_core::PciAddress;
use serde::{Deserialize, Serialize};

use crate::deadline::unix_seconds;
use crate::root::Root;
use crate::write::{self, WriteError};

/// Folder of the files, below the host's root.
pub const FOLDER: &str = "run/portwright/stuck";

/// A write that has not returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stuck {
    /// The process that makes it.
    pub pid: u32,
    /// Its start time in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub started: Option<u64>,
    /// What is being written where.
    pub what: String,
    /// When it was given up, in seconds since 1970.
    pub since: u64,
}

impl std::fmt::Display for Stuck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} has not returned since {} (Unix time); pid {} waits for it",
            self.what, self.since, self.pid
        )
    }
}

fn path(root: &Root, pf: PciAddress) -> PathBuf {
    root.join(FOLDER).join(pf.to_string())
}

/// Marks a PF.
pub fn mark(root: &Root, pf: PciAddress, pid: u32, what: String) -> Result<Stuck, WriteError> {
    let stuck = Stuck { pid, started: started(root, pid), what, since: unix_seconds() };
    // Numbers and strings always have a JSON form.
    let text = serde_json::to_string_pretty(&stuck).unwrap_or_default();
    write::replace(&path(root, pf), text.as_bytes(), 0o644, 0o755)?;
    Ok(stuck)
}

/// The write that a PF is stuck with; `None` if there is none or its process has gone.
///
/// A file that cannot be read counts as stuck: better no change than one on top of a write that hangs.
pub fn look(root: &Root, pf: PciAddress) -> Option<String> {
    let text = match root.document(path(root, pf), 64 * 1024) {
        Ok(text) => text,
        Err(error) if error.is_absent() => return None,
        Err(error) => return Some(portwright_core::drive::chain(&error)),
    };
    match serde_json::from_str::<Stuck>(&text) {
        Ok(stuck) => still_there(root, &stuck).then(|| stuck.to_string()),
        Err(error) => Some(format!("{} cannot be read: {error}", path(root, pf).display())),
    }
}

/// PFs with a mark, also of ones that are not there any more: their write hangs all the same.
pub(crate) fn marked(root: &Root) -> Vec<PciAddress> {
    let names = root.names(FOLDER).unwrap_or_default();
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

/// Takes the mark away once its process has gone. Returns whether the PF is free.
pub fn clear(root: &Root, pf: PciAddress) -> Result<bool, WriteError> {
    if look(root, pf).is_some() {
        return Ok(false);
    }
    write::remove(&path(root, pf)).map(|()| true)
}

fn still_there(root: &Root, stuck: &Stuck) -> bool {
    match started(root, stuck.pid) {
        None => false,
        Some(now) => stuck.started.is_none_or(|then| then == now),
    }
}

/// Start time of a process; `None` if it has ended, also if nobody has waited for it yet.
fn started(root: &Root, pid: u32) -> Option<u64> {
    let stat = root.document(format!("proc/{pid}/stat"), 4096).ok()?;
    // The command, in parentheses, may itself hold spaces and parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}
