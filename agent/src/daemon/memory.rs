//! What the daemon remembers across its own end, besides what the journal knows of ports: the last good policies, which
//! policy each PF followed, and policies that are gone and have left something in Open vSwitch.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portwright_core::desired::Document;
use portwright_core::drive::chain;
use portwright_core::plan::Subject;
use portwright_core::{Object, Observed, PciAddress};
use portwright_host::write;
use serde::{Deserialize, Serialize};

use super::facts::PolicyFact;
use super::wish::{MaxUnavailable, Policy, Wish};
use crate::{input, output};

/// File name in the state directory.
const FILE: &str = "policies.json";
/// A policy has at most 4 MiB; the API server takes less.
const LARGEST: u64 = 256 << 20;
/// Version of the format. A file of a later version is not guessed at.
const VERSION: u32 = 1;

/// What is in the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    version: u32,
    /// Last good policies by name.
    policies: BTreeMap<String, KeptPolicy>,
    /// Which policy each PF followed.
    bindings: BTreeMap<PciAddress, String>,
    /// Policies that are gone and wanted something of Open vSwitch.
    former: BTreeSet<String>,
    /// Ports that have followed no policy since theirs has changed.
    #[serde(default)]
    loose: BTreeSet<PciAddress>,
    /// The Node's addresses when they were last known: the management path, while the API server is away.
    #[serde(default)]
    node_addresses: BTreeSet<IpAddr>,
    /// PFs that are kept in their last good state, because these policies cannot be reached.
    #[serde(default)]
    fallen: BTreeSet<PciAddress>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeptPolicy {
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    generation: Option<i64>,
    /// Whether it wanted something of Open vSwitch at any time. What earlier versions have kept may have.
    #[serde(default = "yes")]
    ovs: bool,
}

fn yes() -> bool {
    true
}

/// What follows from a wish and from what was good before.
#[derive(Debug, Clone, Default)]
pub struct Followed {
    /// Documents to plan for.
    pub documents: Vec<Document>,
    /// All policies, with what is wrong with them.
    pub policies: BTreeMap<String, PolicyFact>,
    /// How many nodes each policy lets be disrupted, and whether it cordons.
    pub limits: BTreeMap<String, (MaxUnavailable, bool)>,
}

/// The memory.
#[derive(Debug)]
pub struct Memory {
    file: Option<PathBuf>,
    kept: Kept,
    /// The documents of `kept.policies`.
    documents: BTreeMap<String, Arc<Document>>,
}

impl Memory {
    /// Reads the state directory. What cannot be read is forgotten, and said.
    pub fn read(state_dir: &Path) -> Memory {
        let file = state_dir.join(FILE);
        let kept = if file.exists() {
            match read(&file) {
                Ok(kept) => kept,
                Err(why) => {
                    tracing::error!(file = %file.display(), why, "the last good policies are not known");
                    Kept::default()
                }
            }
        } else {
            Kept::default()
        };
        let parsed = kept.policies.iter().filter_map(|(name, policy)| {
            let document = good(name, &policy.text);
            if document.is_none() {
                tracing::error!(policy = name, "the last good policy cannot be read by this version");
            }
            Some((name.clone(), Arc::new(document?)))
        });
        let documents = parsed.collect();
        Memory { file: Some(file), kept, documents }
    }

    /// A memory that forgets: without policies there is nothing to remember.
    pub fn none() -> Memory {
        Memory { file: None, kept: Kept::default(), documents: BTreeMap::new() }
    }

    /// The documents to plan for: what the source says now, the last good one for each that is bad, and the last good ones
    /// while the source was not read yet.
    pub fn follow(&mut self, wish: &Wish) -> Followed {
        if !wish.synced {
            return self.last_good();
        }
        let mut kept = self.kept.clone();
        let gone: Vec<String> =
            kept.policies.keys().filter(|name| !wish.policies.contains_key(*name)).cloned().collect();
        for name in gone {
            let gone = kept.policies.remove(&name);
            self.documents.remove(&name);
            // One that never wanted anything there has left nothing, and would be remembered for ever where there is no switch.
            if gone.is_some_and(|gone| gone.ovs) {
                kept.former.insert(name);
            }
        }
        let mut followed = Followed::default();
        for (name, policy) in &wish.policies {
            // One that returns with a mistake is not back yet: what it has left is still nobody's else.
            let returns = policy.read.is_ok() && kept.former.remove(name);
            if let Ok(document) = &policy.read {
                if self.documents.get(name).is_some_and(|known| known != document) {
                    let theirs = kept.bindings.iter().filter(|(_, policy)| *policy == name);
                    kept.loose.extend(theirs.map(|(pf, _)| *pf));
                }
                let before = returns || kept.policies.get(name).is_some_and(|known| known.ovs);
                let (text, generation) = (policy.text.to_string(), policy.generation);
                let entry = KeptPolicy { text, generation, ovs: before || !document.ovs.is_empty() };
                kept.policies.insert(name.clone(), entry);
                self.documents.insert(name.clone(), Arc::clone(document));
            }
            let document = self.documents.get(name);
            followed.documents.extend(document.map(|document| (**document).clone()));
            followed.limits.insert(name.clone(), (policy.max_unavailable, policy.cordon));
            followed.policies.insert(name.clone(), fact(policy, document.is_some()));
        }
        kept.node_addresses.clone_from(&wish.node_addresses);
        self.keep(kept);
        followed
    }

