//! Follows the ConfigMap of switches.

use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::runtime::watcher;

use crate::cluster::Cluster;
use crate::following::Following;
use crate::metrics::Metrics;
use crate::switches::{CONFIG_MAP, KEY, Switches};

/// The switches in force: the flags', overridden by the last good ConfigMap.
pub struct LiveSwitches {
    flags: Switches,
    current: RwLock<Arc<Switches>>,
    metrics: Arc<Metrics>,
}

impl LiveSwitches {
    /// Starts with what the flags say.
    pub fn new(flags: Switches, metrics: Arc<Metrics>) -> Self {
        let current = RwLock::new(Arc::new(flags.clone()));
        Self { flags, current, metrics }
    }

    /// The switches in force now.
    pub fn current(&self) -> Arc<Switches> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Follows the ConfigMap for ever.
    pub async fn follow(self: Arc<Self>, cluster: Cluster, namespace: String) {
        let Cluster { client, watches } = cluster;
        let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
        let only = watcher::Config::default().fields(&format!("metadata.name={CONFIG_MAP}"));
        let what = format!("ConfigMap {namespace}/{CONFIG_MAP}");
        let mut following = Following::new(api, only, &watches, what, "the switches stay as they are");
        let mut listed: Option<ConfigMap> = None;
        while let Some(event) = following.next().await {
            match event {
                watcher::Event::Init => listed = None,
                watcher::Event::InitApply(map) => listed = Some(map),
                watcher::Event::InitDone => self.take(listed.take().as_ref()),
                watcher::Event::Apply(map) => self.take(Some(&map)),
                watcher::Event::Delete(_) => self.take(None),
            }
        }
    }

    /// Takes a ConfigMap, or its absence, into use.
    pub fn take(&self, map: Option<&ConfigMap>) {
        let document = map.and_then(|map| map.data.as_ref()).and_then(|data| data.get(KEY));
        if map.is_some() && document.is_none() {
            tracing::warn!("ConfigMap {CONFIG_MAP} has no {KEY}; the flags hold");
        }
        let Some(document) = document else {
            self.metrics.switches_bad.set(0);
            return self.replace(self.flags.clone());
        };
        match Switches::read(&self.flags, document) {
            Ok((switches, unknown)) => {
                self.metrics.switches_bad.set(0);
                if !unknown.is_empty() {
                    tracing::warn!(
                        ?unknown,
                        "ConfigMap {CONFIG_MAP} names features that have no meaning here"
                    );
                }
                self.replace(switches);
            }
            Err(error) => {
                self.metrics.switches_bad.set(1);
                tracing::warn!(%error, "ConfigMap {CONFIG_MAP} is unusable; the switches stay as they are");
            }
        }
    }

    fn replace(&self, switches: Switches) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if **current != switches {
            tracing::info!(
                hugepages = switches.hugepages,
                existing = ?switches.existing,
                injections = switches.injections.len(),
                "switches changed"
            );
            *current = Arc::new(switches);
            self.metrics.switches_generation.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::ConfigMap;

    use super::LiveSwitches;
    use crate::metrics::Metrics;
    use crate::switches::{Existing, Injections, KEY, Switches};

    fn map(document: &str) -> ConfigMap {
        ConfigMap {
            data: Some(BTreeMap::from([(KEY.to_owned(), document.to_owned())])),
            ..ConfigMap::default()
        }
    }

    #[test]
    fn bad_keeps_the_last_good_and_deletion_brings_the_flags_back() {
        let flags = Switches { hugepages: false, existing: Existing::Skip, injections: Injections::new() };
        let metrics = Arc::new(Metrics::default());
        let live = LiveSwitches::new(flags.clone(), Arc::clone(&metrics));
        live.take(Some(&map(r#"{"features":{"enableHugePageDownApi":"true"}}"#)));
        assert_eq!(*live.current(), flags, "bad from the start: the flags hold");
        assert_eq!(metrics.switches_bad.get(), 1);
        live.take(Some(&map(r#"{"features":{"enableHugePageDownApi":true}}"#)));
        assert!(live.current().hugepages);
        assert_eq!(metrics.switches_bad.get(), 0);
        live.take(Some(&map("{")));
        assert!(live.current().hugepages, "turned bad: the last good holds");
        live.take(None);
        assert_eq!(*live.current(), flags, "deleted: the flags hold");
        live.take(Some(&map(r#"{"features":{"enableHugePageDownApi":true}}"#)));
        live.take(Some(&ConfigMap::default()));
        assert_eq!(*live.current(), flags, "without the key: the flags hold");
    }
}
