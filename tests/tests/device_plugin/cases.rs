//! Cases as data: each folder of `tests/fixtures/pools` has a node (`node.txt`), a configuration (`config.json`) and what
//! follows from them (`expect.txt`): the pools, and what Allocate answers for each device. Add a folder, get a case;
//! `BLESS=1` writes the expectation, to be read before it is committed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use portwright_core::pools::{Pool, config, spec};
use portwright_device_plugin::metrics::Metrics;
use portwright_device_plugin::{Context, Registration, Settings, allocate};
use portwright_host::root::Root;
use portwright_tests::tree::Tree;

use crate::rig::{pools, request};

#[tokio::test]
async fn every_case_gives_what_its_folder_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/pools");
    let mut cases: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.is_dir());
    cases.sort();
    assert!(cases.len() > 20, "the cases are not where they should be");
    let mut wrong = Vec::new();
    for case in cases {
        let found = outcome(&case).await;
        let path = case.join("expect.txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        if found != expected {
            wrong.push(format!("{}:\n--- expected\n{expected}--- found\n{found}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn outcome(case: &Path) -> String {
    let read = |name: &str| std::fs::read_to_string(case.join(name)).unwrap_or_default();
    let config = match config::parse(&read("config.json"), spec::CONFIG_PREFIX) {
        Ok(config) => config,
        Err(error) => return format!("error: {error}\n"),
    };
    let tree =
        Tree::from_text(&read("node.txt")).unwrap_or_else(|error| panic!("{}: {error}", case.display()));
    let use_cdi = case.join("use-cdi").exists();
    let settings = Settings {
        kubelet_dir: tree.root().join("var/lib/kubelet"),
        registration: Registration::Auto,
        use_cdi,
    };
    let context = Context::new(Root::new(tree.root()), settings, Metrics::default());
    let mut text = String::new();
    for warning in &config.warnings {
        writeln!(text, "warning: {warning}").unwrap();
    }
    for pool in &pools(tree.root(), &spec::of_config(&config, None), &BTreeMap::new()).pools {
        writeln!(text, "pool {}", pool.spec.resource).unwrap();
        for device in &pool.devices {
            let node = device.candidate.numa_node.filter(|_| !pool.spec.exclude_topology);
            let node = node.map_or_else(|| "no NUMA node".to_owned(), |node| format!("NUMA node {node}"));
            writeln!(text, "  {} {node}", device.id()).unwrap();
        }
        // The first two devices show everything, several at once too.
        for ids in asked(pool) {
            answer(&context, &tree, pool, &ids, &mut text).await;
        }
    }
    text
}

fn asked(pool: &Pool) -> Vec<Vec<&str>> {
    let ids: Vec<&str> = pool.devices.iter().map(|device| device.id()).collect();
    let mut asked: Vec<Vec<&str>> = ids.iter().take(2).map(|id| vec![*id]).collect();
    if let [first, second, ..] = ids.as_slice() {
        asked.push(vec![second, first]);
    }
    asked
}

async fn answer(context: &Context, tree: &Tree, pool: &Pool, ids: &[&str], text: &mut String) {
    writeln!(text, "  Allocate {}", ids.join(" ")).unwrap();
    let pool = Arc::new(pool.clone());
    let response = match allocate::allocate(context, &|| Arc::clone(&pool), &request(ids)).await {
        Ok(response) => response.container_responses.into_iter().next().unwrap(),
        Err(status) => {
            writeln!(text, "    {:?}: {}", status.code(), status.message()).unwrap();
            return;
        }
    };
    for (name, value) in &response.envs {
        writeln!(text, "    env {name}={value}").unwrap();
    }
    for device in &response.devices {
        let inside = if device.container_path == device.host_path { "" } else { &device.container_path };
        writeln!(text, "    node {} {} {inside}", device.host_path, device.permissions).unwrap();
    }
    for device in &response.cdi_devices {
        writeln!(text, "    cdi {}", device.name).unwrap();
    }
    for (key, value) in &response.annotations {
        writeln!(text, "    annotation {key}={value}").unwrap();
    }
    for folder in ["var/run/k8s.cni.cncf.io/devinfo/dp", "var/run/cdi"] {
        let entries = std::fs::read_dir(tree.root().join(folder)).into_iter().flatten();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files {
            let content = std::fs::read_to_string(&file).unwrap();
            let name = file.file_name().unwrap().to_string_lossy();
            writeln!(text, "    file {name} {content}").unwrap();
            std::fs::remove_file(file).unwrap();
        }
    }
}
