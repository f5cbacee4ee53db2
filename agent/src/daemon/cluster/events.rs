//! Events on the Node when a condition of something on it changes. They follow the NodeState that was written, so what
//! changed back in between is not told; a bound keeps a flapping link from filling the cluster's event store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, PostParams};
use portwright_api::NodeStateContent;
use portwright_api::state::{Condition, ConditionStatus};
use serde_json::{Value as Json, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::ask::{Trouble, ask};
use super::client::Connection;
use super::kinds::{self, FIELD_MANAGER};
use super::node::NodeView;
use super::pace::Bucket;
use super::state::Written;
use crate::daemon::state::CONFLICTED;
use crate::daemon::state::word::Word;

/// So many events at once.
const BURST: u32 = 10;
/// Then one per period.
const PERIOD: Duration = Duration::from_secs(30);
/// The longest note that the API server takes, in bytes.
const NOTE: usize = 1024;

/// What was told last of each condition, by object and type.
type Told = BTreeMap<(String, String), (ConditionStatus, String)>;

/// A change that is worth an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What it is about.
    pub object: String,
    /// Which condition.
    pub kind: String,
    /// What it is now.
    pub status: ConditionStatus,
    /// Why, in one word.
    pub reason: String,
    /// Why, as a sentence.
    pub message: String,
}

impl Change {
    /// `Normal` for what is as it should be, and for what goes on by itself.
    pub fn severity(&self) -> &'static str {
        if is_bad(&self.kind, self.status) && !goes_on(&self.reason) { WARNING } else { "Normal" }
    }

    fn note(&self) -> String {
        let text = format!("{}: {}", self.object, self.message);
        match text.char_indices().map(|(at, one)| at + one.len_utf8()).find(|end| *end > NOTE - 4) {
            None => text,
            Some(_) => {
                let fits = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= NOTE - 4).last();
                format!("{}…", text.get(..fits.unwrap_or_default()).unwrap_or_default())
            }
        }
    }
}

/// What somebody should look at.
const WARNING: &str = "Warning";

/// Whether a condition is as it should not be. `Conflicted` is the one that should be false.
fn is_bad(kind: &str, status: ConditionStatus) -> bool {
    match status {
        ConditionStatus::True => kind == CONFLICTED,
        ConditionStatus::False => kind != CONFLICTED,
        ConditionStatus::Unknown => true,
    }
}

/// Whether what is not yet as it should be comes to that by itself.
fn goes_on(reason: &str) -> bool {
    [Word::Pending, Word::Waiting, Word::PlanOnly].iter().any(|word| word.to_string() == reason)
}

/// What has changed since it was told. What appears and is well needs no event.
pub fn changes(
    told: &BTreeMap<(String, String), (ConditionStatus, String)>,
    content: &NodeStateContent,
) -> Vec<Change> {
    let differs = |object: &str, condition: &Condition| match told
        .get(&(object.to_owned(), condition.type_.clone()))
    {
        Some((status, reason)) => *status != condition.status || *reason != condition.reason,
        None => condition.status != ConditionStatus::Unknown && is_bad(&condition.type_, condition.status),
    };
    let all = content.all_conditions().into_iter();
    all.filter(|(object, condition)| differs(object, condition))
        .map(|(object, condition)| Change {
            object,
            kind: condition.type_.clone(),
            status: condition.status,
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        })
        .collect()
}

fn all(content: &NodeStateContent) -> Told {
    let conditions = content.all_conditions().into_iter();
    conditions.map(|(object, one)| ((object, one.type_.clone()), (one.status, one.reason.clone()))).collect()
}

/// How many events may be written. What goes on by itself never keeps a warning back.
struct Limits {
    began: Instant,
    warnings: Bucket,
    others: Bucket,
}

impl Limits {
    fn take(&mut self, change: &Change) -> Result<(), Duration> {
        let bucket = if change.severity() == WARNING { &mut self.warnings } else { &mut self.others };
        bucket.take(self.began.elapsed())
    }
}

