//! What the verbs print as JSON is what docs/schema describes: no field undocumented, none missing.
#![recursion_limit = "256"]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests fail by panicking and read the repository"
)]

mod common;

use std::collections::BTreeSet;

use common::schema::differences;
use common::{portwright, repository};
use portwright::daemon::state::word::Word;
use portwright_core::{Observed, Reason};
use serde_json::{Value, json};

fn schema(name: &str) -> Value {
    let text = std::fs::read_to_string(repository().join(format!("docs/schema/{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn assert_fits(name: &str, value: &Value) {
    let found = differences(&schema(name), value);
    assert!(found.is_empty(), "{name}: {found:#?}");
}

/// A document in which every field and every variant occurs.
fn everything() -> Value {
    let netdev = json!({"name": "ens1f0", "altNames": ["enp59s0f0"], "ifindex": 3, "mac": "02:00:00:00:00:01", "mtu": 9000,
        "up": true, "carrier": true, "speed": 1000, "linkType": 1, "physSwitchId": "01", "physPortName": "p0"});
    let vf = json!({"index": 0, "address": "0000:3b:10.0", "device": "10ca", "driver": "igbvf", "driverOverride": "igbvf",
        "iommuGroup": 7, "groupPeers": ["0000:3b:10.2"], "numaNode": 0, "netdev": "ens1f0v0", "netdevs": [netdev.clone()],
        "representor": "rep0", "rdma": ["mlx5_1"], "vdpa": ["vdpa0"],
        "admin": {"mac": "02:00:00:00:00:02", "vlan": {"id": 100, "qos": 3, "protocol": "802.1ad"}, "spoofCheck": true,
            "trust": false, "txRate": {"min": 0, "max": 100}, "linkState": "auto"},
        "holders": [
            {"kind": "pod", "namespace": "default", "name": "web-0", "container": "web", "resource": "portwright.dev/net"},
            {"kind": "namespace", "netns": "blue", "pid": 7, "command": "sleep", "netdev": "net1", "container": "abc"},
            {"kind": "file", "file": "vfio-group", "path": "/dev/vfio/7", "pid": 8, "command": "qemu", "container": null,
                "shared": false}],
        "remembered": {"name": "ens1f0v0", "mac": "02:00:00:00:00:02", "mtu": 1500, "away": true}});
    json!({
        "node": {"kernel": "6.12.0", "macSeed": "00", "iommu": true, "lockdown": "none", "drivers": ["igb"],
            "modules": ["vfio_pci"], "modprobe": true, "udevRule": "#", "sight": {"seen": "partial", "why": "x"}},
        "pfs": [{"address": "0000:3b:00.0", "name": "ens1f0", "vendor": "8086", "device": "10c9", "class": "020000",
            "driver": "igb", "numaNode": 0, "iommuGroup": 1, "acpiIndex": 1, "totalVfs": 7, "vfDevice": "10ca",
            "autoprobe": true, "savedAutoprobe": true, "eswitch": "switchdev", "madeByUs": true, "stuck": "x",
            "netdevs": [netdev.clone()], "rdma": ["mlx5_0"], "subfunctions": ["mlx5_core.sf.2"], "vfs": [vf]}],
        "devices": [{"address": "0000:00:03.0", "vendor": "1af4", "device": "1041", "class": "020000",
            "driver": "virtio-pci", "numaNode": 0, "iommuGroup": 1, "acpiIndex": 1, "hiddenPf": true, "netdevs": [netdev],
            "rdma": ["r"], "vdpa": ["v"]}],
        "subfunctions": [{"name": "mlx5_core.sf.2", "parent": "0000:3b:00.0", "number": 88, "netdev": "en3f0s88",
            "linkType": 1, "rdma": ["mlx5_2"]}],
        "vdpa": [{"name": "vdpa0", "parent": "0000:3b:10.0", "driver": "vhost_vdpa"}],
        "details": [{"address": "0000:3b:10.0", "acpiIndex": 7, "pKey": "0xffff", "ddp": "GTP"}],
        "links": [{"name": "bond0", "ifindex": 1, "kind": "bond", "lowers": ["ens1f0"], "master": "br0",
            "addresses": ["192.0.2.1", "2001:db8::1"], "linkLocal": ["fe80::1"], "pci": "0000:3b:00.0"}],
        "management": {"defaultRoutes": [{"interface": "bond0", "family": 6}], "nodeAddresses": ["192.0.2.1"],
            "apiServers": [["192.0.2.9", 6443]],
            "sessions": [{"local": "192.0.2.1", "localPort": 22, "remote": "192.0.2.2", "remotePort": 4444}],
            "sight": {"seen": "partial", "why": "x"}},
        "ovs": {"version": "3.1.0", "vswitchd": true, "settled": true, "datapathTypes": ["netdev", "system"],
            "otherConfig": {"hw-offload": "true"},
            "bridges": [{"name": "br0", "datapath": "netdev", "works": true, "failMode": "secure", "stp": true, "rstp": false,
                "mcastSnooping": true, "floodVlans": [7], "otherConfig": {"a": "b"}, "externalIds": {"portwright.dev/owner": "p"},
                "ports": [{"name": "mon0", "interfaces": [{"name": "mon0", "type": "internal", "options": {"peer": "x"},
                        "ofport": 1, "error": "x", "mtuRequest": 9000, "policing": {"rate": 1, "burst": 2}}],
                    "vlan": {"mode": "dot1q-tunnel", "tag": 10, "trunks": [1], "cvlans": [2]}, "bondMode": "balance-slb",
                    "lacp": "active", "qos": {"type": "linux-htb", "otherConfig": {"max-rate": "1"}}, "fakeBridge": false,
                    "externalIds": {"owner": "x"}, "goneFor": 3}],
                "mirrors": [{"name": "tap", "all": false, "sources": ["a"], "destinations": ["b"], "vlans": [10],
                    "outputPort": "mon0", "outputVlan": 9, "snaplen": 128, "externalIds": {"owner": "x"},
                    "counts": {"copied": 5, "copiedBytes": 700, "offered": 6, "outputUp": true}}]}]},
        "problems": [{"object": "0000:3b:00.0/vf/0", "reason": "x"}],
    })
}

#[test]
fn an_observed_document_with_everything_in_it_is_documented() {
    let full: Observed = serde_json::from_value(everything()).unwrap();
    let printed = serde_json::to_value(&full).unwrap();
    assert_eq!(printed, everything(), "a field of this test is not read or not printed");
    assert_fits("observed", &printed);
}

#[test]
fn an_observed_document_with_nothing_known_is_documented() {
    let empty: Observed = serde_json::from_value(json!({
        "pfs": [{"address": "0000:3b:00.0", "vendor": "8086", "device": "10c9", "totalVfs": 7,
            "netdevs": [{"name": "a"}], "vfs": [{"index": 0, "address": "0000:3b:10.0"}]}],
        "devices": [{"address": "0000:00:03.0", "vendor": "1af4", "device": "1041"}],
        "links": [{"name": "lo"}],
    }))
    .unwrap();
    assert_fits("observed", &serde_json::to_value(&empty).unwrap());
}

#[test]
fn what_observe_prints_of_this_machine_is_documented_and_read_back() {
    let ran = portwright(&["observe", "-o", "json"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_fits("observed", &ran.json());
    serde_json::from_value::<Observed>(ran.json()).unwrap();
}

#[test]
fn plans_are_documented() {
    for policy in ["workers", "resize", "in-sync", "unknown"] {
        let file = format!("fixtures/{policy}.yaml");
        let ran = portwright(&["plan", "-f", &file, "--observed", "fixtures/node.json", "-o", "json"]);
        assert_fits("plan", &ran.json());
    }
}

#[test]
fn every_reason_is_in_the_schemas_and_has_a_heading() {
    let reasons: BTreeSet<String> = Reason::ALL.iter().map(ToString::to_string).collect();
    for name in ["plan", "apply"] {
        let listed: BTreeSet<String> = schema(name)
            .pointer("/$defs/blocked/properties/reason/enum")
            .unwrap()
            .as_array()
            .unwrap()
            .iter()
            .map(|reason| reason.as_str().unwrap().to_owned())
            .collect();
        assert_eq!(listed, reasons, "{name}");
    }
    let errors = std::fs::read_to_string(repository().join("docs/errors.md")).unwrap();
    let headings: BTreeSet<String> =
        errors.lines().filter_map(|line| line.strip_prefix("## ")).map(ToOwned::to_owned).collect();
    let words = Word::ALL.iter().map(ToString::to_string);
    assert_eq!(headings, reasons.into_iter().chain(words).collect());
}

#[test]
fn the_test_itself_sees_what_is_wrong() {
    let mut plan = json!({"steps": [], "blocked": [], "unknown": [], "notes": []});
    assert_fits("plan", &plan);
    for (field, value) in
        [("more", json!(1)), ("steps", json!({})), ("unknown", json!([{"object": 3, "what": "x"}]))]
    {
        let mut wrong = plan.clone();
        wrong.as_object_mut().unwrap().insert(field.to_owned(), value);
        assert!(!differences(&schema("plan"), &wrong).is_empty(), "{wrong}");
    }
    plan.as_object_mut().unwrap().remove("blocked");
    assert!(!differences(&schema("plan"), &plan).is_empty(), "{plan}");
}
