//! Reasons of conditions that are no obstacles of a plan. Together with [`portwright_core::Reason`] they are the one
//! vocabulary; docs/errors.md has a chapter for each.

use std::fmt;

/// Why an object is as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// It is as it is wanted.
    InSync,
    /// No policy wants anything of it.
    Unmanaged,
    /// Steps are due or being carried out.
    Pending,
    /// Steps are due and wait for something.
    Waiting,
    /// A step failed and is still due.
    Failed,
    /// Steps are due, and the policy says `mode: Plan`.
    PlanOnly,
    /// Whether something is due depends on a value that nobody could read.
    Unreadable,
    /// The round could not be completed.
    NotObserved,
    /// The policy can be used.
    Accepted,
    /// The policy has mistakes.
    Invalid,
    /// A policy of higher priority decides.
    Overridden,
    /// No other policy of the same priority wants the same thing.
    Exclusive,
    /// The source of policies can be read.
    Current,
    /// The source of policies cannot be read; the last good ones hold.
    SourceLost,
    /// The pool has no device on this node.
    NoDevices,
    /// Devices of the pool cannot be given out.
    Unhealthy,
    /// kubelet does not listen to the pool.
    NotRegistered,
    /// The policy selects no node that has an agent.
    NoNodes,
    /// The port that a mirror's copies go to is down.
    MirrorOutputDown,
    /// Frames pass at a mirror's ports and are not copied.
    MirrorNotCopying,
}

impl Word {
    /// All words.
    pub const ALL: &'static [Word] = &[
        Word::InSync,
        Word::Unmanaged,
        Word::Pending,
        Word::Waiting,
        Word::Failed,
        Word::PlanOnly,
        Word::Unreadable,
        Word::NotObserved,
        Word::Accepted,
        Word::Invalid,
        Word::Overridden,
        Word::Exclusive,
        Word::Current,
        Word::SourceLost,
        Word::NoDevices,
        Word::Unhealthy,
        Word::NotRegistered,
        Word::NoNodes,
        Word::MirrorOutputDown,
        Word::MirrorNotCopying,
    ];
}

impl fmt::Display for Word {
    /// The variant's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
