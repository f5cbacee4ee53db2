//! The scenarios' hands: the cards of this machine, processes that use VFs, and putting everything back.

use super::{eventually, sys};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::process::Child;
use std::time::Duration;

/// Where the kernel lists PCI functions.
const DEVICES: &str = "/sys/bus/pci/devices";
/// Where the product keeps its own files, and the rule that it writes.
const STATE: [&str; 3] =
    ["/var/lib/portwright", "/run/portwright", "/etc/udev/rules.d/10-portwright-unmanaged-vfs.rules"];

/// The machine under test.
#[derive(Debug)]
pub(crate) struct Lab {
    results: sys::Results,
    /// PCI addresses of the igb cards, ascending.
    cards: Vec<String>,
    holders: Vec<Child>,
    namespaces: Vec<String>,
}

impl Lab {
    /// Looks at the machine once, while everything is as the kernel left it.
    pub(super) fn new(results: sys::Results) -> Result<Self> {
        let cards: Vec<String> = sys::list("/sys/bus/pci/drivers/igb")
            .into_iter()
            .filter(|name| name.starts_with("0000:"))
            .collect();
        ensure!(cards.len() >= 2, "this machine has {} igb cards, the lab needs 2", cards.len());
        Ok(Self { results, cards, holders: Vec::new(), namespaces: Vec::new() })
    }

    pub(super) fn into_results(self) -> sys::Results {
        self.results
    }

    /// A second handle on the results port.
    pub(super) fn share_results(&self) -> sys::Results {
        self.results.share()
    }

    /// Sends a line to the host.
    pub(super) fn send(&mut self, value: &Value) -> Result<()> {
        self.results.send(value)
    }

    /// Shows the reader of the results something, such as a measurement.
    pub(crate) fn note(&mut self, text: &str) -> Result<()> {
        self.send(&json!({"event": "note", "text": text}))
    }

    /// The PCI address of a card; cards count from 0.
    pub(crate) fn card(&self, number: usize) -> Result<String> {
        self.cards.get(number).cloned().with_context(|| format!("this machine has no card {number}"))
    }

    /// Keeps a process until the end of the scenario.
    pub(crate) fn keep(&mut self, child: Child) {
        self.holders.push(child);
    }

    /// Puts the machine back: no holders, no namespaces, no VFs, drivers bound, defaults set, no files of ours.
    pub(super) fn reset(&mut self) -> Result<()> {
        self.release()?;
        for path in STATE {
            sys::remove(path)?;
        }
        let present = self.cards.iter().all(|card| sys::list(DEVICES).contains(card));
        if !present {
            sys::write("/sys/bus/pci/rescan", "1")?;
        }
        for card in self.cards.clone() {
            reset_card(&card).with_context(|| format!("card {card}"))?;
        }
        for family in ["-4", "-6"] {
            // There may be none.
            sys::run(sys::command("ip", &[family, "route", "del", "default"]), Duration::from_secs(10))?;
        }
        Ok(())
    }

    /// Ends every holder and namespace; returns when the netdevs are back.
    pub(crate) fn release(&mut self) -> Result<()> {
        for mut holder in self.holders.drain(..) {
            holder.kill().ok();
            holder.wait().context("cannot wait for a holder")?;
        }
        for namespace in self.namespaces.drain(..) {
            sys::tool("ip", &["netns", "del", &namespace])?;
        }
        for card in &self.cards {
            eventually("the VF's netdev coming back from its namespace", Duration::from_secs(10), || {
                vfs(card)
                    .iter()
                    .all(|vf| driver(&vf.1).as_deref() != Some("igbvf") || netdev(&vf.1).is_some())
                    .then_some(())
            })?;
        }
        Ok(())
    }

    /// Makes a network namespace that lasts until the end of the scenario.
    pub(crate) fn add_namespace(&mut self, namespace: &str) -> Result<()> {
        sys::tool("ip", &["netns", "add", namespace])?;
        self.namespaces.push(namespace.to_owned());
        Ok(())
    }

    /// Moves a netdev into a new network namespace in which a process runs; returns that process's pid.
    pub(crate) fn hold_in_namespace(&mut self, namespace: &str, netdev: &str) -> Result<u32> {
        self.add_namespace(namespace)?;
        sys::tool("ip", &["link", "set", netdev, "netns", namespace])?;
        let child = sys::command("ip", &["netns", "exec", namespace, "sleep", "3600"]).spawn()?;
        let pid = child.id();
        self.keep(child);
        // `ip` enters the namespace and becomes `sleep`; before that the process is not yet a holder.
        eventually("the process entering its namespace", Duration::from_secs(10), || {
            sys::read(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "sleep").then_some(())
        })?;
        Ok(pid)
    }

