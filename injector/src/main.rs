//! The webhook's program.

fn main() -> std::process::ExitCode {
    portwright_injector::start::main(std::env::args_os())
}
