//! What pools are wanted, read from files; which pools that makes depends on the node.

use std::path::Path;

use portwright_core::Observed;
use portwright_core::desired::Desired;
use portwright_core::pools::config::{self, PluginConfig};
use portwright_core::pools::{self, PoolSpec, spec};

use super::args::PoolSources;
use super::error::PoolsError;
use crate::error::CliError;
use crate::input;

/// A file of 10,000 pools has about 2 MB.
pub const LARGEST_CONFIG: u64 = 16 << 20;

/// What was asked for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Policies.
    pub desired: Desired,
    /// config.json.
    pub config: Option<PluginConfig>,
    /// Prefix of pools that name none.
    pub prefix: Option<String>,
}

impl Wanted {
    /// Reads the sources.
    pub fn read(sources: &PoolSources) -> Result<Wanted, CliError> {
        if sources.files.is_empty() && sources.device_plugin_config.is_none() {
            return Err(PoolsError::NoSource.into());
        }
        let prefix = sources.resource_prefix.clone();
        if let Some(prefix) = &prefix {
            config::check_prefix(prefix).map_err(|what| PoolsError::Prefix { what })?;
        }
        let desired = input::desired(&input::read_policies(&sources.files)?)?;
        let config = sources.device_plugin_config.as_deref();
        let config = config.map(|path| read_config(path, prefix.as_deref())).transpose()?;
        Ok(Wanted { desired, config, prefix })
    }

    /// The pools on this node: policies first, as they name each VF.
    pub fn specs(&self, observed: &Observed) -> Result<Vec<PoolSpec>, PoolsError> {
        self.specs_of(observed, &self.desired)
    }

    /// The same with other policies.
    pub fn specs_of(&self, observed: &Observed, desired: &Desired) -> Result<Vec<PoolSpec>, PoolsError> {
        let prefix = self.prefix.as_deref();
        let mut specs = spec::of_policies(observed, desired, prefix);
        specs.extend(self.config.iter().flat_map(|config| spec::of_config(config, prefix)));
        match spec::twice(&specs) {
            None => Ok(specs),
            Some((first, second)) => Err(PoolsError::Twice {
                resource: first.resource.to_string(),
                first: first.origin.clone(),
                second: second.origin.clone(),
            }),
        }
    }

    /// What is odd about what is asked for and no error.
    pub fn warnings(&self) -> Vec<String> {
        let of_config = self.config.iter().flat_map(|config| config.warnings.iter().cloned());
        let conflicts = pools::conflicts(&self.desired).into_iter();
        let conflicts = conflicts.map(|one| format!("{}: {}: {}", one.reason, one.object, one.message));
        of_config.chain(conflicts).collect()
    }
}

/// Reads a config.json.
pub fn read_config(path: &Path, prefix: Option<&str>) -> Result<PluginConfig, CliError> {
    let text = input::read_text(path, LARGEST_CONFIG)?;
    let read = config::parse(&text, prefix.unwrap_or(spec::CONFIG_PREFIX));
    read.map_err(|source| PoolsError::Config { path: path.to_owned(), source }.into())
}
