//! What can be typed after `pools`, `run` and `sriovdp`.

use std::ffi::OsString;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use portwright_device_plugin::Registration;

use crate::daemon::cluster::labels::Prefix;

/// Where pools come from.
#[derive(Debug, Clone, Args)]
pub struct PoolSources {
    /// NodePolicy documents: files with one or many each, `-` is stdin
    #[arg(short, long = "file", num_args = 1.., value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Configuration file of sriov-network-device-plugin, taken as it is
    #[arg(long, value_name = "FILE")]
    pub device_plugin_config: Option<PathBuf>,
    /// Prefix of pools that name none [default: portwright.dev for policies, intel.com for config.json]
    #[arg(long, value_name = "PREFIX")]
    pub resource_prefix: Option<String>,
}

/// Arguments of `pools`.
#[derive(Debug, Args)]
pub struct PoolsArgs {
    /// The sources.
    #[command(flatten)]
    pub sources: PoolSources,
    /// Say for each pool which selector takes or refuses this device (a PCI address or the name of a sub-function)
    #[arg(long, value_name = "ADDRESS")]
    pub explain: Option<String>,
    /// Look at the node that `observe -o json` described in this file, not at this one
    #[arg(long, value_name = "FILE")]
    pub observed: Option<PathBuf>,
}

/// `--registration`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum RegistrationArg {
    /// By plugin watcher if kubelet has a `plugins_registry` folder, else legacy
    #[default]
    Auto,
    /// kubelet finds the sockets in `plugins_registry`
    Watcher,
    /// Call kubelet's socket in `device-plugins`
    Legacy,
}

impl From<RegistrationArg> for Registration {
    fn from(argument: RegistrationArg) -> Registration {
        match argument {
            RegistrationArg::Auto => Registration::Auto,
            RegistrationArg::Watcher => Registration::Watcher,
            RegistrationArg::Legacy => Registration::Legacy,
        }
    }
}

/// `on` or `off`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On
    #[default]
    On,
    /// Off
    Off,
}

/// Arguments of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Configuration file of sriov-network-device-plugin, taken as it is; changes of the file are followed
    #[arg(long, value_name = "FILE")]
    pub device_plugin_config: Option<PathBuf>,
    /// Prefix of pools that name none [default: portwright.dev for policies, intel.com for config.json]
    #[arg(long, value_name = "PREFIX")]
    pub resource_prefix: Option<String>,
    /// NodePolicy files; changes of the files are followed
    #[arg(long, num_args = 1.., value_name = "FILE", conflicts_with = "kube")]
    pub policy: Vec<PathBuf>,
    /// Take NodePolicies from the API server (KUBECONFIG, else the service account) and tell it how things are
    #[arg(long)]
    pub kube: bool,
    /// Name of this node's Node object
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Namespace of the Leases that limit how many nodes are disrupted at once
    #[arg(long, env = "POD_NAMESPACE", default_value = "portwright", value_name = "NAME")]
    pub namespace: String,
    /// Tell facts about NICs as labels of the Node below this prefix (such as `nic.portwright.dev`); with --kube
    #[arg(long, value_name = "PREFIX", requires = "kube")]
    pub node_labels: Option<Prefix>,
    /// Whether traffic per VF is among the metrics
    #[arg(long, value_enum, default_value_t, value_name = "SWITCH")]
    pub vf_metrics: Switch,
    /// Apply once and end: the files of --policy, else the last good policies of the state directory
    #[arg(long, conflicts_with_all = ["kube", "device_plugin_config"])]
    pub once: bool,
    /// With --once: kubelet is not there yet, as at boot
    #[arg(long, requires = "once")]
    pub before_kubelet: bool,
    /// How kubelet is told of pools
    #[arg(long, value_enum, default_value_t, value_name = "WAY")]
    pub registration: RegistrationArg,
    /// Hand device nodes to the container runtime by CDI
    #[arg(long)]
    pub use_cdi: bool,
    /// Where metrics and health are served; of an IPv6 address without brackets the last part is the port
    #[arg(long, default_value = "127.0.0.1:9808", value_name = "ADDRESS", value_parser = listening)]
    pub listen: SocketAddr,
    /// Which messages are logged, as for `tracing` (`info`, `debug`, `portwright=debug`)
    #[arg(long, default_value = "info", value_name = "FILTER")]
    pub log: String,
}

