//! How old kubelet's files are. They carry the time of day, which jumps: when the first time server answers after boot, when a
//! virtual machine wakes up. No jump may make a device that a pod has look free, so a time of day is believed only once, at
//! the first look, and only if it can be true; afterwards counts what was seen to change while we watched, by a clock that
//! only goes forward.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use portwright_host::boot;
use portwright_host::deadline::{Stopwatch, unix_seconds};
use portwright_host::root::Root;

use crate::kubelet::Identity;

/// How long after kubelet's socket appeared List may be empty although pods run.
const UNSETTLED: Duration = Duration::from_secs(5);
/// Where the kernel's own device folder may be seen: ours, and the host's from inside a container.
const KERNEL_MADE: [&str; 2] = ["dev/null", "proc/1/root/dev/null"];

/// What one process has seen of kubelet's files.
#[derive(Debug)]
pub struct Witness {
    watch: Stopwatch,
    seen: Mutex<Seen>,
}

impl Default for Witness {
    fn default() -> Witness {
        Witness { watch: Stopwatch::start(), seen: Mutex::default() }
    }
}

impl Witness {
    /// Whether List can be trusted: its socket has been there for long enough.
    pub(crate) fn settled(&self, root: &Root, socket: Option<Identity>) -> bool {
        let clocks = Clocks { day: unix_seconds(), up: boot::up(root), watched: self.watch.elapsed() };
        self.seen().settled(socket, &clocks)
    }

    /// Whether a checkpoint was written since this boot.
    pub(crate) fn of_this_boot(&self, root: &Root, checkpoint: Option<&std::fs::Metadata>) -> bool {
        let stamp = checkpoint.map(|found| Stamp {
            file: (found.dev(), found.ino(), found.len()),
            written: (found.mtime(), found.mtime_nsec()),
        });
        self.seen().of_this_boot(stamp, || began(root))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The clocks at a look.
#[derive(Debug, Clone, Copy)]
struct Clocks {
    /// Unix seconds; jumps.
    day: u64,
    /// Seconds since boot.
    up: Option<u64>,
    /// Since the first look.
    watched: Duration,
}

/// What tells a checkpoint from the one that replaces it: device, inode and size; when it was written, by the time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64, u64),
    written: (i64, i64),
}

#[derive(Debug, Default)]
struct Seen {
    socket: Option<Socket>,
    looked_for_socket: bool,
    /// The checkpoint, and whether it counts.
    checkpoint: Option<(Stamp, bool)>,
    looked_for_checkpoint: bool,
}

#[derive(Debug)]
struct Socket {
    identity: Identity,
    /// When we saw it first, and how old it was then.
    since: Duration,
    age: Duration,
}

impl Seen {
    fn settled(&mut self, socket: Option<Identity>, clocks: &Clocks) -> bool {
        let first = !std::mem::replace(&mut self.looked_for_socket, true);
        let Some(identity) = socket else {
            self.socket = None;
            return false;
        };
        let known = self.socket.take().filter(|known| known.identity == identity);
        let known = known.unwrap_or_else(|| {
            // What was there before us has its own time; what came later has been there for as long as we see it.
            let age = if first { age(identity, clocks) } else { None };
            Socket { identity, since: clocks.watched, age: age.unwrap_or_default() }
        });
        let settled = known.age + clocks.watched.saturating_sub(known.since) >= UNSETTLED;
        self.socket = Some(known);
        settled
    }

