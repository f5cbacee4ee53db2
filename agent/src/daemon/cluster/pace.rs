//! How fast: growing pauses after failures, and a bound on how often something is written. Both are plain arithmetic;
//! whoever waits passes the time in.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use kube::runtime::utils::Backoff;

/// A number below `limit`, different in every agent and at every call; 0 if `limit` is 0. Not for secrets.
pub fn lot(limit: u64) -> u64 {
    // The standard library seeds every state from the system's random numbers.
    let number = RandomState::new().build_hasher().finish();
    number.checked_rem(limit).unwrap_or_default()
}

/// A random span below `limit`, in milliseconds.
pub fn lot_of(limit: Duration) -> Duration {
    Duration::from_millis(lot(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)))
}

/// Pauses between attempts: each twice as long as the one before, up to a cap, plus up to half of it by lot so that many
/// agents do not come back at the same moment.
#[derive(Debug, Clone, Copy)]
pub struct Growing {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Growing {
    /// From `least` to `most`.
    pub fn new(least: Duration, most: Duration) -> Growing {
        Growing { least, most, next: least }
    }
}

impl Default for Growing {
    /// What client-go does when it follows something: 0.8 s to 30 s.
    fn default() -> Growing {
        Growing::new(Duration::from_millis(800), Duration::from_secs(30))
    }
}

impl Iterator for Growing {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = self.next;
        self.next = now.saturating_mul(2).min(self.most);
        Some(now.saturating_add(lot_of(now.checked_div(2).unwrap_or_default())))
    }
}

impl Backoff for Growing {
    fn reset(&mut self) {
        self.next = self.least;
    }
}

/// A token bucket: so many at once, then one per period. Times are spans since any fixed moment.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    burst: u32,
    period: Duration,
    /// When the bucket would be full again.
    full_at: Duration,
}

impl Bucket {
    /// A full bucket.
    pub fn new(burst: u32, period: Duration) -> Bucket {
        Bucket { burst: burst.max(1), period, full_at: Duration::ZERO }
    }

    /// Takes a token, or says how long to wait for one.
    ///
    /// # Errors
    /// There is none; the span until there is one.
    pub fn take(&mut self, now: Duration) -> Result<(), Duration> {
        let full_at = self.full_at.max(now).saturating_add(self.period);
        // With `burst` tokens taken the bucket needs that many periods to be full again.
        let latest = now.saturating_add(self.period.saturating_mul(self.burst));
        if full_at > latest {
            return Err(full_at.saturating_sub(latest));
        }
        self.full_at = full_at;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube::runtime::utils::Backoff as _;

    use super::{Bucket, Growing, lot};

    #[test]
    fn pauses_double_up_to_the_cap_and_start_again() {
        let mut pauses = Growing::new(Duration::from_secs(1), Duration::from_secs(5));
        for expected in [1, 2, 4, 5, 5] {
            let pause = pauses.next().unwrap();
            let least = Duration::from_secs(expected);
            assert!(pause >= least && pause < least * 3 / 2, "{pause:?}, expected from {least:?}");
        }
        pauses.reset();
        assert!(pauses.next().unwrap() < Duration::from_secs(2));
    }

    /// What matters of an absence is how often the server is asked meanwhile, and how soon its return is seen.
    #[test]
    fn ten_minutes_of_absence_are_few_attempts_and_a_soon_return() {
        let (mut attempts, mut waited, mut longest) = (0, Duration::ZERO, Duration::ZERO);
        for pause in Growing::default() {
            attempts += 1;
            waited += pause;
            longest = longest.max(pause);
            if waited > Duration::from_secs(600) {
                break;
            }
        }
        assert!((15..=25).contains(&attempts), "{attempts}");
        assert!(longest < Duration::from_secs(45), "{longest:?}");
    }

    #[test]
    fn a_burst_and_then_one_per_period() {
        let mut bucket = Bucket::new(3, Duration::from_secs(5));
        let at = Duration::from_secs;
        for _ in 0..3 {
            assert_eq!(bucket.take(at(100)), Ok(()));
        }
        assert_eq!(bucket.take(at(100)), Err(at(5)));
        assert_eq!(bucket.take(at(102)), Err(at(3)), "asking costs nothing");
        assert_eq!(bucket.take(at(105)), Ok(()));
        assert_eq!(bucket.take(at(105)), Err(at(5)));
        let mut taken = 0;
        for second in 200..260 {
            taken += usize::from(bucket.take(at(second)).is_ok());
        }
        assert_eq!(taken, 3 + 11, "a minute after a long rest");
    }

    #[test]
    fn lots_differ_and_stay_below_the_limit() {
        let drawn: std::collections::BTreeSet<u64> = (0..100).map(|_| lot(1_000_000)).collect();
        assert!(drawn.len() > 90 && drawn.iter().all(|number| *number < 1_000_000));
        assert_eq!(lot(0), 0);
    }
}
