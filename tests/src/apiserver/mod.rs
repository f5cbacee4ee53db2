//! A small API server for tests: the part of the Kubernetes API that clients lean on.
//!
//! Any resource can be stored. What it does as the real one does: create, read, replace, patch (JSON patch, merge patch),
//! server-side apply with owners of fields, conflicts and force, delete with preconditions, status as a separate part,
//! lists with pages, label and field selectors, lists and watches of metadata only, watches with bookmarks, resource
//! versions with optimistic concurrency (409), an expiring history (410), and evictions that disruption budgets can
//! refuse (429). And it can misbehave on demand: answer with an error, stall, or be away.
//!
//! What it does not imitate: schemas, defaults, admission; who may do what, unless it is given rights
//! (`Rights`); `metadata.generation` and
//! `creationTimestamp`; `managedFields`; lists with keys in applied configurations (every list is atomic); pages of one
//! moment (a page shows what is there when it is asked for); garbage collection by owner; finalizers; strategic merge
//! patches; quantities in their shortest form; priority and fairness.
//!
//! It listens on loopback, in plain HTTP, and takes connections that never leave the process: on these nobody waits for the
//! kernel, so that tokio's paused time goes on only when client and server have nothing left to do.
#![allow(clippy::expect_used, clippy::panic, reason = "a test's helper fails by panicking")]

mod apply;
mod evict;
mod http;
mod meta;
mod patch;
mod path;
mod rights;
mod select;
mod store;
mod wait;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

pub use evict::Ending;
pub use path::Target;
pub use rights::Rights;
pub use select::Selection;
pub use store::{Change, Store, StoreError};

/// How the server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    /// As it should.
    #[default]
    Well,
    /// Every request is answered with this HTTP status.
    Failing(u16),
    /// Requests are taken and not answered.
    Stalling,
    /// Lists and watches are not answered, reads of single objects are: a client's cache stays empty.
    Blind,
    /// Reads are answered, writes wait until the mood changes: a race between writers begins with all of them.
    Undecided,
    /// Connections are closed as soon as they are made.
    Away,
}

/// What the server's tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Mutex<Store>,
    pub(crate) changed: watch::Sender<u64>,
    pub(crate) mood: watch::Sender<Mood>,
    /// Raised to end all watches.
    pub(crate) cut: watch::Sender<u64>,
    pub(crate) requests: Mutex<Vec<(String, String)>>,
    /// Connections that were made, also such as were closed at once.
    pub(crate) connections: AtomicUsize,
    /// Told after each connection that was made and each request that has arrived.
    pub(crate) arrived: Notify,
    pub(crate) delay: Mutex<Duration>,
    /// Writes that were refused because what they replace had changed.
    pub(crate) conflicts: AtomicUsize,
    pub(crate) ending: Mutex<Ending>,
    /// Requests that are refused: method, part of the path, HTTP status.
    pub(crate) refused: Mutex<Vec<(String, String, u16)>>,
    /// Resources whose definition is gone.
    pub(crate) removed: Mutex<BTreeSet<String>>,
    /// What clients may do; none if everything.
    pub(crate) rights: Mutex<Option<Rights>>,
}

/// A running server; it ends when dropped.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// Connects to a server without a socket.
#[derive(Debug, Clone)]
pub struct Dialer(Arc<Shared>);

