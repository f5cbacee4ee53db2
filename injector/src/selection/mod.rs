//! Network selection annotations: which networks a pod asks for.
//!
//! The grammar is the one that Multus reads (its `k8sclient`), not the narrower one of the specification (NPWG
//! Multi-Network Specification v1.3, §4): whatever Multus starts is accepted, and what it fails on is refused here,
//! before the pod exists, with the element and the reason. Beyond Multus, empty and impossible object names are
//! refused too: such a pod can never start, and such a name must never become part of a URL.

mod address;
mod json;
mod short;

use std::fmt;
use std::net::IpAddr;

pub use address::{is_cidr, is_hardware_address};

/// The annotation that lists a pod's secondary networks.
pub const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// The annotation that replaces a pod's default network.
pub const DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";

/// The API server refuses objects whose annotations are longer than this in total (256 KiB).
pub const MAX_LENGTH: usize = 256 * 1024;
/// Linux: IFNAMSIZ is 16 with the closing zero.
const MAX_INTERFACE: usize = 15;

/// A network-attachment definition's identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NetworkName {
    /// The namespace it is looked up in.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One element of a selection annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Empty if the element does not say; the caller knows the default.
    pub namespace: String,
    /// The definition's name; never empty.
    pub name: String,
    /// The wished interface name, empty if left to Multus.
    pub interface: String,
    /// Gateways of `default-route`; `None` stands for an empty string, which Multus counts as IPv6.
    pub gateways: Vec<Option<IpAddr>>,
}

/// A parsed annotation, with what its author should know although it works.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// In the order of the annotation; the same network may stand there several times.
    pub elements: Vec<Element>,
    /// Sentences for the user.
    pub warnings: Vec<String>,
}

/// Why an annotation can never work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// Longer than the API server stores.
    #[error("is {0} bytes long, annotations may have {MAX_LENGTH}")]
    TooLong(usize),
    /// It contains one of `[`, `{`, `"`, so Multus reads it as JSON, but it is none.
    #[error("is taken as JSON (it contains '[', '{{' or '\"'), but is not valid JSON: {0}")]
    Json(String),
    /// JSON, but not a list.
    #[error("must be a JSON list of network selections, not {0}")]
    NotAList(&'static str),
    /// One element is wrong, counted from 1.
    #[error("element {position} ({element:?}): {problem}")]
    Element {
        /// Counted from 1.
        position: usize,
        /// What was written, shortened.
        element: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Reads the value of a selection annotation. An empty value, `null` and `[]` select nothing.
///
/// # Errors
/// The value can never work with Multus; the error says where and why.
pub fn parse(text: &str) -> Result<Selection, SelectionError> {
    if text.len() > MAX_LENGTH {
        return Err(SelectionError::TooLong(text.len()));
    }
    if text.is_empty() || text.trim() == "null" {
        return Ok(Selection::default());
    }
    if text.contains(['[', '{', '"']) { json::parse(text) } else { short::parse(text) }
}

/// A DNS-1123 label: lower-case letters, digits and inner hyphens, at most 63 characters.
pub fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_label_pattern(text)
}

/// A DNS-1123 subdomain: labels joined by dots, at most 253 characters; the rule for object names.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label_pattern)
}

fn is_label_pattern(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(inner) && text.ends_with(inner) && text.chars().all(|c| inner(c) || c == '-')
}

fn element_error(position: usize, element: &str, problem: impl Into<String>) -> SelectionError {
    SelectionError::Element {
        position,
        element: crate::review::shorten(element, 80),
        problem: problem.into(),
    }
}
