//! Nodes, a small stand-in for the loop, and a wire that can be cut.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portwright::daemon::turn::{self, Handle, PodName, Request, Settings, Turn};
use portwright::daemon::wish::MaxUnavailable;
use portwright_tests::apiserver::{ApiServer, Change, Rights};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub const NAMESPACE: &str = "portwright-agent";
pub const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/portwright-agent/leases";

/// The cluster's settings, about thirty times as fast.
pub fn settings() -> Settings {
    let millis = Duration::from_millis;
    Settings {
        lease: millis(2000),
        renew: millis(300),
        fence: millis(1300),
        retry: millis(50),
        limit: millis(500),
        spread: millis(30),
        list: millis(100),
        evict: millis(50),
        evict_most: millis(200),
        again: millis(300),
        settle: Duration::from_secs(30),
    }
}

/// A client as the daemon's: it does not insist by itself where the server says no.
pub fn client(url: &str) -> kube::Client {
    let mut config = kube::Config::new(url.parse().unwrap());
    config.default_retry = false;
    kube::Client::try_from(config).unwrap()
}

pub fn node_path(name: &str) -> String {
    format!("/api/v1/nodes/{name}")
}

pub fn pod_path(pod: &str) -> String {
    let (namespace, name) = pod.split_once('/').unwrap();
    format!("/api/v1/namespaces/{namespace}/pods/{name}")
}

pub fn annotation(object: &Value, key: &str) -> Option<String> {
    Some(object["metadata"]["annotations"].get(key)?.as_str()?.to_owned())
}

/// An agent's side of a turn, as the loop has it.
pub struct Node {
    pub name: String,
    pub handle: Handle,
    pub stop: CancellationToken,
    pub task: JoinHandle<()>,
}

impl Node {
    /// Starts one that has a Node object.
    pub fn start(server: &ApiServer, name: &str) -> Node {
        server.limit(Rights::of_an_agent());
        if server.get(&node_path(name)).is_none() {
            server.put(&node_path(name), json!({"kind": "Node", "spec": {}}));
        }
        Node::start_at(&server.url(), name)
    }

    pub fn start_at(url: &str, name: &str) -> Node {
        let stop = CancellationToken::new();
        let (handle, task) = turn::prepare(client(url), name, NAMESPACE, settings(), stop.clone());
        Node { name: name.to_owned(), handle, stop, task: tokio::spawn(task) }
    }

    pub fn ask(&self, request: Request) {
        self.handle.request.send_replace(Some(request));
    }

    pub fn done(&self) {
        self.handle.request.send_replace(None);
    }

    /// Waits for an answer that `accept` likes.
    pub async fn turn(&mut self, accept: impl Fn(&Turn) -> bool) -> Turn {
        let waited =
            tokio::time::timeout(Duration::from_secs(20), self.handle.turn.wait_for(|turn| accept(turn)));
        match waited.await.map(|turn| turn.unwrap().clone()) {
            Ok(turn) => turn,
            Err(_) => {
                panic!("{}: not the answer that was waited for: {:?}", self.name, self.handle.turn.borrow())
            }
        }
    }

    pub async fn granted(&mut self) -> Turn {
        self.turn(|turn| matches!(turn, Turn::Granted { .. })).await
    }

    pub async fn waiting(&mut self, words: &str) -> String {
        match self.turn(|turn| matches!(turn, Turn::Waiting { why } if why.contains(words))).await {
            Turn::Waiting { why } => why,
            other => panic!("{other:?}"),
        }
    }

    /// The process dies: nothing is given back.
    pub async fn crash(self) {
        self.task.abort();
        self.task.await.ok();
    }
}

/// A request for one place of each policy.
pub fn places(policies: &[(&str, MaxUnavailable)]) -> Request {
    let policies: BTreeMap<String, MaxUnavailable> =
        policies.iter().map(|(name, max)| ((*name).to_owned(), *max)).collect();
    Request { policies, ..Request::default() }
}

/// The same for one policy with so many places.
pub fn place(nodes: u32) -> Request {
    places(&[("workers", MaxUnavailable::Nodes(nodes))])
}

/// The same with pods to evict.
pub fn evicting(pods: &[&str]) -> Request {
    let pod = |text: &&str| {
        let (namespace, name) = text.split_once('/').unwrap();
        PodName { namespace: namespace.to_owned(), name: name.to_owned() }
    };
    let pods: BTreeSet<PodName> = pods.iter().map(pod).collect();
    Request { evict: BTreeMap::from([("workers".to_owned(), pods)]), ..place(1) }
}

/// Counts who is disrupted now, and how many were at most.
#[derive(Clone, Default)]
pub struct Gauge(Arc<Mutex<(BTreeSet<String>, usize)>>);

/// Somebody who is counted.
pub struct Counted(Gauge, String);

impl Gauge {
    pub fn enter(&self, name: &str) -> Counted {
        let mut inside = self.0.lock().unwrap();
        inside.0.insert(name.to_owned());
        inside.1 = inside.1.max(inside.0.len());
        Counted(self.clone(), name.to_owned())
    }

    pub fn most(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().0.remove(&self.1);
    }
}

/// Leases with a holder, as `slot name → holder`.
pub fn holders(server: &ApiServer) -> BTreeMap<String, String> {
    let mut now = BTreeMap::new();
    for change in server.history(LEASES) {
        let holder = change.object["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
        if change.kind == "DELETED" {
            now.remove(&change.target.name);
        } else {
            now.insert(change.target.name.clone(), holder);
        }
    }
    now
}

/// How many Leases there were at once at most.
pub fn most_held(server: &ApiServer) -> usize {
    let (mut now, mut most) = (BTreeSet::new(), 0);
    for change in server.history(LEASES) {
        if change.kind == "DELETED" {
            now.remove(&change.target.name);
        } else {
            now.insert(change.target.name.clone());
        }
        most = most.max(now.len());
    }
    most
}

/// When somebody got a Lease that he had not before, by the server's clock.
pub fn taken(changes: &[Change], holder: &str) -> Option<Instant> {
    let is = |object: &Value| object["spec"]["holderIdentity"] == holder;
    changes
        .iter()
        .find(|change| is(&change.object) && !change.before.as_ref().is_some_and(is))
        .map(|change| change.at)
}

/// A way to the API server that can be cut, and mended.
pub struct Wire {
    pub url: String,
    cut: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Wire {
    pub async fn to(server: &ApiServer) -> Wire {
        let target: SocketAddr = server.url().strip_prefix("http://").unwrap().parse().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let cut = watch::Sender::new(false);
        let state = cut.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                let mut cut = state.subscribe();
                tokio::spawn(async move {
                    let mut there = TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut here, &mut there) => {}
                        _ = cut.wait_for(|cut| *cut) => {}
                    }
                });
            }
        });
        Wire { url, cut, task }
    }

    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    pub fn mend(&self) {
        self.cut.send_replace(false);
    }
}
