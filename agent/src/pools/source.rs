//! Pools that the daemon serves besides those of policies: a config.json that is followed.

use std::path::PathBuf;

use portwright_core::Observed;
use portwright_core::desired::Desired;
use portwright_core::drive::chain;
use portwright_core::pools::PoolSpec;
use portwright_device_plugin::Paths;

use super::error::PoolsError;
use super::wanted::{self, Wanted};
use crate::error::CliError;

/// What is wanted, and the file that some of it comes from.
#[derive(Debug, Clone, Default)]
pub struct PoolSource {
    wanted: Wanted,
    path: Option<PathBuf>,
}

impl PoolSource {
    /// What was read from `path` before, if it is a file to follow.
    ///
    /// # Errors
    /// A pool's name is too long for a socket.
    pub fn new(wanted: Wanted, path: Option<PathBuf>, kubelet: &Paths) -> Result<PoolSource, CliError> {
        check_names(&wanted, kubelet)?;
        Ok(PoolSource { wanted, path })
    }

    /// The file to follow.
    pub fn path(&self) -> Option<&PathBuf> {
        self.path.as_ref()
    }

    /// The pools on this node.
    ///
    /// # Errors
    /// One name from two sources.
    pub fn specs(&self, observed: &Observed, desired: &Desired) -> Result<Vec<PoolSpec>, PoolsError> {
        self.wanted.specs_of(observed, desired)
    }

    /// Logs what is odd about the configuration.
    pub fn warn(&self) {
        for warning in self.wanted.warnings() {
            tracing::warn!(warning, "the configuration");
        }
    }

    /// Reads the configuration again. One that cannot be used changes nothing.
    pub fn reload(&mut self, kubelet: &Paths) {
        let Some(path) = &self.path else { return };
        let read = wanted::read_config(path, self.wanted.prefix.as_deref());
        let checked = read.and_then(|config| {
            let fresh = Wanted { config: Some(config), ..self.wanted.clone() };
            check_names(&fresh, kubelet)?;
            Ok(fresh)
        });
        match checked {
            Ok(fresh) if fresh.config == self.wanted.config => {}
            Ok(fresh) => {
                tracing::info!(path = %path.display(), "the configuration has changed");
                self.wanted = fresh;
                self.warn();
            }
            Err(error) => {
                tracing::error!(path = %path.display(), error = chain(&error), "the last good configuration stays");
            }
        }
    }
}

/// Whether every pool's socket can have its name.
fn check_names(wanted: &Wanted, kubelet: &Paths) -> Result<(), CliError> {
    for spec in wanted.specs(&Observed::default())? {
        kubelet
            .check(&spec.resource)
            .map_err(|why| PoolsError::Name { resource: spec.resource.to_string(), why })?;
    }
    Ok(())
}