/// An address with its port. Kubernetes puts a node's address into `$(HOST_IP):9808` as it is, so that an IPv6 address may come
/// without brackets. A port there has to be, so that what is behind the last colon can be nothing else.
fn listening(text: &str) -> Result<SocketAddr, String> {
    let bare = || {
        let (host, port) = text.rsplit_once(':')?;
        let host: Ipv6Addr = host.parse().ok()?;
        // `parse` also takes a sign.
        let port = port.parse().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()))?;
        Some(SocketAddr::from((host, port)))
    };
    text.parse().ok().or_else(bare).ok_or_else(|| {
        "is no address with a port, such as `127.0.0.1:9808`, `[fd00::1]:9808` or `fd00::1:9808`".to_owned()
    })
}

/// Arguments of `sriovdp`, as sriov-network-device-plugin's image takes them.
#[derive(Debug, Clone, Args)]
pub struct SriovdpArgs {
    /// Configuration file
    #[arg(
        long,
        visible_alias = "config_file",
        default_value = "/etc/pcidp/config.json",
        value_name = "FILE"
    )]
    pub config_file: PathBuf,
    /// Prefix of pools that name none
    #[arg(long, default_value = "intel.com", value_name = "PREFIX")]
    pub resource_prefix: String,
    /// Verbosity; 0 to 3 log what is worth knowing, more logs details
    #[arg(long, short = 'v', default_value_t = 0, value_name = "NUMBER")]
    pub log_level: u8,
    /// Accepted and not used: messages go to stderr
    #[arg(long, alias = "log_dir", value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// Hand device nodes to the container runtime by CDI
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
    pub use_cdi: String,
    /// Accepted and not used: messages go to stderr
    #[arg(long, num_args = 0..=1, default_missing_value = "true", hide = true)]
    pub logtostderr: Option<String>,
    /// Accepted and not used: messages go to stderr
    #[arg(long, num_args = 0..=1, default_missing_value = "true", hide = true)]
    pub alsologtostderr: Option<String>,
    /// Accepted and not used
    #[arg(long, hide = true)]
    pub stderrthreshold: Option<String>,
    /// Accepted and not used
    #[arg(long, hide = true)]
    pub vmodule: Option<String>,
    /// Accepted and not used
    #[arg(long = "log_backtrace_at", hide = true)]
    pub log_backtrace_at: Option<String>,
}

/// The other plugin's program takes long flags with one dash too (`-config-file`). After `sriovdp` such words get their
/// second one.
pub fn with_two_dashes(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = arguments.into_iter().collect();
    if words.get(1).is_some_and(|verb| verb == "sriovdp") {
        for word in words.iter_mut().skip(2) {
            let Some(text) = word.to_str() else { continue };
            let name = text.strip_prefix('-').filter(|name| !name.starts_with('-'));
            let long = name.is_some_and(|name| name.split('=').next().is_some_and(|name| name.len() > 1));
            if long {
                *word = format!("-{text}").into();
            }
        }
    }
    words
}

impl SriovdpArgs {
    /// The same as arguments of `run`.
    pub fn as_run(&self) -> RunArgs {
        RunArgs {
            device_plugin_config: Some(self.config_file.clone()),
            resource_prefix: Some(self.resource_prefix.clone()),
            policy: Vec::new(),
            kube: false,
            node_name: None,
            namespace: String::new(),
            node_labels: None,
            vf_metrics: Switch::On,
            once: false,
            before_kubelet: false,
            registration: RegistrationArg::Auto,
            use_cdi: self.use_cdi == "true" || self.use_cdi == "1",
            listen: SocketAddr::from(([127, 0, 0, 1], 9808)),
            log: if self.log_level > 3 { "debug".to_owned() } else { "info".to_owned() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::listening;

    #[test]
    fn the_last_part_of_a_bare_address_is_its_port() {
        for (text, expected) in [
            ("127.0.0.1:9808", Some("127.0.0.1:9808")),
            ("[fd00::1]:9808", Some("[fd00::1]:9808")),
            // All of it is an address as well, but then it would have no port.
            ("fd00::1:9808", Some("[fd00::1]:9808")),
            ("2001:db8:0:1:2:3:4:5:80", Some("[2001:db8:0:1:2:3:4:5]:80")),
            ("2001:db8:1:2:3:4:5:9808", None),
            ("fe80::7:65535", Some("[fe80::7]:65535")),
            ("fe80::7:65536", None),
            (":::9808", Some("[::]:9808")),
            ("::ffff:192.0.2.7:9808", Some("[::ffff:192.0.2.7]:9808")),
            ("fd00::1", None),
            ("fd00::beef", None),
            ("fd00::1:beef", None),
            ("fd00::1:+80", None),
            ("fd00::1:", None),
            ("::9808", None),
            ("192.0.2.7", None),
            ("localhost:9808", None),
            ("", None),
        ] {
            let read = listening(text).ok().map(|address| address.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }
}
