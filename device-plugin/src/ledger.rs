//! What our own Allocate has handed out in the last minute, which no other source knows yet, and what must not be handed
//! out at all because a step is about to touch it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portwright_core::PciAddress;
use portwright_core::pools::ResourceName;
use portwright_host::deadline::Deadline;

/// How long a hand-out counts by itself; after that pod resources lists it or nobody has it.
const REMEMBERED: Duration = Duration::from_secs(60);

/// The memory of hand-outs.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    handed_out: BTreeMap<String, (ResourceName, Deadline)>,
    withheld: BTreeSet<PciAddress>,
    /// Everything that somebody was seen to have since we run: it may still be held by an old process.
    used_before: BTreeSet<String>,
    /// What pods had at the last look.
    settled: BTreeMap<String, ResourceName>,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a hand-out, unless one of the devices is withheld: then that one is the error.
    pub(crate) fn hand_out<'a>(
        &self,
        resource: &ResourceName,
        devices: impl Iterator<Item = (&'a str, Option<PciAddress>)> + Clone,
    ) -> Result<(), String> {
        let mut inner = self.lock();
        let held_back =
            |address: &Option<PciAddress>| address.is_some_and(|address| inner.withheld.contains(&address));
        if let Some((id, _)) = devices.clone().find(|(_, address)| held_back(address)) {
            return Err(id.to_owned());
        }
        for (id, _) in devices {
            inner.handed_out.insert(id.to_owned(), (resource.clone(), Deadline::after(REMEMBERED)));
            inner.used_before.insert(id.to_owned());
        }
        Ok(())
    }

    /// Ends hand-outs: kubelet gives a device to nobody else before it has it back.
    pub(crate) fn take_back<'a>(&self, ids: impl Iterator<Item = &'a String>) {
        let mut inner = self.lock();
        for id in ids {
            inner.handed_out.remove(id);
            inner.settled.remove(id);
        }
    }

    /// Notes which devices pods have by all that is known.
    pub(crate) fn settle(&self, held: &BTreeMap<String, ResourceName>) {
        self.lock().settled.clone_from(held);
    }

    /// How many devices of a pool pods have: as of the last look, and by what was handed out since.
    pub(crate) fn allocated(&self, resource: &ResourceName) -> usize {
        let recent = self.recent();
        let inner = self.lock();
        let before = inner.settled.iter().filter(|(id, _)| !recent.contains_key(*id));
        before.chain(&recent).filter(|(_, holder)| *holder == resource).count()
    }

    /// Devices that were handed out in the last minute.
    pub(crate) fn recent(&self) -> BTreeMap<String, ResourceName> {
        let mut inner = self.lock();
        inner.handed_out.retain(|_, (_, until)| !until.expired());
        inner.handed_out.iter().map(|(id, (resource, _))| (id.clone(), resource.clone())).collect()
    }

    /// Forgets devices that are not there: one that is made later under the same name is another.
    pub(crate) fn retain(&self, exists: impl Fn(&str) -> bool) {
        let mut inner = self.lock();
        inner.handed_out.retain(|id, _| exists(id));
        inner.used_before.retain(|id| exists(id));
    }

    /// Notes what somebody has now, or had.
    pub(crate) fn note_used(&self, ids: impl Iterator<Item = String>) {
        self.lock().used_before.extend(ids);
    }

    /// Whether somebody is known to have had it.
    pub(crate) fn used_before(&self, id: &str) -> bool {
        self.lock().used_before.contains(id)
    }

    /// Replaces what is withheld.
    pub(crate) fn withhold(&self, addresses: BTreeSet<PciAddress>) {
        self.lock().withheld = addresses;
    }

    /// What is withheld.
    pub(crate) fn withheld(&self) -> BTreeSet<PciAddress> {
        self.lock().withheld.clone()
    }
}
