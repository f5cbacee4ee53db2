//! The decision: pod + networks + switches → patch or refusal, with warnings.
//!
//! Pure and total. [`read`] finds out which networks a pod wants, the caller looks them up, [`inject`] decides;
//! [`mutate`] is both over a map. The patch contains only what is missing from the pod, so that a second pass, by this
//! injector or another, finds nothing to do.

mod inject;
mod patch;
mod podnetinfo;
mod read;
mod refusal;
mod resources;
mod selector;
mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use inject::inject;
pub use patch::{Add, PatchError, encode_checked, pointer};
pub use read::read;
pub use refusal::Refusal;
pub use resources::MARKER;
pub use target::CONTAINER;

use crate::nad::Network;
use crate::pod::Pod;
use crate::selection::NetworkName;
use crate::switches::Switches;

/// `"false"` on a pod keeps the injector's hands off it.
pub const INJECT: &str = "portwright.dev/inject";
/// Marks the API server's picture of a static pod, which must not be changed.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// What does not change while the injector runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where an unqualified default network is looked up (Multus: `multusNamespace`).
    pub multus_namespace: String,
    /// Look unqualified default networks up in the pod's namespace instead, as network-resources-injector does.
    pub default_network_in_pod_namespace: bool,
    /// Namespaces whose networks every pod may use, if namespaces are isolated at all.
    pub isolation: Option<BTreeSet<String>>,
    /// Containers of these names are passed over when the one to ask for devices is chosen.
    pub sidecars: Vec<String>,
    /// Whether a pod whose network does not exist is let through with a warning.
    pub tolerate_missing: bool,
    /// Whether labels and annotations are mounted into containers of pods that get resources.
    pub podnetinfo: bool,
}

/// One wished attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The definition.
    pub network: NetworkName,
    /// The annotation that asks for it.
    pub key: &'static str,
}

/// What a pod wants, before networks are looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// The default network first, then the others in their order.
    pub attachments: Vec<Attachment>,
    /// Annotations that user-defined injections set and the pod does not have so.
    pub annotations: BTreeMap<String, String>,
    /// Sentences for the user.
    pub warnings: Vec<String>,
    /// Set if the pod is left alone, and why.
    pub skipped: Option<Skipped>,
}

impl Wish {
    /// Each definition to look up, once.
    pub fn networks(&self) -> BTreeSet<&NetworkName> {
        self.attachments.iter().map(|attachment| &attachment.network).collect()
    }
}

/// Why a pod is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// It says so itself.
    OptOut,
    /// It uses the node's network.
    HostNetwork,
    /// It is the picture of a static pod.
    Mirror,
    /// It has no containers; validation will refuse it.
    NoContainers,
}

/// Looked-up definitions: `None` for those that do not exist.
pub type Networks = BTreeMap<NetworkName, Option<Arc<Network>>>;

/// A pod that may pass, with what it lacks.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mutation {
    /// Operations in the order in which they apply; empty if nothing is missing.
    pub patch: Vec<Add>,
    /// Sentences for the user.
    pub warnings: Vec<String>,
    /// Resources that the pod's networks need, with their counts.
    pub needed: BTreeMap<String, u64>,
}

/// The decision as a value; in the program it is [`inject`].
pub type Decide =
    dyn Fn(&Pod, Wish, &Networks, &Switches, &Settings) -> Result<Mutation, Refusal> + Send + Sync;

/// Decides about one pod, given every network that might be asked for; what is not in `networks` does not exist.
///
/// # Errors
/// The pod can never work as it is written, or may not have what it asks for.
pub fn mutate(
    pod: &Pod,
    request_namespace: &str,
    networks: &Networks,
    switches: &Switches,
    settings: &Settings,
) -> Result<Mutation, Refusal> {
    let wish = read(pod, request_namespace, switches, settings)?;
    inject(pod, wish, networks, switches, settings)
}

/// The pod's namespace: its own, else the request's, else `default`.
fn namespace_of<'a>(pod: &'a Pod, request_namespace: &'a str) -> &'a str {
    [pod.metadata.namespace.as_str(), request_namespace]
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or("default")
}
