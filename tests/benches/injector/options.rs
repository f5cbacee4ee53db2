//! The command line.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

/// First argument under which this program is an injector.
pub const AS_INJECTOR: &str = "as-injector";

/// Runs the injector if that is what was asked for.
pub fn injector(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let program = arguments.next()?;
    let is_injector = arguments.next()? == AS_INJECTOR;
    is_injector.then(|| portwright_injector::start::main(std::iter::once(program).chain(arguments)))
}

/// Measures the injector.
#[derive(Debug, Parser)]
pub struct Options {
    /// Another injector to measure alternately with ours; it gets network-resources-injector's flags.
    #[arg(long, value_name = "BINARY")]
    pub peer: Option<std::path::PathBuf>,
    /// Our injector, if not the one that is built into this program.
    #[arg(long, value_name = "BINARY")]
    pub ours: Option<std::path::PathBuf>,
    /// Seconds per measurement.
    #[arg(long, default_value_t = 2)]
    pub seconds: u64,
    /// Connections of the load.
    #[arg(long, default_value_t = 8)]
    pub connections: usize,
    /// Times that each body is measured; the best is printed, since other work can only slow it down.
    #[arg(long, default_value_t = 2)]
    pub rounds: usize,
    /// Seconds that a connection is left idle, beside everything else, before it is used again; 0 leaves it out.
    #[arg(long, default_value_t = 100)]
    pub idle: u64,
    /// Connection attempts in the flood; 0 leaves it out.
    #[arg(long, default_value_t = 100_000)]
    pub flood: u32,
    /// Given by cargo; without meaning.
    #[arg(long, hide = true)]
    bench: bool,
}
