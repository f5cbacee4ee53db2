//! The DaemonSet and its rights agree with the program.

use std::collections::{BTreeMap, BTreeSet};

use clap::Parser as _;
use portwright::cli::{Cli, Verb};
use portwright::node::DEFAULT_OVSDB;
use serde_json::Value;

use crate::yaml::{files, objects, one, strings};
use crate::{read, repository};

fn pod() -> Value {
    one("agent", "DaemonSet")["spec"]["template"]["spec"].clone()
}

fn container() -> Value {
    let containers = pod()["containers"].as_array().unwrap().clone();
    assert_eq!(containers.len(), 1);
    containers[0].clone()
}

/// What the container is started with.
fn arguments() -> Vec<String> {
    arguments_on("192.0.2.7")
}

/// The same on a node with this address.
fn arguments_on(address: &str) -> Vec<String> {
    let given = strings(&container()["args"]).into_iter().map(|word| word.replace("$(HOST_IP)", address));
    ["portwright".to_owned()].into_iter().chain(given).collect()
}

/// Paths of the host by where they are mounted, with whether they can be written.
pub(crate) fn mounts() -> BTreeMap<String, bool> {
    let volumes = pod()["volumes"].as_array().unwrap().clone();
    let path_of = |name: &Value| {
        let found = volumes
            .iter()
            .find(|volume| volume["name"] == *name)
            .unwrap_or_else(|| panic!("no volume {name}"));
        found["hostPath"]["path"].as_str().unwrap().to_owned()
    };
    let mut found = BTreeMap::new();
    for mount in container()["volumeMounts"].as_array().unwrap() {
        let path = mount["mountPath"].as_str().unwrap();
        assert_eq!(
            path,
            path_of(&mount["name"]),
            "the program reads the host's files where they are on the host"
        );
        found.insert(path.to_owned(), mount["readOnly"] != true);
    }
    assert_eq!(found.len(), volumes.len(), "a volume that nobody mounts");
    found
}

/// What the container may do.
pub(crate) fn capabilities() -> Vec<String> {
    let given = &container()["securityContext"]["capabilities"];
    assert_eq!(strings(&given["drop"]), ["ALL"]);
    strings(&given["add"])
}

/// What every agent finds in its environment, whatever node it is on.
pub(crate) fn environment() -> BTreeMap<String, String> {
    let variables = container()["env"].as_array().unwrap().clone();
    let text = |value: &Value| Some(value.as_str()?.to_owned());
    variables.iter().filter_map(|entry| Some((text(&entry["name"])?, text(&entry["value"])?))).collect()
}

