//! What is done to the project rather than by it: set-up, demo, test, lab, codegen, tidy, bench, image and ci.
//!
//! Each verb is one module. Everything that touches the machine goes through [`sys`], so that the modules read as
//! what they decide.

mod apt;
mod bench;
mod cli;
mod codegen;
mod codegen_proto;
mod demo;
mod image;
mod lab;
mod setup;
mod suite;
mod sys;
mod tidy;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(error) => {
            sys::say(&format!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}
