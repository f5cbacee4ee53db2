//! What the command line itself keeps in the state directory: the report of the last run that changed something.

use std::path::Path;

use portwright_core::drive::chain;
use portwright_host::write;
use serde_json::Value;

use crate::output;

/// File name of the last report.
pub const LAST_APPLY: &str = "last-apply.json";

/// Keeps a report for `bundle`. The run is over: that its report cannot be kept is said and is no failure of the run.
pub fn keep_report(state_dir: &Path, report: &Value) {
    let path = state_dir.join(LAST_APPLY);
    let kept = write::replace(&path, format!("{report:#}\n").as_bytes(), 0o600, 0o755);
    if let Err(error) = kept {
        output::stderr(&format!(
            "warning: the report is not kept for `portwright bundle`: {}\n",
            chain(&error)
        ));
    }
}
