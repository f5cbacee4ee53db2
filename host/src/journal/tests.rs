//! What the journal keeps, forgets and survives, on real files.

#![allow(clippy::disallowed_methods, reason = "tests look at the files themselves")]

use portwright_core::observed::{Holder, Netdev};
use portwright_core::{Fact, MacAddress};
use serde_json::json;

use super::*;

const PF: &str = "0000:3b:00.0";

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench { folder: tempfile::tempdir().unwrap() };
        bench.boot("first");
        bench
    }

    fn boot(&self, id: &str) {
        let path = self.folder.path().join("proc/sys/kernel/random");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("boot_id"), format!("{id}\n")).unwrap();
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn file(&self) -> PathBuf {
        self.state().join(format!("pf/{PF}.json"))
    }

    fn root(&self) -> Root {
        Root::new(self.folder.path())
    }

    fn read(&self) -> Journal {
        Journal::read(&self.root(), &self.state())
    }
}

fn pf() -> PciAddress {
    PF.parse().unwrap()
}

fn observed_pf(vfs: Vec<Vf>) -> Pf {
    let mut pf: Pf =
        serde_json::from_value(json!({"address": PF, "vendor": "8086", "device": "10c9", "totalVfs": 7}))
            .unwrap();
    pf.vfs = vfs;
    pf
}

fn vf(index: u16, name: Option<&str>) -> Vf {
    let mut vf: Vf =
        serde_json::from_value(json!({"index": index, "address": format!("0000:3b:10.{index}")})).unwrap();
    vf.netdevs = name
        .into_iter()
        .map(|name| Netdev {
            name: name.to_owned(),
            mac: Some(MacAddress([2, 0, 0, 0, 0, 1])),
            mtu: Fact::Known(9000),
            ..Netdev::default()
        })
        .collect();
    vf
}

#[test]
fn an_absent_state_directory_is_an_empty_journal() {
    let journal = Bench::new().read();
    assert_eq!((journal.saved_autoprobe(pf()), journal.made_by_us(pf())), (None, false));
    assert!(journal.problems().is_empty());
}

#[test]
fn the_first_autoprobe_found_is_the_one_that_comes_back() {
    let bench = Bench::new();
    assert!(bench.read().save_autoprobe(pf(), true).unwrap());
    let mut journal = bench.read();
    assert!(
        journal.save_autoprobe(pf(), false).unwrap(),
        "found after a crash: our own 0 is not the old value"
    );
    assert_eq!(bench.read().saved_autoprobe(pf()), Some(true));
    journal.autoprobe_restored(pf()).unwrap();
    assert_eq!(bench.read().saved_autoprobe(pf()), None);
}

#[test]
fn what_a_boot_ends_is_forgotten_and_the_last_good_state_is_not() {
    let bench = Bench::new();
    let mut journal = bench.read();
    journal.save_autoprobe(pf(), true).unwrap();
    journal.set_made_by_us(pf(), true).unwrap();
    journal.set_doing(pf(), Some("set VFs 0 → 2".to_owned())).unwrap();
    journal.remember(&bench.root(), &observed_pf(vec![vf(0, Some("ens1f0v0")), vf(1, None)])).unwrap();
    let reference = VfRef { pf: pf(), index: 0 };
    let same_boot = bench.read();
    let remembered = same_boot.remembered(reference).unwrap();
    assert_eq!((remembered.name.as_str(), remembered.mtu), ("ens1f0v0", Some(9000)));
    assert_eq!(same_boot.doing(pf()), Some("set VFs 0 → 2"));
    assert!(same_boot.made_by_us(pf()));
    bench.boot("second");
    let next_boot = bench.read();
    assert_eq!(next_boot.remembered(reference), None);
    assert_eq!((next_boot.saved_autoprobe(pf()), next_boot.made_by_us(pf())), (None, false));
    assert_eq!(next_boot.doing(pf()), None);
    assert_eq!(next_boot.last_good(pf()).unwrap().vfs.len(), 2);
}

#[test]
fn a_vf_that_a_pod_has_keeps_what_was_known_of_it() {
    let bench = Bench::new();
    let mut journal = bench.read();
    journal
        .remember(&bench.root(), &observed_pf(vec![vf(0, Some("ens1f0v0")), vf(1, Some("ens1f0v1"))]))
        .unwrap();
    let mut held = vf(1, Some("net1"));
    held.holders = vec![Holder::Namespace {
        netns: "pod".to_owned(),
        pid: None,
        command: None,
        netdev: None,
        container: None,
    }];
    journal.remember(&bench.root(), &observed_pf(vec![vf(0, None), held])).unwrap();
    let name = |index| journal.remembered(VfRef { pf: pf(), index }).map(|vf| vf.name.as_str());
    assert_eq!((name(0), name(1)), (Some("ens1f0v0"), Some("ens1f0v1")));
    journal.remember(&bench.root(), &observed_pf(vec![vf(0, None)])).unwrap();
    assert_eq!(journal.remembered(VfRef { pf: pf(), index: 1 }), None, "the VF is gone");
    journal.forget_vfs(pf()).unwrap();
    assert_eq!(journal.remembered(VfRef { pf: pf(), index: 0 }), None);
}

