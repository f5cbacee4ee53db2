//! Tells a loop that waits when it is worth looking at the switch again: rows changed, the database came or went. It says
//! only that something changed; what did is found by looking, so nothing is lost when wakes are joined or come twice.
//!
//! It shares the connection of the [`OvsClient`](super::OvsClient) that gave it: no second copy of the database, and no traffic of
//! its own. A node on which no server was found yet is looked at now and then for the socket, and costs nothing else.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::ovsdb::{Remote, Session};

/// How often a node without Open vSwitch is looked at for a server's socket.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Why it is worth looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// There is a socket where there was no server when we looked last.
    Appeared,
    /// There is a connection with a current copy again.
    Connected,
    /// Rows changed, by us or by others.
    Rows,
    /// The connection broke. It is made again by itself.
    Disconnected,
}

/// What was last told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Told {
    up: bool,
    generation: u64,
}

/// Waits for changes of one switch. Several may wait for the same one.
#[derive(Debug)]
pub struct Watch {
    remote: Remote,
    /// The client's session, as soon as it has one.
    sessions: watch::Receiver<Option<Session>>,
    session: Option<Session>,
    told: Told,
    every: Duration,
    next_look: Option<Instant>,
}

impl Watch {
    pub(super) fn new(remote: Remote, sessions: watch::Receiver<Option<Session>>) -> Self {
        let (session, told, next_look) = (None, Told::default(), None);
        Self { remote, sessions, session, told, every: LOOK_EVERY, next_look }
    }

    /// Waits until it is worth looking; none if the client is gone. Changes since the last call count, also if nobody waited. May be
    /// dropped while it waits without losing anything. Must be called within a tokio runtime with time, which need not be the client's.
    pub async fn changed(&mut self) -> Option<Woken> {
        loop {
            let Some(session) = &mut self.session else {
                match self.found_one().await? {
                    Some(woken) => return Some(woken),
                    None => continue,
                }
            };
            let state = session.state();
            let now = Told { up: state.link.is_up(), generation: state.generation };
            let before = std::mem::replace(&mut self.told, now);
            match (before.up, now.up) {
                (false, true) => return Some(Woken::Connected),
                (true, false) => return Some(Woken::Disconnected),
                (true, true) if before.generation != now.generation => return Some(Woken::Rows),
                (true, true) | (false, false) => {}
            }
            if !session.state_changed().await {
                return None;
            }
        }
    }

    /// Waits for the client's session, or for a socket that would make the client start one.
    async fn found_one(&mut self) -> Option<Option<Woken>> {
        let look = *self.next_look.get_or_insert_with(|| Instant::now() + self.every);
        tokio::select! {
            session = self.sessions.wait_for(Option::is_some) => {
                self.session = session.ok()?.clone();
                Some(None)
            }
            () = sleep_until(look) => {
                self.next_look = None;
                let Remote::Unix(path) = &self.remote else { return Some(None) };
                Some(path.exists().then_some(Woken::Appeared))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_appears_is_told_and_an_absent_one_is_not() {
        let (sender, sessions) = watch::channel(None);
        let socket = std::env::temp_dir().join(format!("portwright-watch-{}", std::process::id()));
        let mut watch = Watch::new(Remote::Unix(socket.clone()), sessions);
        watch.every = Duration::from_millis(1);
        let some_looks = tokio::time::timeout(Duration::from_millis(50), watch.changed());
        assert!(some_looks.await.is_err(), "nothing is there");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(watch.changed().await, Some(Woken::Appeared));
        drop((listener, sender));
        watch.every = LOOK_EVERY;
        watch.next_look = None;
        assert_eq!(watch.changed().await, None, "the client is gone");
        tokio::fs::remove_file(&socket).await.unwrap();
    }
}
