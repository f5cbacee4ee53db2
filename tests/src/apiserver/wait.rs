//! Waiting for what clients do: woken by each change and each request, with a limit.

use std::time::Duration;

use serde_json::Value;

use super::ApiServer;

/// How long what a test waits for may take.
const WITHIN: Duration = Duration::from_secs(10);

impl ApiServer {
    /// Waits until `accept` likes the object at `path`.
    ///
    /// # Panics
    /// It does not within ten seconds.
    pub async fn wait_for(&self, path: &str, accept: impl Fn(&Value) -> bool) -> Value {
        self.wait_for_within(WITHIN, path, accept).await
    }

    /// The same with another limit.
    ///
    /// # Panics
    /// It does not within that time.
    pub async fn wait_for_within(
        &self,
        within: Duration,
        path: &str,
        accept: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut changed = self.shared.changed.subscribe();
        let waiting = async {
            loop {
                changed.borrow_and_update();
                if let Some(object) = self.get(path).filter(&accept) {
                    return object;
                }
                changed.changed().await.expect("the server lives as long as this waits");
            }
        };
        let waited = tokio::time::timeout(within, waiting).await;
        waited.unwrap_or_else(|_| panic!("{path} did not become as wished: {:?}", self.get(path)))
    }

    /// Waits until there is nothing at `path`.
    ///
    /// # Panics
    /// There still is after ten seconds.
    pub async fn wait_gone(&self, path: &str) {
        let gone = self.wait_until(WITHIN, || self.get(path).is_none()).await;
        assert!(gone, "{path} is still there: {:?}", self.get(path));
    }

    /// Waits until something is so that only changes when what is stored changes. Whether it came to that in time.
    pub async fn wait_until(&self, within: Duration, so: impl Fn() -> bool) -> bool {
        let mut changed = self.shared.changed.subscribe();
        let waiting = async {
            while !so() {
                changed.changed().await.expect("the server lives as long as this waits");
            }
        };
        tokio::time::timeout(within, waiting).await.is_ok()
    }

    /// Waits until a request whose path contains `part` has arrived, answered or not.
    ///
    /// # Panics
    /// None does within ten seconds.
    pub async fn wait_requested(&self, part: &str) {
        let arrived = async {
            loop {
                let next = self.shared.arrived.notified();
                if !self.requests(part).is_empty() {
                    return;
                }
                next.await;
            }
        };
        let waited = tokio::time::timeout(WITHIN, arrived).await;
        waited.unwrap_or_else(|_| panic!("nobody asked for {part}"));
    }

    /// Waits until somebody has tried so often to get something from it, answered or not.
    ///
    /// # Panics
    /// Nobody has within ten seconds.
    pub async fn wait_attempts(&self, count: usize) {
        let tried = async {
            loop {
                let next = self.shared.arrived.notified();
                if self.attempts() >= count {
                    return;
                }
                next.await;
            }
        };
        let waited = tokio::time::timeout(WITHIN, tried).await;
        waited.unwrap_or_else(|_| panic!("{} attempts, {count} are waited for", self.attempts()));
    }

    /// Waits until another request arrives.
    ///
    /// # Panics
    /// None does within ten seconds.
    pub async fn wait_request(&self) {
        let waited = tokio::time::timeout(WITHIN, self.shared.arrived.notified()).await;
        waited.expect("nobody asks for anything");
    }
}
