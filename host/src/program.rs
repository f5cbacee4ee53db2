//! Programs of the host (`modprobe`, `udevadm`), run with a deadline.
//!
//! In a container that shares the host's processes, the host's files are behind its first process: `/proc/1/root`. A program
//! from there needs its own libraries and settings around it, so that a process of ours first makes that folder its root.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use crate::deadline::Deadline;
use crate::root::Root;

/// First argument that makes the program become one of the host's: its path and its arguments follow.
pub const HOST_ARGUMENT: &str = "__host";
/// The host's root folder, as a container sees it.
const HOST: &str = "/proc/1/root";
/// Where `modprobe` is, relative to a root folder.
pub(crate) const MODPROBE: [&str; 2] = ["sbin/modprobe", "usr/sbin/modprobe"];
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

/// A program that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Program {
    /// Among our own files.
    Here(PathBuf),
    /// Among the host's, which are not ours: its path there.
    Host(PathBuf),
}

/// The first of these places, relative to a root folder, where a program is.
pub(crate) fn find(root: &Root, places: &[&str]) -> Option<Program> {
    let here = places.iter().find(|place| root.has_program(place));
    if let Some(place) = here {
        return Some(Program::Here(root.join(place)));
    }
    if !root.is_host() || !is_elsewhere(Path::new(HOST)) {
        return None;
    }
    // Only its name is looked at: a link such as `/bin/kmod` means a file below the other root.
    let there = places.iter().find(|place| Path::new(HOST).join(place).symlink_metadata().is_ok());
    there.map(|place| Program::Host(Path::new("/").join(place)))
}

/// Whether a root folder is another one than ours.
fn is_elsewhere(root: &Path) -> bool {
    let (Ok(ours), Ok(other)) = (Path::new("/").metadata(), root.metadata()) else { return false };
    (ours.dev(), ours.ino()) != (other.dev(), other.ino())
}

/// Becomes a program of the host: what the process that was started with [`HOST_ARGUMENT`] does with the words after it.
/// Returns only if that cannot be done.
pub fn become_the_hosts(mut words: impl Iterator<Item = OsString>) -> io::Error {
    let Some(program) = words.next() else { return io::Error::other("no program is named") };
    if let Err(errno) = nix::unistd::chroot(HOST).and_then(|()| nix::unistd::chdir("/")) {
        return errno.into();
    }
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the seam that runs the host's programs; whoever started us has the deadline"
    )]
    let mut command = std::process::Command::new(program);
    command.args(words).exec()
}

/// Runs a program and waits for its end.
pub(crate) fn run(program: &Program, arguments: &[&str], within: Duration) -> io::Result<Ended> {
    let deadline = Deadline::after(within);
    let (file, words): (&Path, Vec<&Path>) = match program {
        Program::Here(path) => (path, Vec::new()),
        Program::Host(path) => (Path::new("/proc/self/exe"), vec![Path::new(HOST_ARGUMENT), path]),
    };
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the seam that runs the host's programs, with a deadline"
    )]
    let mut command = std::process::Command::new(file);
    command
        .args(words)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/");
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

    fn here(path: &str) -> Program {
        Program::Here(path.into())
    }

    fn shell(script: &str, within: Duration) -> Ended {
        run(&here("/bin/sh"), &["-c", script], within).unwrap()
    }

    #[test]
    fn the_three_ends() {
        let long = Duration::from_secs(10);
        assert_eq!(shell("exit 0", long), Ended::Well);
        assert_eq!(shell("echo no such module >&2; exit 1", long), Ended::Badly("no such module".to_owned()));
        assert_eq!(shell("exit 3", long), Ended::Badly("exit status: 3".to_owned()));
        assert_eq!(shell("exec sleep 600", Duration::from_millis(50)), Ended::Late);
        assert!(run(&here("/not/there"), &[], long).is_err());
        let Ended::Badly(text) = shell("yes | head -c 100000 >&2; exit 1", long) else {
            unreachable!("exit code 1 is a bad end")
        };
        assert!(text.len() < 2 * LONGEST, "much is not kept");
    }

    #[test]
    fn a_program_of_ours_comes_before_the_hosts_and_a_tree_has_no_host() {
        let found = find(&Root::new("/"), &["not/there", "bin/sh"]);
        assert!(matches!(found, Some(Program::Here(path)) if path == Path::new("/bin/sh")));
        let tree = tempfile::tempdir().unwrap();
        assert_eq!(find(&Root::new(tree.path()), &["bin/sh"]), None);
        assert!(!is_elsewhere(Path::new("/")) && is_elsewhere(tree.path()));
        assert!(!is_elsewhere(Path::new("/not/there")), "what cannot be seen is not used");
    }
}
