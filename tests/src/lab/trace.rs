//! The kernel's own word on whether a function was called: a kprobe, read from tracefs.

use super::sys;
use anyhow::{Context as _, Result};

const TRACING: &str = "/sys/kernel/tracing";

/// A probe on one kernel function; removed when dropped.
#[derive(Debug)]
pub(crate) struct Probe {
    name: String,
}

impl Probe {
    /// Counts calls of `function` from now on.
    pub(crate) fn on(function: &str) -> Result<Self> {
        let name = format!("lab_{function}");
        sys::write(format!("{TRACING}/kprobe_events"), &format!("p:{name} {function}"))
            .with_context(|| format!("cannot probe {function}"))?;
        sys::write(format!("{TRACING}/trace"), "")?;
        sys::write(format!("{TRACING}/events/kprobes/{name}/enable"), "1")?;
        Ok(Self { name })
    }

    /// The calls so far, as the kernel's trace shows them (process, time).
    pub(crate) fn calls(&self) -> Result<Vec<String>> {
        let trace = sys::read(format!("{TRACING}/trace"))?;
        Ok(trace.lines().filter(|line| line.contains(&self.name)).map(str::to_owned).collect())
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // A probe that stays costs nothing but a line in the trace.
        sys::write(format!("{TRACING}/events/kprobes/{}/enable", self.name), "0").ok();
        sys::write(format!("{TRACING}/kprobe_events"), "").ok();
    }
}
