//! What can be wrong with pools as they are asked for.

use std::io;
use std::path::PathBuf;

use portwright_core::pools::config::ConfigError;

/// Why pools cannot be shown or served.
#[derive(Debug, thiserror::Error)]
pub enum PoolsError {
    /// Neither a policy nor a configuration was given.
    #[error("no pools are asked for")]
    NoSource,
    /// A configuration cannot be used.
    #[error("`{}` cannot be used", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: ConfigError,
    },
    /// A prefix that kubelet would refuse.
    #[error("--resource-prefix: {what}")]
    Prefix {
        /// What is wrong.
        what: String,
    },
    /// Two pools of one name.
    #[error("pool {resource} is asked for twice, by {first} and by {second}")]
    Twice {
        /// The name.
        resource: String,
        /// Where it is asked for first.
        first: String,
        /// And again.
        second: String,
    },
    /// A pool that cannot be served.
    #[error("pool {resource} cannot be served: {why}")]
    Name {
        /// The name.
        resource: String,
        /// Why.
        why: String,
    },
    /// No such device.
    #[error("there is no device `{device}` on this node")]
    NoDevice {
        /// What was asked for.
        device: String,
        /// Some that there are.
        there: Vec<String>,
    },
    /// The runtime or a socket of ours cannot be had.
    #[error("cannot {what}")]
    System {
        /// What was attempted.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The messages that are asked for cannot be.
    #[error("--log: `{filter}` is no filter: {why}")]
    Log {
        /// What was given.
        filter: String,
        /// What is wrong.
        why: String,
    },
}

impl PoolsError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            PoolsError::NoSource => "give -f FILE or --device-plugin-config FILE".to_owned(),
            PoolsError::Config { .. } => {
                "docs/compatibility.md says what of sriov-network-device-plugin's format is taken".to_owned()
            }
            PoolsError::Prefix { .. } => "give a domain such as `example.com`".to_owned(),
            PoolsError::Twice { .. } => "rename one of them, or give it another prefix".to_owned(),
            PoolsError::Name { .. } => "use a shorter prefix or name".to_owned(),
            PoolsError::NoDevice { there, .. } if there.is_empty() => {
                "`portwright observe` shows what is on this node".to_owned()
            }
            PoolsError::NoDevice { there, .. } => format!("devices on this node: {}", there.join(", ")),
            PoolsError::System { .. } => {
                "check rights, free addresses and the limit of open files".to_owned()
            }
            PoolsError::Log { .. } => "give `info`, `debug` or `portwright=debug`".to_owned(),
        }
    }
}
