//! The verbs: each a function from its arguments to what it prints and how it ends.

pub mod apply;
pub mod bundle;
pub mod generate;
pub mod observe;
pub mod once;
pub mod ovs;
pub mod plan;
pub mod pools;
pub mod profiles;
pub mod run;
pub mod status;

use std::path::Path;

use crate::cli::{Cli, Verb};
use crate::error::CliError;
use crate::output::Exit;

/// Runs the verb that was typed.
pub fn run(cli: &Cli) -> Result<Exit, CliError> {
    if cli.global.root != Path::new("/") && !cli.verb.works_on_a_tree() {
        return Err(CliError::Root { verb: cli.verb.name(), root: cli.global.root.clone() });
    }
    match &cli.verb {
        Verb::Observe => observe::run(&cli.global),
        Verb::Plan(arguments) => plan::run(&cli.global, arguments),
        Verb::Pools(arguments) => pools::run(&cli.global, arguments),
        Verb::Run(arguments) => run::run(&cli.global, arguments),
        Verb::Sriovdp(arguments) => run::run(&cli.global, &arguments.as_run()),
        Verb::Status => status::status(&cli.global),
        Verb::Reconcile(arguments) => status::reconcile(&cli.global, arguments),
        Verb::Crds => generate::crds(cli.global.output),
        Verb::Profiles(which) => profiles::run(&cli.global, which),
        Verb::Ovs(which) => ovs::run(&cli.global, which),
        Verb::Completions { shell } => generate::completions(*shell),
        Verb::Man { dir } => generate::man(dir.as_deref()),
        Verb::Apply(arguments) => apply::run(&cli.global, arguments),
        Verb::Bundle(arguments) => bundle::run(&cli.global, arguments),
    }
}
