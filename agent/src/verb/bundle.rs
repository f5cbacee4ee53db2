//! `bundle`: one archive for a bug report.

use portwright_host::deadline::unix_seconds;

use crate::bundle;
use crate::cli::{BundleArgs, Global};
use crate::error::CliError;
use crate::output::{self, Exit};

/// Runs the verb. What the archive holds is data; what to do with it is said beside.
pub fn run(global: &Global, arguments: &BundleArgs) -> Result<Exit, CliError> {
    let contents = bundle::collect(global, arguments)?;
    let path = &arguments.archive;
    bundle::write(path, &contents, unix_seconds())
        .map_err(|source| CliError::Write { path: path.clone(), source })?;
    let names: Vec<&str> = contents.files.iter().map(|(name, _)| name.as_str()).collect();
    output::print(global.output, &names, || names.iter().map(|name| format!("{name}\n")).collect())?;
    output::stderr(&format!("wrote `{}`; look through it before you pass it on\n", path.display()));
    Ok(Exit::Ok)
}
