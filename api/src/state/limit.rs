//! How much a NodeState holds at most. The schema and the agent use the same numbers; the agent leaves out more than that
//! where the object would still become too large ([`super::NodeStateContent::omitted`]).

/// Conditions of one object.
pub const CONDITIONS: usize = 8;
/// Policies that select one node.
pub const POLICIES: usize = 256;
/// Functions with SR-IOV.
pub const PFS: usize = 256;
/// Ranges of VFs of one function: a function can have 65,535 VFs, real ones have some hundred.
pub const RANGES: usize = 4096;
/// Pods that are named of one function.
pub const PODS: usize = 64;
/// Pools.
pub const POOLS: usize = 512;
/// Bridges.
pub const BRIDGES: usize = 512;
/// Mirrors of one bridge.
pub const MIRRORS: usize = 256;
/// Steps of the plan, and of the last run.
pub const STEPS: usize = 256;
/// Obstacles, and things that could not be told.
pub const OBSTACLES: usize = 256;
/// Objects that wait.
pub const WAITING: usize = 256;
/// Causes of a round.
pub const CAUSES: usize = 64;
/// Remarks on one object.
pub const NOTES: usize = 16;
/// Things that could not be read.
pub const PROBLEMS: usize = 64;
/// Bytes of a text (message, hint, why). A longer one ends in `…`.
pub const TEXT: usize = 1024;
/// Bytes of the object as JSON. etcd takes 1.5 MiB in one request.
pub const BYTES: usize = 900 * 1024;
