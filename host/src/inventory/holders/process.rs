//! One pass over `proc/<pid>`: open files that matter, namespaces, kubelet's addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use nix::errno::Errno;
use portwright_core::drive::chain;

use super::namespace::Namespaces;
use super::opened::{self, Opened};
use super::{Hidden, PROC};
use crate::proc::process;
use crate::root::{Dir, ReadError, Root};
use crate::sysfs::parse;

/// More than Linux allows for all words of a command that somebody types.
const COMMAND_LINE_LIMIT: usize = 1 << 20;

/// Certificates may be written into it.
const KUBECONFIG_LIMIT: usize = 1 << 20;

/// All processes, as far as they matter.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    /// Those with a file open that matters, by pid.
    pub(crate) of_interest: BTreeMap<u32, Process>,
    /// Network namespaces by inode.
    pub(crate) network: Namespaces,
    /// A process of each mount namespace, by the text of its link.
    pub(crate) mount: BTreeMap<String, u32>,
    /// The network namespace that we are in.
    pub(crate) own_network: Option<u64>,
    /// Addresses in kubelet's `--node-ip`.
    pub(crate) node_addresses: Vec<IpAddr>,
    /// API servers in kubelet's kubeconfig, as far as it names addresses.
    pub(crate) api_servers: Vec<(IpAddr, u16)>,
}

/// A process that holds files.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) command: String,
    pub(crate) container: Option<String>,
    /// Path as shown, and what it is.
    pub(crate) files: Vec<(String, Opened)>,
}

impl Processes {
    /// Reads them all. What could not be read is told to `hidden`.
    pub(crate) fn read(root: &Root, live: bool, hidden: &mut Hidden) -> Processes {
        let mut found = Processes::default();
        let mut proc = match root.dir("proc") {
            Ok(proc) => proc,
            // A tree without processes has none; a host always has.
            Err(error) if error.is_absent() && !live => return found,
            Err(error) => {
                hidden.add(PROC, || chain(&error));
                return found;
            }
        };
        let mut pids = Vec::new();
        let listed =
            proc.scan(|name, _| pids.extend(std::str::from_utf8(name).ok().and_then(parse::decimal::<u32>)));
        if let Err(error) = listed {
            hidden.add(PROC, || chain(&error));
        }
        pids.sort_unstable();
        let own = live.then(|| proc.link_name("self").ok().and_then(|name| parse::decimal(&name))).flatten();
        found.own_network = namespace_of(&proc, "self").ok().flatten();
        for pid in pids {
            if let Err(error) = found.look(root, &proc, pid, own == Some(pid), live) {
                note(hidden, &error);
            }
        }
        found
    }

    fn look(
        &mut self,
        root: &Root,
        proc: &Dir<'_>,
        pid: u32,
        is_own: bool,
        live: bool,
    ) -> Result<(), ReadError> {
        let Some(dir) = present(proc.dir(&pid.to_string()))? else { return Ok(()) };
        let command = present(dir.attribute("comm")).ok().flatten().unwrap_or_default();
        if command == "kubelet" {
            let words = root.document(format!("proc/{pid}/cmdline"), COMMAND_LINE_LIMIT);
            let words = words.unwrap_or_default();
            self.node_addresses.extend(process::node_addresses(&words));
            self.api_servers.extend(api_servers(root, pid, &words));
        }
        if live {
            if let Some(inode) = present(namespace_of(proc, &pid.to_string()))?.flatten() {
                let namespace = self.network.entry(inode).or_default();
                namespace.pid.get_or_insert(pid);
                namespace.note(|| proc.path().join(format!("{pid}/ns/net")));
            }
            if let Some(mount) = present(dir.link_name("ns/mnt"))? {
                self.mount.entry(mount).or_insert(pid);
            }
        }
        if is_own {
            return Ok(());
        }
        let mut files = self.files(&dir)?;
        if files.is_empty() {
            files = self.files_of_threads(&dir)?;
        }
        if !files.is_empty() {
            let cgroup = dir.parsed("cgroup", "text", |text| Some(text.to_owned())).unwrap_or_default();
            let container = process::container(&cgroup);
            self.of_interest.insert(pid, Process { pid, command, container, files });
        }
        Ok(())
    }

    /// The same of a process whose first thread has ended while others go on, as of daemons that leave `main` by
    /// `pthread_exit`: the process itself shows no files then.
    fn files_of_threads(&mut self, dir: &Dir<'_>) -> Result<Vec<(String, Opened)>, ReadError> {
        let stat = present(dir.attribute("stat"))?.unwrap_or_default();
        if !process::lives_in_threads(&stat) {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        let Some(mut tasks) = present(dir.dir("task"))? else { return Ok(Vec::new()) };
        let listed = tasks.scan(|name, _| names.extend(std::str::from_utf8(name).map(str::to_owned)));
        present(listed)?;
        let mut files = Vec::new();
        for name in names {
            let Some(task) = present(tasks.dir(&name))? else { continue };
            if let Some(inode) = present(namespace_of(&tasks, &name))?.flatten() {
                self.network.entry(inode).or_default().note(|| task.path().join("ns/net"));
            }
            files.extend(self.files(&task)?);
        }
        Ok(files)
    }

    /// Open files that matter; files of network namespaces are noted on the way.
    fn files(&mut self, dir: &Dir<'_>) -> Result<Vec<(String, Opened)>, ReadError> {
        let mut files = Vec::new();
        let Some(mut descriptors) = present(dir.dir("fd"))? else { return Ok(files) };
        let mut names = Vec::new();
        let listed = descriptors.scan(|name, _| names.extend(std::str::from_utf8(name).map(str::to_owned)));
        present(listed)?;
        for name in names {
            let Some(target) = present(descriptors.link(&name))? else { continue };
            let path = target.to_string_lossy();
            if let Some(inode) = opened::namespace(&path) {
                self.network.entry(inode).or_default().note(|| descriptors.path().join(&name));
            }
            let Some(mut opened) = opened::classify(&path) else { continue };
            if matches!(opened, Opened::AnonymousVfio(None)) {
                let fdinfo = dir.attribute(&format!("fdinfo/{name}")).unwrap_or_default();
                opened = Opened::AnonymousVfio(opened::function_in_fdinfo(&fdinfo));
            }
            files.push((path.into_owned(), opened));
        }
        Ok(files)
    }
}

/// The API servers of a kubelet. Its kubeconfig is where kubelet itself sees it, which may be another root than ours.
fn api_servers(root: &Root, pid: u32, words: &str) -> Vec<(IpAddr, u16)> {
    let Some(path) = process::kubeconfig(words) else { return Vec::new() };
    let seen = root.document(format!("proc/{pid}/root{path}"), KUBECONFIG_LIMIT);
    let text = seen.or_else(|_| root.document(path.trim_start_matches('/'), KUBECONFIG_LIMIT));
    process::api_servers(&text.unwrap_or_default())
}

fn namespace_of(proc: &Dir<'_>, process: &str) -> Result<Option<u64>, ReadError> {
    let target = proc.link(&format!("{process}/ns/net"))?;
    Ok(target.to_str().and_then(opened::namespace))
}

/// The value, or nothing if the process has ended.
fn present<T>(read: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::ESRCH)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn note(hidden: &mut Hidden, error: &ReadError) {
    hidden.add("process", || chain(error));
}
