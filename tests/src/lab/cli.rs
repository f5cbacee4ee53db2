//! Running the real binary, as an operator would.

use super::sys;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::time::Duration;

/// No verb may take longer; emulation included.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);
/// Where the policy of the moment lies.
const POLICY: &str = "/tmp/policy.yaml";

/// What `plan -o json` said.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Exit code.
    pub(crate) code: Option<i32>,
    /// `{object, action, from, to, disruption}` each.
    pub(crate) steps: Vec<Value>,
    /// `{object, reason, message, hint}` each.
    pub(crate) blocked: Vec<Value>,
    /// The whole run, for messages.
    pub(crate) output: sys::Output,
}

impl std::fmt::Display for Plan {
    /// What a failed test shows: one line per step and obstacle, not the whole JSON.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "$ {}\n[exit {:?}]", self.output.shown, self.code)?;
        for step in &self.steps {
            let value = |name| step.get(name).cloned().unwrap_or_default();
            let (from, to) = (value("from"), value("to"));
            writeln!(f, "{} {}: {from} -> {to}", field(step, "object"), field(step, "action"))?;
        }
        for item in &self.blocked {
            let (object, reason) = (field(item, "object"), field(item, "reason"));
            writeln!(
                f,
                "{object} blocked {reason}: {}; hint: {}",
                field(item, "message"),
                field(item, "hint")
            )?;
        }
        write!(f, "{}", self.output.stderr)
    }
}

impl Plan {
    /// `object action` of each step.
    pub(crate) fn summary(&self) -> Vec<String> {
        self.steps.iter().map(|step| format!("{} {}", field(step, "object"), field(step, "action"))).collect()
    }

    /// `object reason` of each obstacle.
    pub(crate) fn reasons(&self) -> Vec<String> {
        self.blocked
            .iter()
            .map(|item| format!("{} {}", field(item, "object"), field(item, "reason")))
            .collect()
    }

    /// The obstacle of this reason, or an error that shows what there is.
    pub(crate) fn blocked_by(&self, reason: &str) -> Result<&Value> {
        let found = self.blocked.iter().find(|item| field(item, "reason") == reason);
        found.with_context(|| format!("no obstacle {reason}:\n{self}"))
    }
}

/// A text field of a JSON object; empty if it is not there.
pub(crate) fn field<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Runs `portwright` with these arguments.
pub(crate) fn portwright(args: &[&str]) -> Result<sys::Output> {
    let output = sys::run(sys::command("portwright", args), DEADLINE)?;
    ensure!(!output.stopped, "portwright hangs:\n{output}");
    Ok(output)
}

/// Starts `portwright apply` with a policy and returns at once.
pub(crate) fn start_apply(policy: &str) -> Result<sys::Running> {
    sys::write(POLICY, policy)?;
    sys::Running::start(sys::command("portwright", &["apply", "-f", POLICY]))
}

/// Runs `portwright apply` with a policy.
pub(crate) fn apply(policy: &str) -> Result<sys::Output> {
    sys::write(POLICY, policy)?;
    portwright(&["apply", "-f", POLICY])
}

/// Applies a policy and expects that the node is as wanted afterwards: exit 0 now, and an empty plan then.
pub(crate) fn converge(policy: &str) -> Result<sys::Output> {
    let output = apply(policy)?;
    ensure!(output.code == Some(0), "apply did not converge:\n{output}");
    expect_in_sync(policy)?;
    Ok(output)
}

/// Runs `portwright plan -o json` with a policy.
pub(crate) fn plan(policy: &str) -> Result<Plan> {
    sys::write(POLICY, policy)?;
    let output = portwright(&["plan", "-f", POLICY, "-o", "json"])?;
    ensure!(matches!(output.code, Some(0 | 1)), "plan could not tell:\n{output}");
    let value: Value = serde_json::from_str(&output.stdout).with_context(|| format!("no JSON:\n{output}"))?;
    let list = |name: &str| value.get(name).and_then(Value::as_array).cloned();
    let steps = list("steps").with_context(|| format!("no steps:\n{output}"))?;
    let blocked = list("blocked").with_context(|| format!("no blocked:\n{output}"))?;
    Ok(Plan { code: output.code, steps, blocked, output })
}

/// A plan with nothing to do and nothing in the way, and exit code 0.
pub(crate) fn expect_in_sync(policy: &str) -> Result<()> {
    let plan = plan(policy)?;
    let empty = plan.steps.is_empty() && plan.blocked.is_empty() && plan.code == Some(0);
    ensure!(empty, "the plan should be empty:\n{plan}");
    Ok(())
}

/// Runs `portwright observe -o json`.
pub(crate) fn observe() -> Result<Value> {
    let output = portwright(&["observe", "-o", "json"])?;
    ensure!(output.code == Some(0), "observe failed:\n{output}");
    serde_json::from_str(&output.stdout).with_context(|| format!("no JSON:\n{output}"))
}

/// The observation of one PF.
pub(crate) fn observed_pf(observed: &Value, address: &str) -> Result<Value> {
    let pfs = observed.get("pfs").and_then(Value::as_array).context("observe lists no pfs")?;
    let found = pfs.iter().find(|pf| field(pf, "address") == address);
    found.cloned().with_context(|| format!("observe does not list {address}"))
}
