//! The loop: wait until something may have changed, look at everything, publish what follows from it. It keeps nothing that it
//! could not find out again, so it does not matter which wake was lost or came twice.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portwright_core::Observed;
use portwright_core::drive::chain;
use portwright_core::management::management_path;
use portwright_core::pools::{assign, candidates};
use portwright_device_plugin::{Paths, Plugin, allocations};
use portwright_host::inventory::{ObserveError, Observer};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::error::CliError;
use crate::pools::{PoolsError, Wanted, wanted};
use crate::serve::http::Shown;
use crate::serve::wake::{Dirty, Wakes};

/// The one timer: pods end without an event for us, and no event source is believed to be perfect.
const SLOW: Duration = Duration::from_secs(30);

/// The loop's state.
pub struct Reconciler {
    /// Looks at the node.
    pub observer: Observer,
    /// What is wanted, as it was last good.
    pub wanted: Wanted,
    /// Where the configuration is, if there is one to follow.
    pub config: Option<PathBuf>,
    /// kubelet's folder.
    pub kubelet: Paths,
    /// Who serves.
    pub plugin: Plugin,
    /// What is shown of us.
    pub shown: Arc<Shown>,
    /// The node as it was seen last.
    pub seen: Option<Observed>,
}

impl Reconciler {
    /// Runs until stopped.
    pub async fn run(mut self, wakes: &Wakes, stop: CancellationToken) {
        let mut slow = tokio::time::interval(SLOW);
        slow.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let timer = tokio::select! {
                () = stop.cancelled() => break,
                () = wakes.node.notified() => false,
                () = wakes.config.notified() => {
                    self.reload();
                    false
                }
                _ = slow.tick() => true,
            };
            let mut dirty = wakes.take();
            dirty.all |= timer;
            let trouble = self.pass(&dirty).await.err();
            if let Some(trouble) = &trouble {
                tracing::error!(error = trouble, "the pools are as they were");
            }
            self.shown.set_trouble(trouble);
        }
        self.plugin.stop().await;
    }

    /// Looks and publishes once. The error says why everything stays as it was.
    async fn pass(&mut self, dirty: &Dirty) -> Result<(), String> {
        let observed = match self.refreshed(dirty) {
            Some(observed) => observed,
            None => self.observe().await?.map_err(|error| chain(&error))?,
        };
        let allocations = allocations::read(self.observer.root(), &self.kubelet.folder).await;
        let specs = self.wanted.specs(&observed).map_err(|error| chain(&error))?;
        let candidates = candidates(&observed, &management_path(&observed));
        let there: BTreeSet<&str> = candidates.iter().map(|candidate| candidate.id.as_str()).collect();
        let held = self.plugin.held(&allocations, |id| there.contains(id));
        self.plugin.publish(assign(&candidates, &specs, &held)).await;
        match &allocations.unknown {
            None => self.plugin.settle(&held),
            Some(why) => tracing::warn!(why, "what pods have is not known; no file of theirs is removed"),
        }
        self.seen = Some(observed);
        Ok(())
    }

    /// The node as it was seen last with what is known to have changed, where that can be looked at alone.
    fn refreshed(&mut self, dirty: &Dirty) -> Option<Observed> {
        let mut seen = self.seen.take().filter(|_| !dirty.all)?;
        let alone = dirty.functions.iter().all(|function| self.observer.refresh(&mut seen, *function));
        alone.then_some(seen)
    }

    async fn observe(&self) -> Result<Result<Observed, ObserveError>, String> {
        let observer = self.observer.clone();
        tokio::task::spawn_blocking(move || observer.observe()).await.map_err(|error| error.to_string())
    }

    /// Reads the configuration again. One that cannot be used changes nothing.
    fn reload(&mut self) {
        let Some(path) = &self.config else { return };
        let read = wanted::read_config(path, self.wanted.prefix.as_deref());
        let checked = read.and_then(|config| {
            let fresh = Wanted { config: Some(config), ..self.wanted.clone() };
            check_names(&fresh, &self.kubelet)?;
            Ok(fresh)
        });
        match checked {
            Ok(fresh) if fresh.config == self.wanted.config => {}
            Ok(fresh) => {
                tracing::info!(path = %path.display(), "the configuration has changed");
                warn(&fresh);
                self.wanted = fresh;
            }
            Err(error) => {
                tracing::error!(path = %path.display(), error = chain(&error), "the last good configuration stays");
            }
        }
    }
}

/// Whether every pool's socket can have its name.
pub fn check_names(wanted: &Wanted, kubelet: &Paths) -> Result<(), CliError> {
    for spec in wanted.specs(&Observed::default())? {
        kubelet
            .check(&spec.resource)
            .map_err(|why| PoolsError::Name { resource: spec.resource.to_string(), why })?;
    }
    Ok(())
}

/// Logs what is odd about the configuration.
pub fn warn(wanted: &Wanted) {
    for warning in wanted.warnings() {
        tracing::warn!(warning, "the configuration");
    }
}
