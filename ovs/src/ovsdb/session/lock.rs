//! Locks (RFC 7047 §4.1.8): a name that one client of the server holds at a time. The server forgets them with the
//! connection, so the session asks again on every new one.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use tokio::sync::watch;

/// The name of a lock: an identifier of RFC 7047 §3.1, `[A-Za-z_][A-Za-z0-9_]*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockName(String);

/// A text that cannot name a lock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} cannot name a lock: letters, digits and underscores, not starting with a digit")]
pub struct InvalidLockName {
    name: String,
}

impl FromStr for LockName {
    type Err = InvalidLockName;

    fn from_str(name: &str) -> Result<Self, InvalidLockName> {
        let legal = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let starts_with_letter = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        if legal && starts_with_letter {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidLockName { name: name.to_owned() })
        }
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a lock is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockState {
    /// Asked for, or no connection.
    Waiting,
    /// Ours.
    Held,
    /// Another client took it by force. It comes back to us when that client lets go.
    Stolen,
}

/// A lock that the session keeps asking for until this is dropped.
#[derive(Debug)]
pub struct Lock {
    pub(super) name: LockName,
    pub(super) state: watch::Receiver<LockState>,
}

impl Lock {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &LockName {
        &self.name
    }

    /// Whether it is ours now.
    #[must_use]
    pub fn state(&self) -> LockState {
        *self.state.borrow()
    }

    /// Waits until it is in that state; false if the session has ended.
    pub async fn reached(&mut self, state: LockState) -> bool {
        self.state.wait_for(|now| *now == state).await.is_ok()
    }
}

/// The session's side: one entry per name; several [`Lock`]s of one name share it.
#[derive(Debug, Default)]
pub(super) struct Locks {
    entries: BTreeMap<String, watch::Sender<LockState>>,
    /// Requests under way on this connection: id to name.
    asked: BTreeMap<u64, String>,
}

#[derive(Deserialize)]
struct Granted {
    locked: bool,
}

impl Locks {
    /// Registers interest; true if the name is new and must be asked for.
    pub(super) fn add(
        &mut self,
        name: &str,
        reply: tokio::sync::oneshot::Sender<watch::Receiver<LockState>>,
    ) -> bool {
        let known = self.entries.contains_key(name);
        let sender =
            self.entries.entry(name.to_owned()).or_insert_with(|| watch::Sender::new(LockState::Waiting));
        // A caller that has gone away leaves an entry without listeners, which `abandoned` finds.
        drop(reply.send(sender.subscribe()));
        !known
    }

    /// Takes out names that nobody holds a [`Lock`] of any more.
    pub(super) fn abandoned(&mut self) -> Vec<String> {
        let gone: Vec<String> = self
            .entries
            .iter()
            .filter(|(_, sender)| sender.is_closed())
            .map(|(name, _)| name.clone())
            .collect();
        for name in &gone {
            self.entries.remove(name);
        }
        gone
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    pub(super) fn asked(&mut self, id: u64, name: &str) {
        self.asked.insert(id, name.to_owned());
    }

    /// Takes an answer; false if the id is not a lock request's.
    pub(super) fn answered(&mut self, id: u64, result: Option<&str>) -> bool {
        let Some(name) = self.asked.remove(&id) else { return false };
        let granted = result
            .and_then(|text| serde_json::from_str::<Granted>(text).ok())
            .is_some_and(|answer| answer.locked);
        if granted {
            self.set(&name, LockState::Held);
        }
        true
    }

    pub(super) fn set(&self, name: &str, state: LockState) {
        if let Some(sender) = self.entries.get(name) {
            sender.send_replace(state);
        }
    }

    /// The connection is gone, and every lock with it.
    pub(super) fn lost(&mut self) {
        self.asked.clear();
        for sender in self.entries.values() {
            sender.send_replace(LockState::Waiting);
        }
    }
}
