//! Puts the parts together and takes them down again in order.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::certs::files::{self, Files};
use crate::certs::plan::Lifetimes;
use crate::certs::self_managed::{self, Manager};
use crate::certs::{CertificateError, Installer};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::follow_switches::LiveSwitches;
use crate::metrics::Metrics;
use crate::mutate::Decide;
use crate::networks::NetworkCache;
use crate::server::activity::Connections;
use crate::server::body::Budget;
use crate::server::places::Places;
use crate::server::probes::{self, Probes};
use crate::server::webhook::Webhook;
use crate::server::{Stage, listener};

/// Why the injector could not start. What goes wrong later is logged, counted and lived with.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is taken, or the address is not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The certificate files are unusable from the start.
    #[error("cannot start with this certificate")]
    Certificate(#[source] CertificateError),
    /// No signal handler.
    #[error("cannot listen for signals")]
    Signal(#[source] std::io::Error),
    /// There is no API server to speak to.
    #[error("cannot find the API server; set KUBECONFIG or run in a pod with a service account")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The two sockets.
#[derive(Debug)]
pub struct Listeners {
    /// TLS.
    pub webhook: TcpListener,
    /// Plain HTTP.
    pub probes: TcpListener,
}

impl Listeners {
    /// Binds both as the flags say.
    ///
    /// # Errors
    /// One of them cannot be bound.
    pub fn bind(config: &Config) -> Result<Self, StartError> {
        let flags = &config.flags;
        let at = |port| SocketAddr::new(flags.bind_address, port);
        Ok(Self { webhook: listen(at(flags.port))?, probes: listen(at(flags.health_check_port))? })
    }
}

/// Connections that the kernel holds for us until they are accepted (it caps this at `net.core.somaxconn`). When they
/// are too many it drops the next ones, and their clients try again only after a second, so a burst must fit.
const BACKLOG: u32 = 4096;

/// Listens on an address.
///
/// # Errors
/// It is taken, or not ours.
pub fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // Connections of a process before us that are not quite gone must not keep us from starting.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|source| StartError::Listen { address, source })
}

/// What tests may make shorter than operators need it.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How often certificate files are looked at.
    pub files: Duration,
    /// How long self-managed certificates last.
    pub lifetimes: Lifetimes,
    /// How often self-managed certificates are looked at when nothing changes.
    pub look: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { files: files::INTERVAL, lifetimes: Lifetimes::default(), look: self_managed::SLOW }
    }
}

/// Runs the injector until `stop` is done and everything under way has ended. `decide` is asked about every pod; the
/// program gives [`crate::mutate::inject`].
///
/// # Errors
/// It could not start.
pub async fn run(
    config: Config,
    cluster: Cluster,
    listeners: Listeners,
    pace: Pace,
    decide: Arc<Decide>,
    stop: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let metrics = Arc::new(Metrics::default());
    let (stage, stages) = watch::channel(Stage::Serving);
    let mut tasks = JoinSet::new();

    let installer = Installer::new(config.tls.clone(), Arc::clone(&metrics));
    let tls = installer.tls();
    certificates(&config, &cluster, pace, installer, &mut tasks).await?;

    let networks =
        Arc::new(NetworkCache::new(cluster.client.clone(), config.reading.clone(), Arc::clone(&metrics)));
    tasks.spawn(Arc::clone(&networks).follow(cluster.watches.clone()));
    let (settled, networks_settled) = watch::channel(false);
    tasks.spawn(settle(networks.synced(), settled, config.cache_sync_timeout));

    let switches = Arc::new(LiveSwitches::new(config.switches.clone(), Arc::clone(&metrics)));
    tasks.spawn(Arc::clone(&switches).follow(cluster, config.flags.namespace.clone()));

    let probes = Probes {
        metrics: Arc::clone(&metrics),
        stage: stages.clone(),
        tls: tls.clone(),
        networks: networks_settled,
    };
    tasks.spawn(probes::serve(listeners.probes, Arc::new(probes)));

    let webhook = Webhook {
        decide,
        settings: config.settings.clone(),
        switches,
        networks,
        metrics,
        bodies: Budget::default(),
        places: Places::new(config.flags.max_requests),
        stage: stages,
    };
    let connections = Connections::new(usize::try_from(config.flags.max_connections).unwrap_or(usize::MAX));
    // A task of its own, because the runtime gives tasks more turns than the future that it was started with.
    let serving = tokio::spawn(listener::serve(listeners.webhook, tls, Arc::new(webhook), connections));
    let stopping = async {
        stop.await;
        tracing::info!(seconds = config.shutdown_delay.as_secs(), "stopping: not ready, still serving");
        stage.send_replace(Stage::Draining);
        sleep_until(Instant::now() + config.shutdown_delay).await;
        stage.send_replace(Stage::Closing);
    };
    let (served, ()) = tokio::join!(serving, stopping);
    if let Err(error) = served {
        tracing::error!(%error, "the accept loop ended before its time");
    }
    tasks.shutdown().await;
    tracing::info!("stopped");
    Ok(())
}

/// Ready with the first list of networks; after the time limit also without, since live look-ups answer rightly.
async fn settle(mut synced: watch::Receiver<bool>, settled: watch::Sender<bool>, limit: Duration) {
    match timeout(limit, synced.wait_for(|done| *done)).await {
        Ok(_) => tracing::info!("network-attachment-definitions are listed"),
        Err(_) => tracing::warn!(
            "network-attachment-definitions could not be listed in time; each is looked up live"
        ),
    }
    settled.send_replace(true);
    // The receiver's end lives as long as the probes do.
    settled.closed().await;
}

async fn certificates(
    config: &Config,
    cluster: &Cluster,
    pace: Pace,
    installer: Installer,
    tasks: &mut JoinSet<()>,
) -> Result<(), StartError> {
    let flags = &config.flags;
    if flags.self_managed_certificates {
        let manager = Manager {
            cluster: cluster.clone(),
            namespace: flags.namespace.clone(),
            secret: flags.secret_name.clone(),
            service: flags.service_name.clone(),
            webhook: flags.webhook_configuration.clone(),
            lifetimes: pace.lifetimes,
            look: pace.look,
            installer,
        };
        tasks.spawn(Arc::new(manager).run());
        return Ok(());
    }
    let files = Files {
        chain: flags.tls_cert_file.clone(),
        key: flags.tls_private_key_file.clone(),
        client_ca: if flags.insecure { Vec::new() } else { flags.client_ca.clone() },
    };
    let material = files.read().await.map_err(StartError::Certificate)?;
    installer.install(&material).map_err(StartError::Certificate)?;
    tasks.spawn(files.follow(installer, material, pace.files));
    Ok(())
}