/// A write may take 120 s before it counts as stuck; what is given back after it has 15 s.
#[test]
fn a_stop_has_the_time_that_the_program_may_take() {
    let grace = pod()["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace >= 120 + 15 + 5, "{grace} s");
}

#[test]
fn it_listens_where_the_node_is_reached_by_whichever_family() {
    for (address, expected) in [("192.0.2.7", "192.0.2.7:9808"), ("2001:db8::7", "[2001:db8::7]:9808")] {
        let cli = Cli::try_parse_from(arguments_on(address)).unwrap();
        let Verb::Run(run) = &cli.verb else { panic!("{cli:?}") };
        assert_eq!(run.listen.to_string(), expected);
    }
}

/// An agent that was frozen for long has its next round at once, or when the slow timer has been 30 s; it may look for 15 s.
#[test]
fn who_was_frozen_is_not_ended_before_its_next_round() {
    let probe = &container()["livenessProbe"];
    let patience = probe["periodSeconds"].as_u64().unwrap() * probe["failureThreshold"].as_u64().unwrap();
    assert!(patience >= 30 + 15, "{patience} s");
}

#[test]
fn the_program_takes_its_arguments() {
    let cli = Cli::try_parse_from(arguments()).unwrap();
    let Verb::Run(run) = &cli.verb else { panic!("{cli:?}") };
    assert!(run.kube);
    let container = container();
    let port = u64::from(run.listen.port());
    assert_eq!(container["ports"][0]["containerPort"], port);
    let annotations = &one("agent", "DaemonSet")["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["prometheus.io/port"], port.to_string());
    for (probe, path) in
        [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]
    {
        assert_eq!(container[probe]["httpGet"]["path"], path);
        assert_eq!(container[probe]["httpGet"]["port"], container["ports"][0]["name"]);
    }
    let ovsdb = format!("unix:/proc/1/root{DEFAULT_OVSDB}");
    assert!(
        arguments().contains(&format!("--ovsdb={ovsdb}")),
        "what the program takes for usual, on the host"
    );
    let names: BTreeSet<&str> =
        container["env"].as_array().unwrap().iter().map(|env| env["name"].as_str().unwrap()).collect();
    assert_eq!(names, BTreeSet::from(["HOST_IP", "MALLOC_ARENA_MAX", "NODE_NAME", "POD_NAMESPACE"]));
    for (variable, field) in [("NODE_NAME", "spec.nodeName"), ("POD_NAMESPACE", "metadata.namespace")] {
        let from = container["env"].as_array().unwrap().iter().find(|env| env["name"] == variable).unwrap();
        assert_eq!(from["valueFrom"]["fieldRef"]["fieldPath"], field);
    }
}

#[test]
fn it_runs_with_what_it_needs_and_no_shell() {
    let (pod, container) = (pod(), container());
    for needed in ["hostNetwork", "hostPID"] {
        assert_eq!(pod[needed], true, "{needed}");
    }
    assert_eq!(pod["hostIPC"], Value::Null);
    let security = &container["securityContext"];
    assert_eq!(
        (&security["privileged"], &security["readOnlyRootFilesystem"]),
        (&Value::Bool(false), &Value::Bool(true))
    );
    assert_eq!(container["command"], Value::Null, "the image's entry point");
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["exec"], Value::Null);
    }
    assert_eq!(pod["priorityClassName"], "system-node-critical");
    assert_eq!(pod["tolerations"][0]["operator"], "Exists");
    let rolling = &one("agent", "DaemonSet")["spec"]["updateStrategy"]["rollingUpdate"];
    assert_eq!(rolling["maxSurge"], 0, "two agents on one node: the second refuses to start");
    let image = format!("portwright:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(container["image"], image);
    assert_eq!(one("injector", "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"], image);
}

#[test]
fn every_folder_that_the_program_writes_is_mounted_to_be_written() {
    let kubelet = portwright_device_plugin::Paths { folder: "/var/lib/kubelet".into() };
    let below = |path: &str| format!("/{path}");
    let written = [
        below(portwright_core::udev_rule::PATH),
        below(portwright_host::lock::PATH),
        below(portwright_host::stuck::FOLDER),
        portwright_host::journal::STATE_DIR.to_owned(),
        kubelet.registry().display().to_string(),
        kubelet.kubelet_socket().display().to_string(),
        kubelet.checkpoint().display().to_string(),
        "/sys/bus/pci/devices/0000:00:00.0/sriov_numvfs".to_owned(),
    ];
    let mounts = mounts();
    for path in &written {
        let found =
            mounts.iter().filter(|(mount, _)| covers(mount, path)).max_by_key(|(mount, _)| mount.len());
        assert_eq!(found.map(|(_, writable)| *writable), Some(true), "{path} lies in no writable mount");
    }
    let pods = kubelet.pod_resources().display().to_string();
    assert!(mounts.keys().any(|mount| covers(mount, &pods)), "{pods}");
}

fn covers(mount: &str, path: &str) -> bool {
    path.strip_prefix(mount).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Paths of the host that the code names and that are no mounts, each with its reason.
const ELSEWHERE: [(&str, &str); 11] = [
    ("/proc", "the host's, because the pod shares the host's processes"),
    ("/run/openvswitch", "seen through /proc/1/root"),
    ("/run/netns", "only compared with names in /proc/<pid>/mountinfo"),
    ("/var/run/netns", "likewise"),
    ("/var/run/cdi", "deploy/agent-with-cdi mounts it"),
    ("/etc/os-release", "read by `bundle`, which is run on the host"),
    ("/etc/pcidp", "the default of `sriovdp`, the other plugin's command line"),
    ("/sbin", "modprobe and udevadm are run below /proc/1/root"),
    ("/usr", "likewise"),
    ("/bin", "likewise"),
    ("/dev/null", "every container's own, and the host's is the same"),
];

/// Literals in production code that look like paths below a root folder.
fn named_in_code() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for part in ["agent/src", "core/src", "device-plugin/src", "host/src", "ovs/src"] {
        let mut folders = vec![repository().join(part)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                if path.is_dir() {
                    folders.push(path);
                } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let code = text.split("#[cfg(test)]").next().unwrap();
                    for literal in
                        code.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(literals)
                    {
                        found.insert(literal, name.clone());
                    }
                }
            }
        }
    }
    found
}

