//! What the daemon tells of its node: when it looked last and why, then each policy, PF, pool, bridge and mirror in a line.

use portwright_api::NodeStateContent;
use portwright_api::state::{Condition, ConditionStatus, READY, ReportedStep, StepOutcome};

use super::table::table;

/// Steps that failed which are shown; `-o json` has more.
const FAILED: usize = 10;

/// The whole state.
pub fn render(content: &NodeStateContent) -> String {
    let mut text = heading(content);
    for part in [policies(content), pfs(content), pools(content), bridges(content), mirrors(content)] {
        section(&mut text, &part);
    }
    let waiting = content.plan.waiting.iter().map(|one| vec![one.object.clone(), one.for_.clone()]);
    section(&mut text, &table(&["WAITING", "FOR"], waiting));
    section(&mut text, &failed(content));
    let problems =
        content.problems.iter().map(|problem| vec![problem.object.clone(), problem.reason.clone()]);
    section(&mut text, &table(&["PROBLEM WITH", "REASON"], problems));
    let omitted = content.omitted.iter().map(|(field, count)| vec![field.clone(), count.to_string()]);
    section(&mut text, &table(&["NOT SHOWN", "COUNT"], omitted));
    text
}

fn section(text: &mut String, rows: &str) {
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(rows);
    }
}

fn heading(content: &NodeStateContent) -> String {
    let mut text = format!("node {}, portwright {}\n", content.node, content.agent_version);
    for condition in &content.conditions {
        let said = if condition.type_ == READY { ready(condition) } else { other(condition) };
        text.extend(said.map(|said| format!("{said}\n")));
    }
    if let Some(round) = &content.last_round {
        text.push_str(&format!("last round: {}, because of {}\n", round.at, round.causes.join(", ")));
    }
    if let Some(run) = &content.last_run {
        text.push_str(&format!(
            "last steps: {}, because of {}: {} done, {} failed, {} skipped\n",
            run.at,
            run.causes.join(", "),
            run.done,
            run.failed,
            run.skipped
        ));
    }
    let summary = &content.summary;
    text.push_str(&format!(
        "{} due{}, {} in the way, {} of {} VFs in use\n",
        if summary.pending == 1 { "1 step".to_owned() } else { format!("{} steps", summary.pending) },
        if summary.running { " and being carried out" } else { "" },
        summary.blocked,
        summary.vfs_in_use,
        summary.vfs
    ));
    text
}

fn ready(condition: &Condition) -> Option<String> {
    let word = match condition.status {
        ConditionStatus::True => "ready",
        ConditionStatus::False => "not ready",
        ConditionStatus::Unknown => "cannot tell",
    };
    Some(format!("{word}: {}: {}", condition.reason, condition.message))
}

/// The other conditions of the node are of interest when they do not hold.
fn other(condition: &Condition) -> Option<String> {
    (condition.status != ConditionStatus::True)
        .then(|| format!("{}: {}", condition.reason, condition.message))
}

/// Reason and, unless all is well, message of an object's `Ready`.
fn state(conditions: &[Condition]) -> [String; 2] {
    let Some(ready) = conditions.iter().find(|condition| condition.type_ == READY) else {
        return [String::new(), String::new()];
    };
    let good = ready.status == ConditionStatus::True && ready.reason != "Overridden";
    [ready.reason.clone(), if good { String::new() } else { ready.message.clone() }]
}

fn row<const CELLS: usize>(cells: [String; CELLS], conditions: &[Condition]) -> Vec<String> {
    cells.into_iter().chain(state(conditions)).collect()
}

fn policies(content: &NodeStateContent) -> String {
    let rows = content.policies.iter().map(|policy| {
        let generation = policy.observed_generation.map(|number| number.to_string()).unwrap_or_default();
        let counts = [policy.pfs, policy.bridges, policy.mirrors].map(|count| count.to_string());
        let [pfs, bridges, mirrors] = counts;
        row([policy.name.clone(), generation, pfs, bridges, mirrors], &policy.conditions)
    });
    table(&["POLICY", "GENERATION", "PFS", "BRIDGES", "MIRRORS", "STATE", "WHY"], rows)
}

fn pfs(content: &NodeStateContent) -> String {
    let rows = content.pfs.iter().map(|pf| {
        row(
            [
                pf.address.clone(),
                pf.name.clone().unwrap_or_default(),
                pf.driver.clone().unwrap_or_default(),
                format!("{} of {}", pf.num_vfs, pf.total_vfs),
                pf.in_use.to_string(),
                pf.policy.clone().unwrap_or_default(),
            ],
            &pf.conditions,
        )
    });
    table(&["PF", "NAME", "DRIVER", "VFS", "IN USE", "POLICY", "STATE", "WHY"], rows)
}

fn pools(content: &NodeStateContent) -> String {
    let rows = content.pools.iter().map(|pool| {
        let [devices, healthy, allocated] =
            [pool.devices, pool.healthy, pool.allocated].map(|count| count.to_string());
        row([pool.resource.clone(), devices, healthy, allocated], &pool.conditions)
    });
    table(&["POOL", "DEVICES", "HEALTHY", "ALLOCATED", "STATE", "WHY"], rows)
}

fn bridges(content: &NodeStateContent) -> String {
    let rows = content.bridges.iter().map(|bridge| {
        let ports = if bridge.exists { bridge.ports.to_string() } else { "not there".to_owned() };
        let policy = bridge.policy.clone().unwrap_or_default();
        let resource = bridge.resource.clone().unwrap_or_default();
        row([bridge.name.clone(), ports, resource, policy], &bridge.conditions)
    });
    table(&["BRIDGE", "PORTS", "RESOURCE", "POLICY", "STATE", "WHY"], rows)
}

fn mirrors(content: &NodeStateContent) -> String {
    let all = content.bridges.iter().flat_map(|bridge| bridge.mirrors.iter().map(move |one| (bridge, one)));
    let rows = all.map(|(bridge, mirror)| {
        let policy = mirror.policy.clone().unwrap_or_default();
        row(
            [mirror.name.clone(), bridge.name.clone(), mirror.sources.to_string(), policy],
            &mirror.conditions,
        )
    });
    table(&["MIRROR", "BRIDGE", "SOURCES", "POLICY", "STATE", "WHY"], rows)
}

/// Steps of the last run that failed.
fn failed(content: &NodeStateContent) -> String {
    let steps = content.last_run.iter().flat_map(|run| &run.steps);
    let failed: Vec<&ReportedStep> = steps.filter(|step| step.outcome == StepOutcome::Failed).collect();
    let row = |step: &&ReportedStep| {
        vec![step.object.clone(), step.action.clone(), step.why.clone().unwrap_or_default()]
    };
    let mut text = table(&["FAILED", "STEP", "WHY"], failed.iter().take(FAILED).map(row));
    match failed.len().saturating_sub(FAILED) {
        0 => {}
        more => text.push_str(&format!("and {more} more; `-o json` has them\n")),
    }
    text
}
