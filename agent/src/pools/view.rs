//! Pools as `portwright pools` prints them.

use portwright_core::pools::explain::{Explanation, PoolView, RuleView};
use portwright_core::pools::{Health, Pool, PoolDevice, Pools};
use serde::Serialize;

use crate::text::table::table;

/// All pools.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolsDocument {
    /// Each pool.
    pub pools: Vec<PoolDocument>,
    /// What is odd about the configuration.
    pub warnings: Vec<String>,
}

/// One pool.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolDocument {
    /// `<prefix>/<name>`.
    pub resource: String,
    /// Where it is asked for.
    pub origin: String,
    /// Its devices.
    pub devices: Vec<DeviceDocument>,
}

/// One device.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceDocument {
    /// Id towards kubelet.
    pub id: String,
    /// Whether it can be used.
    pub healthy: bool,
    /// Why not.
    pub why: Option<String>,
    /// NUMA node, if it is told.
    pub numa_node: Option<u16>,
    /// Bound driver.
    pub driver: Option<String>,
    /// Address of its PF.
    pub pf: Option<String>,
    /// VF or SF number.
    pub index: Option<u32>,
    /// Netdev in the host's namespace.
    pub netdev: Option<String>,
}

/// Pools as data.
pub fn document(pools: &Pools, warnings: &[String]) -> PoolsDocument {
    let pool = |pool: &Pool| PoolDocument {
        resource: pool.spec.resource.to_string(),
        origin: pool.spec.origin.clone(),
        devices: pool.devices.iter().map(|device| device_document(pool, device)).collect(),
    };
    PoolsDocument { pools: pools.pools.iter().map(pool).collect(), warnings: warnings.to_vec() }
}

fn device_document(pool: &Pool, device: &PoolDevice) -> DeviceDocument {
    let candidate = &device.candidate;
    let why = match &device.health {
        Health::Healthy => None,
        Health::Unhealthy { why } | Health::Withheld { why } => Some(why.clone()),
    };
    DeviceDocument {
        id: candidate.id.clone(),
        healthy: why.is_none(),
        why,
        numa_node: candidate.numa_node.filter(|_| !pool.spec.exclude_topology),
        driver: candidate.driver.clone(),
        pf: candidate.pf.map(|pf| pf.to_string()),
        index: candidate.index,
        netdev: candidate.netdev.clone(),
    }
}

/// Pools as text.
pub fn render(document: &PoolsDocument) -> String {
    let mut text = String::new();
    for pool in &document.pools {
        let healthy = pool.devices.iter().filter(|device| device.healthy).count();
        text.push_str(&format!(
            "{}  {} devices, {healthy} healthy  (from {})\n",
            pool.resource,
            pool.devices.len(),
            pool.origin
        ));
        let rows = pool.devices.iter().map(|device| {
            let number = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
            vec![
                format!("  {}", device.id),
                device.pf.clone().unwrap_or_default(),
                number(device.index),
                device.driver.clone().unwrap_or_default(),
                device.netdev.clone().unwrap_or_default(),
                number(device.numa_node.map(u32::from)),
                device.why.clone().unwrap_or_else(|| "healthy".to_owned()),
            ]
        });
        text.push_str(&table(&["  DEVICE", "PF", "NUMBER", "DRIVER", "NETDEV", "NUMA", "HEALTH"], rows));
    }
    for warning in &document.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    if text.is_empty() {
        text.push_str("no pools\n");
    }
    text
}

/// An explanation as text.
pub fn explanation(explanation: &Explanation) -> String {
    let mut text = match (&explanation.pool, &explanation.unhealthy) {
        (Some(pool), None) => format!("{} is in {pool}\n", explanation.device),
        (Some(pool), Some(why)) => format!("{} is in {pool}, unhealthy: {why}\n", explanation.device),
        (None, _) => format!("{} is in no pool\n", explanation.device),
    };
    for PoolView { pool, unfit, rules } in &explanation.pools {
        text.push_str(&format!("{pool}\n"));
        if let Some(why) = unfit {
            text.push_str(&format!("  cannot have it: {why}\n"));
        }
        for RuleView { rule, takes, condition, wanted, found } in rules {
            let absent = || "-".to_owned();
            let verdict = if *takes {
                let elsewhere = explanation.pool.as_ref().filter(|taken| *taken != pool);
                elsewhere.map_or_else(
                    || "takes it".to_owned(),
                    |other| format!("would take it, {other} comes first"),
                )
            } else {
                let wanted = wanted.clone().unwrap_or_else(absent);
                let found = found.clone().unwrap_or_else(absent);
                format!("refuses it: {} wants {wanted}, found {found}", condition.unwrap_or_default())
            };
            text.push_str(&format!("  {rule}  {verdict}\n"));
        }
    }
    text
}
