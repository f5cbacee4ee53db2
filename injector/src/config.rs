//! Flags, checked: everything that can be wrong with a command line is found here, before anything is started.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::flags::{Flags, MissingNad};
use crate::mutate::Settings;
use crate::nad::Reading;
use crate::selection::is_label;
use crate::server::tls_policy::{TlsPolicy, TlsPolicyError};
use crate::switches::{Existing, Injections, Switches};

/// A command line that cannot be followed; the process ends with exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Ports below 1024 need privileges the injector should not have.
    #[error("--{flag} {port}: ports are 1024 to 65535")]
    Port {
        /// The flag.
        flag: &'static str,
        /// What it said.
        port: u16,
    },
    /// Both listeners on one port.
    #[error("--port and --health-check-port are both {0}")]
    SamePort(u16),
    /// A comma list that must have an element.
    #[error("--{0} is empty")]
    Empty(&'static str),
    /// A name that no namespace can have.
    #[error("--{flag}: {name:?} is no namespace name")]
    Namespace {
        /// The flag.
        flag: &'static str,
        /// What it said.
        name: String,
    },
    /// Two ways of saying what to do with existing resources, which differ.
    #[error("--honor-resources means --existing-resources=add, but another mode is given")]
    HonorConflict,
    /// A limit of zero would refuse everything.
    #[error("--{0} must be at least 1")]
    Zero(&'static str),
    /// Both kinds of certificates at once.
    #[error("--client-ca does not go with --self-managed-certificates")]
    ClientCa,
    /// TLS flags.
    #[error(transparent)]
    Tls(TlsPolicyError),
}

/// Everything that was decided at start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The flags themselves, for what needs no interpretation.
    pub flags: Flags,
    /// How the decision is made.
    pub settings: Settings,
    /// Switches as the flags have them; the ConfigMap may override them.
    pub switches: Switches,
    /// How definitions are read.
    pub reading: Reading,
    /// TLS versions, suites and groups.
    pub tls: TlsPolicy,
    /// How long to wait for the first list of networks.
    pub cache_sync_timeout: Duration,
    /// How long to keep serving after the signal to stop.
    pub shutdown_delay: Duration,
}

impl Config {
    /// Checks flags and derives what they mean.
    ///
    /// # Errors
    /// A value that cannot be followed.
    pub fn new(flags: Flags) -> Result<Self, ConfigError> {
        check_ports(&flags)?;
        for (flag, name) in [("namespace", &flags.namespace), ("multus-namespace", &flags.multus_namespace)] {
            if !is_label(name) {
                return Err(ConfigError::Namespace { flag, name: name.clone() });
            }
        }
        for (flag, value) in
            [("max-connections", flags.max_connections), ("max-requests", flags.max_requests)]
        {
            if value == 0 {
                return Err(ConfigError::Zero(flag));
            }
        }
        if flags.self_managed_certificates && !flags.client_ca.is_empty() && !flags.insecure {
            return Err(ConfigError::ClientCa);
        }
        let keys = list(&flags.network_resource_name_keys);
        if keys.is_empty() {
            return Err(ConfigError::Empty("network-resource-name-keys"));
        }
        let tls =
            TlsPolicy::new(&flags.tls_min_version, &flags.tls_cipher_suites, &flags.tls_curve_preferences)
                .map_err(ConfigError::Tls)?;
        Ok(Self {
            settings: settings(&flags)?,
            switches: Switches {
                hugepages: flags.inject_hugepage_down_api,
                existing: existing(&flags)?,
                injections: Injections::new(),
            },
            reading: Reading { keys, derive: flags.derive_resources.then(|| flags.resource_prefix.clone()) },
            tls,
            cache_sync_timeout: Duration::from_secs(flags.cache_sync_timeout.into()),
            shutdown_delay: Duration::from_secs(flags.shutdown_delay.into()),
            flags,
        })
    }
}

fn settings(flags: &Flags) -> Result<Settings, ConfigError> {
    let global: BTreeSet<String> = list(&flags.global_namespaces).into_iter().collect();
    if let Some(name) = global.iter().find(|name| !is_label(name)) {
        return Err(ConfigError::Namespace { flag: "global-namespaces", name: name.clone() });
    }
    Ok(Settings {
        multus_namespace: flags.multus_namespace.clone(),
        default_network_in_pod_namespace: flags.default_network_in_pod_namespace,
        isolation: flags.namespace_isolation.then_some(global),
        sidecars: list(&flags.sidecar_containers),
        tolerate_missing: flags.missing_nad == MissingNad::Warn,
        podnetinfo: flags.podnetinfo,
    })
}

fn existing(flags: &Flags) -> Result<Existing, ConfigError> {
    match (flags.honor_resources, flags.existing_resources) {
        (false, mode) => Ok(mode.unwrap_or(Existing::Skip)),
        (true, None | Some(Existing::Add)) => Ok(Existing::Add),
        (true, Some(Existing::Skip | Existing::TopUp)) => Err(ConfigError::HonorConflict),
    }
}

fn check_ports(flags: &Flags) -> Result<(), ConfigError> {
    for (flag, port) in [("port", flags.port), ("health-check-port", flags.health_check_port)] {
        if port < 1024 {
            return Err(ConfigError::Port { flag, port });
        }
    }
    if flags.port == flags.health_check_port {
        return Err(ConfigError::SamePort(flags.port));
    }
    Ok(())
}

/// A comma list without surrounding spaces and empty elements.
fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}
