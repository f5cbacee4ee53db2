//! The writer's own side: commands in, answers out, nothing else.

use std::fs::OpenOptions;
use std::io::{self, BufRead, Write};
use std::path::Path;

use nix::errno::Errno;

use portwright_core::desired::EswitchMode;

use super::{Answer, Command};
use crate::devlink::{Devlink, Handle};

/// Takes commands from standard input until it ends. This is all that the program does when its first argument is
/// [`super::WRITER_ARGUMENT`].
pub fn child_main() -> io::Result<()> {
    let mut output = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let answer = match serde_json::from_str::<Command>(&line) {
            Ok(command) => carry_out(&command),
            Err(error) => Answer::Refused { errno: 0, text: format!("not a command: {error}") },
        };
        let mut text = serde_json::to_string(&answer)?;
        text.push('\n');
        match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
            // Nobody waits for the answer any more: the parent has died.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}

fn carry_out(command: &Command) -> Answer {
    match command {
        Command::Write { path, text } => match write(path, text) {
            Ok(()) => Answer::Done,
            Err(error) => refused(&error),
        },
        Command::Eswitch { device, mode } => set_eswitch(device, *mode),
    }
}

/// One `write(2)`: sysfs takes each as one value. The file must exist; a folder that has gone must not come back as a file.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let written = file.write(text.as_bytes())?;
    if written == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

fn refused(error: &io::Error) -> Answer {
    let errno = error.raw_os_error().unwrap_or(0);
    let text = if errno == 0 { error.to_string() } else { Errno::from_raw(errno).to_string() };
    Answer::Refused { errno, text }
}

fn set_eswitch(device: &str, mode: EswitchMode) -> Answer {
    let handle: Handle = match device.parse() {
        Ok(handle) => handle,
        Err(error) => return Answer::Refused { errno: 0, text: format!("{error}") },
    };
    let set = Devlink::open().and_then(|devlink| match devlink {
        Some(mut devlink) => devlink.set_eswitch_mode(&handle, mode).map(|()| true),
        None => Ok(false),
    });
    match set {
        Ok(true) => Answer::Done,
        Ok(false) => {
            Answer::Refused { errno: Errno::EOPNOTSUPP as i32, text: "this kernel has no devlink".to_owned() }
        }
        Err(error) => Answer::Refused {
            errno: error.errno().map_or(0, |errno| errno as i32),
            text: portwright_core::drive::chain(&error),
        },
    }
}
