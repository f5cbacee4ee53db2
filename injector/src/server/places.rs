//! How many reviews are under way at once, and what becomes of those beyond.
//!
//! An API server waits for every answer, so a long queue helps nobody: whoever comes when all places are taken is told
//! so at once, in time for its controller to try again or for another replica to be asked. Reviews that wait for a live
//! look-up have places of their own. They cost no work, and an API server that answers slowly must not keep pods from
//! being served whose networks are in the cache.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// How long a review may wait for its turn to work; a few of the largest pods take this long, a burst passes in less.
const PATIENCE: Duration = Duration::from_millis(250);
/// So many may wait for the API server for each that may work: a burst of first pods fits.
const WAITING_FOR_EACH: usize = 4;

/// Places for reviews at work and for those that wait for the API server.
#[derive(Debug)]
pub struct Places {
    working: Semaphore,
    waiting: Semaphore,
}

/// All places are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Overload {
    /// As many reviews as may be at work are.
    #[error("too many reviews at once (--max-requests); try again")]
    Working,
    /// Too many reviews wait for live look-ups.
    #[error("too many reviews wait for the API server (--max-requests); try again")]
    Waiting,
}

impl Places {
    /// Places for `most` reviews at work.
    pub fn new(most: u32) -> Self {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let waiting = most.saturating_mul(WAITING_FOR_EACH).min(Semaphore::MAX_PERMITS);
        Self { working: Semaphore::new(most), waiting: Semaphore::new(waiting) }
    }

    /// A place to work, after a short wait at most.
    ///
    /// # Errors
    /// None became free.
    pub async fn work(&self) -> Result<SemaphorePermit<'_>, Overload> {
        // The semaphore is never closed, so no permit means no time.
        let place = timeout(PATIENCE, self.working.acquire()).await;
        place.ok().and_then(Result::ok).ok_or(Overload::Working)
    }

    /// A place to wait for the API server.
    ///
    /// # Errors
    /// None is free.
    pub fn wait(&self) -> Result<SemaphorePermit<'_>, Overload> {
        self.waiting.try_acquire().map_err(|_| Overload::Waiting)
    }
}
