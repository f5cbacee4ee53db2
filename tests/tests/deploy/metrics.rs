//! Every metric is explained, and the dashboard asks for none that does not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use portwright::daemon::facts::{Cause, Facts, Run};
use portwright::serve::metrics::register;
use portwright::serve::vf_metrics::VfMetrics;
use portwright_core::drive::{Outcome, StepReport};
use portwright_core::pools::ResourceName;
use portwright_core::step::Change;
use portwright_core::{Disruption, Object, Step};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::sync::watch;

use crate::read;

/// What Prometheus stores of a metric of this type, as suffixes of its name.
fn suffixes(kind: &str) -> &'static [&'static str] {
    match kind {
        "counter" => &["_total"],
        "gauge" => &[""],
        "histogram" => &["_bucket", "_sum", "_count"],
        "info" => &["_info"],
        other => panic!("metric type {other}"),
    }
}

/// Facts that count somewhere.
fn eventful() -> Facts {
    let step = Step {
        object: Object::Node,
        change: Change::LoadModule { module: "vfio-pci".to_owned() },
        disruption: Disruption::None,
        force: false,
    };
    let steps = vec![StepReport { step, outcome: Outcome::Done }];
    let run = Run { at: 1, causes: BTreeSet::new(), steps, ..Run::default() };
    Facts { sequence: 1, causes: [Cause::Start].into(), last_run: Some(Arc::new(run)), ..Facts::default() }
}

/// Types of all metrics of both programs, by name.
fn registered() -> BTreeMap<String, String> {
    let (_facts, receiver) = watch::channel(Arc::default());
    let none = |_| Ok(BTreeMap::new());
    let pools = portwright_device_plugin::metrics::Metrics::default();
    let mut daemon = Registry::with_prefix("portwright");
    pools.register(&mut daemon);
    let metrics = register(&mut daemon, &receiver);
    daemon.register_collector(Box::new(VfMetrics::reading(receiver, none)));
    // What has no series yet is not shown: each family gets one.
    pools.begin(&ResourceName { prefix: "a.b".to_owned(), name: "c".to_owned() });
    metrics.observe(&eventful());
    let mut text = String::new();
    encode(&mut text, &daemon).unwrap();
    let injector = portwright_injector::metrics::Metrics::default();
    injector.finished("error", "Overload", Duration::ZERO);
    for family in [&injector.connections_ended, &injector.lookups] {
        family.get_or_create(&portwright_injector::metrics::Reason { reason: "missing" }).inc();
    }
    text.push_str(&injector.encode().unwrap());
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

/// Names as they are stored.
fn series() -> BTreeSet<String> {
    let stored = |(name, kind): (String, String)| {
        suffixes(&kind).iter().map(|suffix| format!("{name}{suffix}")).collect::<Vec<_>>()
    };
    registered().into_iter().flat_map(stored).collect()
}

/// Words of a text that begin as our metrics do.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("portwright_")).map(str::to_owned).collect()
}

#[test]
fn the_page_about_metrics_names_each_and_no_other() {
    let page = names(&read("docs/metrics.md"));
    let mut missing = Vec::new();
    for (name, kind) in registered() {
        // A histogram is called by its name, everything else as it is stored.
        let shown = if kind == "histogram" { name } else { format!("{name}{}", suffixes(&kind)[0]) };
        if !page.contains(&shown) {
            missing.push(shown);
        }
    }
    assert!(missing.is_empty(), "docs/metrics.md lacks {missing:?}");
    let histograms: BTreeSet<String> = registered().into_keys().collect();
    let stored = series();
    let unknown: Vec<&String> =
        page.iter().filter(|name| !stored.contains(*name) && !histograms.contains(*name)).collect();
    assert!(unknown.is_empty(), "docs/metrics.md names {unknown:?}, which no program has");
}

#[test]
fn other_pages_name_only_metrics_that_exist() {
    let stored = series();
    let histograms: BTreeSet<String> = registered().into_keys().collect();
    for page in
        ["README.md", "docs/device-plugin.md", "docs/injector.md", "docs/install.md", "docs/privileges.md"]
    {
        for name in names(&read(page)) {
            // A name that ends in an underscore is a prefix that the page speaks about.
            let known = stored.contains(&name) || histograms.contains(&name) || name.ends_with('_');
            assert!(known, "{page} names {name}, which no program has");
        }
    }
}

fn strings(value: &Value, key: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                found.extend(value.as_str().filter(|_| name == key).map(str::to_owned));
                strings(value, key, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| strings(value, key, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_dashboard_asks_only_for_metrics_that_exist() {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/portwright.json")).unwrap();
    let mut expressions = Vec::new();
    for key in ["expr", "query", "definition"] {
        strings(&dashboard, key, &mut expressions);
    }
    assert!(expressions.len() > 40, "the expressions are not found any more");
    let stored = series();
    let mut asked = BTreeSet::new();
    for expression in &expressions {
        for name in names(expression) {
            assert!(stored.contains(&name), "{expression}: there is no {name}");
            asked.insert(name);
        }
    }
    assert!(asked.len() > 35, "{asked:?}");
}

#[test]
fn panels_of_the_dashboard_do_not_overlap() {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/portwright.json")).unwrap();
    let mut taken = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels have one id");
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        for x in at("x")..at("x") + at("w") {
            assert!(x < 24, "{panel}");
            for y in at("y")..at("y") + at("h") {
                let other = taken.insert((x, y), panel["title"].to_string());
                assert!(other.is_none(), "{} lies on {other:?}", panel["title"]);
            }
        }
    }
}
