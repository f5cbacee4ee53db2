//! `run`: the daemon. With policies it makes the node what they want; without, it serves pools and changes nothing.

use std::path::Path;
use std::sync::{Arc, Mutex};

use portwright_core::Profiles;
use portwright_device_plugin::Paths;
use portwright_host::child::Launcher;
use portwright_host::lock::WriterLock;
use portwright_host::node::HostNode;
use portwright_host::root::Root;
use portwright_host::run::HostError;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::observe::observer;
use super::once;
use crate::cli::Global;
use crate::daemon::files;
use crate::daemon::hands::Looking;
use crate::daemon::kube::Cluster;
use crate::daemon::memory::Memory;
use crate::daemon::socket::SOCKET;
use crate::daemon::start::{Base, Outfit};
use crate::daemon::turn;
use crate::error::CliError;
use crate::input;
use crate::node::{Keeping, OVSDB_WITHIN, SwitchPart, WholeNode, ovsdb, seen_by};
use crate::output::{self, Exit};
use crate::pools::args::Switch;
use crate::pools::{PoolSource, PoolSources, PoolsError, RunArgs, Wanted, held};
use crate::serve::log;

/// Threads of the runtime: the work is small, and memory counts.
const THREADS: usize = 2;

/// Runs the verb until SIGINT or SIGTERM.
pub fn run(global: &Global, arguments: &RunArgs) -> Result<Exit, CliError> {
    let acts = arguments.kube || !arguments.policy.is_empty() || arguments.once;
    if acts && global.root != Path::new("/") {
        let verb = match (arguments.kube, arguments.once) {
            (true, _) => "run --kube",
            (false, true) => "run --once",
            (false, false) => "run --policy",
        };
        return Err(CliError::Root { verb, root: global.root.clone() });
    }
    if arguments.once {
        return once::run(global, arguments);
    }
    // What is wrong with files is said before anything of the node is touched.
    let wish = match arguments.policy.as_slice() {
        [] => None,
        paths => Some(files::read(paths)?),
    };
    let wanted = if acts && arguments.device_plugin_config.is_none() {
        Wanted { prefix: checked_prefix(arguments)?, ..Wanted::default() }
    } else {
        Wanted::read(&PoolSources {
            files: Vec::new(),
            device_plugin_config: arguments.device_plugin_config.clone(),
            resource_prefix: arguments.resource_prefix.clone(),
        })?
    };
    log::begin(&arguments.log)?;
    let switch = SwitchPart::new(ovsdb(global), OVSDB_WITHIN, &global.state_dir, Keeping::Yes);
    // It lives longer than the runtime, in which it must not end.
    let switch = Arc::new(Mutex::new(switch.map_err(CliError::of_ovs)?));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let runtime =
        runtime.map_err(|source| PoolsError::System { what: "start a runtime".to_owned(), source })?;
    let stop = CancellationToken::new();
    runtime.block_on(async { stop_on_signals(&stop) })?;
    if !acts {
        // Whoever hands devices out must know that nobody changes them meanwhile.
        let lock = global.root.as_path() == Path::new("/");
        let lock = lock.then(|| WriterLock::take(&Root::new(&global.root))).transpose();
        let _lock = lock.map_err(|source| CliError::of_host(HostError::Lock { source }))?;
        runtime.block_on(serve_pools(global, arguments, wanted, Some(&switch), &stop))?;
        return Ok(Exit::Ok);
    }
    let profiles = input::profiles(global.profiles.as_deref())?;
    let root = Root::new(&global.root);
    let host = HostNode::open(root, &global.state_dir, profiles.clone(), Launcher::default());
    let host = host.map_err(CliError::of_host)?;
    let outfit = outfit(global, arguments, wanted, profiles, Some(&switch))?;
    let outfit = Outfit { memory: Memory::read(&global.state_dir), ..outfit };
    runtime.block_on(async {
        match wish {
            Some(wish) => {
                let wish = Some(files::follow(arguments.policy.clone(), wish, stop.clone()));
                act(Outfit { wish, ..outfit }, host, &switch, None, &stop).await
            }
            None => {
                let (name, labels) = (arguments.node_name.as_deref(), arguments.node_labels.clone());
                let cluster = Cluster::follow(name, labels, &stop).await;
                let cluster = cluster.map_err(|source| CliError::Cluster { source: Box::new(source) })?;
                let turn = Some(cluster.turns(&arguments.namespace, turn::Settings::default()));
                let outfit = Outfit { wish: Some(cluster.wish()), turn, ..outfit };
                act(outfit, host, &switch, Some(cluster), &stop).await
            }
        }
    })?;
    Ok(Exit::Ok)
}

