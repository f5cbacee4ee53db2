//! Pools: which devices kubelet is given under which resource name, and what a container that gets one is told.
//!
//! Pools come from sriov-network-device-plugin's `config.json` ([`config`]) and from a policy's VF groups ([`spec`]), with
//! what policies set of pools (`setting`). What a node has becomes [`candidate`]s; [`assign`] gives each to the first pool that takes it and says why the others did not
//! ([`explain`]). [`prefer`] chooses among free devices, [`answer`] makes the texts of Allocate.

pub mod answer;
pub mod assign;
pub mod candidate;
pub mod config;
pub mod explain;
pub mod fuzz;
mod json;
pub mod prefer;
pub mod range;
pub mod selector;
mod setting;
pub mod spec;

pub use assign::{Health, Pool, PoolDevice, Pools, assign};
pub use candidate::{Candidate, candidates};
pub use setting::conflicts;
pub use spec::{PoolSpec, ResourceName};
