//! The binary `portwright`. Everything is in the library, so that it can be tested.

use std::process::ExitCode;

use portwright::output;
use portwright_host::child;

fn main() -> ExitCode {
    let first = std::env::args_os().nth(1);
    // The agent starts itself anew for writes that may hang; that process knows nothing else.
    if first.as_ref().is_some_and(|argument| argument == child::WRITER_ARGUMENT) {
        return match child::child_main() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    // And for the host's own programs, which are not among a container's files.
    if first.as_ref().is_some_and(|argument| argument == child::HOST_ARGUMENT) {
        output::stderr(&format!("{}\n", child::become_the_hosts(std::env::args_os().skip(2))));
        return ExitCode::FAILURE;
    }
    portwright::run(std::env::args_os())
}