    /// Uses a VF through VFIO for real, with only the device descriptor left open at the end; returns the user's pid.
    pub(crate) fn hold_device(&mut self, vf: &str) -> Result<u32> {
        let group =
            sys::link_name(format!("{DEVICES}/{vf}/iommu_group")).context("the VF has no IOMMU group")?;
        sys::tool("modprobe", &["vfio_iommu_type1"])?;
        let child = sys::command("vfio-user", &[&group, vf]).spawn()?;
        let pid = child.id();
        self.keep(child);
        eventually("the VFIO user being ready", Duration::from_secs(10), || {
            let descriptors = format!("/proc/{pid}/fd");
            let links = sys::list(&descriptors).into_iter();
            let mut targets = links.filter_map(|name| sys::link_name(format!("{descriptors}/{name}")));
            targets.any(|target| target.contains("[vfio-device]")).then_some(())
        })?;
        Ok(pid)
    }

    /// Holds the VFIO group file of a VF open in another process; returns its pid.
    pub(crate) fn hold_group(&mut self, vf: &str) -> Result<u32> {
        let group =
            sys::link_name(format!("{DEVICES}/{vf}/iommu_group")).context("the VF has no IOMMU group")?;
        let script = format!("exec 3<>/dev/vfio/{group}; exec sleep 3600");
        let child = sys::command("sh", &["-c", &script]).spawn()?;
        let pid = child.id();
        self.keep(child);
        eventually("the group file being open", Duration::from_secs(10), || {
            sys::link_name(format!("/proc/{pid}/fd/3")).map(|_| ())
        })?;
        Ok(pid)
    }
}

/// VFs of a PF: (index, address), ascending.
pub(crate) fn vfs(pf: &str) -> Vec<(u32, String)> {
    let folder = format!("{DEVICES}/{pf}");
    let mut found: Vec<(u32, String)> = sys::list(&folder)
        .iter()
        .filter_map(|name| {
            let index = name.strip_prefix("virtfn")?.parse().ok()?;
            Some((index, sys::link_name(format!("{folder}/{name}"))?))
        })
        .collect();
    found.sort();
    found
}

/// The address of one VF.
pub(crate) fn vf(pf: &str, index: u32) -> Result<String> {
    let found = vfs(pf).into_iter().find(|(have, _)| *have == index);
    found.map(|(_, address)| address).with_context(|| format!("{pf} has no VF {index}"))
}

/// The driver that a function is bound to.
pub(crate) fn driver(address: &str) -> Option<String> {
    sys::link_name(format!("{DEVICES}/{address}/driver"))
}

/// The name of a function's netdev in this namespace.
pub(crate) fn netdev(address: &str) -> Option<String> {
    sys::list(format!("{DEVICES}/{address}/net")).into_iter().next()
}

/// An attribute of a function, such as `sriov_drivers_autoprobe`.
pub(crate) fn attribute(address: &str, name: &str) -> Result<String> {
    sys::read(format!("{DEVICES}/{address}/{name}"))
}

/// Writes an attribute of a function.
pub(crate) fn set_attribute(address: &str, name: &str, value: &str) -> Result<()> {
    sys::write(format!("{DEVICES}/{address}/{name}"), value)
}

/// The interface index of a netdev: a VF that was re-created has another one.
pub(crate) fn ifindex(netdev: &str) -> Result<u32> {
    sys::read(format!("/sys/class/net/{netdev}/ifindex"))?.parse().context("no number in ifindex")
}

fn reset_card(card: &str) -> Result<()> {
    eventually("the card appearing", Duration::from_secs(10), || {
        sys::list(DEVICES).contains(&card.to_owned()).then_some(())
    })?;
    if driver(card).is_none() {
        sys::write("/sys/bus/pci/drivers_probe", card)?;
    }
    let name = eventually("the card's netdev", Duration::from_secs(10), || netdev(card))?;
    if !vfs(card).is_empty() {
        set_attribute(card, "sriov_numvfs", "0")?;
    }
    set_attribute(card, "sriov_drivers_autoprobe", "1")?;
    sys::tool("ip", &["link", "set", &name, "nomaster"])?;
    sys::tool("ip", &["address", "flush", "dev", &name])?;
    sys::tool("ip", &["link", "set", &name, "mtu", "1500", "up"])?;
    wait_for_carrier(card)
}

/// Waits for the link: igb resets itself on a change of MTU or of the number of VFs, and has no carrier for a second or
/// two afterwards; without carrier it takes no rates.
pub(crate) fn wait_for_carrier(pf: &str) -> Result<()> {
    eventually("the card's carrier", Duration::from_secs(15), || {
        let name = netdev(pf)?;
        sys::read(format!("/sys/class/net/{name}/carrier")).is_ok_and(|carrier| carrier == "1").then_some(())
    })
}