    fn last_good(&self) -> Followed {
        let fact = |(name, kept): (&String, &KeptPolicy)| {
            let followed = self.documents.contains_key(name);
            let fact = PolicyFact { generation: kept.generation, followed, ..PolicyFact::default() };
            (name.clone(), fact)
        };
        Followed {
            documents: self.documents.values().map(|document| (**document).clone()).collect(),
            policies: self.kept.policies.iter().map(fact).collect(),
            limits: BTreeMap::new(),
        }
    }

    /// The documents to plan for once: what is wished, or the last good ones. Nothing is remembered of it.
    pub fn documents_for(&self, wish: &Wish) -> Vec<Document> {
        if !wish.synced {
            return self.last_good().documents;
        }
        let read = wish.policies.values().filter_map(|policy| policy.read.as_ref().ok());
        read.map(|document| (**document).clone()).collect()
    }

    /// The documents that were followed last.
    pub fn documents(&self) -> Vec<Document> {
        self.last_good().documents
    }

    /// PFs that are kept in their last good state.
    pub fn fallen(&self) -> BTreeSet<PciAddress> {
        self.kept.fallen.clone()
    }

    /// Notes which PFs are kept in their last good state.
    pub fn note_fallen(&mut self, fallen: BTreeSet<PciAddress>) {
        if fallen != self.kept.fallen {
            self.keep(Kept { fallen, ..self.kept.clone() });
        }
    }

    /// Which policy each PF followed.
    pub fn bindings(&self) -> BTreeMap<PciAddress, String> {
        self.kept.bindings.clone()
    }

    /// Whether a port is still its policy's: the policy is there and has not changed since the port followed it.
    pub fn is_bound(&self, pf: PciAddress) -> bool {
        self.kept.bindings.contains_key(&pf) && !self.kept.loose.contains(&pf)
    }

    /// The Node's addresses when they were last known.
    pub fn node_addresses(&self) -> BTreeSet<IpAddr> {
        self.kept.node_addresses.clone()
    }

    /// Policies that are gone and may have left something in Open vSwitch.
    pub fn former(&self) -> BTreeSet<String> {
        self.kept.former.clone()
    }

    /// Notes which policy each PF follows now. Former policies that have left nothing are forgotten.
    /// While steps on Open vSwitch are under way (`making`), what they make is not to be seen yet, and no policy is forgotten.
    pub fn note(&mut self, subjects: &[Subject], observed: &Observed, making: bool) {
        let mut kept = self.kept.clone();
        kept.bindings.retain(|_, policy| self.documents.contains_key(policy));
        kept.loose.retain(|pf| kept.bindings.contains_key(pf));
        for subject in subjects.iter().filter(|subject| self.documents.contains_key(&subject.policy)) {
            if let Object::Pci(pf) = subject.object {
                kept.bindings.insert(pf, subject.policy.clone());
                kept.loose.remove(&pf);
            }
        }
        if let Some(ovs) = observed.ovs.as_ref().filter(|_| !making) {
            let ports = ovs.bridges.iter().flat_map(|bridge| bridge.ports.iter().map(|port| port.owner()));
            let mirrors =
                ovs.bridges.iter().flat_map(|bridge| bridge.mirrors.iter().map(|mirror| mirror.owner()));
            let owners = ovs.bridges.iter().map(|bridge| bridge.owner()).chain(ports).chain(mirrors);
            let owners: BTreeSet<&str> = owners.flatten().collect();
            kept.former.retain(|name| owners.contains(name.as_str()));
        }
        self.keep(kept);
    }

    fn keep(&mut self, kept: Kept) {
        let kept = Kept { version: VERSION, ..kept };
        if kept == self.kept {
            return;
        }
        self.kept = kept;
        let Some(file) = &self.file else { return };
        let Ok(text) = output::json(&self.kept) else { return };
        if let Err(error) = write::replace(file, text.as_bytes(), 0o600, 0o755) {
            tracing::error!(error = chain(&error), "the last good policies are not kept");
        }
    }
}

fn read(file: &Path) -> Result<Kept, String> {
    let text = input::read_text(file, LARGEST).map_err(|error| chain(&error))?;
    let kept: Kept = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    if kept.version != VERSION {
        return Err(format!("it has version {}, and this program knows {VERSION}", kept.version));
    }
    Ok(kept)
}