impl Dialer {
    /// A new connection, which is closed at once while the server is away.
    pub fn dial(&self) -> DuplexStream {
        let (here, there) = tokio::io::duplex(64 << 10);
        http::take(there, &self.0);
        here
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ApiServer {
    /// Starts a server on a free loopback port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("bind a loopback port");
        let address = listener.local_addr().expect("address of a bound socket");
        let shared = Arc::new(Shared {
            store: Mutex::default(),
            changed: watch::Sender::new(0),
            mood: watch::Sender::default(),
            cut: watch::Sender::new(0),
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            arrived: Notify::new(),
            delay: Mutex::default(),
            conflicts: AtomicUsize::new(0),
            ending: Mutex::default(),
            refused: Mutex::default(),
            removed: Mutex::default(),
            rights: Mutex::default(),
        });
        let task = tokio::spawn(http::serve(listener, Arc::clone(&shared)));
        let server = Self { address, shared, task };
        server.define("portwright.dev/v1alpha1/nodepolicies", "2026-01-01T00:00:00Z");
        server
    }

    /// Puts the definition of a resource (`group/version/plural`) there, of which only name and age are told.
    fn define(&self, resource: &str, created: &str) {
        let definition =
            json!({"kind": "CustomResourceDefinition", "metadata": {"creationTimestamp": created}});
        self.put(&definition_path(resource), definition);
    }

    /// Where clients find it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A way to it without a socket.
    pub fn dialer(&self) -> Dialer {
        Dialer(Arc::clone(&self.shared))
    }

    /// How many connections were made to it so far, also while it was away.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// How often somebody tried to get something from it: connections and requests.
    pub fn attempts(&self) -> usize {
        self.connections() + self.requests("").len()
    }

    /// A kubeconfig for it, as a file's text. It trusts nobody, so that a machine without certificates will do.
    pub fn kubeconfig(&self) -> String {
        let url = self.url();
        format!(
            "{{apiVersion: v1, kind: Config, current-context: t, clusters: [{{name: t, cluster: {{server: '{url}', certificate-authority-data: ''}}}}], \
             contexts: [{{name: t, context: {{cluster: t, user: t}}}}], users: [{{name: t, user: {{}}}}]}}\n"
        )
    }

    /// Creates or replaces an object at its API path, e.g. `/api/v1/namespaces/ns/configmaps/name`.
    pub fn put(&self, path: &str, object: Value) {
        let target = Target::parse(path).unwrap_or_else(|| panic!("{path}: no API path of an object"));
        self.change(|store| store.put(&target, object));
    }

    /// Creates or replaces many objects, as one change to watchers' eyes.
    pub fn put_all(&self, objects: impl IntoIterator<Item = (String, Value)>) {
        self.change(|store| {
            for (path, object) in objects {
                let target =
                    Target::parse(&path).unwrap_or_else(|| panic!("{path}: no API path of an object"));
                store.put(&target, object);
            }
        });
    }

    /// Deletes an object; nothing happens if there is none.
    pub fn delete(&self, path: &str) {
        let target = Target::parse(path).unwrap_or_else(|| panic!("{path}: no API path of an object"));
        self.change(|store| {
            store.delete(&target).ok();
        });
    }

    /// An object as it is now.
    pub fn get(&self, path: &str) -> Option<Value> {
        self.store().get(&Target::parse(path)?).ok()
    }

    /// All objects of a resource, by its path.
    pub fn list(&self, path: &str) -> Vec<Value> {
        let Some(target) = Target::parse(path) else { return Vec::new() };
        self.store().list(&target, &select::Selection::default()).into_iter().cloned().collect()
    }

    /// Forgets the history, so that watches that go on from an older version get 410, and ends all watches.
    pub fn compact(&self) {
        self.store().compact();
        self.disconnect();
    }

    /// Ends all watches.
    pub fn disconnect(&self) {
        self.shared.cut.send_modify(|count| *count += 1);
    }

    /// Changes how the server behaves from now on; being away ends all connections.
    pub fn set_mood(&self, mood: Mood) {
        self.shared.mood.send_replace(mood);
        if mood != Mood::Well {
            self.disconnect();
        }
    }

    /// Lets every request but watches wait this long.
    pub fn set_delay(&self, delay: Duration) {
        *self.shared.delay.lock().unwrap_or_else(PoisonError::into_inner) = delay;
    }

    /// Answers requests of this method whose path contains `part` with an HTTP status from now on, as for want of a
    /// permission.
    pub fn refuse(&self, method: &str, part: &str, code: u16) {
        let refusal = (method.to_owned(), part.to_owned(), code);
        self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner).push(refusal);
    }