#[test]
fn who_had_a_vf_is_noted_until_it_is_in_order_again() {
    let bench = Bench::new();
    let mut journal = bench.read();
    let away = |index| bench.read().remembered(VfRef { pf: pf(), index }).map(|vf| vf.away);
    let two = || observed_pf(vec![vf(0, Some("ens1f0v0")), vf(1, Some("ens1f0v1"))]);
    journal.note_away(&observed_pf(vec![vf(0, None)])).unwrap();
    assert!(!bench.file().exists(), "there is nothing to put back");
    journal.remember(&bench.root(), &two()).unwrap();
    journal.note_away(&two()).unwrap();
    assert_eq!((away(0), away(1)), (Some(false), Some(false)));
    let mut held = vf(1, Some("ens1f0v1"));
    held.holders =
        vec![serde_json::from_value(json!({"kind": "pod", "namespace": "a", "name": "b"})).unwrap()];
    journal.note_away(&observed_pf(vec![vf(0, None), held])).unwrap();
    assert_eq!((away(0), away(1)), (Some(true), Some(true)));
    journal.note_away(&two()).unwrap();
    assert_eq!((away(0), away(1)), (Some(true), Some(true)), "that they are back does not put them in order");
    journal.remember(&bench.root(), &two()).unwrap();
    assert_eq!((away(0), away(1)), (Some(false), Some(false)));
}

#[test]
fn a_name_is_remembered_once_udevd_has_given_it() {
    let bench = Bench::new();
    let mut journal = bench.read();
    let file = |path: &str, content: &str| {
        let path = bench.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    let seen = |name: &str| {
        let mut vf = vf(0, Some(name));
        vf.netdevs.iter_mut().for_each(|netdev| netdev.ifindex = 7);
        observed_pf(vec![vf])
    };
    let mut after = |name: &str| {
        journal.remember(&bench.root(), &seen(name)).unwrap();
        journal.remembered(VfRef { pf: pf(), index: 0 }).map(|vf| vf.name.clone())
    };
    file("run/udev/control", "");
    file("sys/class/net/eth6/ifindex", "7\n");
    assert_eq!(after("eth6"), None, "udevd has not seen it");
    file("run/udev/data/n7", "");
    std::fs::rename(
        bench.folder.path().join("sys/class/net/eth6"),
        bench.folder.path().join("sys/class/net/ens1f0v6"),
    )
    .unwrap();
    assert_eq!(after("eth6"), None, "it was seen before udevd was done");
    assert_eq!(after("ens1f0v6").as_deref(), Some("ens1f0v6"));
    std::fs::remove_file(bench.folder.path().join("run/udev/data/n7")).unwrap();
    assert_eq!(after("eth9").as_deref(), Some("ens1f0v6"), "what was known stays");
    std::fs::remove_file(bench.folder.path().join("run/udev/control")).unwrap();
    assert_eq!(after("eth9").as_deref(), Some("eth9"), "nobody renames it");
}

#[test]
fn a_broken_file_is_reported_and_set_aside_and_never_fatal() {
    for (content, word) in [
        ("", "EOF"),
        ("{\"version\": 1, \"thisBoot\": {\"boot", "EOF"),
        ("{\"version\": 99}", "version 99"),
        ("\u{fffd}\u{0}garbage", "expected value"),
        ("{\"version\": 1, \"thisBoot\": {\"bootId\": \"first\", \"madeByUs\": 7}}", "invalid type"),
    ] {
        let bench = Bench::new();
        std::fs::create_dir_all(bench.file().parent().unwrap()).unwrap();
        std::fs::write(bench.file(), content).unwrap();
        let mut journal = bench.read();
        let reason = &journal.problems().first().unwrap().reason;
        assert!(reason.contains(word) && reason.contains(PF), "{reason}");
        assert_eq!(std::fs::read_to_string(bench.file()).unwrap(), content, "reading changes nothing");
        journal.set_made_by_us(pf(), true).unwrap();
        let aside = bench.file().with_extension("json.broken");
        assert_eq!(std::fs::read_to_string(aside).unwrap(), content);
        let again = bench.read();
        assert!(again.made_by_us(pf()) && again.problems().is_empty());
    }
}

#[test]
fn one_broken_file_hides_no_other_pf() {
    let bench = Bench::new();
    bench.read().set_made_by_us(pf(), true).unwrap();
    std::fs::write(bench.state().join("pf/0000:5e:00.0.json"), "{").unwrap();
    std::fs::write(bench.state().join("pf/notes.txt"), "not ours").unwrap();
    let journal = bench.read();
    assert!(journal.made_by_us(pf()));
    assert_eq!(journal.problems().len(), 1);
}

#[test]
fn what_does_not_change_is_not_written() {
    let bench = Bench::new();
    let mut journal = bench.read();
    journal.set_made_by_us(pf(), true).unwrap();
    std::fs::remove_file(bench.file()).unwrap();
    journal.set_made_by_us(pf(), true).unwrap();
    assert!(!bench.file().exists());
}

#[test]
fn a_state_directory_that_cannot_be_written_is_an_error_with_the_path() {
    let bench = Bench::new();
    std::fs::write(bench.state(), "a file, not a folder").unwrap();
    let error = bench.read().set_made_by_us(pf(), true).unwrap_err();
    let text = portwright_core::drive::chain(&error);
    assert!(text.contains("state/pf") && text.contains(PF), "{text}");
}
