//! Reads sysfs folders into raw values, one folder at a time and each file once. What belongs together (a PF, its VFs,
//! their representors) is put together in [`crate::inventory`].

pub(crate) mod function;
pub(crate) mod netdev;
pub(crate) mod parse;

use nix::errno::Errno;
use portwright_core::Fact;
use portwright_core::drive::chain;

use crate::root::ReadError;

/// What could not be read of one object, as sentences.
#[derive(Debug, Default)]
pub(crate) struct Reasons(pub(crate) Vec<String>);

impl Reasons {
    /// Adds an error with its causes.
    pub(crate) fn add(&mut self, error: &ReadError) {
        self.0.push(chain(error));
    }

    /// The value, or nothing and a reason. A file that went away since its folder was listed is no reason.
    pub(crate) fn take<T>(&mut self, read: Result<T, ReadError>) -> Option<T> {
        self.unless_refused(read, &[])
    }

    /// As [`Reasons::take`], where some refusals are how the kernel says "none".
    pub(crate) fn unless_refused<T>(&mut self, read: Result<T, ReadError>, none: &[Errno]) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(error) => {
                let normal =
                    error.errno().is_some_and(|errno| errno == Errno::ENOENT || none.contains(&errno));
                if !normal {
                    self.add(&error);
                }
                None
            }
        }
    }

    /// The value as a fact; what could not be read is unknown.
    pub(crate) fn fact<T>(&mut self, read: Result<T, ReadError>) -> Fact<T> {
        self.take(read).map_or(Fact::UNKNOWN, Fact::Known)
    }
}
