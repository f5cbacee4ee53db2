//! Hardware profiles as tables.

use portwright_core::profile::Profile;

use super::table::table;
use crate::verb::profiles::Match;

/// One line per profile.
pub fn list(profiles: &[&Profile]) -> String {
    let rows = profiles.iter().map(|profile| {
        vec![
            profile.name.clone(),
            profile.drivers.join(","),
            profile.vf_driver.as_ref().map(|fact| fact.value.clone()).unwrap_or_default(),
            if profile.tested.is_some() { "yes" } else { "no" }.to_owned(),
            profile.summary.clone(),
        ]
    });
    table(&["PROFILE", "DRIVERS", "VF DRIVER", "TESTED", "FAMILY"], rows)
}

/// One line per PF, then what an operator should know of each family that was met.
pub fn matches(matches: &[Match<'_>]) -> String {
    if matches.is_empty() {
        return "no PF on this node\n".to_owned();
    }
    let rows = matches.iter().map(|found| {
        vec![
            found.address.to_string(),
            found.name.clone().unwrap_or_default(),
            found.profile.to_owned(),
            found.rule.clone(),
            if found.tested.is_some() { "tested" } else { "untested hardware" }.to_owned(),
        ]
    });
    let mut text = table(&["ADDRESS", "NAME", "PROFILE", "MATCHED BY", "STATE"], rows);
    let mut told: Vec<&str> = Vec::new();
    for found in matches.iter().filter(|found| !found.quirks.is_empty()) {
        if told.contains(&found.profile) {
            continue;
        }
        told.push(found.profile);
        text.push_str(&format!("\n{}\n", found.profile));
        text.extend(found.quirks.iter().map(|quirk| format!("  {quirk}\n")));
    }
    text
}
