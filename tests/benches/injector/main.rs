//! Measures the injector as API servers meet it: `cargo bench -p portwright-tests --bench injector -- [OPTIONS]`.
//!
//! The injector runs as a process of its own, by default this very program under another name; the load comes from here
//! over loopback, so both share the machine. With `--peer BINARY` another injector (with network-resources-injector's
//! flags) gets the same bodies, alternately, and ratios are printed for bodies of which both make the same pod. Without
//! a peer only our figures are printed.
//!
//! It ends with 1 if a request of ours failed or a goal was missed, and says which.
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

mod attacks;
mod bodies;
mod goals;
mod load;
mod options;
mod process;
mod scenes;

use std::process::ExitCode;

use clap::Parser as _;
use options::Options;

fn main() -> ExitCode {
    options::injector(std::env::args_os()).unwrap_or_else(|| {
        let options = Options::parse();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let missed = runtime.block_on(scenes::all(&options));
        for goal in &missed {
            println!("MISSED: {goal}");
        }
        if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    })
}
