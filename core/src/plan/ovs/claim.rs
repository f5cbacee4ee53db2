//! Which bridge gets a port that two bridges want. Policies are merged by bridge, so two of them may each put the same
//! interface somewhere: the larger priority has it, among equals the bridge that has it already, else nobody.

use std::collections::{BTreeMap, BTreeSet};

use super::bind::Bindings;
use super::uplink::Wanted;
use super::{Scene, bridge, uplink};
use crate::plan::Findings;

/// Names of ports and interfaces, and where they belong.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims {
    /// The bridges that want a name; for an interface of a bond with the bond's name.
    homes: BTreeMap<String, BTreeSet<String>>,
    /// Names that several want, and who gets it.
    contested: BTreeMap<String, Contest>,
}

#[derive(Debug, Clone)]
struct Contest {
    winner: Option<String>,
    /// `policy` and bridge of all.
    claimants: BTreeSet<String>,
}

struct Claim<'a> {
    bridge: &'a str,
    policy: &'a str,
    priority: i32,
}

impl Claims {
    /// The claims of all bound bridges that are or will be ours.
    pub(super) fn of(scene: &Scene<'_>, bindings: &Bindings<'_>) -> Claims {
        let mut claims = Claims::default();
        let mut by_name: BTreeMap<String, Vec<Claim<'_>>> = BTreeMap::new();
        for bound in &bindings.bridges {
            let found = scene.ovs.bridge(&bound.wish.name);
            if found.is_some_and(|found| !bridge::is_taken(scene, found, bound)) {
                continue;
            }
            let mut wanted = uplink::wanted(scene, bound.wish, found, &mut Findings::default());
            wanted.extend(bound.wish.ports.iter().map(Wanted::of_port));
            for one in wanted {
                let names: BTreeSet<&String> = one.interfaces.iter().chain([&one.name]).collect();
                for name in names {
                    // A port whose netdev becomes part of a bond moves, even on the same bridge.
                    let home = if *name == one.name {
                        bound.wish.name.clone()
                    } else {
                        format!("{}/{}", bound.wish.name, one.name)
                    };
                    claims.homes.entry(name.clone()).or_default().insert(home);
                    let claim = Claim {
                        bridge: &bound.wish.name,
                        policy: &bound.document.name,
                        priority: bound.document.priority,
                    };
                    by_name.entry(name.clone()).or_default().push(claim);
                }
            }
        }
        for (name, claimants) in by_name.into_iter().filter(|(_, claimants)| claimants.len() > 1) {
            claims.contest(scene, name, &claimants);
        }
        claims
    }

    fn contest(&mut self, scene: &Scene<'_>, name: String, claimants: &[Claim<'_>]) {
        let top = claimants.iter().map(|claim| claim.priority).max().unwrap_or_default();
        let first: Vec<&Claim<'_>> = claimants.iter().filter(|claim| claim.priority == top).collect();
        let here = scene.ovs.interface(&name).map(|(bridge, ..)| bridge.name.as_str());
        let winner = match first.as_slice() {
            [only] => Some(only.bridge),
            several => several.iter().map(|claim| claim.bridge).find(|bridge| Some(*bridge) == here),
        };
        let winner = winner.map(ToOwned::to_owned);
        if let (Some(winner), Some(homes)) = (&winner, self.homes.get_mut(&name)) {
            homes.retain(|home| home.split('/').next() == Some(winner));
        }
        let claimants =
            claimants.iter().map(|claim| format!("bridge {} (policy {})", claim.bridge, claim.policy));
        self.contested.insert(name, Contest { winner, claimants: claimants.collect() });
    }

    /// Where a name belongs: a bridge, or a bond on one.
    pub(super) fn homes(&self, name: &str) -> Option<&BTreeSet<String>> {
        self.homes.get(name)
    }

    /// Why a bridge does not get a port that it wants.
    pub(super) fn refuses(&self, bridge: &str, one: &Wanted<'_>) -> Option<String> {
        let lost = |name: &String| {
            let contest = self.contested.get(name)?;
            if contest.winner.as_deref() == Some(bridge) {
                return None;
            }
            let all: Vec<&str> = contest.claimants.iter().map(String::as_str).collect();
            let gets = match &contest.winner {
                Some(winner) => format!("; {winner} gets it"),
                None => String::new(),
            };
            Some(format!("{name} is wanted by {}{gets}", all.join(" and ")))
        };
        one.interfaces.iter().chain([&one.name]).find_map(lost)
    }
}
