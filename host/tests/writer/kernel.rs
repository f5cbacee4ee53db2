//! What the trees of these tests borrow from the kernel: a write that blocks, and addresses of VFs.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc::O_NONBLOCK;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
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

/// A full pipe in the place of `sriov_numvfs`: the writer can open it, which shows that it has begun, and its write waits.
pub(crate) struct FullPipe {
    path: PathBuf,
    full: fs::File,
    opened: Inotify,
}

impl FullPipe {
    pub(crate) fn new(root: &Path, pf: &str) -> FullPipe {
        let path = pipe(root, pf);
        let mut options = fs::OpenOptions::new();
        let mut full = options.read(true).write(true).custom_flags(O_NONBLOCK).open(&path).unwrap();
        while full.write(&[b'x'; 4096]).is_ok() {}
        let opened = Inotify::init(InitFlags::empty()).unwrap();
        opened.add_watch(&path, AddWatchFlags::IN_OPEN).unwrap();
        FullPipe { path, full, opened }
    }

    /// Waits until somebody has opened it.
    pub(crate) fn wait_for_writer(&self) {
        self.opened.read_events().unwrap();
    }

    /// Lets the write return; what was written.
    pub(crate) fn let_go(self) -> String {
        let mut reader = fs::File::open(&self.path).unwrap();
        drop(self.full);
        let mut written = String::new();
        reader.read_to_string(&mut written).unwrap();
        written.trim_start_matches('x').to_owned()
    }
}
