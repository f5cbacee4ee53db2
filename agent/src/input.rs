//! The rim where files that an operator names enter the program: size-limited, as text, with the path in every error.
#![allow(clippy::disallowed_methods, reason = "this is the seam that reads files given on the command line")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use portwright_core::desired::Desired;
use portwright_core::{Observed, Profiles};
use serde::de::Error as _;

use crate::builtin;
use crate::error::CliError;

/// Largest profile file in bytes. A real one has some kilobytes.
pub const LARGEST_PROFILE: u64 = 1024 * 1024;
/// Largest `observe -o json` file in bytes: 4,096 VFs have about 10 MB.
pub const LARGEST_OBSERVED: u64 = 256 * 1024 * 1024;

/// A named text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextFile {
    /// What to call it in messages: the path as it was typed, or `stdin`.
    pub name: String,
    /// Content.
    pub text: String,
}

/// Reads policy files; `-` is stdin, once.
pub fn read_policies(paths: &[PathBuf]) -> Result<Vec<TextFile>, CliError> {
    if paths.iter().filter(|path| is_stdin(path)).count() > 1 {
        return Err(CliError::StdinTwice);
    }
    let mut files = Vec::new();
    let mut wrong = Vec::new();
    for path in paths {
        let name = if is_stdin(path) { "stdin".to_owned() } else { path.display().to_string() };
        // One byte more than allowed is enough to see that the file is too large.
        let bytes = read_bytes(path, to_u64(portwright_api::MAX_FILE_BYTES))?;
        match portwright_api::decode(&name, &bytes) {
            Ok(text) => files.push(TextFile { name, text: text.to_owned() }),
            Err(error) => wrong.push(*error),
        }
    }
    if wrong.is_empty() { Ok(files) } else { Err(CliError::Policies { problems: wrong }) }
}

/// What the policies in these files want.
pub fn desired(files: &[TextFile]) -> Result<Desired, CliError> {
    let documents = portwright_api::load(files.iter().map(|file| (file.name.as_str(), file.text.as_str())))
        .map_err(|problems| CliError::Policies { problems })?;
    Ok(Desired { documents, ..Desired::default() })
}

fn to_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Reads a file (`-` is stdin), at most one byte more than `limit`.
fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>, CliError> {
    let refuse = |source| CliError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    if is_stdin(path) {
        io::stdin().lock().take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(refuse)?;
    } else {
        let file = File::open(path).map_err(refuse)?;
        let refuse = |source| CliError::Read { path: path.to_owned(), source };
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(refuse)?;
    }
    Ok(bytes)
}

/// Reads a text file (`-` is stdin) of at most `limit` bytes.
pub fn read_text(path: &Path, limit: u64) -> Result<String, CliError> {
    let bytes = read_bytes(path, limit)?;
    if to_u64(bytes.len()) > limit {
        return Err(CliError::TooLarge { path: path.to_owned(), limit });
    }
    String::from_utf8(bytes).map_err(|error| CliError::NotText {
        path: path.to_owned(),
        offset: error.utf8_error().valid_up_to(),
    })
}

/// Reads what `observe -o json` printed, on this node or another.
pub fn read_observed(path: &Path) -> Result<Observed, CliError> {
    let text = read_text(path, LARGEST_OBSERVED)?;
    let refuse = |field: String, source| CliError::Observed { path: path.to_owned(), field, source };
    let mut parser = serde_json::Deserializer::from_str(&text);
    let observed: Observed = serde_path_to_error::deserialize(&mut parser)
        .map_err(|error| refuse(error.path().to_string(), error.into_inner()))?;
    parser.end().map_err(|source| refuse(".".to_owned(), source))?;
    let mut known = BTreeSet::new();
    for (index, pf) in observed.pfs.iter().enumerate() {
        if !known.insert(pf.address) {
            let twice = serde_json::Error::custom(format!("{} is listed twice", pf.address));
            return Err(refuse(format!("pfs[{index}].address"), twice));
        }
    }
    Ok(observed)
}

/// The compiled-in profiles with those of a folder over them.
pub fn profiles(folder: Option<&Path>) -> Result<Profiles, CliError> {
    let mut files: Vec<(String, String)> =
        builtin::FILES.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    if let Some(folder) = folder {
        for path in toml_files(folder)? {
            let name = file_name(&path);
            files.retain(|(known, _)| *known != name);
            files.push((name, read_text(&path, LARGEST_PROFILE)?));
        }
    }
    files.sort();
    parse_profiles(&files)
}

/// Parses profiles; all that is wrong is in the error.
pub fn parse_profiles(files: &[(String, String)]) -> Result<Profiles, CliError> {
    Profiles::parse(files.iter().map(|(name, text)| (name.as_str(), text.as_str()))).map_err(|errors| {
        CliError::Profiles {
            problems: errors.iter().map(|error| error.to_string().trim_end().to_owned()).collect(),
        }
    })
}

/// The last part of a path, as text.
pub fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn toml_files(folder: &Path) -> Result<Vec<PathBuf>, CliError> {
    Ok(entries(folder)?.into_iter().filter(|path| has_extension(path, "toml")).collect())
}

/// The JSON files of a folder and of the folders directly in it, sorted. A folder that is not there holds none.
pub fn json_files(folder: &Path) -> Result<Vec<PathBuf>, CliError> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for path in entries(folder)? {
        if path.is_dir() {
            files.extend(entries(&path)?);
        } else {
            files.push(path);
        }
    }
    files.retain(|path| has_extension(path, "json") && path.is_file());
    Ok(files)
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension == wanted)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, CliError> {
    let read = || -> io::Result<Vec<PathBuf>> {
        let mut paths = std::fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<PathBuf>>>()?;
        paths.sort();
        Ok(paths)
    };
    read().map_err(|source| CliError::Read { path: folder.to_owned(), source })
}
