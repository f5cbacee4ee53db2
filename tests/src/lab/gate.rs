//! Stops a foreign process exactly where it is about to write a file of the kernel: a pipe without a reader is put over
//! the file, so that opening it for writing waits until somebody opens it for reading.

use super::sys;
use anyhow::{Context as _, Result};
use std::sync::mpsc;
use std::time::Duration;

const PIPE: &str = "/tmp/gate";

/// A pipe in front of a file; taken away by [`Gate::open`] or when dropped.
#[derive(Debug)]
pub(crate) struct Gate {
    file: String,
    /// Whether the text was taken; none while nobody reads.
    reached: Option<mpsc::Receiver<Result<String>>>,
}

impl Gate {
    /// Puts the pipe in front of `file`, which must be one that is only written.
    pub(crate) fn before(file: &str) -> Result<Self> {
        let mut gate = Self::shut(file)?;
        gate.read();
        Ok(gate)
    }

    /// The same, but whoever writes hangs until the pipe is taken away.
    pub(crate) fn shut(file: &str) -> Result<Self> {
        sys::remove(PIPE)?;
        sys::tool("mkfifo", &[PIPE])?;
        sys::tool("mount", &["--bind", PIPE, file])?;
        Ok(Self { file: file.to_owned(), reached: None })
    }

    fn read(&mut self) {
        let (sender, reached) = mpsc::channel();
        // Reading ends when the writer has written and closed, or died.
        std::thread::spawn(move || sender.send(sys::read_when_opened(PIPE)).ok());
        self.reached = Some(reached);
    }

    /// Waits until somebody has opened the file for writing (and its text was taken here instead of by the kernel).
    pub(crate) fn reached(&self, deadline: Duration) -> Result<String> {
        let reached = self.reached.as_ref().context("nobody reads")?;
        reached.recv_timeout(deadline).with_context(|| format!("nobody opened {} for writing", self.file))?
    }

    /// Takes the pipe away, and lets go whoever hangs in it.
    pub(crate) fn open(mut self) -> Result<()> {
        // Lazily: whoever hangs in it has it open.
        sys::tool("umount", &["-l", &self.file])?;
        if self.reached.is_none() {
            self.read();
        }
        Ok(())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Already away after `open`.
        sys::run(sys::command("umount", &["-l", &self.file]), Duration::from_secs(10)).ok();
    }
}
