//! What wakes the loop. A wake says only that something may have changed; what did is found by looking.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portwright_core::PciAddress;
use portwright_device_plugin::watch::FolderWatch;
use portwright_host::deadline::{Deadline, Stopwatch};
use portwright_host::root::Root;
use portwright_host::uevent::{Event, Uevent, Uevents};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::daemon::facts::Cause;
use crate::pools::PoolsError;

/// Why the loop has to look again. Any number of wakes that come while it looks are one when it is done.
#[derive(Debug, Default)]
pub struct Wakes {
    notify: Notify,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    causes: BTreeSet<Cause>,
    /// Grows with each wake.
    ticket: u64,
    /// Since the first of them.
    since: Option<Stopwatch>,
}

/// What was heard.
#[derive(Debug, Default)]
pub struct Heard {
    /// Why to look.
    pub causes: BTreeSet<Cause>,
    /// Number of the last wake that is among them.
    pub ticket: u64,
    /// Since the first of them.
    pub since: Option<Stopwatch>,
}

/// More functions at once are looked at together.
const MANY: usize = 16;
/// Links, addresses and routes change in bursts, and with every pod.
const NETWORK_SETTLES: Duration = Duration::from_millis(100);

impl Wakes {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the loop. The number is in the [`Heard`] of the round that looks after this.
    pub fn wake(&self, cause: Cause) -> u64 {
        let mut inner = self.inner();
        inner.causes.insert(cause);
        inner.since.get_or_insert_with(Stopwatch::start);
        let functions = inner.causes.iter().filter(|cause| matches!(cause, Cause::Device(_))).count();
        if functions > MANY {
            inner.causes.retain(|cause| !matches!(cause, Cause::Device(_)));
            inner.causes.insert(Cause::Devices);
        }
        inner.ticket = inner.ticket.wrapping_add(1);
        let ticket = inner.ticket;
        drop(inner);
        self.notify.notify_one();
        ticket
    }

    /// Waits until there is a reason to look. May be dropped while it waits.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }

    /// Whether something was heard, and only of the kernel's devices and links.
    pub fn only_kernel(&self) -> bool {
        let kernel = |cause: &Cause| matches!(cause, Cause::Device(_) | Cause::Devices | Cause::Network);
        let inner = self.inner();
        !inner.causes.is_empty() && inner.causes.iter().all(kernel)
    }

    /// Everything that was heard since this was asked last.
    pub fn take(&self) -> Heard {
        let mut inner = self.inner();
        Heard { causes: std::mem::take(&mut inner.causes), ticket: inner.ticket, since: inner.since.take() }
    }
}

/// Devices of these subsystems can be in a pool or say something of one that is.
const SUBSYSTEMS: &[&str] = &["pci", "net", "auxiliary", "infiniband", "vdpa", "vfio-dev", "uio", "drivers"];

