//! The status of policies: how many nodes a policy matches and how many are done. There is no controller and no leader:
//! whichever agent's lot comes up counts what all NodeStates say ([`lot`] decides, [`count`] adds up), and everybody else
//! sees from the policy's status that it was done.

pub mod count;
pub mod lot;
#[cfg(test)]
mod simulation;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch};
use portwright_api::NodePolicyStatus;
use serde_json::{Value as Json, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use self::count::Count;
use self::lot::{Lots, Seen};
use super::ask::{AskError, Trouble, ask};
use super::client::Connection;
use super::contribution::{self, ANNOTATION};
use super::kinds;
use super::pace::lot_of;
use super::state::Written;

/// NodeStates per page.
const PAGE: u32 = 500;

/// A policy, selected or not, as far as counting is concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    /// What decides.
    pub seen: Seen,
    /// Its resource version: whoever writes must have seen the newest.
    pub version: String,
    /// Its status.
    pub status: NodePolicyStatus,
}

/// All policies by name.
pub type Policies = Arc<BTreeMap<String, Counted>>;

/// Takes part in counting until the source or the writer of the NodeState is gone.
pub async fn run(
    connection: Connection,
    mut written: watch::Receiver<Option<Arc<Written>>>,
    mut policies: watch::Receiver<Policies>,
) {
    let began = Instant::now();
    let mut lots = Lots::default();
    let mut trouble = Trouble::default();
    let mut draw = lot_of;
    written.mark_changed();
    loop {
        let known = policies.borrow_and_update().clone();
        let seen = known.iter().map(|(name, counted)| (name.clone(), counted.seen.clone())).collect();
        lots.policies(began.elapsed(), &seen, &mut draw);
        if written.has_changed().unwrap_or(false)
            && let Some(state) = written.borrow_and_update().clone()
        {
            let version = state.version.parse().unwrap_or_default();
            lots.wrote(began.elapsed(), &state.contributions, version, state.ours, &mut draw);
        }
        if let Some(name) = lots.fire(began.elapsed(), &mut draw) {
            let Some(counted) = known.get(&name) else { continue };
            match census(&connection, &name, counted).await {
                Ok(count) => {
                    tracing::debug!(policy = name, ?count, "counted");
                    trouble.over("counting nodes");
                }
                // Somebody else was faster, or the policy has changed.
                Err(error) if error.code() == Some(409) => lots.lost(began.elapsed(), &name, &mut draw),
                Err(error) => {
                    trouble.failed(&error);
                    lots.lost(began.elapsed() + lot::REST, &name, &mut draw);
                }
            }
            continue;
        }
        let next = lots.next().map(|at| began + at);
        tokio::select! {
            changed = written.changed() => {
                if changed.is_err() { return }
                written.mark_changed();
            }
            changed = policies.changed() => if changed.is_err() { return },
            () = at(next) => {}
        }
    }
}

/// Waits until then, or for ever.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Announces, counts and writes. The announcement goes through for one agent only: it names the version that it replaces.
async fn census(connection: &Connection, name: &str, counted: &Counted) -> Result<Count, AskError> {
    let api = kinds::policies(&connection.client);
    let parameters = kinds::patching();
    let write = async |version: &str, status: Json| {
        let body = json!({"metadata": {"resourceVersion": version}, "status": status});
        ask(
            format!("write the status of NodePolicy {name}"),
            api.patch_status(name, &parameters, &Patch::Merge(&body)),
        )
        .await
    };
    let started = format!("{:.6} {}", Timestamp::now(), connection.node);
    let announced = write(&counted.version, json!({"censusStarted": started})).await?;
    let (count, version) = count_all(connection, name, &counted.seen).await?;
    let before = NodePolicyStatus { census_started: Some(started), ..counted.status.clone() };
    let now = format!("{:.0}", Timestamp::now());
    let status = count.status(counted.seen.generation, &version, &now, &before);
    let status = serde_json::to_value(status).unwrap_or_default();
    write(&announced.metadata.resource_version.unwrap_or_default(), status).await?;
    Ok(count)
}

/// Counts over all NodeStates; the second is the version of the list, which is that of its first page.
async fn count_all(connection: &Connection, name: &str, policy: &Seen) -> Result<(Count, String), AskError> {
    let api = kinds::state_metadata(&connection.client);
    let mut count = Count::default();
    let mut version = None;
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = ask("list NodeStates", api.list(&page)).await?;
        for state in &list.items {
            let text = state.metadata.annotations.as_ref().and_then(|all| all.get(ANNOTATION));
            let Some(text) = text else { continue };
            if let Some(contribution) = contribution::read(text).get(name) {
                count.add(&policy.uid, policy.generation, contribution);
            }
        }
        version = version.or(list.metadata.resource_version);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok((count, version.unwrap_or_default())),
        }
    }
}

/// What a policy's object says that matters for counting.
pub fn counted(
    uid: Option<&str>,
    generation: Option<i64>,
    version: Option<&str>,
    status: Option<&Json>,
) -> Counted {
    let status: NodePolicyStatus =
        status.and_then(|status| serde_json::from_value(status.clone()).ok()).unwrap_or_default();
    Counted {
        seen: Seen {
            uid: uid.unwrap_or_default().to_owned(),
            generation: generation.unwrap_or_default(),
            counted_generation: status.observed_generation,
            nodes: status.matched_nodes,
            counted: status.census_version.as_ref().and_then(|version| version.parse().ok()),
            started: status.census_started.clone(),
        },
        version: version.unwrap_or_default().to_owned(),
        status,
    }
}
