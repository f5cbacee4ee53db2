//! One pool's socket, and that kubelet knows it.
//!
//! The task looks at what there is (its own socket, kubelet's, the stream) and mends what is not right, whenever something
//! in kubelet's folders changes, when kubelet hangs up, and some time after a failure. It does not matter what happened in
//! between or in which order.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use portwright_core::drive::chain;
use portwright_core::pools::{Pool, ResourceName};
use portwright_proto::device_plugin::device_plugin_server::DevicePluginServer;
use portwright_proto::registration::registration_server::RegistrationServer;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::authority::LegalAuthority;
use crate::kubelet::{self, Identity, Mode};
use crate::plugin::Context;
use crate::service::{Service, Streams};

/// Connections that one socket has at a time; kubelet needs two.
const MOST_CONNECTIONS: usize = 64;
/// Largest request: 4,096 devices of 64 bytes fit several times.
const LARGEST_REQUEST: usize = 4 << 20;
/// How long a server may take to end after its streams have ended.
const END_WITHIN: Duration = Duration::from_secs(2);
/// Pauses after failures: from, to.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// A pool's endpoint.
pub(crate) struct Endpoint {
    pool: watch::Sender<Arc<Pool>>,
    streams: Arc<Streams>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Endpoint {
    /// Begins to serve a pool.
    pub(crate) fn start(context: Arc<Context>, pool: Pool) -> Endpoint {
        let stop = CancellationToken::new();
        let resource = pool.spec.resource.clone();
        let sender = watch::Sender::new(Arc::new(pool));
        let streams = Arc::new(Streams::new(context.heard.clone()));
        let keeper = Keeper {
            kicks: context.kicks.subscribe(),
            pool: sender.subscribe(),
            stop: stop.clone(),
            streams: Arc::clone(&streams),
            context,
            resource,
            pause: PAUSES.0,
        };
        Endpoint { pool: sender, streams, stop, task: tokio::spawn(keeper.run()) }
    }

    /// Serves this from now on; an equal pool wakes nobody. It takes the place of the other all the same: it shares its
    /// candidates with what others have of this round, and the old ones can go.
    pub(crate) fn update(&self, pool: Pool) {
        self.pool.send_if_modified(|known| {
            let changed = **known != pool;
            *known = Arc::new(pool);
            changed
        });
    }

    /// kubelet's streams.
    pub(crate) fn streams(&self) -> Arc<Streams> {
        Arc::clone(&self.streams)
    }

    /// Ends it: the stream ends, the socket goes.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "an endpoint did not end well");
        }
    }
}

/// What the task knows.
struct Keeper {
    context: Arc<Context>,
    resource: ResourceName,
    pool: watch::Receiver<Arc<Pool>>,
    kicks: watch::Receiver<u64>,
    stop: CancellationToken,
    streams: Arc<Streams>,
    pause: Duration,
}

/// A socket with its server.
struct Served {
    mode: Mode,
    path: PathBuf,
    identity: Identity,
    end: CancellationToken,
    task: JoinHandle<()>,
    /// kubelet's socket that was told of it.
    registered: Option<Identity>,
}

