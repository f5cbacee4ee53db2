//! The binary `portwright`. Everything is in the library, so that it can be tested.

use std::process::ExitCode;

fn main() -> ExitCode {
    portwright::run(std::env::args_os())
}
