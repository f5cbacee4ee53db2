//! Everything that a policy's text alone shows to be wrong and a schema cannot say. These checks always run, for every
//! section, whether or not this version can act on it.

mod bridge;
mod mirror;
mod pool;
mod port;
mod selector;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use portwright_core::desired::NicEntry;
use std::collections::BTreeMap;

use crate::convert;
use crate::error::FieldError;
use crate::names;
use crate::policy::{NodePolicy, NodePolicySpec, NodeSelector};
use crate::tree::shortened;

/// Everything that is wrong with a policy, section by section. Sections that are not there yet are checked too, but that
/// they are not there is said by [`crate::convert`].
pub fn check(policy: &NodePolicy) -> Vec<FieldError> {
    let mut errors = Errors::default();
    // Only what is wrong is asked for; the entries that are right are not needed.
    drop(sections(policy, &mut errors));
    errors.list
}

/// Everything that is wrong with a selector of nodes. It may be right in a policy that is wrong elsewhere.
pub fn check_selector(selector: &NodeSelector) -> Vec<FieldError> {
    let mut errors = Errors::default();
    selector::check(selector, &mut errors);
    errors.list
}

/// Checks every section and converts the NICs on the way: what converts is right.
pub(crate) fn sections(policy: &NodePolicy, errors: &mut Errors) -> Vec<NicEntry> {
    let NodePolicySpec {
        node_selector,
        max_unavailable,
        ovs,
        nics,
        pools,
        bridges,
        mirrors,
        // Every value of these is right.
        priority: _,
        mode: _,
        disruption: _,
        cordon: _,
    } = &policy.spec;
    match &policy.metadata.name {
        Some(name) => errors.rule("metadata.name", names::subdomain(name)),
        None => errors.add("metadata.name", "is missing"),
    }
    if let Some(selector) = node_selector {
        selector::check(selector, errors);
    }
    if let Some(limit) = max_unavailable {
        errors.rule("spec.maxUnavailable", check_max_unavailable(limit));
    }
    let mut entries = Vec::new();
    for (index, entry) in nics.iter().enumerate() {
        entries.extend(convert::nic(entry, &format!("spec.nics[{index}]"), errors));
    }
    if let Some(collect) = ovs.as_ref().and_then(|ovs| ovs.collect.as_ref()) {
        for (index, owner) in collect.owners.iter().enumerate() {
            errors.rule(format!("spec.ovs.collect.owners[{index}]"), names::column_key(owner));
        }
    }
    pool::check_all(pools, errors);
    bridge::check_all(bridges, errors);
    mirror::check_all(mirrors, errors);
    entries
}

/// Collects errors under their paths.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    pub(crate) list: Vec<FieldError>,
}

impl Errors {
    pub(crate) fn add(&mut self, path: impl Into<String>, what: impl Into<String>) {
        self.list.push(FieldError::new(path, what));
    }

    pub(crate) fn add_with_hint(
        &mut self,
        path: impl Into<String>,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.list.push(FieldError::new(path, what).hint(hint));
    }

    /// Adds the error of a rule, if it has one.
    pub(crate) fn rule(&mut self, path: impl Into<String>, result: Result<(), String>) {
        if let Err(what) = result {
            self.add(path, what);
        }
    }
}

/// Names that may be taken once, and the path that took each.
#[derive(Debug, Default)]
pub(crate) struct Unique(BTreeMap<String, String>);

impl Unique {
    /// Takes a name; if it is taken already, that is an error that names both places, and `false`.
    pub(crate) fn take(&mut self, name: &str, path: &str, errors: &mut Errors) -> bool {
        self.take_as(name, name, path, errors)
    }

    /// As [`Unique::take`], for a name that is unique only together with something else.
    pub(crate) fn take_as(&mut self, key: &str, name: &str, path: &str, errors: &mut Errors) -> bool {
        if let Some(other) = self.0.get(key) {
            errors.add(path, format!("`{}` is already taken by {other}", shortened(name)));
            return false;
        }
        self.0.insert(key.to_owned(), path.to_owned());
        true
    }
}

fn check_max_unavailable(limit: &IntOrString) -> Result<(), String> {
    match limit {
        IntOrString::Int(number) if *number >= 1 => Ok(()),
        IntOrString::Int(number) => {
            Err(format!("{number} would never let a node be changed; expected 1 or more"))
        }
        IntOrString::String(text) => match text.strip_suffix('%').map(str::parse::<u32>) {
            Some(Ok(1..=100)) => Ok(()),
            Some(Ok(_) | Err(_)) | None => {
                Err(format!("`{}` is neither a number nor a percentage from `1%` to `100%`", shortened(text)))
            }
        },
    }
}
