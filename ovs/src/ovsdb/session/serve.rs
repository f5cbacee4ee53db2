//! Serving one connection: answers to their callers, updates to the copy, deadlines, the inactivity probe.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::call::{Answered, Call, Command};
use super::connection::Connection;
use super::greeting::Met;
use super::lock::LockState;
use super::owner::Owner;
use crate::ovsdb::error::LinkError;
use crate::ovsdb::replica::decode;
use crate::ovsdb::wire::MessageError;
use crate::ovsdb::wire::message::{Incoming, RpcError};

/// Open calls beyond this wait in the queue.
const MAX_OPEN: usize = 1024;

pub(super) struct Serving<'o> {
    owner: &'o mut Owner,
    connection: Connection,
    met: Met,
    open: BTreeMap<u64, Call>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// Our own echo that is not answered yet.
    probe: Option<u64>,
    /// The server changes its schema: greet again.
    stale: bool,
}

impl<'o> Serving<'o> {
    pub(super) fn new(owner: &'o mut Owner, connection: Connection, met: Met) -> Self {
        let (open, deadlines) = (BTreeMap::new(), BTreeSet::new());
        Self { owner, connection, met, open, deadlines, probe: None, stale: false }
    }

    async fn run(&mut self) -> Result<Infallible, LinkError> {
        for name in self.owner.locks.names() {
            self.ask_lock(&name)?;
        }
        self.set_aside()?;
        loop {
            let wake = self.next_timer();
            let takes_calls = self.connection.has_room() && self.open.len() < MAX_OPEN;
            tokio::select! {
                message = self.connection.receive() => self.handle(&message?)?,
                Some(command) = self.owner.commands.recv(), if takes_calls => self.command(command)?,
                () = sleep_until(wake) => self.timer()?,
            }
            if self.stale {
                self.meet_again().await?;
            }
        }
    }

    /// Serves until the connection breaks, and tells every open caller why there is no answer.
    pub(super) async fn run_to_end(mut self) -> Arc<LinkError> {
        let error = match self.run().await {
            Ok(never) => match never {},
            Err(error) => Arc::new(error),
        };
        for call in self.open.into_values() {
            // A caller that has just given up does not want it.
            drop(call.reply.send(Answered::Broken(Arc::clone(&error))));
        }
        error
    }

    fn next_timer(&self) -> Instant {
        let interval = self.owner.options.probe_interval;
        let silence = if self.probe.is_some() { interval * 2 } else { interval };
        let probe = self.connection.last_heard() + silence;
        self.deadlines.first().map_or(probe, |(at, _)| probe.min(*at))
    }

