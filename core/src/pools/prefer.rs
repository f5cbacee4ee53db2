//! Which of the free devices a container should get: all on one NUMA node if that can be, then packed on few PFs or spread
//! over many.

use std::collections::{BTreeMap, BTreeSet};

use super::assign::{Pool, PoolDevice};
use crate::desired::Prefer;

/// Chooses `size` devices. What must be included is; ids that the pool does not have are left out, as kubelet would hand
/// them out never the less. The result has no more than `size` ids, and fewer only if there are not enough.
pub fn choose(pool: &Pool, available: &[String], must: &[String], size: usize) -> Vec<String> {
    let known = |ids: &[String]| -> BTreeSet<String> {
        ids.iter().filter(|id| pool.device(id).is_some()).cloned().collect()
    };
    let mut chosen: Vec<String> = known(must).into_iter().take(size).collect();
    let mut free = known(available);
    free.retain(|id| !chosen.contains(id));
    while chosen.len() < size {
        let need = size.saturating_sub(chosen.len());
        let Some(next) = next(pool, &free, &chosen, need) else { break };
        free.remove(&next);
        chosen.push(next);
    }
    chosen
}

/// Where a device is.
type Place = (Option<u16>, String);

fn place(device: &PoolDevice) -> Place {
    let candidate = &device.candidate;
    let function = candidate.pf.or(candidate.address);
    (candidate.numa_node, function.map(|address| address.to_string()).unwrap_or_default())
}

/// The best next device.
fn next(pool: &Pool, free: &BTreeSet<String>, chosen: &[String], need: usize) -> Option<String> {
    if pool.spec.prefer == Prefer::None {
        return free.first().cloned();
    }
    let mut nodes: BTreeMap<Option<u16>, usize> = BTreeMap::new();
    let mut functions: BTreeMap<Place, usize> = BTreeMap::new();
    for device in free.iter().filter_map(|id| pool.device(id)) {
        let place = place(device);
        *nodes.entry(place.0).or_default() += 1;
        *functions.entry(place).or_default() += 1;
    }
    let mut used_nodes: BTreeMap<Option<u16>, usize> = BTreeMap::new();
    let mut used: BTreeMap<Place, usize> = BTreeMap::new();
    for device in chosen.iter().filter_map(|id| pool.device(id)) {
        let place = place(device);
        *used_nodes.entry(place.0).or_default() += 1;
        *used.entry(place).or_default() += 1;
    }
    let count =
        |map: &BTreeMap<Option<u16>, usize>, node: &Option<u16>| map.get(node).copied().unwrap_or_default();
    let on = |map: &BTreeMap<Place, usize>, place: &Place| map.get(place).copied().unwrap_or_default();
    let (places, spread) = (functions.keys(), pool.spec.prefer == Prefer::Spread);
    // Smaller is better: a node in use already, then a node that has room for all, the fullest of these; then the PF.
    let best = places.min_by_key(|place| {
        let room = count(&nodes, &place.0);
        let node = (
            std::cmp::Reverse(count(&used_nodes, &place.0)),
            room < need,
            if room < need { usize::MAX.saturating_sub(room) } else { room },
        );
        let room = on(&functions, place);
        let function = if spread {
            (on(&used, place), false, usize::MAX.saturating_sub(room))
        } else {
            let short = room < need;
            (
                usize::from(on(&used, place) == 0),
                short,
                if short { usize::MAX.saturating_sub(room) } else { room },
            )
        };
        (node, function)
    })?;
    free.iter().find(|id| pool.device(id).is_some_and(|device| self::place(device) == *best)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pools::assign::Health;
    use crate::pools::candidate::Candidate;
    use crate::pools::spec::{Options, PoolSpec, ResourceName};

    /// Devices as `id@pf/node`.
    fn pool(prefer: Prefer, devices: &[&str]) -> Pool {
        let device = |text: &&str| {
            let (id, rest) = text.split_once('@').unwrap();
            let (pf, node) = rest.split_once('/').unwrap();
            let pf = format!("0000:{pf}:00.0").parse().unwrap();
            let candidate = Candidate {
                id: id.to_owned(),
                pf: Some(pf),
                numa_node: node.parse().ok(),
                ..Candidate::default()
            };
            PoolDevice { candidate: candidate.into(), options: Options::default(), health: Health::Healthy }
        };
        let spec = PoolSpec {
            resource: ResourceName { prefix: "p".to_owned(), name: "n".to_owned() },
            origin: String::new(),
            device_type: crate::pools::config::DeviceType::NetDevice,
            exclude_topology: false,
            rules: Vec::new(),
            additional_info: BTreeMap::new(),
            prefer,
            iommufd: false,
            carrier: false,
        };
        let mut devices: Vec<PoolDevice> = devices.iter().map(device).collect();
        devices.sort_by(|a, b| a.id().cmp(b.id()));
        Pool { spec, devices }
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn devices_are_packed_spread_and_kept_on_one_node() {
        let two = ["a@01/0", "b@01/0", "c@01/0", "d@02/0", "e@02/0", "f@03/1", "g@03/1"];
        let cases = [
            (Prefer::Pack, &two[..], "a b c d e f g", "", 2, "f g", "a node that fits exactly"),
            (Prefer::Pack, &two, "a b c d e", "", 2, "d e", "the PF with the fewest free ones"),
            (Prefer::Pack, &two, "a b c d e", "a", 2, "a b", "the PF in use already"),
            (
                Prefer::Pack,
                &two,
                "a b c d e f g",
                "",
                4,
                "a b c d",
                "a node with room for all, then the larger PF",
            ),
            (Prefer::Spread, &two, "a b c d e", "", 2, "a d", "one from each PF"),
            (Prefer::Spread, &two, "a b c d e f g", "f", 2, "f g", "the node in use comes before spreading"),
            (Prefer::None, &two, "g f b", "", 2, "b f", "in the order of ids"),
            (Prefer::Pack, &two, "a x", "y", 2, "a", "unknown ids are left out, too few is all there are"),
            (Prefer::Pack, &two, "a b", "a b c", 2, "a b", "never more than asked for"),
            (Prefer::Pack, &two, "", "", 2, "", "nothing is there"),
            (Prefer::Pack, &two, "a b", "", 0, "", "nothing is wanted"),
            (Prefer::Pack, &two, "a a b", "", 3, "a b", "one device is given once"),
            (Prefer::Pack, &two, "a b c d e f g", "", 7, "a b c d e f g", "all of them"),
        ];
        for (prefer, devices, available, must, size, expected, why) in cases {
            let pool = pool(prefer, devices);
            let mut found = choose(&pool, &words(available), &words(must), size);
            found.sort();
            assert_eq!(found, words(expected), "{why}");
        }
    }
}
