//! Whether a mirror copies what it should, from counters that somebody reads now and then. Nothing is written for it.
//!
//! Open vSwitch never says that a mirror does not work, and its counters mislead: they stay at their last values when it stops.
//! So they are compared with those of the ports that it selects: frames that passed there and were not copied are the sign. A
//! mirror of some VLANs only cannot be judged that way, because nobody counts the frames of a VLAN.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::observed::{Copies, Mirror, Ovs};
use super::target::Target;

/// Open vSwitch writes counters every five seconds; looks that are closer say nothing new.
const APART: Duration = Duration::from_secs(6);
/// So few frames in [`APART`] may be such as no mirror copies (LACP makes one a second, spanning tree one in two).
const FEW: u64 = 10;
/// Looks in a row that show frames and no copies. The counters of mirrors come a second late, so one proves nothing.
const SILENT: u8 = 2;

/// What is counted about a mirror. Changes by itself, so planning never looks at it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MirrorCounts {
    /// Frames that it has copied since it last began to work; none if Open vSwitch has not counted for it: it began less than
    /// five seconds ago, or does not work.
    #[serde(default)]
    pub copied: Option<u64>,
    /// The same in bytes.
    #[serde(default)]
    pub copied_bytes: Option<u64>,
    /// Frames that the selected ports have moved in the selected directions; none where that cannot be said.
    #[serde(default)]
    pub offered: Option<u64>,
    /// Whether the output port is set up; none if that is not known, or the copies go to a VLAN.
    #[serde(default)]
    pub output_up: Option<bool>,
}

/// How a mirror fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MirrorHealth {
    /// Nobody has read its counters.
    Unknown,
    /// It has no output: the port is gone (`MirrorOutputMissing`).
    NoOutput,
    /// Its output port is down, so nobody sees the copies.
    OutputDown,
    /// It selects no port at the moment, as it should if no pod or port matches.
    SelectsNothing,
    /// Open vSwitch has not counted for it: it is new, or does not work.
    NotCounted,
    /// It is counted for, and there is nothing against it.
    Works,
    /// Frames passed at its ports for a while, and none was copied; or it was not counted for in all that time.
    DoesNotCopy,
}

impl MirrorHealth {
    /// In words; empty if there is nothing to say.
    pub fn words(self) -> &'static str {
        match self {
            MirrorHealth::Unknown | MirrorHealth::Works => "",
            MirrorHealth::NoOutput => "no output",
            MirrorHealth::OutputDown => "output is down",
            MirrorHealth::SelectsNothing => "selects nothing",
            MirrorHealth::NotCounted => "no counters yet",
            MirrorHealth::DoesNotCopy => "does not copy",
        }
    }

    /// Whether an operator should be told.
    pub fn is_bad(self) -> bool {
        match self {
            MirrorHealth::NoOutput | MirrorHealth::OutputDown | MirrorHealth::DoesNotCopy => true,
            MirrorHealth::Unknown
            | MirrorHealth::SelectsNothing
            | MirrorHealth::NotCounted
            | MirrorHealth::Works => false,
        }
    }
}

impl Mirror {
    /// What a single look says of it.
    pub fn health(&self) -> MirrorHealth {
        let copies = &self.copies;
        if copies.output_port.is_none() && copies.output_vlan.is_none() {
            return MirrorHealth::NoOutput;
        }
        if !copies.all && copies.sources.is_empty() && copies.destinations.is_empty() {
            return MirrorHealth::SelectsNothing;
        }
        match self.counts {
            None => MirrorHealth::Unknown,
            Some(MirrorCounts { output_up: Some(false), .. }) => MirrorHealth::OutputDown,
            Some(MirrorCounts { copied: None, .. }) => MirrorHealth::NotCounted,
            Some(MirrorCounts { copied: Some(_), .. }) => MirrorHealth::Works,
        }
    }
}

/// What was seen of a mirror earlier.
#[derive(Debug, Clone)]
struct Track {
    at: Duration,
    counts: MirrorCounts,
    silent: u8,
}

/// A judgement, and what the mirror was like then: one that copies something else, or to somewhere else, is another one.
#[derive(Debug, Clone)]
struct Judged {
    copies: Copies,
    health: MirrorHealth,
}

