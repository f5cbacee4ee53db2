//! A daemon's publishers, fed by the test in place of a loop.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portwright::daemon::cluster::contribution::contributions;
use portwright::daemon::cluster::labels::Prefix;
use portwright::daemon::cluster::pace::Growing;
use portwright::daemon::cluster::start::{Following, Telling, follow, publish};
use portwright::daemon::cluster::state::Pace;
use portwright::daemon::facts::Facts;
use portwright_api::NodeStateContent;
use portwright_api::state::{Condition, ConditionStatus, PolicyState, Summary};
use portwright_tests::apiserver::ApiServer;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::rig::{NODE, NODE_PATH, connection_of, node, patience};

pub const STATE_PATH: &str = "/apis/portwright.dev/v1alpha1/nodestates/worker-1";

/// What the loop and the decisions about it would say.
#[derive(Debug, Clone, Default)]
pub struct Said {
    pub content: NodeStateContent,
    pub resources: Option<BTreeMap<String, u64>>,
}

/// A daemon's publishers, fed by the test.
pub struct Told {
    pub facts: watch::Sender<Arc<Facts>>,
    pub said: Arc<Mutex<Said>>,
    /// Keeps the channels of the source open.
    pub following: Following,
    stop: CancellationToken,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub fn quick() -> Pace {
    Pace {
        burst: 3,
        period: Duration::from_millis(300),
        confirm: Duration::from_secs(3600),
        pauses: Growing::new(Duration::from_millis(50), Duration::from_millis(300)),
    }
}

impl Told {
    pub async fn start(api: &ApiServer) -> Self {
        Self::of(api, NODE, quick()).await
    }

    pub async fn of(api: &ApiServer, name: &str, pace: Pace) -> Self {
        let connection = connection_of(api, name).await;
        let (facts, stop) = (watch::Sender::<Arc<Facts>>::default(), CancellationToken::new());
        let said = Arc::new(Mutex::new(Said::default()));
        let following = follow(&connection, patience(), &stop);
        let (content, resources) = (Arc::clone(&said), Arc::clone(&said));
        let telling = Telling {
            content: Arc::new(move |_| {
                let content = content.lock().unwrap().content.clone();
                let counted = contributions(&content.policies);
                (content, counted)
            }),
            resources: Some(Arc::new(move |_| resources.lock().unwrap().resources.clone())),
            labels: Some("nics.example.org".parse::<Prefix>().unwrap()),
            pace,
        };
        publish(&connection, &following, &facts.subscribe(), telling, &stop);
        Self { facts, said, following, stop }
    }

    /// A round of the loop that found this.
    pub fn round(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.said.lock().unwrap());
        self.facts.send_modify(|facts| {
            let sequence = facts.sequence + 1;
            *facts = Arc::new(Facts { sequence, synced: true, ..Facts::default() });
        });
    }
}

pub fn condition(kind: &str, status: ConditionStatus, reason: &str) -> Condition {
    Condition { type_: kind.to_owned(), status, reason: reason.to_owned(), ..Condition::default() }
}

pub fn pending(count: u32) -> NodeStateContent {
    NodeStateContent {
        summary: Summary { pending: count, ..Summary::default() },
        ..NodeStateContent::default()
    }
}

pub fn policy_state(ready: bool) -> Vec<PolicyState> {
    let ready = if ready { ConditionStatus::True } else { ConditionStatus::False };
    vec![PolicyState {
        name: "p".to_owned(),
        uid: Some("u".to_owned()),
        observed_generation: Some(1),
        pfs: 2,
        conditions: vec![
            condition("Accepted", ConditionStatus::True, "Accepted"),
            condition("Ready", ready, "Pending"),
        ],
        ..PolicyState::default()
    }]
}

pub async fn cluster() -> ApiServer {
    let api = ApiServer::start().await;
    api.put(NODE_PATH, node(json!({"zone": "a"})));
    api
}

pub fn writes(api: &ApiServer) -> usize {
    api.requests("/nodestates/worker-1").iter().filter(|(method, _)| method == "PATCH").count()
}

pub fn is_pending(count: u32) -> impl Fn(&Value) -> bool {
    move |state| state["status"]["summary"]["pending"] == count
}

/// Waits until all that was begun is done: nothing is asked for so long.
pub async fn quiet(api: &ApiServer) {
    let mut before = usize::MAX;
    loop {
        let now = api.requests("").iter().filter(|(method, _)| method != "GET").count();
        if now == before {
            return;
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
}