fn literals(line: &str) -> Vec<String> {
    let roots = ["sys", "dev", "run", "var", "etc", "lib", "proc", "usr", "sbin", "bin"];
    let odd = line.split('"').skip(1).step_by(2);
    let path = odd.filter_map(|text| {
        let relative = text.strip_prefix('/').unwrap_or(text);
        let (first, rest) = relative.split_once('/')?;
        (roots.contains(&first) && !rest.is_empty() && !text.contains(' ')).then(|| format!("/{relative}"))
    });
    path.collect()
}

#[test]
fn every_path_of_the_host_that_the_code_names_is_there() {
    let mounts = mounts();
    let named = named_in_code();
    assert!(named.len() > 40, "the paths are not found any more: {named:?}");
    for (path, file) in &named {
        // Three folders in it are mounted; nothing else of kubelet's is the agent's business.
        if path == "/var/lib/kubelet" {
            continue;
        }
        let known = mounts.keys().map(String::as_str).chain(ELSEWHERE.iter().map(|(path, _)| *path));
        assert!(known.into_iter().any(|mount| covers(mount, path)), "{file}: {path} is not in the container");
    }
    for mount in mounts.keys() {
        let used = named.keys().any(|path| covers(mount, path) || covers(path, mount));
        // kubelet's folders are made of parts.
        assert!(
            used || mount.starts_with("/var/lib/kubelet/"),
            "{mount} is mounted, and the code does not name it"
        );
    }
}

#[test]
fn capabilities_and_paths_have_their_reasons() {
    let page = read("docs/privileges.md");
    for capability in capabilities() {
        assert!(
            page.contains(&format!("`CAP_{capability}`")),
            "docs/privileges.md: no reason for {capability}"
        );
    }
    for path in mounts().keys() {
        assert!(page.contains(&format!("`{path}`")), "docs/privileges.md: no reason for {path}");
    }
    let given: BTreeSet<String> = capabilities().into_iter().collect();
    for capability in page.split('`').filter_map(|word| word.strip_prefix("CAP_")) {
        assert!(
            given.contains(capability),
            "docs/privileges.md speaks of {capability}, which the agent does not have"
        );
    }
}

#[test]
fn kustomizations_name_every_file() {
    for folder in ["agent", "crds", "injector"] {
        let named: BTreeSet<String> =
            strings(&crate::yaml::documents(&format!("deploy/{folder}/kustomization.yaml"))[0]["resources"])
                .into_iter()
                .collect();
        for file in files(folder).iter().filter(|file| *file != "kustomization.yaml") {
            assert!(named.contains(file), "deploy/{folder}: {file} is left out");
        }
        for resource in named {
            assert!(repository().join("deploy").join(folder).join(&resource).exists(), "{resource}");
        }
    }
}

/// What every rule of a kind of role gives: group and resource, with the verbs.
fn rules(kind: &str) -> Vec<(String, String, BTreeSet<String>)> {
    let mut found = Vec::new();
    for (_, role) in objects("agent").into_iter().filter(|(_, object)| object["kind"] == kind) {
        for rule in role["rules"].as_array().unwrap() {
            for (group, resource) in strings(&rule["apiGroups"]).iter().flat_map(|group| {
                strings(&rule["resources"]).into_iter().map(move |resource| (group.clone(), resource))
            }) {
                found.push((group, resource, strings(&rule["verbs"]).into_iter().collect()));
            }
        }
    }
    found
}

/// All objects of a kind.
fn all_of(kind: &str) -> Vec<Value> {
    objects("agent").into_iter().map(|(_, object)| object).filter(|object| object["kind"] == kind).collect()
}

const WRITES: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

