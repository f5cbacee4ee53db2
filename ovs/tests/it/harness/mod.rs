//! Private instances of the real servers.

pub(crate) mod proxy;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use portwright_ovs::ovsdb::{Deadline, Options, Remote};

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// Everything here happens within this time or the test fails.
pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

/// Waits for what happens at once if all is well; fails instead of hanging if it never does.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("nothing happened")
}

/// Impatient, so that outages are over quickly.
pub(crate) fn quick() -> Options {
    Options {
        backoff_first: Duration::from_millis(10),
        backoff_most: Duration::from_millis(50),
        ..Options::default()
    }
}

/// Runs a command and gives its output; fails with what it said.
pub(crate) fn run(program: &str, args: &[&str], directory: Option<&Path>) -> String {
    let output = output(program, args, directory);
    assert!(
        output.status.success(),
        "{program} {}: {}\n{}",
        args.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn output(program: &str, args: &[&str], directory: Option<&Path>) -> Output {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    if let Some(directory) = directory {
        for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
            command.env(variable, directory);
        }
    }
    command.output().unwrap_or_else(|error| {
        panic!(
            "cannot start {program} ({error}). These tests need Open vSwitch: run `cargo xtask setup` first"
        )
    })
}

/// An ovsdb-server of our own; ends on drop.
pub(crate) struct Server {
    directory: tempfile::TempDir,
    pid: Option<Pid>,
}

impl Server {
    /// With the vswitch schema and the one Open_vSwitch row.
    pub(crate) fn start() -> Self {
        assert!(
            Path::new(SCHEMA).exists(),
            "{SCHEMA} is missing. These tests need Open vSwitch: run `cargo xtask setup` first"
        );
        let server = Self::start_with(Path::new(SCHEMA));
        server.vsctl(&["--no-wait", "init"]);
        server
    }

    /// With any schema and no rows.
    pub(crate) fn start_with(schema: &Path) -> Self {
        let mut server = Self { directory: tempfile::tempdir().unwrap(), pid: None };
        server.create_database(schema);
        server.launch();
        server
    }

    fn create_database(&self, schema: &Path) {
        let db = self.path("conf.db");
        run("ovsdb-tool", &["create", db.to_str().unwrap(), schema.to_str().unwrap()], None);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn remote(&self) -> Remote {
        Remote::Unix(self.path("db.sock"))
    }

    /// Starts it; returns when its socket listens.
    pub(crate) fn launch(&mut self) {
        let at = |prefix: &str, name: &str| format!("{prefix}{}", self.path(name).display());
        let args = [
            at("", "conf.db"),
            at("--remote=punix:", "db.sock"),
            at("--unixctl=", "ovsdb.ctl"),
            at("--pidfile=", "ovsdb-server.pid"),
            at("--log-file=", "ovsdb-server.log"),
            "--no-chdir".to_owned(),
            "--detach".to_owned(),
            "-vconsole:off".to_owned(),
        ];
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        adopt_daemons();
        run("ovsdb-server", &args, Some(self.directory.path()));
        self.pid = Some(read_pid(&self.path("ovsdb-server.pid")));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid.unwrap(), signal).unwrap();
    }

    /// Kills it without warning.
    pub(crate) fn kill(&mut self) {
        if let Some(pid) = self.pid.take() {
            end(pid);
        }
    }

    /// Replaces its database by an empty one; it must not be running.
    pub(crate) fn wipe(&self) {
        std::fs::remove_file(self.path("conf.db")).unwrap();
        self.create_database(Path::new(SCHEMA));
    }

    pub(crate) fn vsctl(&self, args: &[&str]) -> String {
        let db = format!("--db={}", self.remote());
        let mut all = vec![db.as_str(), "--timeout=10"];
        all.extend(args);
        run("ovs-vsctl", &all, Some(self.directory.path()))
    }

    pub(crate) fn appctl(&self, target: &str, args: &[&str]) -> String {
        let socket = self.path(target);
        let mut all = vec!["-t", socket.to_str().unwrap()];
        all.extend(args);
        run("ovs-appctl", &all, Some(self.directory.path()))
    }

    /// The whole database as `ovsdb-client dump` sees it.
    pub(crate) fn dump(&self, database: &str) -> Vec<serde_json::Value> {
        let text = run("ovsdb-client", &["-f", "json", "dump", &self.remote().to_string(), database], None);
        serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<_, _>>().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read_pid(path: &Path) -> Pid {
    let text = std::fs::read_to_string(path).unwrap();
    Pid::from_raw(text.trim().parse().unwrap())
}

/// Kills a daemon and waits until all of it is gone, sockets included.
fn end(pid: Pid) {
    if kill(pid, Signal::SIGKILL).is_ok() {
        // It is our child: see `adopt_daemons`.
        let _status = waitpid(pid, None).unwrap();
    }
}

/// Daemons leave their parent; from now on this process becomes the new one, so that it can wait for their end.
fn adopt_daemons() {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
}

/// An ovs-vswitchd beside a [`Server`], in its own network namespace; ends on drop, taps included.
pub(crate) struct Vswitchd {
    directory: PathBuf,
    pub(crate) namespace: String,
    pid: Option<Pid>,
}

static NAMESPACES: AtomicU32 = AtomicU32::new(0);

impl Vswitchd {
    pub(crate) fn start(server: &Server) -> Self {
        let number = NAMESPACES.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("pwovs-{}-{number}", std::process::id());
        run("ip", &["netns", "add", &namespace], None);
        let directory = server.directory.path().to_owned();
        let mut vswitchd = Self { directory, namespace, pid: None };
        run("ip", &["-n", &vswitchd.namespace, "link", "set", "lo", "up"], None);
        vswitchd.launch();
        vswitchd
    }

    pub(crate) fn launch(&mut self) {
        let at = |prefix: &str, name: &str| format!("{prefix}{}", self.directory.join(name).display());
        let args = [
            at("unix:", "db.sock"),
            at("--pidfile=", "ovs-vswitchd.pid"),
            at("--log-file=", "ovs-vswitchd.log"),
            "--no-chdir".to_owned(),
            "--detach".to_owned(),
            "-vconsole:off".to_owned(),
        ];
        let mut all = vec!["netns", "exec", &self.namespace, "ovs-vswitchd"];
        all.extend(args.iter().map(String::as_str));
        adopt_daemons();
        run("ip", &all, Some(&self.directory));
        self.pid = Some(read_pid(&self.directory.join("ovs-vswitchd.pid")));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid.unwrap(), signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        if let Some(pid) = self.pid.take() {
            end(pid);
        }
    }
}

impl Drop for Vswitchd {
    fn drop(&mut self) {
        self.kill();
        // Persistent taps live in the namespace and go with it.
        let _ = output("ip", &["netns", "del", &self.namespace], None);
    }
}