impl Drop for Served {
    /// A server that nobody knows any more must not go on.
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl Served {
    fn is_intact(&self) -> bool {
        kubelet::identity(&self.path) == Some(self.identity)
    }

    /// Streams first, then the server, then the socket if it is still ours.
    async fn end(mut self) {
        self.end.cancel();
        if tokio::time::timeout(END_WITHIN, &mut self.task).await.is_err() {
            self.task.abort();
        }
        if self.is_intact()
            && let Err(error) = portwright_host::write::remove(&self.path)
        {
            tracing::warn!(error = chain(&error), "the socket stays behind");
        }
    }
}

impl Keeper {
    async fn run(mut self) {
        let mut served: Option<Served> = None;
        loop {
            self.kicks.mark_unchanged();
            served = self.mend(served).await;
            let done = served.as_ref().is_some_and(|served| self.is_registered(served));
            if done {
                self.pause = PAUSES.0;
            }
            // A failure is tried again by itself; when all is well only events wake this task.
            let pause = if done { None } else { Some(self.next_pause()) };
            let again = async {
                match pause {
                    Some(pause) => drop(tokio::time::timeout(pause, std::future::pending::<()>()).await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => break,
                changed = self.kicks.changed() => if changed.is_err() { break },
                () = self.streams.lost.notified() => served = self.hung_up(served).await,
                () = again => {}
            }
        }
        if let Some(served) = served {
            served.end().await;
        }
    }

    fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = pause.saturating_mul(2).min(PAUSES.1);
        pause
    }

    fn is_registered(&self, served: &Served) -> bool {
        match served.mode {
            // kubelet comes by itself.
            Mode::Watcher => true,
            Mode::Legacy => {
                let there = kubelet::identity(&self.context.paths.kubelet_socket());
                there.is_some() && served.registered == there
            }
        }
    }

    /// Puts right what is not.
    async fn mend(&mut self, served: Option<Served>) -> Option<Served> {
        let mode = self.context.paths.mode(self.context.settings.registration);
        let mut served = match served {
            Some(served) if served.is_intact() && served.mode == mode => served,
            stale => {
                if let Some(stale) = stale {
                    tracing::info!(resource = %self.resource, socket = %stale.path.display(), "the socket is gone and made anew");
                    stale.end().await;
                }
                self.serve(mode)?
            }
        };
        // Without kubelet's socket there is nobody to tell; the folder's watch says when there is.
        let there = kubelet::identity(&self.context.paths.kubelet_socket());
        if mode == Mode::Legacy && there.is_some() && !self.is_registered(&served) {
            served.registered = if self.register().await { there } else { None };
        }
        Some(served)
    }

    /// kubelet has closed the stream: it must be told anew. In watcher mode a new socket tells it.
    async fn hung_up(&mut self, served: Option<Served>) -> Option<Served> {
        let mut served = served?;
        if self.streams.is_open() {
            // The word is late: kubelet listens again. Telling it twice would end both streams.
            return Some(served);
        }
        tracing::info!(resource = %self.resource, "kubelet hung up");
        match served.mode {
            Mode::Watcher => {
                served.end().await;
                None
            }
            Mode::Legacy => {
                served.registered = None;
                Some(served)
            }
        }
    }

    async fn register(&self) -> bool {
        let resource = &self.resource;
        // A kubelet that hangs must not keep us from stopping.
        let call = kubelet::register(&self.context.paths, resource);
        let Some(answer) = self.stop.run_until_cancelled(call).await else { return false };
        match answer {
            Ok(()) => {
                self.context.metrics.registered(resource);
                tracing::info!(%resource, mode = "legacy", "registered with kubelet");
                true
            }
            Err(error) => {
                self.context.metrics.registration_failed(resource);
                tracing::warn!(%resource, error = chain(&error), "not registered with kubelet; trying again");
                false
            }
        }
    }

    /// Makes the socket and serves on it; none while the folder is missing.
    fn serve(&self, mode: Mode) -> Option<Served> {
        let path = self.context.paths.socket(mode, &self.resource);
        if !path.parent()?.is_dir() {
            return None;
        }
        let listener = match bind(&path) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(resource = %self.resource, socket = %path.display(), error = chain(&*error), "cannot make the socket; trying again");
                return None;
            }
        };
        let identity = kubelet::identity(&path)?;
        let end = self.stop.child_token();
        let service = Service {
            context: Arc::clone(&self.context),
            pool: self.pool.clone(),
            streams: Arc::clone(&self.streams),
            stop: end.clone(),
            endpoint: path.display().to_string(),
        };
        tracing::debug!(resource = %self.resource, socket = %path.display(), mode = mode.word(), "serving");
        let task = tokio::spawn(server(listener, service, end.clone()));
        Some(Served { mode, path, identity, end, task, registered: None })
    }
}

/// A socket for root only, in place of what an earlier run left behind. It gets its name when it can be connected to: kubelet
/// comes as soon as it sees the name, and passes over names that begin with a dot.
fn bind(path: &Path) -> Result<UnixListener, Box<dyn std::error::Error>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = path.with_file_name(format!(".{name}"));
    portwright_host::write::remove(&fresh)?;
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&fresh, path)?;
    Ok(listener)
}

async fn server(listener: UnixListener, service: Service, end: CancellationToken) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let stop = end.clone();
    let incoming = UnixListenerStream::new(listener).then(move |stream| {
        let (places, stop) = (Arc::clone(&places), stop.clone());
        async move {
            let permit = places.acquire_owned().await.map_err(std::io::Error::other)?;
            stream.map(|stream| LegalAuthority::new(stream, stop.cancelled_owned(), permit))
        }
    });
    let registration = RegistrationServer::new(service.clone());
    let plugin = DevicePluginServer::new(service).max_decoding_message_size(LARGEST_REQUEST);
    let server = Server::builder().add_service(plugin).add_service(registration);
    if let Err(error) = server.serve_with_incoming_shutdown(incoming, end.cancelled()).await {
        tracing::warn!(error = chain(&error), "a socket's server ended");
    }
}
