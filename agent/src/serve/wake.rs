//! What wakes the loop. A wake says only that something may have changed; what did is found by looking.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portwright_core::PciAddress;
use portwright_device_plugin::watch::FolderWatch;
use portwright_host::deadline::Deadline;
use portwright_host::root::Root;
use portwright_host::uevent::{Event, Uevent, Uevents};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::pools::PoolsError;

/// What may have changed since the last look.
#[derive(Debug, Default)]
pub struct Wakes {
    /// Devices.
    pub node: Notify,
    /// The configuration file.
    pub config: Notify,
    dirty: Mutex<Dirty>,
}

/// Which devices may have changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Any.
    pub all: bool,
    /// These PCI functions.
    pub functions: BTreeSet<PciAddress>,
}

/// More functions at once are looked at together.
const MANY: usize = 16;

impl Wakes {
    /// Something has changed on a function, or anywhere.
    fn touch(&self, function: Option<PciAddress>) {
        let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
        match function {
            Some(function) => {
                dirty.functions.insert(function);
                dirty.all |= dirty.functions.len() > MANY;
            }
            None => dirty.all = true,
        }
        drop(dirty);
        self.node.notify_one();
    }

    /// What has changed since this was asked last.
    pub fn take(&self) -> Dirty {
        std::mem::take(&mut *self.dirty.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Devices of these subsystems can be in a pool or say something of one that is.
const SUBSYSTEMS: &[&str] = &["pci", "net", "auxiliary", "infiniband", "vdpa", "vfio-dev", "uio", "drivers"];

/// Listens to the kernel, or watches the tree's bus folder where the root is no running host.
pub fn devices(root: &Root, wakes: Arc<Wakes>, stop: CancellationToken) -> Result<(), PoolsError> {
    if !root.is_host() {
        let mut watch = FolderWatch::new(vec![root.join("sys/bus/pci/devices")]);
        tokio::spawn(async move {
            while let Some(names) = stop.run_until_cancelled(watch.changed()).await {
                let names = names.into_iter().flatten().map(|name| name.parse().ok());
                let functions: Vec<Option<PciAddress>> = names.collect();
                // No name is no knowledge; a name that is no address is another file.
                if functions.is_empty() {
                    wakes.touch(None);
                }
                functions.into_iter().flatten().for_each(|function| wakes.touch(Some(function)));
            }
        });
        return Ok(());
    }
    let failed =
        |source: std::io::Error| PoolsError::System { what: "listen for device events".to_owned(), source };
    let mut events = Uevents::open().map_err(|error| failed(std::io::Error::other(error)))?;
    let listen = move || {
        while !stop.is_cancelled() {
            match events.next(Deadline::after(Duration::from_secs(3600))) {
                Ok(Some(Event::Device(event))) if is_of_interest(&event) => wakes.touch(function(&event)),
                Ok(Some(Event::Overflow)) => wakes.touch(None),
                // Links come and go with every pod; what changes a device is a device event.
                Ok(Some(Event::Device(_) | Event::Link) | None) => {}
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

/// Watches the configuration file's folder: editors and kubelet replace files, and kubelet a link beside them.
pub fn config(path: &Path, wakes: Arc<Wakes>, stop: CancellationToken) {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let folder: PathBuf = folder.to_owned();
    let mut watch = FolderWatch::new(vec![folder]);
    tokio::spawn(async move {
        while stop.run_until_cancelled(watch.changed()).await.is_some() {
            wakes.config.notify_one();
        }
    });
}
