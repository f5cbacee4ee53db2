//! What the daemon last saw of Open vSwitch. The daemon looks at the switch when the switch has changed, in a task of its own;
//! an observation of the node takes what that task saw. So a switch that does not answer holds up nothing but itself.
//!
//! How mirrors fare nobody tells: the slow timer has the task look again, and compare counters. The loop hears of it only if
//! a judgement has changed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portwright_core::drive::chain;
use portwright_core::ovs::Ovs;
use portwright_device_plugin::watch::FolderWatch;
use portwright_ovs::node::{Seen, Watch};
use portwright_ovs::ovsdb::Remote;
use portwright_ovs::unixctl::Unixctl;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::switch::{SwitchPart, is_ours};
use crate::daemon::facts::Cause;
use crate::serve::wake::Wakes;

/// How long the daemon's start waits for the first look.
const FIRST_WITHIN: Duration = Duration::from_secs(3);
/// Changes of a switch come in bursts: adding a port are three or four.
const SETTLES: Duration = Duration::from_millis(20);
/// Mirrors are judged no more often: Open vSwitch writes counters every five seconds.
const JUDGED_EVERY: Duration = Duration::from_secs(6);

/// What a look at the switch gave.
#[derive(Debug, Clone, PartialEq)]
pub enum Look {
    /// There is none.
    Absent,
    /// It cannot be read.
    Unreachable {
        /// Why.
        why: String,
    },
    /// What it looks like.
    There {
        /// The switch.
        ovs: Box<Ovs>,
        /// The process of ovs-vswitchd, if it is known.
        vswitchd: Option<u32>,
    },
}

impl Look {
    /// What looking gave.
    pub(super) fn of(seen: Seen, vswitchd: Option<u32>) -> Look {
        match seen {
            Seen::Absent => Look::Absent,
            Seen::Unreachable(error) => Look::Unreachable { why: chain(&*error) },
            Seen::There(ovs) => Look::There { ovs, vswitchd },
        }
    }

    /// Whether there are mirrors to judge.
    fn has_mirrors(&self) -> bool {
        match self {
            Look::There { ovs, .. } => ovs.bridges.iter().flat_map(|bridge| &bridge.mirrors).any(is_ours),
            Look::Absent | Look::Unreachable { .. } => false,
        }
    }
}

/// The last look. Clones are the same.
#[derive(Debug, Clone)]
pub struct Eye {
    last: Arc<Mutex<Look>>,
    again: Arc<Notify>,
}

impl Eye {
    /// An eye that has not looked yet.
    pub fn closed() -> Eye {
        let why = "it was not looked at yet".to_owned();
        Eye { last: Arc::new(Mutex::new(Look::Unreachable { why })), again: Arc::default() }
    }

    /// What was seen last.
    pub fn last(&self) -> Look {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps what was seen; whether it is another thing than before.
    pub fn keep(&self, look: Look) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let differs = *last != look;
        *last = look;
        differs
    }

    /// Asks for a look soon.
    pub fn look_again(&self) {
        self.again.notify_one();
    }

    /// Looks whenever there is reason to, until stopped. Returns when the first look is done, or takes too long.
    pub async fn open(&self, switch: &Arc<Mutex<SwitchPart>>, wakes: Arc<Wakes>, stop: CancellationToken) {
        let (watch, remote) = {
            let switch = locked(switch);
            (switch.watch(), switch.remote().cloned())
        };
        let (Some(watch), Some(remote)) = (watch, remote) else {
            self.keep(Look::Absent);
            return;
        };
        let first: Arc<Notify> = Arc::default();
        let (eye, switch, done) = (self.clone(), Arc::clone(switch), Arc::clone(&first));
        tokio::spawn(async move {
            stop.run_until_cancelled(eye.follow(switch, watch, remote, &wakes, &done)).await;
        });
        drop(tokio::time::timeout(FIRST_WITHIN, first.notified()).await);
    }

    async fn follow(
        &self,
        switch: Arc<Mutex<SwitchPart>>,
        mut watch: Watch,
        remote: Remote,
        wakes: &Wakes,
        first: &Notify,
    ) {
        let folder = remote.directory().map(ToOwned::to_owned);
        let mut files = FolderWatch::new(folder.iter().cloned().collect());
        let mut judge_from = Instant::now();
        loop {
            let judging = Instant::now() >= judge_from;
            if judging {
                judge_from = Instant::now() + JUDGED_EVERY;
            }
            let look = looked(&switch, judging).await;
            let Some(look) = look else { return };
            let lives = matches!(&look, Look::There { ovs, .. } if ovs.vswitchd.is(&true));
            // What has just changed is judged as soon as there may be new counters.
            let owed = !judging && look.has_mirrors();
            if self.keep(look) {
                wakes.wake(Cause::Switch);
            }
            first.notify_one();
            let death = vswitchd_dies(folder.as_deref().filter(|_| lives));
            tokio::select! {
                woken = watch.changed() => if woken.is_none() { return },
                _ = files.changed() => {}
                () = self.again.notified() => {}
                () = death => {}
                () = sleep_until(judge_from), if owed => {}
            }
            drop(tokio::time::timeout(SETTLES, std::future::pending::<()>()).await);
        }
    }
}

/// Looks at the switch, which takes as long as it takes; none if that panics.
async fn looked(switch: &Arc<Mutex<SwitchPart>>, judging: bool) -> Option<Look> {
    let switch = Arc::clone(switch);
    let look = move || {
        let mut switch = locked(&switch);
        if judging { switch.look_and_judge() } else { switch.look() }
    };
    tokio::task::spawn_blocking(look).await.ok()
}

/// Waits until ovs-vswitchd, which lives, is no more: its end of a control connection is closed then. Nothing in the database
/// tells it.
async fn vswitchd_dies(folder: Option<&std::path::Path>) {
    let connect = async {
        let control = Unixctl::of_vswitchd(folder?).await.ok()?;
        UnixStream::connect(control.socket()).await.ok()
    };
    match connect.await {
        Some(mut stream) => drop(stream.read(&mut [0_u8; 16]).await),
        None => std::future::pending().await,
    }
}

/// A panic elsewhere leaves nothing half-done in there.
pub(super) fn locked(switch: &Mutex<SwitchPart>) -> MutexGuard<'_, SwitchPart> {
    switch.lock().unwrap_or_else(PoisonError::into_inner)
}
