//! What a watch has told so far. While everything is listed anew the old contents stay in use.

use std::collections::BTreeMap;

use kube::runtime::watcher::Event;

/// Objects by key.
#[derive(Debug)]
pub(super) struct Store<T> {
    pub(super) known: BTreeMap<String, T>,
    fresh: BTreeMap<String, T>,
    /// Whether a list was complete at least once.
    pub(super) synced: bool,
}

impl<T> Default for Store<T> {
    fn default() -> Store<T> {
        Store { known: BTreeMap::new(), fresh: BTreeMap::new(), synced: false }
    }
}

impl<T> Store<T> {
    /// Takes an event in; `read` gives key and contents of an object. Returns whether contents may have changed.
    pub(super) fn take<K>(&mut self, event: Event<K>, read: impl Fn(K) -> (String, T)) -> bool {
        match event {
            Event::Init => {
                self.fresh.clear();
                false
            }
            Event::InitApply(object) => {
                let (key, value) = read(object);
                self.fresh.insert(key, value);
                false
            }
            Event::InitDone => {
                self.known = std::mem::take(&mut self.fresh);
                self.synced = true;
                true
            }
            Event::Apply(object) => {
                let (key, value) = read(object);
                self.known.insert(key, value);
                true
            }
            Event::Delete(object) => {
                let (key, _) = read(object);
                self.known.remove(&key).is_some()
            }
        }
    }
}
