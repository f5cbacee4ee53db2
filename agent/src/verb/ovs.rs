//! `ovs ping`: whether ovsdb-server and ovs-vswitchd are alive, and how fast they answer. `ovs probe`: whether mirrors work.

use std::time::Duration;

use portwright_core::drive::chain;
use portwright_ovs::liveness::Liveness;
use portwright_ovs::node::Probed;
use portwright_ovs::vswitch::MirrorHealth;
use serde_json::{Value, json};

use crate::cli::{Global, OvsVerb};
use crate::error::CliError;
use crate::node::{Keeping, OVSDB_WITHIN, SwitchPart, ovsdb};
use crate::output::{self, Exit};
use crate::text::table::table;

/// Runs the verb.
pub fn run(global: &Global, verb: &OvsVerb) -> Result<Exit, CliError> {
    match verb {
        OvsVerb::Ping { timeout } => ping(global, *timeout),
        OvsVerb::Probe { timeout } => probe(global, *timeout),
    }
}

fn part(global: &Global, timeout: Option<u64>) -> Result<SwitchPart, CliError> {
    let within = timeout.map_or(OVSDB_WITHIN, Duration::from_secs);
    SwitchPart::new(ovsdb(global), within, &global.state_dir, Keeping::No).map_err(CliError::of_ovs)
}

fn probe(global: &Global, timeout: Option<u64>) -> Result<Exit, CliError> {
    let mut part = part(global, timeout)?;
    let Some(asked) = part.probe() else { return Ok(Exit::CouldNotTell) };
    let probed = asked.map_err(CliError::of_ovs)?;
    let json: Vec<Value> = probed.iter().map(probed_json).collect();
    output::print(global.output, &json, || probed_text(&probed))?;
    let works = |one: &Probed| matches!(one.health, Ok(MirrorHealth::Active { .. }));
    Ok(if probed.iter().all(works) { Exit::Ok } else { Exit::Differs })
}

fn probed_json(one: &Probed) -> Value {
    let object = one.object.to_string();
    match &one.health {
        Ok(MirrorHealth::Active { tx_packets, tx_bytes }) => {
            json!({"object": object, "works": true, "copied": tx_packets, "copiedBytes": tx_bytes, "why": null})
        }
        Ok(MirrorHealth::Inactive { after }) => {
            json!({"object": object, "works": false, "copied": null, "copiedBytes": null, "why": inactive(*after)})
        }
        Err(error) => {
            json!({"object": object, "works": null, "copied": null, "copiedBytes": null, "why": chain(error)})
        }
    }
}

fn inactive(after: Duration) -> String {
    format!("ovs-vswitchd counted nothing for it in {} s", after.as_secs())
}

fn probed_text(probed: &[Probed]) -> String {
    let rows = probed.iter().map(|one| {
        let (state, copied) = match &one.health {
            Ok(MirrorHealth::Active { tx_packets, .. }) => ("works".to_owned(), tx_packets.to_string()),
            Ok(MirrorHealth::Inactive { after }) => {
                (format!("does not work: {}", inactive(*after)), String::new())
            }
            Err(error) => (format!("could not be told: {}", chain(error)), String::new()),
        };
        vec![one.object.to_string(), copied, state]
    });
    let text = table(&["MIRROR", "COPIED", "STATE"], rows);
    if text.is_empty() { "no mirror of ours\n".to_owned() } else { text }
}

fn ping(global: &Global, timeout: Option<u64>) -> Result<Exit, CliError> {
    let mut part = part(global, timeout)?;
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
