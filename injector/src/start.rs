//! From `main` to a running injector: arguments, logs, API server, signals, exit code.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use clap::error::ErrorKind;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

use crate::app::{self, Listeners, Pace, StartError};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::flags::{Flags, LogFormat, normalise};
use crate::mutate::inject;
use crate::words::chain;

/// Runs the program: 0 after a clean stop, 2 for a command line or surroundings that it cannot start with.
///
/// `arguments` are the process's, the program's name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let flags = match Flags::try_parse_from(normalise(arguments)) {
        Ok(flags) => flags,
        Err(error) => {
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // With stdout or stderr gone there is nobody left to tell.
            error.print().ok();
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(2) };
        }
    };
    start_logs(&flags);
    // A panic is answered with 500; where it came from belongs into the log, what it was about may be a pod's.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panic");
    }));
    match Config::new(flags).map_err(|error| chain(&error)).and_then(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            ExitCode::from(2)
        }
    }
}

fn serve(config: Config) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(run(config)).map_err(|error| chain(&error))
}

async fn run(config: Config) -> Result<(), StartError> {
    for name in config.flags.without_meaning() {
        tracing::warn!("--{name} has no meaning here and is ignored");
    }
    for name in &config.tls.left_out {
        tracing::warn!(name, "not available in this TLS library and left out");
    }
    if !config.flags.insecure && config.flags.client_ca.is_empty() {
        tracing::info!("clients are not asked for certificates (--client-ca is not given)");
    }
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signal)?;
    let kube_config = kube::Config::infer().await.map_err(|error| StartError::Client(error.into()))?;
    let cluster = Cluster::new(kube_config).map_err(|error| StartError::Client(error.into()))?;
    let listeners = Listeners::bind(&config)?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    app::run(config, cluster, listeners, Pace::default(), Arc::new(inject), stop).await
}

/// What is logged unless `RUST_LOG` says otherwise. Of libraries only what nobody else says: of each failed request to the
/// API server our own lines tell once, with what it means.
fn default_filter(v: u8) -> String {
    let level = match v {
        0 => "info",
        1..=4 => "debug",
        _ => "trace",
    };
    format!(
        "warn,portwright_injector={level},kube_client=off,kube_runtime=off,hyper=error,hyper_util=error,tower=error"
    )
}

/// Text on a terminal, JSON otherwise. `RUST_LOG` overrides the level.
fn start_logs(flags: &Flags) {
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|text| !text.is_empty());
    let filter = EnvFilter::builder().parse_lossy(wanted.unwrap_or_else(|| default_filter(flags.v)));
    let json = match flags.log_format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let layer = if json {
        fmt::layer().json().with_writer(std::io::stderr).boxed()
    } else {
        fmt::layer().with_writer(std::io::stderr).boxed()
    };
    tracing_subscriber::registry().with(filter).with(layer).init();
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::EnvFilter;

    use super::default_filter;

    #[test]
    fn the_verbose_levels_are_about_the_injector() {
        for (v, level) in [(0, "info"), (3, "debug"), (10, "trace")] {
            let filter = EnvFilter::builder().parse(default_filter(v)).unwrap().to_string();
            assert!(filter.contains(&format!("portwright_injector={level}")), "{filter}");
            assert!(filter.contains("kube_client=off"), "{filter}");
        }
    }
}
