//! Node selectors of networks, joined with the pod's own.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Add, Refusal};
use crate::nad::Network;
use crate::pod::Pod;
use crate::selection::NetworkName;

/// Adds what the pod's selector lacks of the networks' labels.
pub(super) fn add<'a>(
    pod: &Pod,
    networks: impl Iterator<Item = (&'a NetworkName, &'a Network)>,
    patch: &mut Vec<Add>,
) -> Result<(), Refusal> {
    let own = pod.spec.node_selector.as_ref();
    let mut wanted: BTreeMap<&str, (&str, String)> = BTreeMap::new();
    for (key, value) in own.into_iter().flatten() {
        wanted.insert(key, (value.0.as_str(), "the pod's nodeSelector".to_owned()));
    }
    let mut missing: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, network) in networks {
        for (key, value) in &network.selector {
            match wanted.get(&**key) {
                Some((other, by)) if *other != &**value => {
                    return Err(Refusal::SelectorConflict {
                        label: key.to_string(),
                        first: (*other).to_owned(),
                        first_by: by.clone(),
                        second: value.to_string(),
                        second_by: format!("network {name}"),
                    });
                }
                Some(_) => {}
                None => {
                    wanted.insert(key, (value, format!("network {name}")));
                    missing.insert(key, value);
                }
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    if own.is_none() {
        let all: Map<String, Value> =
            missing.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        patch.push(Add::at(&["spec", "nodeSelector"], all.into()));
    } else {
        for (key, value) in missing {
            patch.push(Add::at(&["spec", "nodeSelector", key], value.into()));
        }
    }
    Ok(())
}
