//! A node for one test: a database, a switch in its own network namespace, pods on veth pairs, and the binary beside
//! them.

use std::path::{Path, PathBuf};

use crate::common::Ran;
use crate::harness::{Server, Vswitchd, run};

/// A node.
pub struct Rig {
    pub server: Server,
    pub vswitchd: Vswitchd,
    /// Where the binary finds the database, if not where it is made.
    pub remote: Option<String>,
    pods: Vec<String>,
    files: tempfile::TempDir,
}

impl Rig {
    pub fn start() -> Rig {
        let server = Server::start();
        let vswitchd = Vswitchd::start(&server);
        Rig { server, vswitchd, remote: None, pods: Vec::new(), files: tempfile::tempdir().unwrap() }
    }

    /// The namespace of the switch.
    pub fn namespace(&self) -> &str {
        &self.vswitchd.namespace
    }

    /// A namespace with `eth0` (10.9.0.`number`/24) whose other end `v<name>` is beside the switch.
    pub fn pod(&mut self, name: &str, number: u8) -> String {
        let pod = format!("{}-{name}", self.namespace());
        run("ip", &["netns", "add", &pod], None);
        self.pods.push(pod.clone());
        self.plug(name, number);
        pod
    }

    /// Makes the veth pair of a pod.
    pub fn plug(&self, name: &str, number: u8) {
        let (switch, pod) = (self.namespace(), format!("{}-{name}", self.namespace()));
        let port = format!("v{name}");
        run(
            "ip",
            &["link", "add", &port, "netns", switch, "type", "veth", "peer", "name", "eth0", "netns", &pod],
            None,
        );
        run("ip", &["-n", switch, "link", "set", &port, "up"], None);
        run("ip", &["-n", &pod, "link", "set", "eth0", "up"], None);
        run("ip", &["-n", &pod, "addr", "add", &format!("10.9.0.{number}/24"), "dev", "eth0"], None);
        // Checksums that nobody fills in are dropped by the userspace datapath.
        run("ip", &["netns", "exec", &pod, "ethtool", "-K", "eth0", "tx", "off"], None);
    }

    /// Runs `ip` beside the switch.
    pub fn ip(&self, args: &[&str]) -> String {
        let mut all = vec!["-n", self.namespace()];
        all.extend(args);
        run("ip", &all, None)
    }

    pub fn vsctl(&self, words: &str) -> String {
        self.server.vsctl(&words.split_whitespace().collect::<Vec<_>>()).trim().to_owned()
    }

    pub fn state_dir(&self) -> PathBuf {
        self.files.path().join("state")
    }

    /// Writes a policy whose `spec` is this YAML.
    pub fn policy(&self, name: &str, spec: &str) -> PathBuf {
        let path = self.files.path().join(format!("{name}.yaml"));
        let indented: String = spec.lines().map(|line| format!("  {line}\n")).collect();
        let text = format!(
            "apiVersion: portwright.dev/v1alpha1\nkind: NodePolicy\nmetadata: {{name: {name}}}\nspec:\n{indented}"
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Runs the binary beside the switch. Each run has a `/run/portwright` of its own, so that tests do not wait for each
    /// other's lock.
    pub fn portwright(&self, args: &[&str]) -> Ran {
        let output = self.command().args(args).output().unwrap();
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The binary beside the switch, still without a verb.
    pub fn command(&self) -> std::process::Command {
        let binary = env!("CARGO_BIN_EXE_portwright");
        let script = "mkdir -p /run/portwright && mount -t tmpfs none /run/portwright && exec \"$@\"";
        let remote = self.remote.clone().unwrap_or_else(|| self.server.remote().to_string());
        let state = self.state_dir();
        let mut command = std::process::Command::new("ip");
        command.args(["netns", "exec", self.namespace(), "sh", "-c", script, "sh", binary]);
        command.args(["--ovsdb", &remote, "--state-dir", state.to_str().unwrap()]);
        command.args(["--kubelet-dir", self.files.path().join("kubelet").to_str().unwrap()]);
        command
    }

    /// Has the switch look at cached flows of `br0` again: it does not do so for a mirror that was changed by hand.
    pub fn look_at_flows_again(&self) {
        let pid = std::fs::read_to_string(self.server.path("ovs-vswitchd.pid")).unwrap();
        self.server.appctl(&format!("ovs-vswitchd.{}.ctl", pid.trim()), &["fdb/flush", "br0"]);
    }

    /// Waits until a row is as these words say; the database itself tells.
    pub fn wait_until(&self, words: &str) {
        self.vsctl(&format!("wait-until {words}"));
    }

    /// Makes a netdev beside the switch that belongs to nobody.
    pub fn plug_alone(&self, port: &str) {
        self.ip(&["link", "add", port, "type", "veth", "peer", "name", &format!("{port}-peer")]);
        self.ip(&["link", "set", port, "up"]);
    }

    pub fn plan_file(&self, path: &Path) -> Ran {
        self.portwright(&["plan", "-o", "json", "-f", path.to_str().unwrap()])
    }

    pub fn apply_file(&self, path: &Path, more: &[&str]) -> Ran {
        let mut args = vec!["apply", "-o", "json", "-f", path.to_str().unwrap()];
        args.extend(more);
        self.portwright(&args)
    }

    /// Applies a policy, which must converge, and plans it again, which must find nothing and write nothing.
    pub fn apply(&self, spec: &str) -> Ran {
        let path = self.policy("p", spec);
        let ran = self.apply_file(&path, &[]);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        self.is_in_sync(&path);
        ran
    }

    pub fn is_in_sync(&self, path: &Path) {
        let before = self.vsctl("get open_vswitch . next_cfg");
        let again = self.plan_file(path);
        assert_eq!(again.code, Some(0), "{again:#?}");
        let applied = self.apply_file(path, &[]);
        assert_eq!(applied.code, Some(0), "{applied:#?}");
        assert_eq!(
            self.vsctl("get open_vswitch . next_cfg"),
            before,
            "an apply without steps writes nothing"
        );
    }

    /// The policy is not what is there: shows these actions, and applying it again repairs it.
    pub fn repairs(&self, spec: &str, actions: &[&str]) {
        let path = self.policy("p", spec);
        let plan = self.plan_file(&path);
        assert_eq!(plan.code, Some(1), "{plan:#?}");
        assert_eq!(self::actions(&plan), actions, "{plan:#?}");
        self.apply(spec);
    }

    /// How many rows a table has.
    pub fn rows(&self, table: &str) -> usize {
        let text = self.vsctl(&format!("--columns=_uuid --format=csv --no-headings list {table}"));
        text.lines().filter(|line| !line.is_empty()).count()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for pod in &self.pods {
            let _ = std::process::Command::new("ip").args(["netns", "del", pod]).output();
        }
    }
}

/// The actions of a plan or report, in order.
pub fn actions(ran: &Ran) -> Vec<String> {
    let json = ran.json();
    let steps = json["steps"].as_array().unwrap().clone();
    steps.iter().map(|step| step["action"].as_str().unwrap().to_owned()).collect()
}

/// The obstacles of a plan: `object reason`.
pub fn blocked(ran: &Ran) -> Vec<String> {
    let json = ran.json();
    let plan = if json["after"].is_object() { &json["after"] } else { &json };
    let blocked = plan["blocked"].as_array().unwrap().clone();
    let text = |one: &serde_json::Value| {
        format!("{} {}", one["object"].as_str().unwrap(), one["reason"].as_str().unwrap())
    };
    blocked.iter().map(text).collect()
}
