//! `pools`, `run` and `sriovdp` on the command line: what is shown, why a device is where it is, and what is refused.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests fail by panicking and make trees on disk"
)]

mod common;

use clap::Parser;
use common::tree::{PF, Tree};
use common::{Ran, portwright};
use portwright::cli::{Cli, Verb};
use portwright::pools::args::with_two_dashes;

const POLICY: &str = "apiVersion: portwright.dev/v1alpha1\nkind: NodePolicy\nmetadata: {name: p}\nspec:\n  nics:\n  - select: {drivers: [igb]}\n    vfGroups:\n    - {vfs: \"0\", pool: net, driver: kernel}\n    - {vfs: \"1\", pool: dpdk, driver: vfio-pci}\n  pools:\n  - {name: dpdk, prefix: example.com, excludeTopology: true, carrier: true}\n";
const CONFIG: &str = r#"{"resourceList": [{"resourceName": "intel", "selectors": [{"vendors": ["15b3"]}, {"pfNames": ["ens1f0#1-7"]}]}]}"#;

fn pools(tree: &Tree, policy: Option<&str>, config: Option<&str>, more: &[&str]) -> Ran {
    let mut arguments = vec!["pools".to_owned(), "--root".to_owned(), tree.root().to_owned()];
    for (flag, name, text) in [("-f", "p.yaml", policy), ("--device-plugin-config", "c.json", config)] {
        if let Some(text) = text {
            tree.write(name, text);
            arguments.extend([flag.to_owned(), tree.path(name).display().to_string()]);
        }
    }
    arguments.extend(more.iter().map(|word| (*word).to_owned()));
    portwright(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Compares what is printed with what docs/schema describes.
fn assert_fits(name: &str, value: &serde_json::Value) {
    let path = common::repository().join(format!("docs/schema/{name}.json"));
    let schema = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let found = common::schema::differences(&schema, value);
    assert!(found.is_empty(), "{name}: {found:#?}");
}

#[test]
fn pools_of_policies_and_of_a_configuration_are_shown() {
    let tree = Tree::new();
    let ran = pools(&tree, Some(POLICY), Some(CONFIG), &["-o", "json"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let json = ran.json();
    let shown: Vec<String> = json["pools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pool| {
            let devices = pool["devices"].as_array().unwrap();
            let ids: Vec<&str> = devices.iter().map(|device| device["id"].as_str().unwrap()).collect();
            format!("{} {}", pool["resource"].as_str().unwrap(), ids.join(" "))
        })
        .collect();
    // The policy names the VF; the configuration's looser selector comes after it.
    assert_eq!(
        shown,
        ["example.com/dpdk 0000:3b:10.2", "portwright.dev/net 0000:3b:10.0", "intel.com/intel "]
    );
    assert_fits("pools", &json);
    let dpdk = &json["pools"][0]["devices"][0];
    assert_eq!(dpdk["why"], "driver is igbvf, vfio-pci is wanted");
    assert_eq!((&dpdk["healthy"], &dpdk["numaNode"]), (&false.into(), &serde_json::Value::Null));
    assert_eq!(json["pools"][1]["devices"][0]["numaNode"], 0);

    let text = pools(&tree, Some(POLICY), Some(CONFIG), &[]);
    for words in [
        "portwright.dev/net  1 devices, 1 healthy  (from p spec.nics[0].vfGroups[0])",
        "ens1f0v0",
        "intel.com/intel  0 devices",
    ] {
        assert!(text.stdout.contains(words), "{words}: {}", text.stdout);
    }
    let prefixed = pools(&tree, Some(POLICY), Some(CONFIG), &["--resource-prefix", "my.org"]);
    for words in ["example.com/dpdk ", "my.org/net ", "my.org/intel "] {
        assert!(prefixed.stdout.contains(words), "{words}: {}", prefixed.stdout);
    }
}

#[test]
fn a_link_that_is_down_makes_devices_unhealthy_where_that_is_wanted() {
    let tree = Tree::new();
    tree.write(&format!("{PF}/net/ens1f0/carrier"), "0\n");
    std::fs::remove_file(tree.path("sys/devices/pci0000:3b/0000:3b:10.2/driver")).unwrap();
    tree.link("sys/devices/pci0000:3b/0000:3b:10.2/driver", "../../../bus/pci/drivers/vfio-pci");
    let json = pools(&tree, Some(POLICY), None, &["-o", "json"]).json();
    assert_eq!(json["pools"][0]["devices"][0]["why"], "its PF has no link");
    assert_eq!(json["pools"][1]["devices"][0]["healthy"], true);
}

#[test]
fn a_pool_that_two_policies_set_is_a_conflict_with_a_word() {
    let tree = Tree::new();
    let other = "---\napiVersion: portwright.dev/v1alpha1\nkind: NodePolicy\nmetadata: {name: q}\nspec: {priority: 0, pools: [{name: dpdk, prefix: other.org}]}\n";
    let ran = pools(&tree, Some(&format!("{POLICY}{other}")), None, &[]);
    let words = "warning: PolicyConflict: pool/portwright.dev/dpdk: `p` and `q` set";
    assert!(ran.stdout.contains(words) && ran.stdout.contains("portwright.dev/dpdk "), "{ran:#?}");
    let larger = other.replace("priority: 0", "priority: 1");
    let ran = pools(&tree, Some(&format!("{POLICY}{larger}")), None, &[]);
    assert!(!ran.stdout.contains("PolicyConflict") && ran.stdout.contains("other.org/dpdk"), "{ran:#?}");
}

#[test]
fn every_selector_says_what_it_takes_and_refuses() {
    let tree = Tree::new();
    let config = r#"{"resourceList": [
        {"resourceName": "a", "selectors": [{"vendors": ["15b3"]}, {"drivers": ["igbvf"], "pfNames": ["ens1f0#3-7"]}]},
        {"resourceName": "b", "selectors": {"pciAddresses": ["0000:3b:10.2"]}},
        {"resourceName": "c"}, {"resourceName": "acc", "deviceType": "accelerator"}]}"#;
    let ran = pools(&tree, None, Some(config), &["--explain", "0000:3b:10.2"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let expected = "0000:3b:10.2 is in intel.com/b\n\
        intel.com/a\n\
        \x20 resourceList[0].selectors[0]  refuses it: vendors wants 15b3, found 8086\n\
        \x20 resourceList[0].selectors[1]  refuses it: pfNames wants ens1f0#3-7, found ens1f0 number 1\n\
        intel.com/b\n\
        \x20 resourceList[1].selectors[0]  takes it\n\
        intel.com/c\n\
        \x20 resourceList[2].selectors[0]  would take it, intel.com/b comes first\n\
        intel.com/acc\n\
        \x20 cannot have it: its class is 020000, no accelerator class (12xxxx)\n";
    assert_eq!(ran.stdout, expected);
    let pf = pools(&tree, None, Some(config), &["--explain", "0000:3b:00.0", "-o", "json"]).json();
    assert_fits("explain", &pf);
    assert_fits(
        "explain",
        &pools(&tree, None, Some(config), &["--explain", "0000:3b:10.2", "-o", "json"]).json(),
    );
    assert_eq!(pf["pool"], serde_json::Value::Null);
    assert_eq!(pf["pools"][0]["unfit"], "it is a PF with VFs; its VFs are the devices");
    let nobody = pools(&tree, None, Some(config), &["--explain", "0000:99:00.0"]);
    assert_eq!(nobody.code, Some(2));
    for words in [
        "there is no device `0000:99:00.0` on this node",
        "hint: devices on this node: 0000:3b:00.0, 0000:3b:10.0",
    ] {
        assert!(nobody.stderr.contains(words), "{words}: {}", nobody.stderr);
    }
}

#[test]
fn what_cannot_be_used_is_exit_2_with_its_place() {
    let tree = Tree::new();
    let twice = r#"{"resourceList": [{"resourceName": "net", "resourcePrefix": "portwright.dev"}]}"#;
    type Case<'a> = (Option<&'a str>, Option<&'a str>, &'a [&'a str], &'a str);
    let cases: [Case<'_>; 7] = [
        (None, None, &[], "no pools are asked for"),
        (
            None,
            Some("{\"resourceList\": [\n  {]}"),
            &[],
            "c.json` cannot be used: not JSON: key must be a string at line 2 column 4",
        ),
        (None, Some("[]"), &[], "`(top level)`: expected an object, found a list"),
        (
            None,
            Some(r#"{"resourceList": [{"resourceName": "a.b"}]}"#),
            &[],
            "`resourceList[0].resourceName`: `a.b` may hold",
        ),
        (None, Some(CONFIG), &["--resource-prefix", "Bad_"], "--resource-prefix: `Bad_` is no domain"),
        (
            Some(POLICY),
            Some(twice),
            &[],
            "pool portwright.dev/net is asked for twice, by p spec.nics[0].vfGroups[0] and by resourceList[0]",
        ),
        (Some("kind: 5"), None, &[], "p.yaml"),
    ];
    for (policy, config, more, words) in cases {
        let ran = pools(&tree, policy, config, more);
        assert_eq!(ran.code, Some(2), "{words}: {ran:#?}");
        assert!(ran.stderr.contains(words) && ran.stdout.is_empty(), "{words}: {ran:#?}");
        assert!(ran.stderr.contains("hint: "), "{words}: {ran:#?}");
    }
}

#[test]
fn run_says_at_once_what_it_cannot_do() {
    let tree = Tree::new();
    tree.write("c.json", r#"{"resourceList": [{"resourceName": "x", "excludeTopology": "no"}]}"#);
    let config = tree.path("c.json").display().to_string();
    let long = "x".repeat(200);
    tree.write("long.json", format!(r#"{{"resourceList": [{{"resourceName": "{long}"}}]}}"#));
    let long = tree.path("long.json").display().to_string();
    tree.write("good.json", CONFIG);
    let good = tree.path("good.json").display().to_string();
    for (arguments, words) in [
        (&["run", "--kube"][..], "`portwright run --kube` works on the running host only"),
        (&["run", "--policy", "x.yaml"], "`portwright run --policy` works on the running host only"),
        (&["run", "--once"], "`portwright run --once` works on the running host only"),
        (&["run", "--before-kubelet"], "--once"),
        (&["run", "--kube", "--policy", "x.yaml"], "cannot be used with"),
        (&["run"], "no pools are asked for"),
        (&["run", "--device-plugin-config", "/nowhere.json"], "cannot read `/nowhere.json`"),
        (
            &["run", "--device-plugin-config", &config],
            "`resourceList[0].excludeTopology`: expected true or false",
        ),
        (&["run", "--device-plugin-config", &long], "would have a path of"),
        (&["run", "--device-plugin-config", &good, "--log", "a=b=c"], "--log: `a=b=c` is no filter"),
        (&["sriovdp", "--config-file", &config], "`resourceList[0].excludeTopology`"),
    ] {
        let ran = portwright(&[arguments, &["--root", tree.root()]].concat());
        assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:#?}");
        assert!(ran.stderr.contains(words), "{words}: {ran:#?}");
    }
}

#[test]
fn the_flags_of_the_other_plugin_are_taken() {
    let words = "portwright sriovdp --config-file=/etc/pcidp/node-1 --resource-prefix=openshift.io --log-level=10 --log-dir=sriovdp --use-cdi";
    let cli = Cli::try_parse_from(words.split(' ')).unwrap();
    let Verb::Sriovdp(arguments) = cli.verb else { panic!("{:?}", cli.verb) };
    let run = arguments.as_run();
    assert_eq!(run.device_plugin_config.unwrap().to_str(), Some("/etc/pcidp/node-1"));
    assert_eq!(
        (run.resource_prefix.as_deref(), run.use_cdi, run.log.as_str()),
        (Some("openshift.io"), true, "debug")
    );
    let words = "portwright sriovdp -config-file /a.json -resource-prefix=b.org -v 10 -logtostderr -log_dir=/var/log -stderrthreshold=INFO -use-cdi=false";
    let words = with_two_dashes(words.split(' ').map(Into::into));
    let Verb::Sriovdp(arguments) = Cli::try_parse_from(words).unwrap().verb else { panic!() };
    let run = arguments.as_run();
    assert_eq!(
        (run.resource_prefix.as_deref(), run.use_cdi, run.log.as_str()),
        (Some("b.org"), false, "debug")
    );
    assert_eq!(run.device_plugin_config.unwrap().to_str(), Some("/a.json"));
    let plain = Cli::try_parse_from(["portwright", "sriovdp"]).unwrap();
    let Verb::Sriovdp(arguments) = plain.verb else { panic!("{:?}", plain.verb) };
    let run = arguments.as_run();
    assert_eq!((run.resource_prefix.as_deref(), run.use_cdi), (Some("intel.com"), false));
    assert_eq!(run.device_plugin_config.unwrap().to_str(), Some("/etc/pcidp/config.json"));
}
