//! The one place of the lab that touches files, processes and the clock.
#![allow(clippy::disallowed_methods, reason = "the guest program is the test's own hand on the machine")]

use anyhow::{Context as _, Result};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What a finished (or stopped) program left.
#[derive(Debug, Clone)]
pub(super) struct Output {
    /// Its exit code; `None` if it was killed by a signal or had to be stopped at the deadline.
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) took: Duration,
    /// Whether the deadline passed.
    pub(super) stopped: bool,
    /// The command line, for messages.
    pub(super) shown: String,
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = match (self.stopped, self.code) {
            (true, _) => "stopped at its deadline".to_owned(),
            (false, Some(code)) => format!("exit {code}"),
            (false, None) => "killed by a signal".to_owned(),
        };
        let Self { shown, stdout, stderr, took, .. } = self;
        write!(f, "$ {shown}\n[{end} after {:.2} s]\n{stdout}", took.as_secs_f64())?;
        if !stderr.is_empty() {
            write!(f, "\n[stderr]\n{stderr}")?;
        }
        Ok(())
    }
}

/// A command line as a person would type it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// A command that is not started yet.
pub(super) fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    command
}

/// A started program whose output is collected by threads, so that waiting can have a deadline.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) child: Child,
    shown: String,
    started: Instant,
    stdout: mpsc::Receiver<String>,
    /// Lines of stderr as they come; the channel closes when the program closes it.
    stderr: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    /// Starts a command.
    pub(super) fn start(mut command: Command) -> Result<Self> {
        let shown = shown(&command);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {shown}"))?;
        let (out, stdout) = mpsc::channel();
        let (err, stderr) = mpsc::channel();
        let mut from = child.stdout.take().context("no stdout")?;
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).ok();
            out.send(String::from_utf8_lossy(&bytes).into_owned()).ok();
        });
        let from = child.stderr.take().context("no stderr")?;
        std::thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                if err.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, shown, started: Instant::now(), stdout, stderr, seen: Vec::new() })
    }

    /// The next line of stderr; `None` when there will be no more or the deadline passes.
    pub(super) fn next_line(&mut self, deadline: Duration) -> Option<String> {
        let line = self.stderr.recv_timeout(deadline).ok()?;
        self.seen.push(line.clone());
        Some(line)
    }

    /// Kills the program with SIGKILL.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("cannot kill {}", self.shown))
    }

    /// Waits until the program closes its output or the deadline passes; then it is killed.
    pub(super) fn finish(mut self, deadline: Duration) -> Result<Output> {
        let end = self.started + deadline;
        let left = || end.saturating_duration_since(Instant::now());
        let stdout = self.stdout.recv_timeout(left()).ok();
        while let Ok(line) = self.stderr.recv_timeout(left()) {
            self.seen.push(line);
        }
        let stopped = stdout.is_none();
        let status: Option<ExitStatus> = if stopped {
            self.child.kill().ok();
            // A child that sleeps in the kernel may never end; it is left behind rather than waited for.
            None
        } else {
            Some(self.child.wait().with_context(|| format!("cannot wait for {}", self.shown))?)
        };
        Ok(Output {
            code: status.and_then(|status| status.code()),
            stdout: stdout.unwrap_or_default(),
            stderr: self.seen.join("\n"),
            took: self.started.elapsed(),
            stopped,
            shown: self.shown,
        })
    }
}

/// Runs a command to its end, at most so long.
pub(super) fn run(command: Command, deadline: Duration) -> Result<Output> {
    Running::start(command)?.finish(deadline)
}

/// Runs a tool of the guest; anything but exit 0 is an error that shows its words.
pub(super) fn tool(program: &str, args: &[&str]) -> Result<String> {
    let output = run(command(program, args), Duration::from_secs(30))?;
    anyhow::ensure!(output.code == Some(0), "{output}");
    Ok(output.stdout)
}

/// A text file, without the line end.
pub(super) fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.trim_end().to_owned())
}

/// Reads a pipe: waits until somebody opens it for writing, and returns as soon as that has happened.
pub(super) fn read_when_opened(path: &str) -> Result<String> {
    let pipe = std::fs::File::open(path).with_context(|| format!("cannot open {path}"))?;
    drop(pipe);
    Ok(path.to_owned())
}

/// Writes a file that exists (sysfs) or makes it.
pub(super) fn write(path: impl AsRef<Path>, text: &str) -> Result<()> {
    let path = path.as_ref();
    std::fs::write(path, text).with_context(|| format!("cannot write {text:?} to {}", path.display()))
}

/// Makes a folder and those above it.
pub(super) fn make_dir(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    std::fs::create_dir_all(path).with_context(|| format!("cannot make folder {}", path.display()))
}

/// Removes a file or folder; one that is not there is fine.
pub(super) fn remove(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let removed = match path.symlink_metadata() {
        Err(_) => return Ok(()),
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
    };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}

/// The names in a folder, sorted; none if it is not there.
pub(super) fn list(path: impl AsRef<Path>) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(path.as_ref()) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    names.sort();
    names
}

/// The last part of what a link points to.
pub(super) fn link_name(path: impl AsRef<Path>) -> Option<String> {
    let target: PathBuf = std::fs::read_link(path.as_ref()).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// Where the lab's results go: lines of JSON on the serial port named `results`, or stdout where there is none.
#[derive(Debug)]
pub(super) struct Results(Option<std::fs::File>);

impl Results {
    /// Opens the port.
    pub(super) fn open() -> Self {
        Self(std::fs::OpenOptions::new().write(true).open("/dev/vport0p1").ok())
    }

    /// A second handle on the same port: the kernel lets it be opened only once.
    pub(super) fn share(&self) -> Self {
        Self(self.0.as_ref().and_then(|port| port.try_clone().ok()))
    }

    /// Sends one line.
    pub(super) fn send(&mut self, value: &serde_json::Value) -> Result<()> {
        let line = format!("{value}\n");
        match &mut self.0 {
            Some(port) => port.write_all(line.as_bytes()).context("cannot write to the results port"),
            None => std::io::stdout().write_all(line.as_bytes()).context("cannot write results"),
        }
    }
}

/// A moment, for measuring and deadlines.
pub(super) fn now() -> Instant {
    Instant::now()
}
