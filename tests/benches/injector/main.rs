//! Measures the injector as API servers meet it: `cargo bench -p portwright-tests --bench injector -- [OPTIONS]`.
//!
//! The injector runs as a process of its own, by default this very program under another name; the load comes from here
//! over loopback, so both share the machine. With `--peer BINARY` another injector (with network-resources-injector's
//! flags) gets the same bodies, alternately, and ratios are printed for bodies of which both make the same pod. Without
//! a peer only our figures are printed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::integer_division,
    clippy::cast_possible_truncation,
    unreachable_pub,
    reason = "a measuring program fails by panicking and prints what it finds"
)]

mod bodies;
mod load;
mod process;
mod scenes;

use std::process::ExitCode;

use clap::Parser;

/// First argument under which this program is an injector.
const AS_INJECTOR: &str = "as-injector";

/// Measures the injector.
#[derive(Debug, Parser)]
pub struct Options {
    /// Another injector to measure alternately with ours; it gets network-resources-injector's flags.
    #[arg(long, value_name = "BINARY")]
    peer: Option<std::path::PathBuf>,
    /// Our injector, if not the one that is built into this program.
    #[arg(long, value_name = "BINARY")]
    ours: Option<std::path::PathBuf>,
    /// Seconds per measurement.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Connections of the load.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Times that each body is measured; the best is printed, since other work can only slow it down.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Also leave a connection idle for 100 s and use it again.
    #[arg(long)]
    idle: bool,
    /// Connection attempts in the flood; 0 leaves it out.
    #[arg(long, default_value_t = 100_000)]
    flood: u32,
    /// Given by cargo; without meaning.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(AS_INJECTOR) {
        let name = std::ffi::OsString::from("portwright-injector");
        return portwright_injector::start::main(std::iter::once(name).chain(std::env::args_os().skip(2)));
    }
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(scenes::all(&options));
    ExitCode::SUCCESS
}