    /// `began` is asked for when this boot began, by the time of day, as early as can be; none if nobody knows.
    fn of_this_boot(&mut self, checkpoint: Option<Stamp>, began: impl FnOnce() -> Option<u64>) -> bool {
        let first = !std::mem::replace(&mut self.looked_for_checkpoint, true);
        let Some(stamp) = checkpoint else {
            self.checkpoint = None;
            return false;
        };
        let counts = match self.checkpoint {
            Some((known, counts)) if known == stamp => counts,
            // Written while we watched, whatever the clock said.
            Some(_) => true,
            None if !first => true,
            None => {
                let written = u64::try_from(stamp.written.0).unwrap_or_default();
                began().is_none_or(|began| written >= began)
            }
        };
        self.checkpoint = Some((stamp, counts));
        counts
    }
}

/// How old a socket is by its own time; none if that cannot be true: it is of the future, or of before this boot.
fn age((_, _, changed, _): Identity, clocks: &Clocks) -> Option<Duration> {
    let age = clocks.day.checked_sub(u64::try_from(changed).ok()?)?;
    clocks.up.is_some_and(|up| age <= up).then(|| Duration::from_secs(age))
}

/// When this boot began. What the kernel says moves with every jump of the clock; when it made its own device files, on the
/// way up, does not.
fn began(root: &Root) -> Option<u64> {
    let made = KERNEL_MADE.iter().filter_map(|file| born(&root.join(file)));
    boot_time(root).into_iter().chain(made).min()
}

/// When a file was made, which nobody can change later. Older kernels do not know it of their own files: then when it was last
/// changed, which is no earlier than that, and of device files the same.
fn born(path: &Path) -> Option<u64> {
    let metadata = path.metadata().ok()?;
    let born = metadata.created().or_else(|_| metadata.modified()).ok()?;
    Some(born.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// When this kernel was started, as it tells now.
fn boot_time(root: &Root) -> Option<u64> {
    let text = root.document("proc/stat", 16 << 20).ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;
    /// When the tests are, by the time of day.
    const NOW: u64 = 20_000 * DAY;

    fn socket(number: u64, changed: u64) -> Option<Identity> {
        Some((1, number, i64::try_from(changed).unwrap(), 0))
    }

    fn clocks(day: u64, up: u64, watched: u64) -> Clocks {
        Clocks { day, up: Some(up), watched: Duration::from_secs(watched) }
    }

    #[test]
    fn a_socket_that_was_there_before_us_is_as_old_as_it_says_if_that_can_be_true() {
        for (what, made, clocks, settled) in [
            ("a minute ago", NOW - 60, clocks(NOW, 100, 0), true),
            ("just now", NOW - 4, clocks(NOW, 100, 0), false),
            ("the clock has jumped forwards since", NOW - 60, clocks(NOW + 3 * DAY, 100, 0), false),
            ("it was 1970 until the time server answered", 9, clocks(NOW, 30, 0), false),
            ("the clock has jumped back to 1970", NOW - 60, clocks(7, 100, 0), false),
            ("nobody knows how long this boot is", NOW - 60, Clocks { up: None, ..clocks(NOW, 0, 0) }, false),
        ] {
            let mut seen = Seen::default();
            assert_eq!(seen.settled(socket(1, made), &clocks), settled, "{what}");
            let later = Clocks { watched: clocks.watched + UNSETTLED, ..clocks };
            assert!(seen.settled(socket(1, made), &later), "{what}, but we have seen it for long enough");
        }
    }

    #[test]
    fn a_socket_that_appears_later_settles_by_our_own_watch() {
        let mut seen = Seen::default();
        assert!(seen.settled(socket(1, NOW - 60), &clocks(NOW, DAY, 0)));
        // kubelet starts anew, and the clock jumps by two hours, which this boot is old enough for.
        assert!(!seen.settled(socket(2, NOW), &clocks(NOW + 7200, DAY, 10)));
        assert!(!seen.settled(socket(2, NOW), &clocks(NOW + 7200, DAY, 14)));
        assert!(seen.settled(socket(2, NOW), &clocks(0, DAY, 15)), "back to 1970, which does not matter");
        // And away, and there again.
        assert!(!seen.settled(None, &clocks(NOW, DAY, 16)));
        assert!(!seen.settled(socket(2, NOW - 60), &clocks(NOW, DAY, 17)));
        let mut seen = Seen::default();
        assert!(!seen.settled(None, &clocks(NOW, DAY, 0)));
        assert!(!seen.settled(socket(1, NOW - 60), &clocks(NOW, DAY, 1)), "it came after us");
    }

    fn stamp(file: u64, written: u64) -> Option<Stamp> {
        Some(Stamp { file: (1, file, 100), written: (i64::try_from(written).unwrap(), 0) })
    }

    #[test]
    fn a_checkpoint_is_judged_once_and_what_is_written_under_our_eyes_counts() {
        let boot = NOW - 100;
        let cases = [(NOW, true), (boot, true), (boot - 1, false), (0, false)];
        for (written, counts) in cases {
            let mut seen = Seen::default();
            assert_eq!(seen.of_this_boot(stamp(1, written), || Some(boot)), counts, "{written}");
            // The clock jumps, and with it the time at which the kernel says that it was started.
            for jumped in [0, NOW + 3 * DAY] {
                let again = seen.of_this_boot(stamp(1, written), || Some(jumped));
                assert_eq!(again, counts, "{written}, boot at {jumped}");
            }
            // kubelet writes it by a clock that shows 1970.
            assert!(seen.of_this_boot(stamp(2, 5), || Some(NOW + 3 * DAY)), "{written}");
            assert!(seen.of_this_boot(stamp(2, 5), || Some(NOW + 3 * DAY)), "{written}");
        }
        let mut seen = Seen::default();
        assert!(seen.of_this_boot(stamp(1, 5), || None), "nobody knows when this boot began");
        let mut seen = Seen::default();
        assert!(!seen.of_this_boot(None, || Some(boot)));
        assert!(seen.of_this_boot(stamp(1, 5), || Some(boot)), "there was none before");
    }

    #[test]
    fn this_boot_began_before_the_kernel_made_its_files_and_before_what_it_says_now() {
        let root = Root::new("/");
        let said = boot_time(&root).unwrap();
        let made = born(Path::new("/dev/null"));
        assert_eq!(began(&root), Some(made.map_or(said, |made| made.min(said))));
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tree.path().join("proc")).unwrap();
        std::fs::create_dir_all(tree.path().join("dev")).unwrap();
        std::fs::File::create_new(tree.path().join("dev/null")).unwrap();
        // The clock has jumped forwards since that file was made.
        let stat = format!("cpu 1\nbtime {}\n", unix_seconds() + DAY);
        portwright_host::write::replace(&tree.path().join("proc/stat"), stat.as_bytes(), 0o600, 0o755)
            .unwrap();
        let began = began(&Root::new(tree.path())).unwrap();
        assert!(began <= unix_seconds() && began + 3600 > unix_seconds(), "{began}");
    }
}