    /// Refuses nothing any more that [`ApiServer::refuse`] was told to.
    pub fn refuse_nothing(&self) {
        self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Deletes the definition of a resource (`group/version/plural`): its objects are deleted, as watches that are open are
    /// told, and every request from now on is answered with 404.
    pub fn remove_definition(&self, resource: &str) {
        self.shared.removed.lock().unwrap_or_else(PoisonError::into_inner).insert(resource.to_owned());
        self.delete_all(resource);
        self.delete(&definition_path(resource));
    }

    /// Deletes all objects of a resource (`group/version/plural`).
    pub fn delete_all(&self, resource: &str) {
        let all = Target {
            resource: resource.to_owned(),
            namespace: String::new(),
            name: String::new(),
            part: String::new(),
        };
        self.change(|store| {
            let object = |object: &Value| {
                let field = |field: &str| {
                    let text = object.pointer(&format!("/metadata/{field}")).and_then(Value::as_str);
                    text.unwrap_or_default().to_owned()
                };
                Target { namespace: field("namespace"), name: field("name"), ..all.clone() }
            };
            let objects: Vec<Target> =
                store.list(&all, &Selection::default()).into_iter().map(object).collect();
            for object in objects {
                store.delete(&object).ok();
            }
        });
    }

    /// Makes a definition anew, at a time that clients are told.
    pub fn restore_definition(&self, resource: &str, created: &str) {
        self.define(resource, created);
        self.shared.removed.lock().unwrap_or_else(PoisonError::into_inner).remove(resource);
    }

    /// Takes a field, as a JSON pointer such as `/status/newer`, out of a resource's definition: whoever applies it is
    /// refused as the real server does it, with HTTP status 500.
    pub fn undeclare(&self, resource: &str, pointer: &str) {
        self.store().undeclare(resource, pointer);
    }

    /// Declares everything that [`ApiServer::undeclare`] took away.
    pub fn declare_all(&self) {
        self.store().declare_all();
    }

    /// Lets clients do only what these rights give; everything else is answered with 403.
    pub fn limit(&self, rights: Rights) {
        *self.shared.rights.lock().unwrap_or_else(PoisonError::into_inner) = Some(rights);
    }

    /// Says what becomes of pods that are evicted from now on.
    pub fn set_ending(&self, ending: Ending) {
        *self.shared.ending.lock().unwrap_or_else(PoisonError::into_inner) = ending;
    }

    /// All changes so far of the objects at a path (a list's or an object's), with the server's time of each.
    pub fn history(&self, path: &str) -> Vec<Change> {
        let target = Target::parse(path).unwrap_or_else(|| panic!("{path}: no API path"));
        self.store().history(&target)
    }

    /// All requests so far whose path contains `part`, as method and path with query.
    pub fn requests(&self, part: &str) -> Vec<(String, String)> {
        let requests = self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().filter(|(_, path)| path.contains(part)).cloned().collect()
    }

    /// How many writes were refused because what they replace had changed.
    pub fn conflicts(&self) -> usize {
        self.shared.conflicts.load(Ordering::Relaxed)
    }

    fn store(&self) -> std::sync::MutexGuard<'_, Store> {
        self.shared.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, work: impl FnOnce(&mut Store) -> T) -> T {
        let (result, version) = {
            let mut store = self.store();
            (work(&mut store), store.version())
        };
        self.shared.changed.send_replace(version);
        result
    }
}

/// Where the definition of a resource (`group/version/plural`) is.
fn definition_path(resource: &str) -> String {
    let mut parts = resource.split('/');
    let (group, plural) = (parts.next().unwrap_or_default(), parts.nth(1).unwrap_or_default());
    format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.{group}")
}