#[test]
fn rights_are_few_and_what_is_written_is_bound_to_the_own_node() {
    let mut all = rules("ClusterRole");
    all.extend(rules("Role"));
    for (group, resource, verbs) in &all {
        assert!(
            ![group, resource].iter().any(|word| word.contains('*')) && !verbs.contains("*"),
            "{resource}"
        );
        assert!(!["secrets", "configmaps", "serviceaccounts"].contains(&resource.as_str()), "{resource}");
    }
    let rules_of =
        |policy: &Value| policy["spec"]["matchConstraints"]["resourceRules"].as_array().unwrap().clone();
    let matched: Vec<Value> = all_of("ValidatingAdmissionPolicy").iter().flat_map(rules_of).collect();
    let bound: BTreeSet<String> = matched.iter().flat_map(|rule| strings(&rule["resources"])).collect();
    // What docs/privileges.md says stays open: RBAC and admission cannot tell whose these are.
    let open = ["nodepolicies/status", "pods/eviction", "events"];
    let page = read("docs/privileges.md");
    for (_, resource, verbs) in all {
        if verbs.iter().any(|verb| WRITES.contains(&verb.as_str())) && !bound.contains(&resource) {
            assert!(
                open.contains(&resource.as_str()),
                "{resource} is written, and the admission policy does not look at it"
            );
            assert!(
                page.contains(&format!("`{resource}`")),
                "docs/privileges.md does not speak of {resource}"
            );
        }
    }
}

#[test]
fn admission_policies_speak_of_the_agents_and_are_bound() {
    let account = objects("agent")
        .into_iter()
        .map(|(_, object)| object)
        .find(|object| object["kind"] == "ServiceAccount")
        .unwrap();
    let (namespace, name) =
        (account["metadata"]["namespace"].as_str().unwrap(), account["metadata"]["name"].as_str().unwrap());
    assert_eq!(pod()["serviceAccountName"], name);
    let mut bindings = all_of("ValidatingAdmissionPolicyBinding");
    for policy in all_of("ValidatingAdmissionPolicy") {
        let spec = &policy["spec"];
        let rules = spec["matchConstraints"]["resourceRules"].as_array().unwrap();
        assert_eq!(rules.len(), 1, "two kinds in one policy: fields of the one are unknown in the other");
        let condition = spec["matchConditions"][0]["expression"].as_str().unwrap();
        let expected = format!("request.userInfo.username == 'system:serviceaccount:{namespace}:{name}'");
        assert_eq!(condition, expected);
        let variables = spec["variables"].as_array().unwrap();
        let node = variables[0]["expression"].as_str().unwrap();
        assert!(node.contains("authentication.kubernetes.io/node-name"));
        let text = policy.to_string();
        let used = text.split("variables.").skip(1);
        for used in used.map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap()) {
            assert!(variables.iter().any(|variable| variable["name"] == used), "no variable {used}");
        }
        let of_this = |binding: &Value| binding["spec"]["policyName"] == policy["metadata"]["name"];
        let at = bindings.iter().position(of_this).unwrap();
        assert_eq!(strings(&bindings.remove(at)["spec"]["validationActions"]), ["Deny"]);
    }
    assert!(bindings.is_empty(), "{bindings:?}");
    for (_, object) in objects("agent") {
        for subject in object["subjects"].as_array().into_iter().flatten() {
            assert_eq!(
                (subject["name"].as_str(), subject["namespace"].as_str()),
                (Some(name), Some(namespace))
            );
        }
    }
}

#[test]
fn the_agents_namespace_admits_them_and_the_injectors_stays_restricted() {
    let label = |folder: &str| {
        one(folder, "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"].clone()
    };
    assert_eq!((label("agent"), label("injector")), (Value::from("privileged"), Value::from("restricted")));
    let namespace = one("agent", "Namespace")["metadata"]["name"].clone();
    assert_ne!(namespace, one("injector", "Namespace")["metadata"]["name"]);
    for (file, object) in objects("agent") {
        let own = &object["metadata"]["namespace"];
        let of_events = object["metadata"]["name"] == "portwright-agent-events";
        assert!(own.is_null() || *own == namespace || of_events, "{file}: {own}");
    }
}
