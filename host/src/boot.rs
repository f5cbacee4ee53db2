//! Which boot this is and how long it has lasted. No jump of the time of day touches it, and it goes on while the machine
//! sleeps, so it is what spans are counted by that have to outlast a program.

use crate::root::Root;

/// A moment of a boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// Seconds since it began, from `/proc/uptime`.
    pub up: u64,
}

impl Moment {
    /// Now; none where it cannot be read.
    pub fn now(root: &Root) -> Option<Moment> {
        let boot = root.document("proc/sys/kernel/random/boot_id", 64).ok()?.trim().to_owned();
        Some(Moment { boot, up: up(root)? })
    }
}

/// Seconds since boot.
pub fn up(root: &Root) -> Option<u64> {
    let text = root.document("proc/uptime", 256).ok()?;
    text.split(['.', ' ']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Moment, up};
    use crate::root::Root;

    #[test]
    fn the_host_says_which_boot_it_is_in_and_a_bad_tree_says_nothing() {
        let root = Root::new("/");
        let (first, second) = (Moment::now(&root).unwrap(), Moment::now(&root).unwrap());
        assert_eq!(first.boot, second.boot);
        assert!(first.boot.len() == 36 && first.up > 0 && second.up >= first.up, "{first:?}");
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("proc")).unwrap();
        let root = Root::new(tree.path());
        for bad in ["", "x", "-1.0 2", "99999999999999999999.1 1"] {
            crate::write::replace(&tree.path().join("proc/uptime"), bad.as_bytes(), 0o600, 0o755).unwrap();
            assert_eq!(up(&root), None, "{bad}");
        }
        assert_eq!(Moment::now(&root), None);
    }
}
