//! What is generated from the definition of the command line.

use std::path::Path;

use clap::CommandFactory;
use serde_json::{Value, json};

use crate::cli::{Cli, Format};
use crate::error::CliError;
use crate::output::{self, Exit};

/// Prints the completion script of a shell.
pub fn completions(shell: clap_complete::Shell) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "portwright", &mut script);
    output::stdout(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}

/// Prints the main man page, or writes all pages into a folder.
pub fn man(folder: Option<&Path>) -> Result<Exit, CliError> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command())
            .render(&mut page)
            .map_err(|source| CliError::Stdout { source })?;
        output::stdout(&String::from_utf8_lossy(&page))?;
        return Ok(Exit::Ok);
    };
    clap_mangen::generate_to(Cli::command(), folder)
        .map_err(|source| CliError::Write { path: folder.to_owned(), source })?;
    Ok(Exit::Ok)
}

/// Prints the CustomResourceDefinitions; as text and YAML one document each, as JSON a `List`.
pub fn crds(format: Format) -> Result<Exit, CliError> {
    match format {
        Format::Text | Format::Yaml => output::stdout(&portwright_api::crd_yaml())?,
        Format::Json => {
            let read = |(_, yaml): (&str, String)| serde_saphyr::from_str(&yaml);
            let items: Vec<Value> = portwright_api::crds()
                .into_iter()
                .map(read)
                .collect::<Result<_, _>>()
                .map_err(|source| CliError::Crds { source })?;
            output::stdout(&output::json(&json!({"apiVersion": "v1", "kind": "List", "items": items}))?)?;
        }
    }
    Ok(Exit::Ok)
}