/// Listens to the kernel, or watches the tree's bus folder where the root is no running host. `network`: also to links,
/// addresses and default routes.
pub fn devices(
    root: &Root,
    wakes: Arc<Wakes>,
    network: bool,
    stop: CancellationToken,
) -> Result<(), PoolsError> {
    if !root.is_host() {
        let mut watch = FolderWatch::new(vec![root.join("sys/bus/pci/devices")]);
        tokio::spawn(async move {
            while let Some(names) = stop.run_until_cancelled(watch.changed()).await {
                // No name is no knowledge; a name that is no address is another file.
                match names {
                    None => {
                        wakes.wake(Cause::Devices);
                    }
                    Some(names) if names.is_empty() => {
                        wakes.wake(Cause::Devices);
                    }
                    Some(names) => names.iter().filter_map(|name| name.parse().ok()).for_each(|function| {
                        wakes.wake(Cause::Device(function));
                    }),
                }
            }
        });
        return Ok(());
    }
    let failed =
        |source: std::io::Error| PoolsError::System { what: "listen for device events".to_owned(), source };
    let mut events = if network { Uevents::open_network() } else { Uevents::open() }
        .map_err(|error| failed(std::io::Error::other(error)))?;
    let changed: Arc<Notify> = Arc::default();
    if network {
        tokio::spawn(settle(Arc::clone(&changed), Arc::clone(&wakes), stop.clone()));
    }
    let listen = move || {
        while !stop.is_cancelled() {
            match events.next(Deadline::after(Duration::from_secs(3600))) {
                Ok(Some(Event::Device(event))) if is_of_interest(&event) => {
                    wakes.wake(function(&event).map_or(Cause::Devices, Cause::Device));
                }
                Ok(Some(Event::Overflow)) => {
                    wakes.wake(Cause::Devices);
                }
                // Without policies only what changes a device is of interest, and that is a device event.
                Ok(Some(Event::Link)) => changed.notify_one(),
                Ok(Some(Event::Device(_)) | None) => {}
                Err(error) => {
                    tracing::error!(%error, "device events cannot be heard any more; the slow timer remains");
                    return;
                }
            }
        }
    };
    // The thread ends with the process: it waits for the kernel.
    std::thread::Builder::new().name("uevents".to_owned()).spawn(listen).map(drop).map_err(failed)
}

/// Wakes once for a burst of network changes.
async fn settle(changed: Arc<Notify>, wakes: Arc<Wakes>, stop: CancellationToken) {
    while stop.run_until_cancelled(changed.notified()).await.is_some() {
        wakes.wake(Cause::Network);
        // What comes meanwhile is told afterwards, so nothing is lost and the first is told at once.
        drop(tokio::time::timeout(NETWORK_SETTLES, stop.cancelled()).await);
    }
}

/// Whether a device event can be about something in a pool: virtual netdevs of pods are not.
fn is_of_interest(event: &Uevent) -> bool {
    let known = event.key("SUBSYSTEM").is_some_and(|subsystem| SUBSYSTEMS.contains(&subsystem));
    known && !event.devpath.starts_with("/devices/virtual/net/")
}

/// The one function that the event is about, if it says so: a driver that comes or goes may change many.
fn function(event: &Uevent) -> Option<PciAddress> {
    let known = event.key("SUBSYSTEM") != Some("drivers");
    event.devpath.rsplit('/').find_map(|part| part.parse().ok()).filter(|_| known)
}

/// Watches the folders that hold these files, and tells `changed`: editors and kubelet replace files, and kubelet a link
/// beside them.
pub fn files(paths: &[PathBuf], stop: CancellationToken, changed: impl Fn() + Send + 'static) {
    let folder = |path: &PathBuf| {
        let parent = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        parent.unwrap_or_else(|| Path::new(".")).to_owned()
    };
    let folders: BTreeSet<PathBuf> = paths.iter().map(folder).collect();
    folders_of(folders.into_iter().collect(), stop, changed);
}

/// Watches folders, also such as are not there yet.
pub fn folders_of(folders: Vec<PathBuf>, stop: CancellationToken, changed: impl Fn() + Send + 'static) {
    let mut watch = FolderWatch::new(folders);
    tokio::spawn(async move {
        while stop.run_until_cancelled(watch.changed()).await.is_some() {
            changed();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wakes_are_joined_and_many_functions_are_looked_at_together() {
        let wakes = Wakes::default();
        wakes.wake(Cause::Switch);
        let last = wakes.wake(Cause::Switch);
        wakes.woken().await;
        let heard = wakes.take();
        assert_eq!((heard.causes, heard.ticket), (BTreeSet::from([Cause::Switch]), last));
        assert!(wakes.take().causes.is_empty());
        for function in 0..=MANY {
            let device = u8::try_from(function).unwrap();
            wakes.wake(Cause::Device(PciAddress { device, ..PciAddress::default() }));
        }
        assert_eq!(wakes.take().causes, BTreeSet::from([Cause::Devices]));
    }
}
