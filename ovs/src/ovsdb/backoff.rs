//! How long to wait before the next attempt: doubling from 0.1 s to 5 s, each time a random half of it less, so
//! that the clients of a restarted server do not come back in step.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

/// Waiting times between attempts.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
    random: RandomState,
    drawn: u64,
}

impl Backoff {
    /// From `first`, doubling, up to `most`.
    #[must_use]
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first, random: RandomState::new(), drawn: 0 }
    }

    /// The next wait: between half of the current step and the whole step.
    pub fn next_wait(&mut self) -> Duration {
        let step = self.next.min(self.most);
        self.next = step.saturating_mul(2).min(self.most);
        self.drawn = self.drawn.wrapping_add(1);
        // RandomState is keyed by the operating system; 1,024 steps of jitter are plenty.
        let fraction = u32::try_from(self.random.hash_one(self.drawn) % 1024).unwrap_or(0);
        step - step.saturating_mul(fraction).div_f64(2048.0)
    }

    /// After a success: start small again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_with_jitter_up_to_the_limit_and_starts_again() {
        let mut backoff = Backoff::default();
        for step in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let (wait, step) = (backoff.next_wait(), Duration::from_millis(step));
            assert!(wait <= step && wait * 2 >= step, "{wait:?} for a step of {step:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
        let mut waits: Vec<_> = (0..20).map(|_| Backoff::default().next_wait()).collect();
        waits.dedup();
        assert!(waits.len() > 1, "no jitter");
    }
}