/// Writes events until the NodeState is written no more.
pub async fn run(
    connection: Connection,
    mut written: watch::Receiver<Option<Arc<Written>>>,
    node: watch::Receiver<Option<Arc<NodeView>>>,
) {
    let bucket = Bucket::new(BURST, PERIOD);
    let mut limits = Limits { began: Instant::now(), warnings: bucket, others: bucket };
    let mut trouble = Trouble::default();
    let mut told: Option<Told> = None;
    loop {
        let state = written.borrow_and_update().clone();
        let mut wait: Option<Duration> = None;
        if let Some(state) = state {
            // A state from an earlier life has been told in that life.
            let told = told.get_or_insert_with(|| state.before.as_deref().map(all).unwrap_or_default());
            let mut now = all(&state.content);
            told.retain(|key, _| now.contains_key(key));
            for change in changes(told, &state.content) {
                if let Err(pause) = limits.take(&change) {
                    // Told when there is room for it, if it is still so.
                    wait = Some(wait.map_or(pause, |least| least.min(pause)));
                    now.remove(&(change.object, change.kind));
                    continue;
                }
                let regarding = node.borrow().clone();
                post(&connection, regarding.as_deref(), &change, &mut trouble).await;
            }
            // What appeared and is well was not told, but its end will be.
            told.extend(now);
        }
        let room = async {
            match wait {
                Some(pause) => sleep_until(Instant::now() + pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = written.changed() => if changed.is_err() { return },
            () = room => {}
        }
    }
}

/// An event is worth one attempt: the NodeState says the same.
async fn post(connection: &Connection, node: Option<&NodeView>, change: &Change, trouble: &mut Trouble) {
    let body = event(connection.node.as_str(), node.map(|node| node.uid.as_str()), change, Timestamp::now());
    let Ok(object) = serde_json::from_value::<DynamicObject>(body) else { return };
    let api = kinds::events(&connection.client);
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match ask("write an event", api.create(&parameters, &object)).await {
        Ok(_) => trouble.over("writing events"),
        Err(error) => trouble.failed(&error),
    }
}

fn event(node: &str, uid: Option<&str>, change: &Change, now: Timestamp) -> Json {
    // A node's name can be as long as an object's may be, and the time comes after it.
    let short: String = node.chars().take(200).collect();
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": format!("{}.{:x}", short.trim_end_matches(['.', '-']), now.as_nanosecond()), "namespace": "default"},
        "eventTime": format!("{now:.6}"),
        "reportingController": "portwright.dev/agent",
        "reportingInstance": node.chars().take(128).collect::<String>(),
        "action": "Reconcile",
        "reason": change.reason,
        "type": change.severity(),
        "note": change.note(),
        "regarding": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid},
    })
}

#[cfg(test)]
mod tests {
    use portwright_api::NodeStateContent;
    use portwright_api::state::{Condition, ConditionStatus, PolicyState, PoolState};

    use super::{Change, all, changes};

    fn content(entries: &[(&str, ConditionStatus, &str)]) -> NodeStateContent {
        let pool = |(name, status, reason): &(&str, ConditionStatus, &str)| PoolState {
            resource: (*name).to_owned(),
            conditions: vec![Condition {
                type_: "Ready".to_owned(),
                status: *status,
                reason: (*reason).to_owned(),
                message: "m".to_owned(),
                ..Condition::default()
            }],
            ..PoolState::default()
        };
        NodeStateContent { pools: entries.iter().map(pool).collect(), ..NodeStateContent::default() }
    }

    #[test]
    fn only_changes_and_new_trouble() {
        use ConditionStatus::{False, True, Unknown};
        let before =
            content(&[("a", True, "Ok"), ("b", False, "X"), ("c", False, "X"), ("gone", False, "X")]);
        let now = content(&[
            ("a", True, "Ok"),
            ("b", True, "Ok"),
            ("c", False, "Y"),
            ("new", True, "Ok"),
            ("bad", False, "X"),
            ("maybe", Unknown, "Z"),
        ]);
        let changed = changes(&all(&before), &now);
        let told: Vec<_> = changed.iter().map(|change| (change.object.as_str(), change.severity())).collect();
        assert_eq!(told, [("pool/b", "Normal"), ("pool/c", "Warning"), ("pool/bad", "Warning")]);
        assert!(changes(&all(&now), &now).is_empty());
    }

    #[test]
    fn severities() {
        use ConditionStatus::{False, True, Unknown};
        let cases = [
            ("Ready", True, "InSync", "Normal"),
            ("Ready", False, "Failed", "Warning"),
            ("Ready", False, "PfMissing", "Warning"),
            ("Ready", Unknown, "NotObserved", "Warning"),
            ("Accepted", False, "Invalid", "Warning"),
            ("Conflicted", False, "Exclusive", "Normal"),
            ("Conflicted", True, "PolicyConflict", "Warning"),
            // It goes on by itself.
            ("Ready", False, "Pending", "Normal"),
            ("Ready", False, "Waiting", "Normal"),
            ("Ready", False, "PlanOnly", "Normal"),
        ];
        for (kind, status, reason, expected) in cases {
            let change = Change {
                object: "o".to_owned(),
                kind: kind.to_owned(),
                status,
                reason: reason.to_owned(),
                message: String::new(),
            };
            assert_eq!(change.severity(), expected, "{kind} {status:?} {reason}");
        }
    }

    #[test]
    fn no_conflict_is_no_news_and_a_conflict_is() {
        let policy = |status, reason: &str| {
            let conflicted = Condition {
                type_: "Conflicted".to_owned(),
                status,
                reason: reason.to_owned(),
                ..Condition::default()
            };
            let policy = PolicyState { conditions: vec![conflicted], ..PolicyState::default() };
            NodeStateContent { policies: vec![policy], ..NodeStateContent::default() }
        };
        let none = Default::default();
        assert!(changes(&none, &policy(ConditionStatus::False, "Exclusive")).is_empty());
        assert_eq!(changes(&none, &policy(ConditionStatus::True, "PolicyConflict")).len(), 1);
    }

    #[test]
    fn notes_fit() {
        let change = |message: String| Change {
            object: "o".to_owned(),
            kind: String::new(),
            status: ConditionStatus::False,
            reason: String::new(),
            message,
        };
        assert_eq!(change("short".to_owned()).note(), "o: short");
        for text in ["x".repeat(5000), "ä".repeat(5000), "€".repeat(600)] {
            let note = change(text).note();
            assert!(note.len() <= 1024 && note.len() > 1000 && note.ends_with('…'), "{}", note.len());
        }
    }
}
