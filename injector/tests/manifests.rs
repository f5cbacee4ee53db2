//! The manifests of deploy/injector agree with the program and with each other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests fail by panicking and read the manifests"
)]

use std::ffi::OsString;
use std::path::Path;

use clap::Parser as _;
use portwright_injector::config::Config;
use portwright_injector::flags::{Flags, normalise};
use portwright_injector::server::webhook::PATH;
use portwright_injector::switches::CONFIG_MAP;
use serde_json::Value;

fn all() -> Vec<Value> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/injector");
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut found = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|end| end == "yaml")) {
        let text = std::fs::read_to_string(path).unwrap();
        for document in text.split("\n---\n") {
            found
                .push(serde_saphyr::from_str(document).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
        }
    }
    found
}

fn one(kind: &str) -> Value {
    let mut found = all().into_iter().filter(|object| object["kind"] == kind);
    let object = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "two of {kind}");
    object
}

fn config() -> Config {
    let deployment = one("Deployment");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let namespace = deployment["metadata"]["namespace"].as_str().unwrap();
    let arguments = container["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap());
    let name = format!("--namespace={namespace}");
    let arguments = ["portwright-injector", name.as_str()].into_iter().chain(arguments).map(OsString::from);
    Config::new(Flags::try_parse_from(normalise(arguments)).unwrap()).unwrap()
}

#[test]
fn the_deployment_starts_and_stops_as_it_should() {
    let config = config();
    let deployment = one("Deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    assert!(deployment["spec"]["replicas"].as_u64().unwrap() >= 2);
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace > config.shutdown_delay.as_secs() + 10, "drained within the grace period");
    let ports = pod["containers"][0]["ports"].as_array().unwrap();
    let port = |name: &str| {
        ports.iter().find(|port| port["name"] == name).unwrap()["containerPort"].as_u64().unwrap()
    };
    assert_eq!(port("webhook"), u64::from(config.flags.port));
    assert_eq!(port("probes"), u64::from(config.flags.health_check_port));
    assert_eq!(one("Service")["spec"]["ports"][0]["targetPort"], "webhook");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&one("Service")["spec"]["selector"], labels);
    assert_eq!(&one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"], labels);
    let spread = pod["topologySpreadConstraints"].as_array().unwrap();
    let hosts = spread.iter().find(|one| one["topologyKey"] == "kubernetes.io/hostname").unwrap();
    assert_eq!(hosts["whenUnsatisfiable"], "DoNotSchedule", "replicas are on different nodes");
    assert_eq!(&hosts["labelSelector"]["matchLabels"], labels);
    assert!(one("PodDisruptionBudget")["spec"]["minAvailable"].as_u64().unwrap() >= 1);
    assert_eq!(&one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"], labels);
}

#[test]
fn the_webhook_points_at_the_service_and_blocks_only_who_needs_it() {
    let config = config();
    let object = one("MutatingWebhookConfiguration");
    assert_eq!(object["metadata"]["name"], config.flags.webhook_configuration.as_str());
    for webhook in object["webhooks"].as_array().unwrap() {
        let service = &webhook["clientConfig"]["service"];
        assert_eq!(service["name"], config.flags.service_name.as_str());
        assert_eq!(service["namespace"], config.flags.namespace.as_str());
        assert_eq!(service["path"], PATH);
        assert_eq!(webhook["failurePolicy"], "Fail");
        assert_eq!(webhook["sideEffects"], "None");
        assert!(webhook["timeoutSeconds"].as_u64().unwrap() <= 5);
        let left_out = webhook["namespaceSelector"]["matchExpressions"][0]["values"].as_array().unwrap();
        for namespace in ["kube-system", config.flags.namespace.as_str()] {
            assert!(left_out.iter().any(|value| value == namespace), "{namespace}");
        }
        let conditions: Vec<&str> = webhook["matchConditions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|condition| condition["expression"].as_str().unwrap())
            .collect();
        let conditions = conditions.join(" && ");
        for word in [
            portwright_injector::selection::NETWORKS,
            portwright_injector::selection::DEFAULT_NETWORK,
            portwright_injector::mutate::MIRROR,
            "hostNetwork",
        ] {
            assert!(conditions.contains(word), "{word}");
        }
    }
}

#[test]
fn rights_are_what_the_program_uses_and_no_more() {
    let config = config();
    let mut rules = Vec::new();
    for role in [one("ClusterRole"), one("Role")] {
        for rule in role["rules"].as_array().unwrap() {
            let words = |key: &str| {
                let list = rule[key].as_array().into_iter().flatten();
                list.map(|word| word.as_str().unwrap().to_owned()).collect::<Vec<_>>().join(",")
            };
            rules.push([words("resources"), words("resourceNames"), words("verbs")]);
        }
    }
    let expected = [
        ["network-attachment-definitions", "", "get,list,watch"],
        ["mutatingwebhookconfigurations", &config.flags.webhook_configuration, "get,list,watch,patch"],
        ["configmaps", CONFIG_MAP, "get,list,watch"],
        ["secrets", &config.flags.secret_name, "get,list,watch,update"],
    ];
    assert_eq!(rules, expected.map(|rule| rule.map(str::to_owned)));
    assert_eq!(one("Secret")["metadata"]["name"], config.flags.secret_name.as_str());
    assert!(one("Secret").get("data").is_none(), "shipped empty");
}

/// kustomization.yaml names every manifest.
#[test]
fn nothing_is_left_out() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/injector");
    let listed: Vec<String> = one("Kustomization")["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    let mut files: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".yaml") && name != "kustomization.yaml")
        .collect();
    files.sort();
    assert_eq!(listed, files);
}
