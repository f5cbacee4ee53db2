//! Runs the lab's scenarios inside an emulated machine; outside, `--list BOOT` names them.

use std::process::ExitCode;

fn main() -> ExitCode {
    portwright_tests::lab::main()
}