/// Judges mirrors by comparing looks.
#[derive(Debug, Clone, Default)]
pub struct MirrorWatch {
    tracks: BTreeMap<Target, Track>,
    judged: BTreeMap<Target, Judged>,
}

impl MirrorWatch {
    /// How every mirror fares, by object. `now` is any clock that only goes forward; looks that are closer than six seconds to the one
    /// before change nothing of a judgement, so it may be called at any rate.
    pub fn judge(&mut self, ovs: &Ovs, now: Duration) -> BTreeMap<Target, MirrorHealth> {
        let mut tracks = std::mem::take(&mut self.tracks);
        let before = std::mem::take(&mut self.judged);
        for bridge in &ovs.bridges {
            for mirror in &bridge.mirrors {
                let target = Target::mirror(&bridge.name, &mirror.name);
                let mut health = mirror.health();
                if let (MirrorHealth::Works | MirrorHealth::NotCounted, Some(counts)) =
                    (health, mirror.counts)
                {
                    let same = before.get(&target).is_some_and(|one| one.copies == mirror.copies);
                    let track = next(tracks.remove(&target).filter(|_| same), counts, now);
                    if track.silent >= SILENT {
                        health = MirrorHealth::DoesNotCopy;
                    }
                    self.tracks.insert(target.clone(), track);
                }
                self.judged.insert(target, Judged { copies: mirror.copies.clone(), health });
            }
        }
        self.judged.iter().map(|(target, judged)| (target.clone(), judged.health)).collect()
    }

    /// Notes in what was seen how its mirrors were judged last. One that was not judged yet, or is another one by now, is left out.
    pub fn note(&self, ovs: &mut Ovs) {
        for bridge in &mut ovs.bridges {
            for mirror in &mut bridge.mirrors {
                let judged = self.judged.get(&Target::mirror(&bridge.name, &mirror.name));
                let same = judged.filter(|judged| judged.copies == mirror.copies);
                mirror.judged = same.map(|judged| judged.health);
            }
        }
    }
}

