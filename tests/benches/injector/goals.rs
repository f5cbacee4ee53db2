//! What has to come out; everything else is only printed.

use std::time::Duration;

/// From the process's start to ready, with 10,000 networks.
pub const READY: Duration = Duration::from_secs(2);
/// The most memory that a load may take the injector to, in KiB: a third of the limit in its manifest.
pub const MEMORY_KIB: u64 = 64 * 1024;
/// How much more it may have after a flood of connection attempts, in KiB.
pub const FLOOD_KIB: u64 = 16 * 1024;
/// Look-ups for a hundred first requests at once; one, unless some come after it has been answered.
pub const LOOKUPS: usize = 10;

/// Goals that were missed, in sentences.
#[derive(Debug, Default)]
pub struct Missed(pub Vec<String>);

impl Missed {
    /// Notes what went wrong, if it did.
    pub fn unless(&mut self, met: bool, otherwise: impl FnOnce() -> String) {
        if !met {
            self.0.push(otherwise());
        }
    }
}
