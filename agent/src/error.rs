//! What can go wrong on the command line, and what an operator can do about it.

use std::io;
use std::path::PathBuf;

use portwright_api::PolicyError;
use portwright_core::drive::chain;
use portwright_host::run::HostError;

use crate::daemon::cluster::client::ConnectError;
use crate::daemon::socket::client::AskError;
use crate::pools::PoolsError;
use portwright_ovs::node::OvsError;

/// An error of a verb. Each ends the program with exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A file could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is larger than anything that makes sense.
    #[error("`{}` is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Limit in bytes.
        limit: u64,
    },
    /// A file is not text.
    #[error("`{}` is not UTF-8 text: byte {offset} is the first that is not", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Offset of the first wrong byte, from 0.
        offset: usize,
    },
    /// stdin was named twice.
    #[error("stdin (`-`) can be read only once")]
    StdinTwice,
    /// A file or folder could not be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// stdout could not be written.
    #[error("cannot write to stdout")]
    Stdout {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A value could not be printed as JSON.
    #[error("cannot print JSON")]
    Json {
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A value could not be printed as YAML.
    #[error("cannot print YAML")]
    Yaml {
        /// Why.
        #[source]
        source: serde_saphyr::ser::Error,
    },
    /// A file is not what `observe -o json` prints.
    #[error("`{}` is not what `portwright observe -o json` prints{}", path.display(), at(field))]
    Observed {
        /// The file.
        path: PathBuf,
        /// Path of the field.
        field: String,
        /// Parser's message with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// Nothing could be said of the node.
    #[error("cannot observe the node")]
    Observe {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What was done could not be verified.
    #[error("the steps were run, and the node cannot be observed again to verify them")]
    Verify {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The node cannot be changed: somebody else does, or the rights are missing.
    #[error("apply cannot begin")]
    Node {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Open vSwitch cannot be asked.
    #[error("Open vSwitch cannot be asked")]
    Ovs {
        /// Why.
        #[source]
        source: Box<OvsError>,
    },
    /// The cluster cannot be followed.
    #[error("the cluster cannot be followed")]
    Cluster {
        /// Why.
        #[source]
        source: Box<ConnectError>,
    },
    /// Signals cannot be waited for.
    #[error("cannot wait for signals")]
    Signals {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Policies are wrong in themselves.
    #[error("the policies cannot be used")]
    Policies {
        /// What is wrong, each with its place.
        problems: Vec<PolicyError>,
    },
    /// Hardware profiles cannot be used.
    #[error("{}", list("cannot use the hardware profiles", problems))]
    Profiles {
        /// What is wrong, file by file.
        problems: Vec<String>,
    },
    /// The definitions that are compiled in cannot be read back.
    #[error("cannot print the CustomResourceDefinitions")]
    Crds {
        /// Why.
        #[source]
        source: serde_saphyr::Error,
    },
    /// Pools cannot be shown or served.
    #[error("pools cannot be given to kubelet")]
    Pools {
        /// Why.
        #[source]
        source: Box<PoolsError>,
    },
    /// The daemon cannot be asked.
    #[error("the daemon cannot be asked")]
    Daemon {
        /// Why.
        #[source]
        source: Box<AskError>,
    },
    /// A verb that changes or describes the running host was pointed at a tree.
    #[error("`portwright {verb}` works on the running host only, not on `--root {}`", root.display())]
    Root {
        /// The verb.
        verb: &'static str,
        /// The root.
        root: PathBuf,
    },
}

impl From<PoolsError> for CliError {
    fn from(error: PoolsError) -> CliError {
        CliError::Pools { source: Box::new(error) }
    }
}

/// Where in the document, unless it is the document as a whole.
fn at(field: &str) -> String {
    if field == "." { String::new() } else { format!(", at `{field}`") }
}

/// A heading, and a line for each member.
fn list(heading: &str, members: &[String]) -> String {
    let lines: Vec<String> =
        members.iter().map(|member| format!("\n  {}", member.replace('\n', "\n  "))).collect();
    format!("{heading}:{}", lines.concat())
}

impl CliError {
    /// The node cannot be opened for changes.
    pub fn of_host(error: HostError) -> CliError {
        let hint = error.hint();
        CliError::Node { source: Box::new(error), hint }
    }

    /// Open vSwitch cannot be asked.
    pub fn of_ovs(error: OvsError) -> CliError {
        CliError::Ovs { source: Box::new(error) }
    }

    /// What to do about it.
    pub fn hints(&self) -> Vec<String> {
        let hint = match self {
            CliError::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run as root, or make the file readable"
            }
            CliError::Read { source, .. } if source.kind() == io::ErrorKind::IsADirectory => {
                "name the files in it"
            }
            CliError::Read { .. } => "check the path; it is relative to the current folder",
            CliError::TooLarge { .. } => {
                "a policy or profile has some kilobytes; check that this is the right file"
            }
            CliError::NotText { .. } => "save the file as UTF-8",
            // Each mistake carries its own.
            CliError::Policies { .. } => return Vec::new(),
            CliError::Observe { .. } => "`--root` names the folder that holds `sys` and `proc` of the node",
            CliError::Verify { .. } => "run `portwright plan` with the same files to see what is left",
            CliError::Node { hint, .. } => return hint.clone().into_iter().collect(),
            CliError::Ovs { source } => return source.hint().into_iter().collect(),
            CliError::Cluster { source } => source.hint(),
            CliError::Daemon { source } => source.hint(),
            CliError::Signals { .. } => "raise the limit of open files (`ulimit -n`)",
            CliError::Pools { source } => return vec![source.hint()],
            CliError::StdinTwice => "put the documents into one stream, separated by `---`",
            CliError::Observed { .. } => {
                "make the file with `portwright observe -o json` of the same version"
            }
            CliError::Profiles { .. } => "hw-profiles/README.md describes the format",
            CliError::Root { .. } => {
                "with another root than `/` only `observe`, `plan`, `pools`, `profiles` and `run` are possible"
            }
            CliError::Write { .. } | CliError::Stdout { .. } => "check free space and permissions",
            CliError::Json { .. } | CliError::Yaml { .. } | CliError::Crds { .. } => {
                "this is a mistake in portwright; please report it with the output of `portwright bundle`"
            }
        };
        vec![hint.to_owned()]
    }

    /// The error as it is printed: the chain of causes once, then the hints set apart by an empty line.
    pub fn render(&self) -> String {
        if let CliError::Policies { problems } = self {
            let each = |problem: &PolicyError| block(&problem.to_string(), problem.hint.as_slice());
            return problems.iter().map(each).collect::<Vec<_>>().join("\n");
        }
        block(&chain(self), &self.hints())
    }
}

/// One error with its hints.
fn block(what: &str, hints: &[String]) -> String {
    let mut text = format!("error: {what}\n");
    for (position, hint) in hints.iter().enumerate() {
        text.push_str(if position == 0 { "\nhint: " } else { "hint: " });
        text.push_str(hint);
        text.push('\n');
    }
    text
}
