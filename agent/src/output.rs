//! The rim where text leaves the program: data to stdout, the rest to stderr. A reader that has gone away is no error.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use serde::Serialize;

use crate::cli::Format;
use crate::error::CliError;

/// How a verb ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: nothing to do, or done.
    Ok,
    /// 1: something to do, something in the way, or not done.
    Differs,
    /// 2: could not tell, or the command line is wrong.
    CouldNotTell,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        match exit {
            Exit::Ok => ExitCode::SUCCESS,
            Exit::Differs => ExitCode::from(1),
            Exit::CouldNotTell => ExitCode::from(2),
        }
    }
}

/// Writes data to stdout. Whoever reads it may stop reading (`| head`); that is success.
pub fn stdout(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(source) => Err(CliError::Stdout { source }),
    }
}

/// Writes a message to stderr. If even that fails, nobody is left to be told.
pub fn stderr(text: &str) {
    if io::stderr().lock().write_all(text.as_bytes()).is_err() {}
}

/// Prints an error: what was attempted and why it failed, once, then what to do about it.
pub fn error(error: &CliError) {
    stderr(&error.render());
}

/// Prints a value as JSON or YAML, or its text.
pub fn print<T: Serialize>(format: Format, value: &T, text: impl FnOnce() -> String) -> Result<(), CliError> {
    let printed = match format {
        Format::Text => text(),
        Format::Json => json(value)?,
        Format::Yaml => serde_saphyr::to_string(value).map_err(|source| CliError::Yaml { source })?,
    };
    stdout(&printed)
}

/// A value as indented JSON with a newline at its end.
pub fn json<T: Serialize>(value: &T) -> Result<String, CliError> {
    let mut text = serde_json::to_string_pretty(value).map_err(|source| CliError::Json { source })?;
    text.push('\n');
    Ok(text)
}