/// A policy that was good. The API server's are JSON, and the limits of files, which are for what people write, are not theirs.
fn good(name: &str, text: &str) -> Option<Document> {
    let json = serde_json::from_str(text).ok();
    let told = json.and_then(|json| portwright_api::policy_from_json(&json).ok());
    told.and_then(|policy| portwright_api::convert(&policy).ok())
        .or_else(|| portwright_api::load([(name, text)]).ok()?.into_iter().next())
}

fn fact(policy: &Policy, followed: bool) -> PolicyFact {
    PolicyFact {
        uid: policy.uid.clone(),
        generation: policy.generation,
        problem: policy.read.as_ref().err().cloned(),
        followed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Policies by name with their priority, or wrong ones.
    fn wish(entries: &[(&str, Option<i32>)]) -> Wish {
        let spec = |priority: i32| format!("priority: {priority}, bridges: [{{name: br0}}]");
        let entries = entries.iter().map(|(name, priority)| (*name, priority.map(spec)));
        wish_of(entries.collect())
    }

    fn wish_of(entries: Vec<(&str, Option<String>)>) -> Wish {
        let policy = |(name, spec): (&str, Option<String>)| {
            let text = format!(
                "{{apiVersion: portwright.dev/v1alpha1, kind: NodePolicy, metadata: {{name: {name}}}, spec: {{{}}}}}",
                spec.as_deref().unwrap_or_default()
            );
            let read = portwright_api::load([("test", text.as_str())]).unwrap().remove(0);
            let read = spec.map(|_| Arc::new(read)).ok_or_else(|| "spec.nics[0]: wrong".to_owned());
            let (max_unavailable, cordon) = (MaxUnavailable::default(), false);
            let policy =
                Policy { uid: None, generation: None, read, text: text.into(), max_unavailable, cordon };
            (name.to_owned(), policy)
        };
        Wish { synced: true, policies: entries.into_iter().map(policy).collect(), ..Wish::default() }
    }

    fn priorities(followed: &Followed) -> Vec<(&str, i32)> {
        followed.documents.iter().map(|document| (document.name.as_str(), document.priority)).collect()
    }

    #[test]
    fn the_last_good_policy_stays_also_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut memory = Memory::read(folder.path());
        assert!(memory.follow(&Wish::default()).documents.is_empty());
        assert_eq!(
            priorities(&memory.follow(&wish(&[("a", Some(1)), ("b", Some(2))]))),
            [("a", 1), ("b", 2)]
        );
        let with_bad = memory.follow(&wish(&[("a", None), ("b", Some(3)), ("c", None)]));
        assert_eq!(priorities(&with_bad), [("a", 1), ("b", 3)]);
        assert!(with_bad.policies["a"].followed && with_bad.policies["a"].problem.is_some());
        assert!(!with_bad.policies["c"].followed);

        let mut again = Memory::read(folder.path());
        assert_eq!(
            priorities(&again.follow(&Wish::default())),
            [("a", 1), ("b", 3)],
            "before the source is read"
        );
        assert_eq!(priorities(&again.follow(&wish(&[("b", Some(3))]))), [("b", 3)]);
        assert_eq!(again.former(), BTreeSet::from(["a".to_owned()]));
        assert_eq!(Memory::read(folder.path()).former(), again.former());
    }

    #[test]
    fn a_policy_that_is_gone_is_remembered_if_it_may_have_left_something() {
        let folder = tempfile::tempdir().unwrap();
        let mut memory = Memory::read(folder.path());
        let (ports, bridges) = ("priority: 1".to_owned(), "bridges: [{name: br0}]".to_owned());
        memory.follow(&wish_of(vec![("ports", Some(ports.clone())), ("both", Some(bridges))]));
        memory.follow(&wish_of(vec![("ports", Some(ports.clone())), ("both", Some(ports.clone()))]));
        memory.follow(&wish_of(Vec::new()));
        let left = BTreeSet::from(["both".to_owned()]);
        assert_eq!(memory.former(), left, "its bridges may still be there although it was changed since");
        memory.follow(&wish_of(vec![("both", Some(ports))]));
        memory.follow(&wish_of(Vec::new()));
        assert_eq!(memory.former(), left, "also when it was back for a while");

        let file = folder.path().join(FILE);
        let text =
            "{\"version\": 1, \"policies\": {\"old\": {\"text\": \"\"}}, \"bindings\": {}, \"former\": []}";
        write::replace(&file, text.as_bytes(), 0o600, 0o755).unwrap();
        let mut memory = Memory::read(folder.path());
        memory.follow(&wish_of(Vec::new()));
        assert_eq!(memory.former(), BTreeSet::from(["old".to_owned()]), "kept by an earlier version");
    }

    #[test]
    fn a_broken_file_is_no_policy() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{", "{\"version\": 9}", "[]"] {
            write::replace(&folder.path().join(FILE), text.as_bytes(), 0o600, 0o755).unwrap();
            assert!(Memory::read(folder.path()).follow(&Wish::default()).documents.is_empty(), "{text}");
        }
    }
}
