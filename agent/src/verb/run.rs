//! `run`: the daemon. Now it serves pools; it changes nothing on the node.

use std::path::Path;
use std::sync::{Arc, Mutex};

use portwright_device_plugin::metrics::Metrics;
use portwright_device_plugin::{Context, Paths, Plugin, Settings};
use portwright_host::lock::WriterLock;
use portwright_host::root::Root;
use portwright_host::run::HostError;
use prometheus_client::registry::Registry;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::observe::observer;
use crate::cli::Global;
use crate::error::CliError;
use crate::output::Exit;
use crate::pools::{PoolSources, PoolsError, RunArgs, Wanted, held};
use crate::reconcile::{Reconciler, check_names, warn};
use crate::serve::http::{self, Shown};
use crate::serve::log;
use crate::serve::wake::{self, Wakes};

/// Threads of the runtime: the work is small, and memory counts.
const THREADS: usize = 2;

/// Runs the verb until SIGINT or SIGTERM.
pub fn run(global: &Global, arguments: &RunArgs) -> Result<Exit, CliError> {
    for (flag, given) in [("--policy", !arguments.policy.is_empty()), ("--kube", arguments.kube)] {
        if given {
            return Err(PoolsError::NotThereYet { flag }.into());
        }
    }
    let wanted = Wanted::read(&PoolSources {
        files: Vec::new(),
        device_plugin_config: arguments.device_plugin_config.clone(),
        resource_prefix: arguments.resource_prefix.clone(),
    })?;
    let kubelet = Paths { folder: held::kubelet_dir(global) };
    check_names(&wanted, &kubelet)?;
    log::begin(&arguments.log)?;
    warn(&wanted);
    let root = Root::new(&global.root);
    // Whoever hands devices out must know that nobody changes them meanwhile.
    let lock = if global.root == Path::new("/") {
        let taken = WriterLock::take(&root).map_err(|source| HostError::Lock { source });
        Some(taken.map_err(CliError::of_host)?)
    } else {
        None
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let runtime =
        runtime.map_err(|source| PoolsError::System { what: "start a runtime".to_owned(), source })?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        stop_on_signals(&stop)?;
        serve(global, arguments, wanted, &stop).await
    })?;
    drop(lock);
    Ok(Exit::Ok)
}

/// SIGHUP ends it too, as it does upstream; a changed configuration is noticed without a signal.
fn stop_on_signals(stop: &CancellationToken) -> Result<(), CliError> {
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::quit(), SignalKind::hangup()] {
        let mut signal = signal(kind).map_err(|source| CliError::Signals { source })?;
        let stop = stop.clone();
        tokio::spawn(async move {
            signal.recv().await;
            stop.cancel();
        });
    }
    Ok(())
}

/// Serves pools until stopped.
pub async fn serve(
    global: &Global,
    arguments: &RunArgs,
    wanted: Wanted,
    stop: &CancellationToken,
) -> Result<(), CliError> {
    let kubelet = Paths { folder: held::kubelet_dir(global) };
    let root = Root::new(&global.root);
    let metrics = Metrics::default();
    let mut registry = Registry::with_prefix("portwright");
    metrics.register(&mut registry);
    let settings = Settings {
        kubelet_dir: kubelet.folder.clone(),
        registration: arguments.registration.into(),
        use_cdi: arguments.use_cdi,
    };
    let plugin = Plugin::start(Context::new(root.clone(), settings, metrics));
    let trouble = Mutex::new(Some("the node was not looked at yet".to_owned()));
    let shown = Arc::new(Shown { registry, connections: plugin.connections(), trouble });
    let address = http::serve(arguments.listen, Arc::clone(&shown), stop.clone()).await;
    let what = format!("listen on {}", arguments.listen);
    let address = address.map_err(|source| PoolsError::System { what, source })?;
    tracing::info!(%address, "metrics and health are served");
    let wakes: Arc<Wakes> = Arc::default();
    wake::devices(&root, Arc::clone(&wakes), stop.clone())?;
    let config = arguments.device_plugin_config.clone().filter(|path| path.as_os_str() != "-");
    if let Some(path) = &config {
        wake::config(path, Arc::clone(&wakes), stop.clone());
    }
    let reconciler =
        Reconciler { observer: observer(global), wanted, config, kubelet, plugin, shown, seen: None };
    reconciler.run(&wakes, stop.clone()).await;
    Ok(())
}
