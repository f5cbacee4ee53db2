//! Why a pod is refused, in sentences that its author can act on.

use crate::selection::SelectionError;

/// A pod that cannot work as it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The object is no pod that can be read.
    #[error("the object cannot be read as a pod: {0}")]
    NotAPod(String),
    /// A network annotation that Multus would fail on.
    #[error("pod annotation {key} {problem}")]
    BadAnnotation {
        /// The annotation's key.
        key: &'static str,
        /// Where and why.
        problem: SelectionError,
    },
    /// More than one default network.
    #[error("pod annotation {key} names {count} networks; a pod has one default network", key = crate::selection::DEFAULT_NETWORK)]
    SeveralDefaults {
        /// How many it names.
        count: usize,
    },
    /// More gateways than Multus can set.
    #[error(
        "the pod's networks ask for {count} {family} default gateways together; Multus can set one (key default-route)"
    )]
    SeveralGateways {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// How many.
        count: usize,
    },
    /// A network of another namespace while namespaces are isolated.
    #[error(
        "network {network} is in another namespace than the pod ({pod_namespace}), and namespaces are isolated here; use a network of {pod_namespace} or of a global namespace"
    )]
    Isolated {
        /// The wished network.
        network: String,
        /// The pod's namespace.
        pod_namespace: String,
    },
    /// A definition that does not exist.
    #[error(
        "network-attachment-definition {network} does not exist; create it first, or correct pod annotation {key}"
    )]
    MissingNetwork {
        /// The wished network.
        network: String,
        /// The annotation that names it.
        key: &'static str,
    },
    /// A definition that nobody can use.
    #[error("network-attachment-definition {network} cannot be used: {problem}")]
    BadNetwork {
        /// The definition.
        network: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Two node selectors that exclude each other.
    #[error(
        "node label {label} must be {first:?} for {first_by} and {second:?} for {second_by}; no node can be both"
    )]
    SelectorConflict {
        /// The label's key.
        label: String,
        /// One value.
        first: String,
        /// Who wants it.
        first_by: String,
        /// The other value.
        second: String,
        /// Who wants that.
        second_by: String,
    },
    /// The annotation that picks a container cannot be read.
    #[error("pod annotation {key}: {problem}", key = super::target::CONTAINER)]
    BadContainerAnnotation {
        /// What is wrong.
        problem: String,
    },
    /// An amount that is no device count, where we would have to add to it.
    #[error("container {container:?} asks for {resource} as {amount:?}, which is no whole number of devices")]
    BadAmount {
        /// The container.
        container: String,
        /// The resource.
        resource: String,
        /// What is written there.
        amount: String,
    },
}

impl Refusal {
    /// The HTTP status in the answer: 400 for what the pod's author wrote wrongly, 403 for what the cluster lacks.
    pub fn code(&self) -> u16 {
        match self {
            Self::NotAPod(_)
            | Self::BadAnnotation { .. }
            | Self::SeveralDefaults { .. }
            | Self::SeveralGateways { .. }
            | Self::BadContainerAnnotation { .. }
            | Self::BadAmount { .. } => 400,
            Self::Isolated { .. }
            | Self::MissingNetwork { .. }
            | Self::BadNetwork { .. }
            | Self::SelectorConflict { .. } => 403,
        }
    }

    /// The API machinery's reason for [`Refusal::code`]. 404 is avoided: clients would take the pod for missing.
    pub fn status_reason(&self) -> &'static str {
        if self.code() == 400 { "BadRequest" } else { "Forbidden" }
    }

    /// The variant's name: label of the metric, field `reason` of the log.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotAPod(_) => "NotAPod",
            Self::BadAnnotation { .. } => "BadAnnotation",
            Self::SeveralDefaults { .. } => "SeveralDefaults",
            Self::SeveralGateways { .. } => "SeveralGateways",
            Self::Isolated { .. } => "Isolated",
            Self::MissingNetwork { .. } => "MissingNetwork",
            Self::BadNetwork { .. } => "BadNetwork",
            Self::SelectorConflict { .. } => "SelectorConflict",
            Self::BadContainerAnnotation { .. } => "BadContainerAnnotation",
            Self::BadAmount { .. } => "BadAmount",
        }
    }
}
