//! Whom a plan affects: which VFs kubelet must not hand out meanwhile, which policies need a turn, which pods are evicted.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use portwright_core::affected::{evictees, needs_turn, touched, waiting_for_pods};
use portwright_core::desired::{Desired, DisruptionPolicy, Document, DriverWish, Mode, NicEntry, VfGroup};
use portwright_core::drive::{Node, run_steps};
use portwright_core::observed::{FileKind, Holder};
use portwright_core::ovs::Pod;
use portwright_core::range::IndexSet;
use portwright_core::select::{Pattern, Selector};
use portwright_core::sim::{Family, Kernel, SimNode, SimPf};
use portwright_core::{Object, Observed, PciAddress, Plan, Profiles, plan};

const PFS: [&str; 2] = ["0000:3b:00.0", "0000:5e:00.0"];

fn address(text: &str) -> PciAddress {
    text.parse().unwrap()
}

fn group(driver: &str) -> VfGroup {
    VfGroup {
        vfs: IndexSet::from_indexes(0..2).unwrap(),
        pool: None,
        driver: DriverWish::Named(driver.to_owned()),
        mtu: None,
        trust: None,
        spoof_check: None,
        vlan: None,
        tx_rate: None,
        link_state: None,
        macs: None,
    }
}

fn policy(vfs: u16, driver: &str, disruption: DisruptionPolicy) -> Desired {
    let nic = |(number, text): (usize, &str)| NicEntry {
        path: format!("spec.nics[{number}]"),
        select: Selector { addresses: vec![Pattern::new(text).unwrap()], ..Selector::default() },
        vfs: Some(vfs),
        mtu: None,
        eswitch: None,
        externally_managed: false,
        allow_management_path: false,
        groups: vec![group(driver)],
    };
    let document = Document {
        name: "workers".to_owned(),
        priority: 0,
        mode: Mode::Apply,
        disruption,
        nics: PFS.into_iter().enumerate().map(nic).collect(),
        ovs: Default::default(),
        pools: Vec::new(),
    };
    Desired { documents: vec![document], cluster: true, ..Desired::default() }
}

/// Two ports that nobody uses, without VFs.
fn bare() -> SimNode {
    let mut kernel = Kernel::default();
    kernel.node.drivers = ["ice", "iavf", "vfio-pci"].map(str::to_owned).into();
    kernel.node.iommu = true.into();
    for (number, text) in PFS.into_iter().enumerate() {
        kernel.pfs.insert(address(text), SimPf::new(address(text), Family::Ice, 8, &format!("ens{number}")));
    }
    SimNode::new(kernel)
}

/// The same with two VFs each, bound to `iavf`.
fn with_vfs() -> Observed {
    let mut node = bare();
    let desired = policy(2, "iavf", DisruptionPolicy::WhenIdle);
    let first = planned(&node.observe().unwrap(), &desired);
    run_steps(&mut node, &first, &mut |_| {});
    let observed = node.observe().unwrap();
    assert!(planned(&observed, &desired).in_sync());
    observed
}

fn planned(observed: &Observed, desired: &Desired) -> Plan {
    planned_with(observed, desired, &Profiles::default())
}

fn planned_with(observed: &Observed, desired: &Desired, profiles: &Profiles) -> Plan {
    plan(observed, desired, profiles)
}

/// What is known of hardware that takes another MTU without its VFs noticing it.
fn mtu_keeps_vfs() -> Profiles {
    let text = include_str!("../../hw-profiles/ice.toml");
    Profiles::parse([("ice.toml", text)]).unwrap()
}

fn pod(name: &str) -> Holder {
    Holder::Pod {
        namespace: "web".to_owned(),
        name: name.to_owned(),
        container: "main".to_owned(),
        resource: "portwright.dev/net".to_owned(),
    }
}

fn file(container: Option<&str>) -> Holder {
    Holder::File {
        file: FileKind::VfioDevice,
        path: "/dev/vfio/devices/vfio0".to_owned(),
        pid: 4711,
        command: "qemu".to_owned(),
        container: container.map(str::to_owned),
        shared: false,
    }
}

fn namespace(pid: Option<u32>, container: Option<&str>) -> Holder {
    Holder::Namespace {
        netns: "cni-1".to_owned(),
        pid,
        command: None,
        netdev: None,
        container: container.map(str::to_owned),
    }
}

fn turns(observed: &Observed, desired: &Desired) -> Vec<String> {
    let needed = needs_turn(&planned(observed, desired), observed, desired);
    assert!(needed.keys().all(|policy| policy == "workers"), "{needed:?}");
    needed.into_values().flatten().map(|object| object.to_string()).collect()
}