    fn timer(&mut self) -> Result<(), LinkError> {
        self.let_go()?;
        let now = Instant::now();
        while let Some(&(at, id)) = self.deadlines.first() {
            if at > now {
                break;
            }
            self.deadlines.remove(&(at, id));
            if self.open.remove(&id).is_some_and(|call| call.method == "transact") {
                // The caller has given up already. A transaction that still waits in the server is called off.
                self.connection.notify("cancel", json!([id]))?;
            }
        }
        let (interval, silent) = (self.owner.options.probe_interval, now - self.connection.last_heard());
        match self.probe {
            Some(_) if silent >= interval * 2 => Err(LinkError::Silent { silent }),
            None if silent >= interval => {
                self.probe = Some(self.connection.request("echo", json!([]))?);
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn command(&mut self, command: Command) -> Result<(), LinkError> {
        match command {
            Command::Call(call) if call.is_abandoned() => Ok(()),
            Command::Call(call) => {
                call.mark_sent();
                let id = self.connection.next_id();
                let sent = self.connection.request(call.method, &call.params);
                // Also when sending failed: part of it may be out, and the caller must hear of it.
                self.deadlines.insert((call.deadline.at, id));
                self.open.insert(id, call);
                sent.map(drop)
            }
            Command::Lock { name, reply } => {
                if self.owner.locks.add(&name, reply) {
                    self.ask_lock(&name)
                } else {
                    Ok(())
                }
            }
            Command::Unlocked => self.let_go(),
        }
    }

    /// Gives back locks that nobody holds a handle of any more.
    fn let_go(&mut self) -> Result<(), LinkError> {
        for name in self.owner.locks.abandoned() {
            self.connection.request("unlock", json!([name]))?;
        }
        Ok(())
    }

    fn ask_lock(&mut self, name: &str) -> Result<(), LinkError> {
        let id = self.connection.request("lock", json!([name]))?;
        self.owner.locks.asked(id, name);
        Ok(())
    }

    fn handle(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        match Incoming::parse(bytes).map_err(|source| LinkError::Message { source })? {
            Incoming::Reply { id, result } => self.reply(id, result),
            Incoming::Request { id, method, params } if method == "echo" => {
                self.connection.answer_echo(id, params)
            }
            Incoming::Request { method, .. } => {
                debug!(%method, "the server asks for something that no client offers");
                Ok(())
            }
            Incoming::Notification { method, params } => self.notification(&method, params),
        }
    }

    fn reply(&mut self, id: u64, result: Result<Option<&RawValue>, RpcError>) -> Result<(), LinkError> {
        if !self.connection.is_ours(id) {
            return Err(LinkError::Message { source: MessageError::ForeignId { id: id.to_string() } });
        }
        if let Some(call) = self.open.remove(&id) {
            self.deadlines.remove(&(call.deadline.at, id));
            let answer = match result {
                Ok(Some(raw)) => Answered::Result(raw.to_owned()),
                Ok(None) => Answered::Result(RawValue::NULL.to_owned()),
                Err(error) => Answered::Refused(error),
            };
            // A caller that has just given up does not want it.
            drop(call.reply.send(answer));
        } else if self.probe == Some(id) {
            self.probe = None;
        } else if !self.owner.locks.answered(id, result.ok().flatten().map(RawValue::get)) {
            debug!(id, "an answer came after its caller gave up");
        }
        Ok(())
    }

    fn notification(&mut self, method: &str, params: &RawValue) -> Result<(), LinkError> {
        match method {
            "locked" | "stolen" => {
                let (name,): (String,) = contents("a lock's notification", params)?;
                let state = if method == "locked" { LockState::Held } else { LockState::Stolen };
                self.owner.locks.set(&name, state);
                Ok(())
            }
            "monitor_canceled" => {
                self.stale = true;
                Ok(())
            }
            _ if method == self.met.method.update() => self.update(params),
            _ => {
                debug!(method, "a notification that we do not know");
                Ok(())
            }
        }
    }

    fn update(&mut self, params: &RawValue) -> Result<(), LinkError> {
        const WHAT: &str = "an update";
        #[derive(Deserialize)]
        struct Plain<'a>(String, #[serde(borrow)] &'a RawValue);
        #[derive(Deserialize)]
        struct Since<'a>(String, serde::de::IgnoredAny, #[serde(borrow)] &'a RawValue);

        let (id, updates) = if self.met.method.update() == "update3" {
            let Since(id, _, updates) = contents(WHAT, params)?;
            (id, updates)
        } else {
            let Plain(id, updates) = contents(WHAT, params)?;
            (id, updates)
        };
        if id != self.met.monitor_id {
            // After a schema change the old monitor's last words may still be on their way.
            debug!(id, "an update of a monitor that is not ours");
            return Ok(());
        }
        let Some(view) = self.owner.publish.view() else { return Ok(()) };
        let updates = decode::tables(&view, self.met.method.notation(), updates.get())
            .map_err(|source| LinkError::Contents { what: WHAT, source })?;
        // Our own reference would make the update copy the tables that it touches.
        drop(view);
        self.owner.publish.update(updates).map_err(|source| LinkError::Inconsistent { source })
    }

    async fn meet_again(&mut self) -> Result<(), LinkError> {
        self.stale = false;
        debug!("the server changes its schema");
        self.met = self.owner.greet(&mut self.connection).await?;
        self.set_aside()
    }

    /// What arrived while we greeted: answers to open calls, locks.
    fn set_aside(&mut self) -> Result<(), LinkError> {
        for message in self.connection.take_aside() {
            self.handle(&message)?;
        }
        Ok(())
    }
}

fn contents<'a, T: Deserialize<'a>>(what: &'static str, params: &'a RawValue) -> Result<T, LinkError> {
    serde_json::from_str(params.get()).map_err(|source| LinkError::Contents { what, source })
}
