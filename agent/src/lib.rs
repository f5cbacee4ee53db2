//! The daemon and the operator's command line: wires everything, owns the loop.
//!
//! A verb reads its inputs at the rim ([`input`]), lets `portwright-core` decide, and hands a finished text back; data goes
//! to stdout, everything else to stderr ([`output`]). What goes wrong is an [`error::CliError`], printed once, here.

pub mod apply;
pub mod builtin;
pub mod bundle;
pub mod cli;
pub mod daemon;
pub mod error;
pub mod input;
pub mod node;
pub mod output;
pub mod pools;
pub mod reconcile;
pub mod serve;
pub mod state;
pub mod text;
pub mod verb;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::output::Exit;

/// Runs the program with its arguments, the program's name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(pools::args::with_two_dashes(arguments)) {
        Ok(cli) => cli,
        Err(usage) => return usage_exit(&usage),
    };
    match verb::run(&cli) {
        Ok(exit) => exit.into(),
        Err(error) => {
            output::error(&error);
            Exit::CouldNotTell.into()
        }
    }
}

/// Help and version are data and go to stdout; what is wrong with the command line goes to stderr.
fn usage_exit(usage: &clap::Error) -> ExitCode {
    let mut text = usage.render().to_string();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if usage.use_stderr() {
        output::stderr(&text);
        return Exit::CouldNotTell.into();
    }
    match output::stdout(&text) {
        Ok(()) => Exit::Ok.into(),
        Err(error) => {
            output::error(&error);
            Exit::CouldNotTell.into()
        }
    }
}