#[test]
fn the_first_vfs_of_a_port_that_nobody_uses_need_no_turn() {
    let mut node = bare();
    let desired = policy(2, "iavf", DisruptionPolicy::WhenIdle);
    assert!(turns(&node.observe().unwrap(), &desired).is_empty());
    for used in ["an address", "a master", "an upper", "a place in a switch"] {
        let mut observed = node.observe().unwrap();
        let link = observed.links.iter_mut().find(|link| link.name == "ens0").unwrap();
        match used {
            "an address" => link.addresses.push("192.0.2.1".parse().unwrap()),
            "a master" => link.master = Some("bond0".to_owned()),
            "an upper" => {
                let mut upper = link.clone();
                upper.name = "vlan10".to_owned();
                upper.lowers = vec!["ens0".to_owned()];
                observed.links.push(upper);
            }
            _ => {
                observed.ovs = Some(
                    serde_json::from_value(serde_json::json!({
                        "bridges": [{"name": "br0", "datapath": "netdev",
                                     "ports": [{"name": "ens0", "interfaces": [{"name": "ens0"}]}]}]
                    }))
                    .unwrap(),
                );
            }
        }
        assert_eq!(turns(&observed, &desired), [PFS[0]], "{used}");
    }
}

#[test]
fn making_vfs_anew_needs_a_turn_and_binding_idle_ones_does_not() {
    let observed = with_vfs();
    assert_eq!(turns(&observed, &policy(4, "iavf", DisruptionPolicy::WhenIdle)), PFS);
    assert!(turns(&observed, &policy(2, "vfio-pci", DisruptionPolicy::WhenIdle)).is_empty());
    let mut held = observed.clone();
    held.pfs[1].vfs[0].holders = vec![pod("a")];
    assert_eq!(turns(&held, &policy(2, "vfio-pci", DisruptionPolicy::Force)), [PFS[1]]);
    assert!(turns(&held, &policy(2, "vfio-pci", DisruptionPolicy::WhenIdle)).is_empty(), "it waits");
    assert_eq!(turns(&held, &policy(2, "vfio-pci", DisruptionPolicy::Evict)), [PFS[1]], "for the eviction");
}

#[test]
fn kubelet_is_kept_from_the_vfs_that_steps_touch_and_no_others() {
    let observed = with_vfs();
    let of = |desired: &Desired| touched(&planned(&observed, desired).steps, &observed);
    let all = |pf: usize| observed.pfs[pf].vfs.iter().map(|vf| vf.address).collect::<BTreeSet<_>>();
    let mut one = policy(4, "iavf", DisruptionPolicy::WhenIdle);
    one.documents[0].nics.truncate(1);
    assert_eq!(of(&one), all(0), "all of the port that is resized");
    let mut one = policy(2, "iavf", DisruptionPolicy::WhenIdle);
    one.documents[0].nics[1].groups[0].vfs = IndexSet::from_indexes([1]).unwrap();
    one.documents[0].nics[1].groups[0].driver = DriverWish::Named("vfio-pci".to_owned());
    assert_eq!(of(&one), BTreeSet::from([observed.pfs[1].vfs[1].address]));
    let mut mtu = policy(2, "iavf", DisruptionPolicy::WhenIdle);
    mtu.documents[0].nics[0].mtu = Some(9000);
    assert_eq!(of(&mtu), all(0), "the driver may reset the port");
    let keeps = planned_with(&observed, &mtu, &mtu_keeps_vfs());
    assert!(!keeps.steps.is_empty() && touched(&keeps.steps, &observed).is_empty(), "it is known not to");
}

/// The pods that are evicted when VFs are to be bound anew, or the port resized, and the first two VFs have these users.
fn evicted(resize: bool, first: &[Holder], second: &[Holder], change: impl Fn(&mut Desired)) -> Vec<String> {
    let mut observed = with_vfs();
    observed.pfs[0].vfs[0].holders = first.to_vec();
    observed.pfs[0].vfs[1].holders = second.to_vec();
    let (vfs, driver) = if resize { (4, "iavf") } else { (2, "vfio-pci") };
    let mut desired = policy(vfs, driver, DisruptionPolicy::Evict);
    change(&mut desired);
    let made = planned(&observed, &desired);
    let names = evictees(&made, &observed, &desired);
    let told = made.blocked.iter().filter(|blocked| blocked.message.contains("evicted")).count();
    assert_eq!(told == 0, names.is_empty(), "the obstacles say so: {:#?}", made.blocked);
    let needs = needs_turn(&made, &observed, &desired).into_values().flatten();
    let needs = needs.collect::<BTreeSet<_>>().contains(&Object::Pci(address(PFS[0])));
    assert!(needs || names.is_empty(), "who evicts needs a turn");
    names.into_iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect()
}

