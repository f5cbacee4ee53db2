//! The way to the API server: from `KUBECONFIG`, or from a pod's service account. Every request has a deadline, every
//! answer is noted in [`Health`], and the only TLS implementation is the one compiled in (rustls with ring).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use kube::Client;
use kube::client::ClientBuilder;
use tokio::sync::watch;

use super::health::{Guard, Health};
use crate::daemon::wish::Untold;

/// The variable that the DaemonSet fills from `spec.nodeName` (downward API).
pub const NODE_NAME: &str = "NODE_NAME";

/// A connection on which nothing is received for so long is dead: longer than the API server lets a watch live without a
/// word.
const SILENCE: Duration = Duration::from_secs(300);
/// How long looking up the API server's name may take.
const LOOKUP: Duration = Duration::from_secs(5);

/// Why the daemon cannot work with a cluster.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody said which node this is.
    #[error("the name of this node is not known")]
    NoNodeName,
    /// It cannot be a node's name.
    #[error("`{name}` cannot be the name of a node")]
    NodeName {
        /// As it was given.
        name: String,
    },
    /// Neither a kubeconfig nor a service account.
    #[error("cannot find the API server")]
    Config {
        /// What was looked at.
        #[source]
        source: Box<kube::config::InferConfigError>,
    },
    /// Certificates or credentials that cannot be used.
    #[error("cannot prepare the connection to the API server {url}")]
    Client {
        /// Where it is.
        url: String,
        /// Why not.
        #[source]
        source: Box<kube::Error>,
    },
}

impl ConnectError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            ConnectError::NoNodeName => {
                "give --node-name, or set NODE_NAME from the field spec.nodeName in the pod's manifest"
            }
            ConnectError::NodeName { .. } => "give the name that `kubectl get nodes` shows",
            ConnectError::Config { .. } => "set KUBECONFIG to a file, or run in a pod with a service account",
            ConnectError::Client { .. } => "check the certificates and the credentials of the kubeconfig",
        }
    }
}

/// The API server and who we are to it.
#[derive(Clone)]
pub struct Connection {
    /// Sends requests.
    pub client: Client,
    /// The name of the own Node.
    pub node: NodeName,
    /// Addresses and ports of the API server as far as they are known: sessions to them are management traffic.
    pub api_servers: BTreeSet<(IpAddr, u16)>,
    /// How requests fare.
    pub health: Health,
    /// Why the NodeState cannot be written; none while it can. Whoever writes it says it, whoever follows policies passes it on.
    pub untold: watch::Sender<Option<Untold>>,
}

/// The name of a Node: a DNS subdomain, so that it can stand in paths and selectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeName(String);

impl NodeName {
    /// Checks a name.
    ///
    /// # Errors
    /// It is none.
    pub fn new(name: &str) -> Result<NodeName, ConnectError> {
        if is_subdomain(name) {
            return Ok(NodeName(name.to_owned()));
        }
        Err(ConnectError::NodeName { name: name.chars().take(80).collect() })
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a text is a DNS subdomain as Kubernetes understands it (RFC 1123).
pub(super) fn is_subdomain(text: &str) -> bool {
    let good = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(good)
}

impl std::fmt::Display for NodeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Prepares the connection; nothing is sent yet, so that an API server that is away at the start does not matter.
/// Without `node_name` the variable [`NODE_NAME`] says it.
///
/// # Errors
/// The node's name is not known, or the API server's place or our credentials cannot be read.
pub async fn connect(node_name: Option<&str>) -> Result<Connection, ConnectError> {
    let from_environment = std::env::var(NODE_NAME).ok().filter(|name| !name.is_empty());
    let name = node_name.or(from_environment.as_deref()).ok_or(ConnectError::NoNodeName)?;
    let node = NodeName::new(name)?;
    let config =
        kube::Config::infer().await.map_err(|source| ConnectError::Config { source: Box::new(source) })?;
    connect_with(config, node).await
}

/// The same with a configuration that is already there.
///
/// # Errors
/// Certificates or credentials cannot be used.
pub async fn connect_with(mut config: kube::Config, node: NodeName) -> Result<Connection, ConnectError> {
    config.read_timeout = Some(SILENCE);
    // Whoever asks knows best what a refusal means: an eviction that a budget forbids is no reason to insist.
    config.default_retry = false;
    let api_servers = api_servers(&config).await;
    let health = Health::default();
    let url = config.cluster_url.to_string();
    let builder = ClientBuilder::try_from(config)
        .map_err(|source| ConnectError::Client { url, source: Box::new(source) })?;
    let client = builder.with_layer(&Guard::new(health.clone())).build();
    Ok(Connection { client, node, api_servers, health, untold: watch::Sender::default() })
}

/// Addresses behind the configured URL. A name that cannot be looked up now has none: sessions to port 6443 count anyway.
async fn api_servers(config: &kube::Config) -> BTreeSet<(IpAddr, u16)> {
    let url = &config.cluster_url;
    let Some(host) = url.host() else { return BTreeSet::new() };
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("http") { 80 } else { 443 });
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse() {
        return BTreeSet::from([(address, port)]);
    }
    match tokio::time::timeout(LOOKUP, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(found)) => found.map(|address| (address.ip(), address.port())).collect(),
        Ok(Err(_)) | Err(_) => {
            tracing::warn!(host, "the API server's name cannot be looked up");
            BTreeSet::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::NodeName;

    #[test]
    fn names_that_no_node_can_have_are_refused() {
        for good in ["a", "worker-1", "ip-10-0-0-1.eu.compute.internal", "1"] {
            assert_eq!(NodeName::new(good).unwrap().as_str(), good);
        }
        let long = "a".repeat(254);
        for bad in ["", "A", "a/b", "a,b", "a=b", "..", "a.", ".a", "-a", "a-", "a b", "ä", long.as_str()] {
            assert!(NodeName::new(bad).is_err(), "{bad}");
        }
    }
}
