//! Pools at the rim: what the command line asks for becomes pool specifications, and pools become text and JSON.

pub mod args;
pub mod error;
pub mod held;
pub mod source;
pub mod view;
pub mod wanted;

pub use args::{PoolSources, PoolsArgs, RegistrationArg, RunArgs, SriovdpArgs};
pub use error::PoolsError;
pub use source::PoolSource;
pub use wanted::Wanted;