fn pods(containers: &[&str]) -> BTreeMap<String, Pod> {
    let pod = Pod {
        namespace: "web".to_owned(),
        name: "a".to_owned(),
        containers: containers.iter().map(|id| (*id).to_owned()).collect(),
        ..Pod::default()
    };
    BTreeMap::from([("11-22".to_owned(), pod)])
}

#[test]
fn only_pods_that_hold_affected_vfs_are_evicted() {
    let none: &[Holder] = &[];
    let same = |_: &mut Desired| {};
    assert_eq!(evicted(false, &[pod("a")], none, same), ["web/a"]);
    assert_eq!(evicted(true, &[pod("a")], &[pod("b")], same), ["web/a", "web/b"]);
    assert_eq!(evicted(false, &[pod("a"), namespace(Some(1), Some("x"))], none, same), ["web/a"]);
    assert_eq!(evicted(false, &[pod("a"), namespace(None, None)], none, same), ["web/a"]);
    assert_eq!(evicted(false, &[pod("a"), file(Some("x"))], none, same), ["web/a"]);
    let not_evict = |desired: &mut Desired| desired.documents[0].disruption = DisruptionPolicy::WhenIdle;
    assert!(evicted(false, &[pod("a")], none, not_evict).is_empty());
    assert!(evicted(false, &[pod("a")], none, |desired| desired.cluster = false).is_empty());
}

#[test]
fn nobody_is_evicted_in_vain() {
    let none: &[Holder] = &[];
    let same = |_: &mut Desired| {};
    assert!(evicted(false, &[pod("a"), file(None)], none, same).is_empty(), "a process of the host stays");
    assert!(evicted(false, &[file(Some("x"))], none, same).is_empty(), "no pod has it");
    assert!(evicted(false, &[pod("a"), namespace(Some(1), None)], none, same).is_empty(), "not the pod's");
    assert!(
        evicted(true, &[pod("a")], &[file(None)], same).is_empty(),
        "another VF of the port stays in use"
    );
    assert_eq!(evicted(false, &[pod("a")], &[file(None)], same), ["web/a"], "each VF is bound by itself");
    let too_many = |desired: &mut Desired| desired.documents[0].nics[0].vfs = Some(100);
    let mut observed = with_vfs();
    observed.pfs[0].vfs[0].holders = vec![pod("a")];
    let mut desired = policy(4, "iavf", DisruptionPolicy::Evict);
    too_many(&mut desired);
    assert!(evictees(&planned(&observed, &desired), &observed, &desired).is_empty(), "there are not so many");
    let mut watching = policy(4, "iavf", DisruptionPolicy::Evict);
    watching.documents[0].mode = Mode::Plan;
    assert!(evictees(&planned(&observed, &watching), &observed, &watching).is_empty(), "it is only a plan");
}

#[test]
fn the_pods_of_the_api_server_say_whose_a_container_and_a_uid_are() {
    let none: &[Holder] = &[];
    let know = |containers: &'static [&'static str]| {
        move |desired: &mut Desired| desired.pods = Some(pods(containers))
    };
    assert_eq!(evicted(false, &[pod("a"), file(Some("x"))], none, know(&["x"])), ["web/a"]);
    assert!(
        evicted(false, &[pod("b"), file(Some("x"))], none, know(&["x"])).is_empty(),
        "the file is another pod's"
    );
    assert!(
        evicted(false, &[pod("a"), file(Some("old"))], none, know(&["x"])).is_empty(),
        "a pod that was deleted by force may still run"
    );
    assert_eq!(
        evicted(false, &[pod("a"), namespace(Some(1), Some("sandbox"))], none, know(&["x"])),
        ["web/a"]
    );
    let by_uid = |uid: &str| {
        vec![Holder::Pod {
            namespace: "uid".to_owned(),
            name: uid.to_owned(),
            container: String::new(),
            resource: String::new(),
        }]
    };
    assert!(evicted(false, &by_uid("11-22"), none, |_| {}).is_empty(), "nobody knows its name");
    assert!(evicted(false, &by_uid("33-44"), none, know(&[])).is_empty(), "it is gone");
    assert_eq!(evicted(false, &by_uid("11-22"), none, know(&[])), ["web/a"]);
}

#[test]
fn it_is_said_for_how_many_pods_a_port_waits() {
    let mut observed = with_vfs();
    observed.pfs[0].vfs[0].holders = vec![pod("a"), namespace(None, None)];
    observed.pfs[0].vfs[1].holders = vec![pod("b")];
    let made = planned(&observed, &policy(4, "iavf", DisruptionPolicy::WhenIdle));
    let waiting = waiting_for_pods(&made, &observed);
    assert_eq!(waiting, BTreeMap::from([(Object::Pci(address(PFS[0])), "waiting for 2 pods".to_owned())]));
}