/// Makes the node what policies want, until stopped.
async fn act(
    outfit: Outfit,
    host: HostNode,
    switch: &Arc<Mutex<SwitchPart>>,
    cluster: Option<Cluster>,
    stop: &CancellationToken,
) -> Result<(), CliError> {
    let base = Base::new(outfit);
    if let Some(cluster) = cluster {
        cluster.tell(&base.facts(), stop);
    }
    let supplement = base.supplement();
    let node = match base.eye() {
        Some(eye) => WholeNode::with_eye(host, Arc::clone(switch), eye, supplement),
        None => WholeNode::with_shared(host, Arc::clone(switch), supplement),
    };
    base.run(node, stop).await
}

/// Serves pools until stopped.
///
/// # Errors
/// The configuration cannot be served, or nobody can listen.
pub async fn serve(
    global: &Global,
    arguments: &RunArgs,
    wanted: Wanted,
    stop: &CancellationToken,
) -> Result<(), CliError> {
    serve_pools(global, arguments, wanted, None, stop).await
}

async fn serve_pools(
    global: &Global,
    arguments: &RunArgs,
    wanted: Wanted,
    switch: Option<&Arc<Mutex<SwitchPart>>>,
    stop: &CancellationToken,
) -> Result<(), CliError> {
    let base = Base::new(outfit(global, arguments, wanted, Profiles::default(), switch)?);
    let mut supplement = base.supplement();
    if let (Some(eye), Some(switch)) = (base.eye(), switch) {
        supplement = seen_by(eye, switch, supplement);
    }
    base.run(Looking::new(observer(global), supplement), stop).await
}

fn outfit(
    global: &Global,
    arguments: &RunArgs,
    wanted: Wanted,
    profiles: Profiles,
    switch: Option<&Arc<Mutex<SwitchPart>>>,
) -> Result<Outfit, CliError> {
    let kubelet = Paths { folder: held::kubelet_dir(global) };
    let root = Root::new(&global.root);
    let config = arguments.device_plugin_config.clone().filter(|path| path.as_os_str() != "-");
    let pools = PoolSource::new(wanted, config, &kubelet)?;
    pools.warn();
    Ok(Outfit {
        kubelet,
        registration: arguments.registration.into(),
        use_cdi: arguments.use_cdi,
        listen: arguments.listen,
        pools,
        profiles,
        memory: Memory::none(),
        wish: None,
        turn: None,
        observer: Some(observer(global)),
        switch: switch.cloned(),
        vf_metrics: arguments.vf_metrics == Switch::On,
        socket: root.is_host().then(|| root.join(SOCKET)),
        node: arguments.node_name.clone(),
        root,
    })
}

fn checked_prefix(arguments: &RunArgs) -> Result<Option<String>, CliError> {
    let prefix = arguments.resource_prefix.clone();
    if let Some(prefix) = &prefix {
        let checked = portwright_core::pools::config::check_prefix(prefix);
        checked.map_err(|what| PoolsError::Prefix { what })?;
    }
    Ok(prefix)
}

/// The first signal lets the step that runs end; the second ends the program at once. SIGHUP ends it too, as it does
/// upstream; a changed configuration is noticed without a signal.
fn stop_on_signals(stop: &CancellationToken) -> Result<(), CliError> {
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::quit(), SignalKind::hangup()] {
        let signal = signal(kind).map_err(|source| CliError::Signals { source })?;
        tokio::spawn(stop_in_two_stages(signal, stop.clone()));
    }
    Ok(())
}

async fn stop_in_two_stages(mut signal: Signal, stop: CancellationToken) {
    while signal.recv().await.is_some() {
        if stop.is_cancelled() {
            output::stderr("stopped at once; a write that the kernel has begun goes on\n");
            std::process::exit(1);
        }
        tracing::info!(
            "stopping; a step that runs is finished first, and a second signal ends the process at once"
        );
        stop.cancel();
    }
}
