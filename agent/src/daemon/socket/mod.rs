//! The socket beside the daemon, through which an operator on the node asks how things are (`portwright status`) and for a
//! round at once (`portwright reconcile`). HTTP/1 over a Unix socket that only root may use:
//!
//! - `GET /state`: the content of NodeState as JSON, with or without a cluster.
//! - `POST /reconcile?within=SECONDS`: wakes the loop, waits until it has looked and until no step runs any more, and answers
//!   like `GET /state`, also if steps are under way still; 504 if not even the round has ended.

pub mod client;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use portwright_api::NodeStateContent;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::facts::Facts;
use super::state::node_state;

/// Where the socket is, below the root.
pub const SOCKET: &str = "run/portwright/agent.sock";
/// Clients at a time.
const MOST_CLIENTS: usize = 8;
/// How long a client may take for its request's head.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How long a round may take if the client does not say, in seconds.
pub const ROUND_WITHIN: u64 = 120;
/// The longest that a client may ask for, in seconds.
const LONGEST: u64 = 3600;

/// What is served.
struct Served<A> {
    node: String,
    facts: watch::Receiver<Arc<Facts>>,
    /// Wakes the loop; gives the number that [`Facts::heard`] reaches in the round that looks after this.
    ask: A,
    /// What was told last, and of which facts: a condition keeps its time as long as it does not change.
    told: Mutex<Option<(Arc<Facts>, Arc<NodeStateContent>)>>,
}

/// Makes the socket and serves until stopped; the socket is removed when the future that is given back has ended.
///
/// `ask` wakes the loop because of an operator and gives the number of that wake.
///
/// # Errors
/// The socket cannot be made.
pub fn serve<A>(
    path: &Path,
    node: &str,
    facts: watch::Receiver<Arc<Facts>>,
    ask: A,
    stop: CancellationToken,
) -> io::Result<impl Future<Output = ()> + Send + use<A>>
where
    A: Fn() -> u64 + Send + Sync + 'static,
{
    let listener = listen(path)?;
    let here = Place::of(path);
    let served = Arc::new(Served { node: node.to_owned(), facts, ask, told: Mutex::default() });
    Ok(async move {
        tokio::join!(follow(Arc::clone(&served), stop.clone()), accept(&listener, served, stop));
        // Another daemon may have made its own since. While the listener is open, no other file has its number.
        if let Some(here) = here.filter(|here| Place::of(&here.path).as_ref() == Some(here))
            && let Err(error) = std::fs::remove_file(&here.path)
        {
            tracing::warn!(%error, path = %here.path.display(), "the socket is left behind");
        }
        drop(listener);
    })
}

/// A socket file that is this one and no later one of the same name.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Place {
    fn of(path: &Path) -> Option<Place> {
        let found = std::fs::symlink_metadata(path).ok()?;
        Some(Place { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }
}

/// Makes the socket under another name and moves it into place: whoever finds it finds it with its final rights, and one
/// that a killed daemon has left is replaced. That no second daemon runs is the writer's lock's business.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let fresh = path.with_extension("sock.new");
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&fresh, path)?;
    Ok(listener)
}

/// Looks at every change, so that conditions have the time of their change and not of the next question.
async fn follow<A>(served: Arc<Served<A>>, stop: CancellationToken) {
    let mut facts = served.facts.clone();
    while let Some(Ok(())) = stop.run_until_cancelled(facts.changed()).await {
        let now = Arc::clone(&facts.borrow_and_update());
        drop(served.tell(&now));
    }
}

async fn accept<A>(listener: &UnixListener, served: Arc<Served<A>>, stop: CancellationToken)
where
    A: Fn() -> u64 + Send + Sync + 'static,
{
    let places = Arc::new(Semaphore::new(MOST_CLIENTS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Some(accepted) = stop.run_until_cancelled(listener.accept()).await else { return };
        let Ok((stream, _)) = accepted else { continue };
        let (served, stop) = (Arc::clone(&served), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let served = Arc::clone(&served);
                async move { Ok::<_, Infallible>(served.answer(&request).await) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).keep_alive(false);
            let connection = server.serve_connection(TokioIo::new(stream), service);
            // Who hangs up has what it wanted.
            drop(stop.run_until_cancelled(connection).await);
            drop(place);
        });
    }
}

impl<A> Served<A> {
    /// What is told of these facts.
    fn tell(&self, facts: &Arc<Facts>) -> Arc<NodeStateContent> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match &*told {
            Some((known, content)) if Arc::ptr_eq(known, facts) => Arc::clone(content),
            earlier => {
                let previous = earlier.as_ref().map(|(_, content)| Arc::clone(content));
                let content = Arc::new(node_state(facts, previous.as_deref(), &self.node));
                *told = Some((Arc::clone(facts), Arc::clone(&content)));
                content
            }
        }
    }
}

impl<A: Fn() -> u64> Served<A> {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/state") => {
                let now = Arc::clone(&self.facts.borrow());
                self.state(&now)
            }
            (&Method::POST, "/reconcile") => self.reconcile(request.uri().query().unwrap_or_default()).await,
            (_, "/state" | "/reconcile") => {
                text(StatusCode::METHOD_NOT_ALLOWED, "there are GET /state and POST /reconcile")
            }
            _ => text(StatusCode::NOT_FOUND, "there are GET /state and POST /reconcile"),
        }
    }

    async fn reconcile(&self, query: &str) -> Response<Full<Bytes>> {
        let Ok(within) = seconds(query) else {
            return text(StatusCode::BAD_REQUEST, "`within` is a number of seconds");
        };
        let ticket = (self.ask)();
        let mut facts = self.facts.clone();
        let ended = |facts: &Arc<Facts>| facts.heard >= ticket && !facts.running;
        let waited = tokio::time::timeout(Duration::from_secs(within), facts.wait_for(ended)).await;
        match waited {
            Ok(Ok(facts)) => {
                let now = Arc::clone(&facts);
                drop(facts);
                self.state(&now)
            }
            Ok(Err(_)) => text(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping"),
            // What is still under way is in the state, and nothing more is known of it.
            Err(_) if self.facts.borrow().heard >= ticket => {
                let now = Arc::clone(&self.facts.borrow());
                self.state(&now)
            }
            Err(_) => {
                let why = format!("the round has not ended within {within} s; it goes on");
                text(StatusCode::GATEWAY_TIMEOUT, &why)
            }
        }
    }

    fn state(&self, facts: &Arc<Facts>) -> Response<Full<Bytes>> {
        match serde_json::to_vec(&*self.tell(facts)) {
            Ok(json) => response(StatusCode::OK, "application/json", json),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }
}

/// `within=30`, or how long it is when nothing is said.
fn seconds(query: &str) -> Result<u64, std::num::ParseIntError> {
    let within = query.split('&').find_map(|part| part.strip_prefix("within="));
    within.map_or(Ok(ROUND_WITHIN), str::parse).map(|seconds| seconds.min(LONGEST))
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", format!("{text}\n").into_bytes())
}

fn response(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
