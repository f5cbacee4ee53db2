//! The command line of `cargo xtask`.

use crate::image::ImageArgs;
use crate::{bench, codegen, demo, image, lab, setup, suite, tidy};
use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;

/// What is done to the project rather than by it.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check what this machine lacks, and install it with apt where that is allowed.
    Setup {
        /// Only report; exit 1 if something is missing.
        #[arg(long)]
        check: bool,
    },
    /// Show the main job in a virtual machine with real SR-IOV drivers: observe, plan, apply, an empty second plan.
    Demo,
    /// Run every test: set-up, formatting, lints, unit and integration tests, tidy, generated files, the lab.
    Test {
        /// Leave the lab out (it is then counted as skipped).
        #[arg(long)]
        no_lab: bool,
    },
    /// Boot the SR-IOV lab and run its scenarios against the real binary.
    Lab(LabArgs),
    /// Write the files that are generated from code.
    Codegen {
        /// Change nothing; exit 1 if a file is not what the code generates.
        #[arg(long)]
        check: bool,
    },
    /// Check the rules of this repository that no compiler checks.
    Tidy,
    /// Run the bench programs of the workspace (release build).
    Bench {
        /// Only the programs whose name contains one of these words.
        only: Vec<String>,
        /// Another injector, to be measured alternately with ours on the same reviews.
        #[arg(long, value_name = "BINARY")]
        peer: Option<std::path::PathBuf>,
    },
    /// Write the container image as an OCI layout, without a container engine.
    Image(ImageArgs),
    /// What the build server does: the same as `test`.
    Ci,
}

/// Options of `cargo xtask lab`.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct LabArgs {
    /// Also run the scenarios that take minutes, such as the whole kill matrix.
    #[arg(long)]
    pub(crate) long: bool,
    /// Only scenarios whose name contains one of these words.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub(crate) only: Vec<String>,
    /// Keep the serial logs of successful boots too.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Use the binaries of the last run instead of building.
    #[arg(long)]
    pub(crate) no_build: bool,
    /// List the scenarios and exit.
    #[arg(long)]
    pub(crate) list: bool,
}

/// Parses the arguments and runs the verb. Exit codes: 0 good, 1 something failed or is missing, 2 could not tell.
pub(crate) fn run() -> Result<ExitCode> {
    let good = match Cli::parse().verb {
        Verb::Setup { check } => setup::run(check)?,
        Verb::Demo => demo::run()?,
        Verb::Test { no_lab } => suite::run(!no_lab)?,
        Verb::Ci => suite::run(true)?,
        Verb::Lab(args) => lab::run(&args)?.failed == 0,
        Verb::Codegen { check } => codegen::run(check)?,
        Verb::Tidy => tidy::run()?,
        Verb::Image(args) => image::run(&args)?,
        Verb::Bench { only, peer } => bench::run(&only, peer.as_deref())?,
    };
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