fn next(before: Option<Track>, counts: MirrorCounts, now: Duration) -> Track {
    let Some(before) = before else { return Track { at: now, counts, silent: 0 } };
    let apart = now.saturating_sub(before.at);
    if apart < APART {
        return before;
    }
    let few = FEW.saturating_mul(apart.as_secs()).checked_div(APART.as_secs()).unwrap_or(FEW);
    let passed = match (before.counts.offered, counts.offered) {
        (Some(then), Some(now)) => now.saturating_sub(then) > few,
        (None, _) | (_, None) => false,
    };
    let silent = match (before.counts.copied, counts.copied) {
        // Without counters for longer than they take, it does not work, whether frames pass or not.
        (None, None) => before.silent.saturating_add(1),
        (then, now) if then != now => 0,
        _ if passed => before.silent.saturating_add(1),
        // A quiet time proves nothing in either direction.
        _ => before.silent,
    };
    Track { at: now, counts, silent }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ovs::{Bridge, Copies};

    const TEN: Duration = Duration::from_secs(10);

    fn mirror(counts: Option<MirrorCounts>) -> Mirror {
        let copies = Copies {
            sources: ["a".to_owned()].into(),
            output_port: Some("o".to_owned()),
            ..Copies::default()
        };
        Mirror { name: "tap".to_owned(), copies, counts, ..Mirror::default() }
    }

    fn counted(copied: Option<u64>, offered: Option<u64>) -> Mirror {
        mirror(Some(MirrorCounts { copied, offered, output_up: Some(true), ..MirrorCounts::default() }))
    }

    /// The last judgement after looks ten seconds apart.
    fn after(looks: &[Mirror], apart: Duration) -> MirrorHealth {
        let mut watch = MirrorWatch::default();
        let mut last = MirrorHealth::Unknown;
        for (mirror, number) in looks.iter().zip(0_u32..) {
            let bridge =
                Bridge { name: "br0".to_owned(), mirrors: vec![mirror.clone()], ..Bridge::default() };
            let ovs = Ovs { bridges: vec![bridge], ..Ovs::default() };
            let judged = watch.judge(&ovs, apart.saturating_mul(number));
            last = judged.get(&Target::mirror("br0", "tap")).copied().unwrap_or(MirrorHealth::Unknown);
        }
        last
    }

    #[test]
    fn one_look_tells_what_needs_no_comparison() {
        let with = |change: fn(&mut Mirror)| {
            let mut mirror = counted(Some(5), Some(5));
            change(&mut mirror);
            mirror.health()
        };
        assert_eq!(with(|_| {}), MirrorHealth::Works);
        assert_eq!(with(|mirror| mirror.counts = None), MirrorHealth::Unknown);
        assert_eq!(with(|mirror| mirror.copies.output_port = None), MirrorHealth::NoOutput);
        assert_eq!(with(|mirror| mirror.copies.sources.clear()), MirrorHealth::SelectsNothing);
        let down = MirrorCounts { output_up: Some(false), copied: Some(1), ..MirrorCounts::default() };
        assert_eq!(mirror(Some(down)).health(), MirrorHealth::OutputDown);
        assert_eq!(counted(None, Some(5)).health(), MirrorHealth::NotCounted);
    }

    #[test]
    fn frames_that_pass_and_are_not_copied_are_told() {
        let look = |copied, offered| counted(Some(copied), Some(offered));
        let silent = [look(7, 0), look(7, 100), look(7, 200)];
        assert_eq!(after(&silent, TEN), MirrorHealth::DoesNotCopy);
        assert_eq!(after(&silent, Duration::from_secs(1)), MirrorHealth::Works, "counters come every 5 s");
        let late = [look(7, 0), look(7, 100), look(107, 100)];
        assert_eq!(after(&late, TEN), MirrorHealth::Works, "copies are counted a moment later");
        let quiet = [look(7, 100), look(7, 100), look(7, 105), look(7, 108)];
        assert_eq!(after(&quiet, TEN), MirrorHealth::Works);
        let lacp = [look(7, 0), look(7, 45), look(7, 90)];
        assert_eq!(after(&lacp, Duration::from_secs(30)), MirrorHealth::Works, "LACP and spanning tree only");
        assert_eq!(after(&lacp, TEN), MirrorHealth::DoesNotCopy, "as many in a third of the time");
        let again = [look(7, 0), look(7, 100), look(7, 200), look(60, 250)];
        assert_eq!(after(&again, TEN), MirrorHealth::Works);
        let restarted = [look(7, 900), look(0, 5), look(0, 9)];
        assert_eq!(after(&restarted, TEN), MirrorHealth::Works, "counters that began anew");
    }

    #[test]
    fn a_mirror_that_is_never_counted_for_does_not_work() {
        let never = counted(None, None);
        assert_eq!(after(&[never.clone(), never.clone()], TEN), MirrorHealth::NotCounted);
        assert_eq!(after(&[never.clone(), never.clone(), never.clone()], TEN), MirrorHealth::DoesNotCopy);
        assert_eq!(after(&[never.clone(), never, counted(Some(0), None)], TEN), MirrorHealth::Works);
    }

    #[test]
    fn a_mirror_that_is_changed_is_another_one() {
        let ovs = |mirror: &Mirror| {
            let bridge =
                Bridge { name: "br0".to_owned(), mirrors: vec![mirror.clone()], ..Bridge::default() };
            Ovs { bridges: vec![bridge], ..Ovs::default() }
        };
        let noted = |watch: &MirrorWatch, mirror: &Mirror| {
            let mut seen = ovs(mirror);
            watch.note(&mut seen);
            seen.bridges.first().and_then(|bridge| bridge.mirrors.first()).and_then(|mirror| mirror.judged)
        };
        let dead = counted(None, None);
        let mut watch = MirrorWatch::default();
        assert_eq!(noted(&watch, &dead), None, "not judged yet");
        for look in 0_u32..3 {
            watch.judge(&ovs(&dead), TEN.saturating_mul(look));
        }
        assert_eq!(noted(&watch, &mirror(None)), Some(MirrorHealth::DoesNotCopy), "without counters too");
        let mut changed = dead.clone();
        changed.copies.sources.insert("b".to_owned());
        assert_eq!(noted(&watch, &changed), None);
        watch.judge(&ovs(&changed), TEN.saturating_mul(3));
        assert_eq!(noted(&watch, &changed), Some(MirrorHealth::NotCounted), "its past is another one's");
    }

    #[test]
    fn a_mirror_of_vlans_is_not_judged_by_its_ports() {
        let look = counted(Some(7), None);
        assert_eq!(after(&[look.clone(), look.clone(), look.clone(), look], TEN), MirrorHealth::Works);
    }
}
