//! `ovs ping`: whether ovsdb-server and ovs-vswitchd are alive, and how fast they answer.

use std::time::Duration;

use portwright_core::drive::chain;
use portwright_ovs::liveness::Liveness;
use serde_json::{Value, json};

use crate::cli::{Global, OvsVerb};
use crate::error::CliError;
use crate::node::{Keeping, OVSDB_WITHIN, SwitchPart, ovsdb};
use crate::output::{self, Exit};

/// Runs the verb.
pub fn run(global: &Global, verb: &OvsVerb) -> Result<Exit, CliError> {
    match verb {
        OvsVerb::Ping { timeout } => ping(global, *timeout),
    }
}

fn ping(global: &Global, timeout: Option<u64>) -> Result<Exit, CliError> {
    let within = timeout.map_or(OVSDB_WITHIN, Duration::from_secs);
    let part = SwitchPart::new(ovsdb(global), within, &global.state_dir, Keeping::No);
    let mut part = part.map_err(CliError::of_ovs)?;
    let Some(asked) = part.ping() else { return Ok(Exit::CouldNotTell) };
    let alive = asked.map_err(CliError::of_ovs)?;
    output::print(global.output, &as_json(&alive), || as_text(&alive))?;
    Ok(if alive.is_alive() { Exit::Ok } else { Exit::Differs })
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn as_json(alive: &Liveness) -> Value {
    let server = match &alive.ovsdb {
        Ok(server) => json!({"alive": true, "roundTripMicros": micros(server.round_trip),
            "schemaVersion": server.schema_version, "why": null}),
        Err(error) => {
            json!({"alive": false, "roundTripMicros": null, "schemaVersion": null, "why": chain(error)})
        }
    };
    let daemon = match &alive.vswitchd {
        Ok(daemon) => json!({"alive": true, "roundTripMicros": micros(daemon.round_trip),
            "version": daemon.version, "why": null}),
        Err(error) => json!({"alive": false, "roundTripMicros": null, "version": null, "why": chain(error)}),
    };
    let behind = alive.backlog.map(|backlog| backlog.next_cfg.saturating_sub(backlog.cur_cfg));
    json!({"ovsdbServer": server, "vswitchd": daemon, "configurationsBehind": behind})
}

fn as_text(alive: &Liveness) -> String {
    let mut text = match &alive.ovsdb {
        Ok(server) => {
            format!(
                "ovsdb-server   answers in {} µs, schema {}\n",
                micros(server.round_trip),
                server.schema_version
            )
        }
        Err(error) => format!("ovsdb-server   does not answer: {}\n", chain(error)),
    };
    text.push_str(&match &alive.vswitchd {
        Ok(daemon) => {
            format!("ovs-vswitchd   answers in {} µs, {}\n", micros(daemon.round_trip), daemon.version)
        }
        Err(error) => format!("ovs-vswitchd   does not answer: {}\n", chain(error)),
    });
    if let Some(behind) = alive.backlog.map(|backlog| backlog.next_cfg.saturating_sub(backlog.cur_cfg))
        && behind > 0
    {
        text.push_str(&format!("{behind} configurations are asked for and not carried out\n"));
    }
    text
}
