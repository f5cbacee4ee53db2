//! The one place of this crate that touches files, processes, the clock and the terminal.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the seam: build tooling has no Root and no watchdogs, and the other modules come through here"
)]

use anyhow::{Context as _, Result, bail};
use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Tells the person at the terminal something (stderr).
pub(crate) fn say(text: &str) {
    // A closed stderr leaves nobody to tell.
    writeln!(std::io::stderr().lock(), "{text}").ok();
}

/// Prints a result (stdout).
pub(crate) fn out(text: &str) {
    // A closed pipe, as in `| head`, ends our interest in output, not the work.
    writeln!(std::io::stdout().lock(), "{text}").ok();
}

/// The folder that holds the workspace.
pub(crate) fn workspace() -> Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().map(Path::to_path_buf).context("xtask has no parent folder")
}

/// Cargo's target folder, as this build uses it.
pub(crate) fn target() -> Result<PathBuf> {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => Ok(workspace()?.join(dir)),
        None => Ok(workspace()?.join("target")),
    }
}

/// An environment variable, if it is set and not empty.
pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A moment, for measuring only.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A command that is not started yet.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// Cargo, the same one that started us, in the workspace.
pub(crate) fn cargo() -> Result<Command> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace()?);
    Ok(cargo)
}

/// Runs a command with our terminal; an exit code other than 0 is an error that shows the command line.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs a command with our terminal and says whether it ended with 0.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool> {
    let status = command.status().with_context(|| format!("cannot start {}", shown(command)))?;
    Ok(status.success())
}

/// Runs a command, returns its stdout; stderr is part of the error if it fails.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", shown(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {}: {}", shown(command), output.status, stderr.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program of this name is on the PATH or in the system folders that a user's PATH may lack.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// A command line as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// A text file.
pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A file's bytes.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a file, making its folder first.
pub(crate) fn write(path: &Path, data: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    std::fs::write(path, data).with_context(|| format!("cannot write {}", path.display()))
}

/// Makes a folder and those above it.
pub(crate) fn make_dir(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("cannot make folder {}", path.display()))
}

/// Renames a file or folder.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))
}

/// Removes a file or a whole folder; a path that is not there is fine.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Err(_) => return Ok(()),
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
    };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}

/// The entries of a folder, sorted by name.
pub(crate) fn list(path: &Path) -> Result<Vec<PathBuf>> {
    let read = |path: &Path| -> std::io::Result<Vec<PathBuf>> {
        std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect()
    };
    let mut entries = read(path).with_context(|| format!("cannot list {}", path.display()))?;
    entries.sort();
    Ok(entries)
}

/// All files below a folder, sorted; folders named in `skip` are not entered, links are not followed.
pub(crate) fn walk(path: &Path, skip: &[&str]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in list(path)? {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if entry.is_symlink() || entry.is_file() {
            files.push(entry);
        } else if entry.is_dir() && !skip.contains(&name.as_str()) {
            files.extend(walk(&entry, skip)?);
        }
    }
    Ok(files)
}

/// Takes a lock file; waits, saying so, while another process has it. Dropping the file gives it back.
pub(crate) fn lock(path: &Path) -> Result<std::fs::File> {
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    let file = std::fs::File::create(path).with_context(|| format!("cannot open {}", path.display()))?;
    if file.try_lock().is_err() {
        say(&format!("waiting for another process that has locked {}", path.display()));
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

/// Seconds with one digit, for progress lines.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
