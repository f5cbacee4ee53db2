//! Allocate of a device that somebody had before, or that is withheld: it waits until the loop has put the device in order
//! and nobody holds it any more, else the answer says who does.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use portwright_core::pools::{Health, PoolDevice};
use portwright_core::usage::{Use, uses};
use portwright_core::{Blocked, Object, PciAddress, VfRef};
use portwright_device_plugin::Gate;
use portwright_host::deadline::Deadline;
use tokio::sync::watch;

use super::facts::{Cause, Facts};
use crate::serve::wake::Wakes;

/// How long Allocate waits.
const WITHIN: Duration = Duration::from_secs(10);
/// How often to look again meanwhile: that a process closes a file makes no event.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Asks the loop.
#[derive(Debug)]
pub struct LoopGate {
    /// Wakes the loop.
    pub wakes: Arc<Wakes>,
    /// What it tells.
    pub facts: watch::Receiver<Arc<Facts>>,
}

impl Gate for LoopGate {
    fn ready<'a>(&'a self, device: &'a PoolDevice) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let Some(address) = device.candidate.address.filter(|_| device.candidate.aux.is_none()) else {
                return Ok(());
            };
            let mut facts = self.facts.clone();
            let deadline = Deadline::after(WITHIN);
            let mut known = None;
            loop {
                let ticket = self.wakes.wake(Cause::Allocate);
                // Steps on other ports do not matter to this device.
                let heard = |facts: &Arc<Facts>| facts.heard >= ticket && !is_worked_on(facts, address);
                let looked = tokio::time::timeout(deadline.remaining(), facts.wait_for(heard)).await;
                let looked = looked.map(|looked| looked.map(|facts| obstacle(&facts, address)));
                let obstacle = match looked {
                    Ok(Ok(obstacle)) => obstacle,
                    Ok(Err(_)) => return Err("the agent is stopping".to_owned()),
                    // What was in the way when there was still time to look says more.
                    Err(_) => Some(known.unwrap_or_else(|| "the agent is busy with other steps".to_owned())),
                };
                let Some(why) = obstacle else { return Ok(()) };
                if deadline.expired() {
                    return Err(format!("{why}; waited {} s", WITHIN.as_secs()));
                }
                known = Some(why);
                let pause = LOOK_EVERY.min(deadline.remaining());
                // A change that is told earlier is looked at earlier.
                drop(tokio::time::timeout(pause, facts.changed()).await);
            }
        })
    }
}

/// Whether steps are being carried out on the function's port, or it is not known which port that is.
fn is_worked_on(facts: &Facts, address: PciAddress) -> bool {
    let port = vf_at(facts, address).map_or(address, |vf| vf.pf);
    // Functions that are neither PF nor VF have no steps.
    let known = facts.observed.pf(port).is_some()
        || facts.observed.devices.iter().any(|device| device.address == address);
    facts.running && (facts.is_worked_on(&Object::Pci(port)) || !known)
}

/// Why a function cannot be handed out, by what was seen after it was asked for.
fn obstacle(facts: &Facts, address: PciAddress) -> Option<String> {
    if let Some(trouble) = &facts.trouble {
        // What is known is older than the question.
        return Some(trouble.clone());
    }
    if let Some(vf) = vf_at(facts, address) {
        let held = |used: &Use| matches!(used, Use::Held(_));
        if let Some(used) = uses(&facts.observed, vf).into_iter().find(held) {
            return Some(format!("it {used} since before; {}", Use::hint(&used)));
        }
        let object = Object::Vf(vf);
        if let Some(step) = facts.plan.steps.iter().find(|step| step.object == object) {
            return Some(format!("it is not as the policy wants it: `{step}` is due"));
        }
        // A VF in use is in order for its user, but kubelet gives it to another now.
        if let Some(Blocked { message, hint, .. }) =
            facts.plan.blocked.iter().find(|one| one.object == object)
        {
            return Some(format!("it is not as the policy wants it: {message}; {hint}"));
        }
    }
    let mut devices = facts.pools.pools.iter().flat_map(|pool| &pool.devices);
    match devices.find(|device| device.candidate.address == Some(address)).map(|device| &device.health) {
        Some(Health::Healthy) => None,
        Some(Health::Unhealthy { why } | Health::Withheld { why }) => Some(why.clone()),
        None => Some("it is not there any more".to_owned()),
    }
}

/// The VF that has an address.
pub(super) fn vf_at(facts: &Facts, address: PciAddress) -> Option<VfRef> {
    facts.observed.pfs.iter().find_map(|pf| {
        let vf = pf.vfs.iter().find(|vf| vf.address == address)?;
        Some(VfRef { pf: pf.address, index: vf.index })
    })
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
