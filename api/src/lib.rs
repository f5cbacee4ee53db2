//! Kubernetes resource types (CRDs) and their one conversion into core types.
//!
//! [`policy`] holds the NodePolicy as operators write it. [`load`] does everything a command line needs: it reads YAML or
//! JSON files, compares them with the schema the API server enforces, checks what a schema cannot say, and converts
//! them into what the planner works with. Every mistake of every document is reported, with its place and field path.

mod check;
mod convert;
mod convert_ovs;
mod crd;
mod error;
pub mod fuzz;
mod metadata;
mod names;
pub mod policy;
mod read;
mod schema;
pub mod state;
mod tree;
mod yaml;

pub use check::{check, check_selector};
pub use convert::convert;
pub use crd::{crd_yaml, crds, json_schema, json_schema_text, state_schema_text};
pub use error::{FieldError, PolicyError, Position};
pub use policy::NodePolicy;
pub use policy::NodePolicyStatus;
pub use read::{MAX_FILE_BYTES, ReadPolicy, decode, duplicates, load, policy_from_json, read, read_policies};
pub use state::{NodeState, NodeStateContent};

/// A complete policy document with comments, as docs and tests use it.
pub fn example() -> &'static str {
    include_str!("example.yaml")
}
