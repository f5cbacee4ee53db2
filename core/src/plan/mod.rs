//! The plan (under construction).
use crate::{Blocked, Observed, Profiles, Step, desired::Desired, id::Object};

/// What would be done, and what is in the way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps, in the order in which they would be run.
    pub steps: Vec<Step>,
    /// What is in the way; all of it.
    pub blocked: Vec<Blocked>,
    /// Wishes that depend on something nobody could read: whether there is something to do cannot be told.
    pub unknown: Vec<Unknown>,
    /// What the plan looked at, with how it is called in text.
    pub subjects: Vec<Subject>,
}

/// A wish whose present value is unknown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unknown {
    /// What it is about.
    pub object: Object,
    /// Which value (`VLAN`).
    pub what: String,
}

/// A PF or bridge that a policy speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The object.
    pub object: Object,
    /// What stands beside it in a heading: netdev name and profile.
    pub heading: String,
    /// Policy that binds it.
    pub policy: String,
    /// Remarks that are neither step nor obstacle (overridden policies, VFs in use that keep their settings).
    pub notes: Vec<String>,
}

/// Plans.
pub fn plan(_observed: &Observed, _desired: &Desired, _profiles: &Profiles) -> Plan {
    Plan::default()
}
