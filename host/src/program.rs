//! Programs of the host (`modprobe`, `udevadm`), run with a deadline.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{ChildStderr, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use crate::deadline::Deadline;

/// What of a program's complaints is kept.
const LONGEST: usize = 4096;

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With exit code 0.
    Well,
    /// With another, or by a signal: what it wrote to standard error, or how it ended.
    Badly(String),
    /// Not before the deadline. It was told to end and is not waited for: it may wait for the kernel itself.
    Late,
}

/// Runs a program and waits for its end.
pub(crate) fn run(program: &Path, arguments: &[&str], within: Duration) -> io::Result<Ended> {
    let deadline = Deadline::after(within);
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the seam that runs the host's programs, with a deadline"
    )]
    let mut command = std::process::Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let complaint = match child.stderr.take() {
        Some(stderr) => read_to_end(stderr, deadline),
        None => Some(String::new()),
    };
    // It closes its standard error when it ends.
    let Some(complaint) = complaint else {
        child.kill()?;
        return Ok(Ended::Late);
    };
    let status = child.wait()?;
    if status.success() {
        return Ok(Ended::Well);
    }
    let text = complaint.trim();
    Ok(Ended::Badly(if text.is_empty() { status.to_string() } else { text.to_owned() }))
}

/// What is written until the other side closes; `None` when the deadline has passed.
fn read_to_end(mut pipe: ChildStderr, deadline: Deadline) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let mut wait = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        match poll(&mut wait, deadline.poll_timeout()) {
            Ok(0) if deadline.expired() => return None,
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) | Err(_) => {}
        }
        let mut chunk = [0_u8; 1024];
        match pipe.read(&mut chunk) {
            Ok(0) | Err(_) => return Some(String::from_utf8_lossy(&bytes).into_owned()),
            Ok(length) if bytes.len() < LONGEST => {
                bytes.extend_from_slice(chunk.get(..length).unwrap_or_default());
            }
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, within: Duration) -> Ended {
        run(Path::new("/bin/sh"), &["-c", script], within).unwrap()
    }

    #[test]
    fn the_three_ends() {
        let long = Duration::from_secs(10);
        assert_eq!(shell("exit 0", long), Ended::Well);
        assert_eq!(shell("echo no such module >&2; exit 1", long), Ended::Badly("no such module".to_owned()));
        assert_eq!(shell("exit 3", long), Ended::Badly("exit status: 3".to_owned()));
        assert_eq!(shell("exec sleep 600", Duration::from_millis(50)), Ended::Late);
        assert!(run(Path::new("/not/there"), &[], long).is_err());
        let Ended::Badly(text) = shell("yes | head -c 100000 >&2; exit 1", long) else {
            unreachable!("exit code 1 is a bad end")
        };
        assert!(text.len() < 2 * LONGEST, "much is not kept");
    }
}
