//! `profiles list|match|check`.

use std::path::PathBuf;

use serde::Serialize;

use portwright_core::profile::{MatchedBy, Profile};
use portwright_core::{PciAddress, Profiles};

use crate::cli::{Global, ProfilesVerb};
use crate::error::CliError;
use crate::output::{self, Exit};
use crate::{builtin, input, text};

/// Runs the verb.
pub fn run(global: &Global, verb: &ProfilesVerb) -> Result<Exit, CliError> {
    match verb {
        ProfilesVerb::List => list(global),
        ProfilesVerb::Match { observed } => matches(global, observed.as_ref()),
        ProfilesVerb::Check { files } => check(global, files),
    }
}

fn list(global: &Global) -> Result<Exit, CliError> {
    let profiles = input::profiles(global.profiles.as_deref())?;
    let all: Vec<&Profile> = profiles.iter().collect();
    output::print(global.output, &all, || text::profiles::list(&all))?;
    Ok(Exit::Ok)
}

/// Which profile applies to a PF.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Match<'a> {
    /// The PF.
    pub address: PciAddress,
    /// Its netdev.
    pub name: Option<String>,
    /// Profile name; `generic` if none fits.
    pub profile: &'a str,
    /// By what rule.
    pub rule: String,
    /// Where portwright was run on this family; null means untested.
    pub tested: Option<&'a str>,
    /// What an operator should know of it.
    pub quirks: Vec<&'a str>,
}

fn matches(global: &Global, observed: Option<&PathBuf>) -> Result<Exit, CliError> {
    let profiles = input::profiles(global.profiles.as_deref())?;
    let observed = match observed {
        Some(path) => input::read_observed(path)?,
        None => super::observe::observe(global)?,
    };
    let found: Vec<Match<'_>> = observed.pfs.iter().map(|pf| of_pf(pf, &profiles)).collect();
    output::print(global.output, &found, || text::profiles::matches(&found))?;
    Ok(Exit::Ok)
}

/// Which profile applies to a PF, and why.
pub fn of_pf<'a>(pf: &portwright_core::observed::Pf, profiles: &'a Profiles) -> Match<'a> {
    let (profile, rule) = profiles.find(pf);
    let rule = match rule {
        MatchedBy::Ids(ids) => format!("IDs {ids}"),
        MatchedBy::Driver(driver) => format!("driver {driver}"),
        MatchedBy::Nothing => "nothing fits".to_owned(),
    };
    Match {
        address: pf.address,
        name: pf.name.clone(),
        profile: profile.map_or(portwright_core::profile::GENERIC, |profile| profile.name.as_str()),
        rule,
        tested: profile.and_then(|profile| profile.tested_on(pf)),
        quirks: profile
            .into_iter()
            .flat_map(|profile| &profile.quirks)
            .map(|quirk| quirk.value.as_str())
            .collect(),
    }
}

fn check(global: &Global, files: &[PathBuf]) -> Result<Exit, CliError> {
    let profiles = if files.is_empty() {
        input::profiles(global.profiles.as_deref())?
    } else {
        let read =
            |path: &PathBuf| Ok((input::file_name(path), input::read_text(path, input::LARGEST_PROFILE)?));
        let given: Vec<(String, String)> = files.iter().map(read).collect::<Result<_, CliError>>()?;
        // Checked together with the built-in ones: a driver may be claimed only once.
        let mut all: Vec<(String, String)> = builtin::FILES
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .filter(|(name, _)| given.iter().all(|(other, _)| other != name))
            .collect();
        all.extend(given);
        input::parse_profiles(&all)?
    };
    let count = profiles.iter().count();
    output::stderr(&format!("{count} profiles, all in order\n"));
    Ok(Exit::Ok)
}
