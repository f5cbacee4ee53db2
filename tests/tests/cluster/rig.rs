//! An API server with one Node, and a daemon's parts that speak with it.

use std::sync::Arc;
use std::time::Duration;

use portwright::daemon::cluster::client::{Connection, NodeName, connect_with};
use portwright::daemon::cluster::node::NodeView;
use portwright::daemon::cluster::pace::Growing;
use portwright::daemon::cluster::source::{Outputs, Patience, Source};
use portwright::daemon::wish::Wish;
use portwright_tests::apiserver::{ApiServer, Rights};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub const NODE: &str = "worker-1";
pub const NODE_PATH: &str = "/api/v1/nodes/worker-1";

/// Pauses between attempts: the shape of the real ones, a tenth of their length.
pub fn pauses() -> Growing {
    Growing::new(Duration::from_millis(80), Duration::from_millis(500))
}

/// Policies that disappear are doubted for a twentieth of the usual time.
pub fn patience() -> Patience {
    Patience { pauses: pauses(), doubt: Duration::from_millis(500) }
}

pub async fn connection_of(api: &ApiServer, node: &str) -> Connection {
    api.limit(Rights::of_an_agent());
    let config = kube::Config::new(api.url().parse().unwrap());
    connect_with(config, NodeName::new(node).unwrap()).await.unwrap()
}

pub fn node(labels: Value) -> Value {
    json!({
        "kind": "Node", "metadata": {"labels": labels},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "192.0.2.7"}, {"type": "Hostname", "address": NODE}],
            "capacity": {"cpu": "8"}, "allocatable": {"cpu": "8"},
        },
    })
}

pub fn policy_path(name: &str) -> String {
    format!("/apis/portwright.dev/v1alpha1/nodepolicies/{name}")
}

pub fn policy(api: &ApiServer, name: &str, spec: Value) {
    api.put(&policy_path(name), json!({"kind": "NodePolicy", "metadata": {"name": name}, "spec": spec}));
}

pub fn pod(api: &ApiServer, name: &str, node: &str, labels: Value) {
    api.put(
        &format!("/api/v1/namespaces/web/pods/{name}"),
        json!({"kind": "Pod", "metadata": {"labels": labels}, "spec": {"nodeName": node, "containers": [{"name": "secret"}]}}),
    );
}

/// A source at work.
pub struct Followed {
    pub api: ApiServer,
    pub wish: watch::Receiver<Wish>,
    pub node: watch::Receiver<Option<Arc<NodeView>>>,
    pub task: JoinHandle<()>,
}

impl Followed {
    /// With a Node in zone a.
    pub async fn start() -> Self {
        let api = ApiServer::start().await;
        api.put(NODE_PATH, node(json!({"zone": "a"})));
        Self::with(api).await
    }

    pub async fn with(api: ApiServer) -> Self {
        Self::of(api, NODE).await
    }

    /// Of a node of another name.
    pub async fn of(api: ApiServer, node: &str) -> Self {
        let connection = connection_of(&api, node).await;
        let (wish_sender, wish) = watch::channel(Wish::default());
        let (node_sender, node) = watch::channel(None);
        let outputs = Outputs { wish: wish_sender, node: node_sender, policies: watch::Sender::default() };
        let task = tokio::spawn(Source::new(connection, patience()).run(outputs));
        Self { api, wish, node, task }
    }

    /// Waits for a wish that `accept` likes.
    pub async fn until(&mut self, what: &str, accept: impl Fn(&Wish) -> bool) -> Wish {
        let waiting = self.wish.wait_for(|wish| accept(wish));
        if let Ok(wish) = tokio::time::timeout(Duration::from_secs(15), waiting).await {
            return wish.unwrap().clone();
        }
        panic!("never so: {what}; {:?}", self.wish.borrow());
    }

    /// The first policy's priority, once it can be read.
    pub async fn priority(&mut self, name: &str, expected: i32) -> Wish {
        self.until(&format!("{name} with priority {expected}"), |wish| {
            let policy = wish.policies.get(name).and_then(|policy| policy.read.as_ref().ok());
            policy.is_some_and(|document| document.priority == expected)
        })
        .await
    }
}
