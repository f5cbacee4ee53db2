//! The parent's side: a writer process, spoken to with deadlines.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use super::claim::Claim;
use super::{Answer, ChildError, Command, WRITER_ARGUMENT};
use crate::deadline::Deadline;

/// How long an idle writer may take to end once its input is closed.
const END_WITHIN: Duration = Duration::from_secs(2);
/// An answer is one short line.
const LONGEST_ANSWER: usize = 64 * 1024;

/// How writers are started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    /// The program; the running one is `/proc/self/exe`.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

impl Default for Launcher {
    /// The running program as a writer.
    fn default() -> Launcher {
        Launcher::of("/proc/self/exe")
    }
}

impl Launcher {
    /// A program that calls [`super::child_main`] when its first argument is [`WRITER_ARGUMENT`].
    pub fn of(program: impl Into<PathBuf>) -> Launcher {
        Launcher { program: program.into(), arguments: vec![WRITER_ARGUMENT.into()] }
    }

    /// Starts a writer.
    pub fn start(&self) -> Result<Writer, ChildError> {
        self.start_with(Stdio::null())
    }

    /// Starts the writer of a PF, which holds the claim from now on.
    pub(crate) fn start_for(&self, claim: Claim) -> Result<Writer, ChildError> {
        let fail = |source| ChildError::Start { program: self.program.clone(), source };
        let writer = self.start_with(claim.copy().map_err(fail)?.into())?;
        claim.name(writer.pid()).map_err(fail)?;
        Ok(writer)
    }

    fn start_with(&self, errors: Stdio) -> Result<Writer, ChildError> {
        #[allow(
            clippy::disallowed_methods,
            reason = "this is the seam that starts children, with a watchdog"
        )]
        let mut command = std::process::Command::new(&self.program);
        // A group of its own: an interrupt typed at the parent's terminal must not reach a write half-way.
        command.args(&self.arguments).process_group(0).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let fail = |source| ChildError::Start { program: self.program.clone(), source };
        let mut child = command.spawn().map_err(fail)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(fail(io::Error::other("its pipes are missing")));
        };
        Ok(Writer { child, input: Some(input), output })
    }
}

/// A writer process. Dropping it ends it, unless it is in the middle of a write: then it is left to end by itself.
#[derive(Debug)]
pub struct Writer {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
}

impl Writer {
    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        // An error means that there is no such child any more.
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until the process has ended, which it does by itself once its input is closed; whether it has.
    pub fn wait_for_end(&mut self, deadline: Deadline) -> bool {
        self.input = None;
        // It closes its output when it ends; only then is waiting for it sure to be short.
        loop {
            match read_line(&mut self.output, deadline) {
                Ok(Some(_)) => {}
                Ok(None) => return self.has_ended(),
                Err(_) => {
                    self.child.wait().map(drop).unwrap_or_default();
                    return true;
                }
            }
        }
    }

    /// Carries out one command. After [`ChildError::Stuck`] or [`ChildError::Ended`] the writer takes no more.
    pub fn carry_out(&mut self, command: &Command, within: Duration) -> Result<(), ChildError> {
        let (pid, what) = (self.pid(), command.words());
        let ended = |source| ChildError::Ended { what: what.clone(), pid, source };
        let mut line = serde_json::to_string(command).map_err(|error| ended(Some(error.into())))?;
        line.push('\n');
        let input = self.input.as_mut().ok_or_else(|| ended(None))?;
        if let Err(error) = input.write_all(line.as_bytes()).and_then(|()| input.flush()) {
            return Err(ended(Some(error)));
        }
        let answer = match read_line(&mut self.output, Deadline::after(within)) {
            Ok(Some(line)) => serde_json::from_slice(&line).map_err(|error| ended(Some(error.into())))?,
            Ok(None) => {
                // Nothing more is asked of it: when the write returns, it finds its input closed and ends.
                self.input = None;
                return Err(ChildError::Stuck { what, pid, after: within });
            }
            Err(error) => return Err(ended(Some(error))),
        };
        match answer {
            Answer::Done => Ok(()),
            Answer::Refused { errno, text } => {
                let errno = (errno != 0).then(|| Errno::from_raw(errno));
                Err(ChildError::Refused { what, errno, text })
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Without input it is stuck already: it may take for ever.
        if self.input.is_some() {
            self.wait_for_end(Deadline::after(END_WITHIN));
        }
    }
}

/// Reads a line; `None` when the deadline has passed; an error at the end of the output.
fn read_line(output: &mut ChildStdout, deadline: Deadline) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let mut wait = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
        match poll(&mut wait, deadline.poll_timeout()) {
            Ok(0) if deadline.expired() => return Ok(None),
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        // One command, one answer: nothing follows a line.
        let mut chunk = [0_u8; 4096];
        let length = output.read(&mut chunk)?;
        if length == 0 || line.len() > LONGEST_ANSWER {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(chunk.get(..length).unwrap_or_default());
        if line.ends_with(b"\n") {
            return Ok(Some(line));
        }
    }
}
