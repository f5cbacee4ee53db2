//! What the trees of these tests borrow from the kernel: a write that blocks, and addresses of VFs.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::tree::TreeBuilder;

/// Puts a named pipe where `sriov_numvfs` is: a write waits until somebody reads.
pub(crate) fn pipe(root: &Path, pf: &str) -> PathBuf {
    let path = root.join(TreeBuilder::function_path(pf)).join("sriov_numvfs");
    fs::remove_file(&path).unwrap();
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    path
}

/// Address of a VF of a PF whose address ends in `00.0`.
pub(crate) fn vf_name(pf: &str, index: u32) -> String {
    format!("{}10.{index}", pf.strip_suffix("00.0").unwrap())
}
