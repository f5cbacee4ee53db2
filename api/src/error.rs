//! What is wrong with a policy: where (file, line, column, field), what, and what to do about it. Reading collects as
//! many of these as it can, so that an operator repairs a file once and not once per mistake.

use std::fmt;

/// Something wrong with one field of a policy. `Display` is `path: what`, without the hint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {what}")]
pub struct FieldError {
    /// Field path such as `spec.nics[0].vfGroups[1].vlan.id`.
    pub path: String,
    /// What is wrong, in words.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl FieldError {
    /// An error of a field.
    pub fn new(path: impl Into<String>, what: impl Into<String>) -> FieldError {
        FieldError { path: path.into(), what: what.into(), hint: None }
    }

    /// The same error with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> FieldError {
        self.hint = Some(hint.into());
        self
    }
}

/// A place in a file; both count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: u64,
    /// Column in characters.
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Something wrong with a policy file. `Display` is `file:line:column: path: what`, leaving out what is not known, and
/// without the hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// File name as it was given.
    pub file: String,
    /// Place in the file, where the parser knows it.
    pub position: Option<Position>,
    /// Name of the policy, once it is known.
    pub policy: Option<String>,
    /// Field path, if the error is about a field.
    pub path: Option<String>,
    /// What is wrong, in words.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl PolicyError {
    /// An error about a file as a whole.
    pub fn file(file: &str, what: impl Into<String>, hint: &str) -> PolicyError {
        PolicyError {
            file: file.to_owned(),
            position: None,
            policy: None,
            path: None,
            what: what.into(),
            hint: Some(hint.to_owned()),
        }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(position) = self.position {
            write!(f, ":{position}")?;
        }
        if let Some(path) = &self.path {
            write!(f, ": {path}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl std::error::Error for PolicyError {}
