//! Logs go to stderr: text on a terminal, JSON otherwise.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::pools::PoolsError;

/// A level alone is about what this program says itself: libraries say a hundred lines of detail about every call. Who wants
/// those names them (`h2=debug`).
fn ours(filter: &str) -> String {
    match filter.parse::<LevelFilter>() {
        // What happens to each request is said by who made it.
        Ok(level) => {
            let others = level.min(LevelFilter::WARN);
            format!("{others},portwright={level},kube_client=off,kube_runtime=off")
        }
        Err(_) => filter.to_owned(),
    }
}

/// Begins to log what the filter lets through: a level, or `target=level` with commas between them.
pub fn begin(filter: &str) -> Result<(), PoolsError> {
    let parsed = ours(filter).parse::<Targets>();
    let parsed =
        parsed.map_err(|error| PoolsError::Log { filter: filter.to_owned(), why: error.to_string() })?;
    let registry = tracing_subscriber::registry().with(parsed);
    let begun = if stderr().is_terminal() {
        registry.with(layer().with_writer(stderr)).try_init()
    } else {
        registry.with(layer().json().with_writer(stderr)).try_init()
    };
    // A logger that is there already (in a test) is as good.
    begun.or(Ok(()))
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::filter::{LevelFilter, Targets};

    use super::ours;

    #[test]
    fn a_level_is_about_our_own_lines() {
        for (filter, own, foreign) in [
            ("info", LevelFilter::INFO, LevelFilter::WARN),
            ("debug", LevelFilter::DEBUG, LevelFilter::WARN),
            ("error", LevelFilter::ERROR, LevelFilter::ERROR),
            ("off", LevelFilter::OFF, LevelFilter::OFF),
            ("warn,h2=trace", LevelFilter::WARN, LevelFilter::TRACE),
        ] {
            let targets: Targets = ours(filter).parse().unwrap();
            let enabled = |target: &str, level: LevelFilter| {
                level.into_level().is_none_or(|level| targets.would_enable(target, &level))
            };
            let named = filter.parse::<LevelFilter>().is_err();
            let errors = enabled("kube_client::client::builder", LevelFilter::ERROR);
            assert_eq!(errors && filter != "off", named, "{filter}");
            for (target, most) in [("portwright_device_plugin::endpoint", own), ("h2::codec", foreign)] {
                assert!(enabled(target, most), "{filter}: {target} says less than {most}");
                let more = match most {
                    LevelFilter::OFF => LevelFilter::ERROR,
                    LevelFilter::ERROR => LevelFilter::WARN,
                    LevelFilter::WARN => LevelFilter::INFO,
                    LevelFilter::INFO => LevelFilter::DEBUG,
                    _ => LevelFilter::TRACE,
                };
                assert!(more == most || !enabled(target, more), "{filter}: {target} says more than {most}");
            }
        }
    }
}
