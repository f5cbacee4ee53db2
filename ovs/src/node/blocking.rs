//! The client for callers without a runtime. A thread of its own keeps the connection alive between calls.

use std::time::Duration;

use portwright_core::Step;
use portwright_core::drive::RunError;
use portwright_core::ovs::Ovs;
use tokio::runtime::Runtime;

use super::{OvsClient, OvsError, Probed, Seen, Watch};
use crate::liveness::{Liveness, ping};
use crate::ovsdb::Remote;

/// As [`OvsClient`], for callers without a runtime.
#[derive(Debug)]
pub struct OvsNode {
    client: OvsClient,
    runtime: Runtime,
}

impl OvsNode {
    /// A client with a runtime.
    ///
    /// # Errors
    /// [`OvsError::Runtime`] if no thread can be started.
    pub fn new(remote: Remote, within: Duration) -> Result<Self, OvsError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("ovsdb")
            .enable_all()
            .build()
            .map_err(|source| OvsError::Runtime { source })?;
        Ok(Self { client: OvsClient::new(remote, within), runtime })
    }

    /// As [`OvsClient::watch`]; the watch may be awaited in any runtime.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.client.watch()
    }

    /// Looks at the switch.
    pub fn observe(&mut self) -> Seen {
        self.runtime.block_on(self.client.observe())
    }

    /// Fills in what is counted about every mirror.
    ///
    /// # Errors
    /// As [`OvsClient::count`].
    pub fn count(&mut self, ovs: &mut Ovs) -> Result<(), OvsError> {
        self.runtime.block_on(self.client.count(ovs))
    }

    /// As [`OvsClient::vswitchd_pid`].
    #[must_use]
    pub fn vswitchd_pid(&self) -> Option<u32> {
        self.runtime.block_on(self.client.vswitchd_pid())
    }

    /// Carries out steps of one bridge.
    ///
    /// # Errors
    /// As [`OvsClient::run`].
    pub fn run(&mut self, steps: &[Step]) -> Result<(), RunError<OvsError>> {
        self.runtime.block_on(self.client.run(steps))
    }

    /// Has ovs-vswitchd show of every mirror of ours whether it works.
    ///
    /// # Errors
    /// As [`OvsClient::probe`], and [`OvsError::NobodyListens`] if there is no server at all.
    pub fn probe(&mut self) -> Result<Vec<Probed>, OvsError> {
        self.runtime.block_on(async {
            self.client.must_listen().await?;
            self.client.probe().await
        })
    }

    /// Asks both daemons whether they are alive.
    ///
    /// # Errors
    /// [`OvsError::NobodyListens`] if there is no server at all.
    pub fn ping(&mut self) -> Result<Liveness, OvsError> {
        self.runtime.block_on(async {
            self.client.must_listen().await?;
            let directory = self
                .client
                .remote
                .directory()
                .map(ToOwned::to_owned)
                .unwrap_or_else(|| "/run/openvswitch".into());
            let switch = self.client.switch();
            Ok(ping(switch.session(), &directory, self.client.deadline()).await)
        })
    }
}
