//! The binary `portwright`. Everything is in the library, so that it can be tested.

use std::process::ExitCode;

use portwright_host::child;

fn main() -> ExitCode {
    // The agent starts itself anew for writes that may hang; that process knows nothing else.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == child::WRITER_ARGUMENT) {
        return match child::child_main() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    portwright::run(std::env::args_os())
}
