//! The command line: network-resources-injector's flags, so that its manifests start this program, and our own.
//!
//! Go's flag package takes `-name`, `-name=value` and `--name`; [`normalise`] brings all of that into the form that
//! clap reads. Flags that have no meaning here are accepted and reported, so that a drop-in start does not fail.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgAction, Parser, ValueEnum};

use crate::switches::Existing;

/// What to do with a pod whose network does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MissingNad {
    /// Refuse it.
    Deny,
    /// Let it through with a warning.
    Warn,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// One line of text each.
    Text,
    /// One JSON object each.
    Json,
}

/// Makes pods with Multus annotations ask for the devices and bridges that their networks need.
///
/// A mutating admission webhook. It takes network-resources-injector's flags (also in Go's form, `-port=8443`), its
/// ConfigMap nri-control-switches and its certificates. The API server is found through KUBECONFIG or the service account.
#[derive(Debug, Clone, Parser)]
#[command(name = "portwright-injector", version, verbatim_doc_comment, args_override_self = true)]
pub struct Flags {
    /// TLS port of the webhook; 1024 to 65535.
    #[arg(long, default_value_t = 8443, value_name = "PORT")]
    pub port: u16,

    /// Address of the webhook and the probes.
    #[arg(long, default_value = "0.0.0.0", value_name = "ADDRESS")]
    pub bind_address: IpAddr,

    /// Plain HTTP port with /healthz, /readyz and /metrics; 1024 to 65535, not the same as --port.
    #[arg(long, default_value_t = 8444, value_name = "PORT")]
    pub health_check_port: u16,

    /// Certificate chain, PEM; read again whenever it changes.
    #[arg(long, default_value = "cert.pem", value_name = "FILE")]
    pub tls_cert_file: PathBuf,

    /// Private key of the certificate, PEM.
    #[arg(long, default_value = "key.pem", value_name = "FILE")]
    pub tls_private_key_file: PathBuf,

    /// Do not ask clients for certificates, even if --client-ca is given.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set, value_parser = go_bool, value_name = "BOOL")]
    pub insecure: bool,

    /// CA file that must have signed the client's certificate; may be given several times. Without it clients are not
    /// asked for certificates.
    #[arg(long, value_name = "FILE")]
    pub client_ca: Vec<PathBuf>,

    /// Lowest TLS version: VersionTLS12 or VersionTLS13 [default: VersionTLS12].
    #[arg(long, default_value = "", hide_default_value = true, value_name = "VERSION")]
    pub tls_min_version: String,

    /// Comma list of cipher suites by their Kubernetes names [default: all that are safe].
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAMES")]
    pub tls_cipher_suites: String,

    /// Comma list of key exchange groups by their Go CurveID: 29 (X25519), 23 (P-256), 24 (P-384) [default: all].
    #[arg(long, default_value = "", hide_default_value = true, value_name = "IDS")]
    pub tls_curve_preferences: String,

    /// Accepted for compatibility; HTTP/2 is never offered, since API servers do not use it for webhooks.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set, value_parser = go_bool, value_name = "BOOL")]
    pub enable_http2: bool,

    /// Write hugepage amounts into the downward-API volume.
    #[arg(long = "injectHugepageDownApi", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set, value_parser = go_bool, value_name = "BOOL")]
    pub inject_hugepage_down_api: bool,

    /// Comma list of annotation keys of network-attachment-definitions that hold resource names.
    #[arg(long, default_value = "k8s.v1.cni.cncf.io/resourceName", value_name = "KEYS")]
    pub network_resource_name_keys: String,

    /// Same as --existing-resources=add.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set, value_parser = go_bool, value_name = "BOOL")]
    pub honor_resources: bool,

    /// What to do with a resource that the pod already asks for [default: skip].
    #[arg(long, value_enum, value_name = "MODE")]
    pub existing_resources: Option<Existing>,

    /// Namespace of a default network that is named without one; Multus' multusNamespace.
    #[arg(long, default_value = "kube-system", value_name = "NAMESPACE")]
    pub multus_namespace: String,

    /// Look such a default network up in the pod's namespace, as network-resources-injector does.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set, value_parser = go_bool, value_name = "BOOL")]
    pub default_network_in_pod_namespace: bool,

    /// Refuse pods that use networks of other namespaces; Multus' namespaceIsolation.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set, value_parser = go_bool, value_name = "BOOL")]
    pub namespace_isolation: bool,

    /// Comma list of namespaces whose networks every pod may use under --namespace-isolation.
    #[arg(long, default_value = "default", value_name = "NAMESPACES")]
    pub global_namespaces: String,

    /// Also derive resources from a definition's CNI configuration: the bridge of an ovs network, the resourceName of
    /// an sriov one.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set, value_parser = go_bool, value_name = "BOOL")]
    pub derive_resources: bool,

    /// Prefix of derived pools that are named without one.
    #[arg(long, default_value = "portwright.dev", value_name = "DOMAIN")]
    pub resource_prefix: String,

    /// What to do with a pod whose network does not exist.
    #[arg(long, value_enum, default_value = "deny", value_name = "MODE")]
    pub missing_nad: MissingNad,

    /// Comma list of container names that do not get devices unless the pod says so.
    #[arg(
        long,
        default_value = "istio-proxy,linkerd-proxy,kuma-sidecar,consul-dataplane,vault-agent",
        value_name = "NAMES"
    )]
    pub sidecar_containers: String,

    /// Mount labels and annotations at /etc/podnetinfo in pods that get resources.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = ArgAction::Set, value_parser = go_bool, value_name = "BOOL")]
    pub podnetinfo: bool,

    /// Make and renew the certificates, keep them in a Secret and keep the webhook configuration's caBundle right.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = ArgAction::Set, value_parser = go_bool, value_name = "BOOL")]
    pub self_managed_certificates: bool,

    /// MutatingWebhookConfiguration whose caBundle is kept right.
    #[arg(long, default_value = "portwright-injector", value_name = "NAME")]
    pub webhook_configuration: String,

    /// Secret in our namespace that holds the certificates; it must exist and may be empty.
    #[arg(long, default_value = "portwright-injector-certificates", value_name = "NAME")]
    pub secret_name: String,

    /// Service in our namespace through which the API server reaches the webhook.
    #[arg(long, default_value = "portwright-injector", value_name = "NAME")]
    pub service_name: String,

    /// Our namespace: where the ConfigMap, the Secret and the Service are.
    #[arg(long, env = "NAMESPACE", default_value = "kube-system", value_name = "NAMESPACE")]
    pub namespace: String,

    /// Seconds to wait for the first list of networks before answering with live look-ups only.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub cache_sync_timeout: u32,

    /// Seconds to keep serving after SIGTERM, not ready, until API servers have taken notice.
    #[arg(long, default_value_t = 12, value_name = "SECONDS")]
    pub shutdown_delay: u32,

    /// Most connections at once; beyond it the longest idle one makes room.
    #[arg(long, default_value_t = 512, value_name = "COUNT")]
    pub max_connections: u32,

    /// Most reviews worked on at once; four times as many may wait for live look-ups. Those beyond are answered with 503.
    #[arg(long, default_value_t = 64, value_name = "COUNT")]
    pub max_requests: u32,

    /// How log lines look.
    #[arg(long, value_enum, default_value = "auto", value_name = "FORMAT")]
    pub log_format: LogFormat,

    /// Log level as in glog: 0 is info, 1 to 4 debug, more is trace.
    #[arg(long, default_value_t = 0, value_name = "LEVEL")]
    pub v: u8,

    /// Accepted for compatibility, without meaning: logs go to stderr.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub logtostderr: Option<String>,

    /// Accepted for compatibility, without meaning.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub alsologtostderr: Option<String>,

    /// Accepted for compatibility, without meaning.
    #[arg(long, value_name = "LEVEL")]
    pub stderrthreshold: Option<String>,

    /// Accepted for compatibility, without meaning.
    #[arg(long, value_name = "PATTERN")]
    pub vmodule: Option<String>,

    /// Accepted for compatibility, without meaning.
    #[arg(long = "log_dir", value_name = "DIR")]
    pub log_dir: Option<String>,

    /// Accepted for compatibility, without meaning.
    #[arg(long = "log_link", value_name = "DIR")]
    pub log_link: Option<String>,

    /// Accepted for compatibility, without meaning.
    #[arg(long = "logbuflevel", value_name = "LEVEL")]
    pub logbuflevel: Option<String>,

    /// Accepted for compatibility, without meaning.
    #[arg(long = "log_backtrace_at", value_name = "LINE")]
    pub log_backtrace_at: Option<String>,
}

impl Flags {
    /// Flags that were given although they mean nothing here, for one warning each at start.
    pub fn without_meaning(&self) -> Vec<&'static str> {
        let given = [
            (self.enable_http2, "enable-http2"),
            (self.logtostderr.is_some(), "logtostderr"),
            (self.alsologtostderr.is_some(), "alsologtostderr"),
            (self.stderrthreshold.is_some(), "stderrthreshold"),
            (self.vmodule.is_some(), "vmodule"),
            (self.log_dir.is_some(), "log_dir"),
            (self.log_link.is_some(), "log_link"),
            (self.logbuflevel.is_some(), "logbuflevel"),
            (self.log_backtrace_at.is_some(), "log_backtrace_at"),
        ];
        given.into_iter().filter_map(|(given, name)| given.then_some(name)).collect()
    }
}

/// Reads a boolean as Go's flag package does (`strconv.ParseBool`).
fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(format!("`{other}` is not one of true, false, 1, 0, t, f")),
    }
}

/// Turns Go's single hyphen into two, so that `-port=8443`, `-port 8443` and `--port 8443` are the same.
///
/// clap's own short flags (`-h`, `-V`) stay as they are. Values of flags are not touched: a value that starts with a
/// hyphen has to be written with `=`, in Go as here.
pub fn normalise(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    arguments.into_iter().enumerate().map(|(position, argument)| normalise_one(position, argument)).collect()
}

fn normalise_one(position: usize, argument: OsString) -> OsString {
    let Some(text) = argument.to_str().filter(|_| position > 0) else { return argument };
    let Some(name) = text.strip_prefix('-') else { return argument };
    let is_flag = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_short = matches!(name, "h" | "V");
    if is_flag && !is_short { format!("--{name}").into() } else { argument }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Flags, clap::Error> {
        let program = std::iter::once("portwright-injector");
        Flags::try_parse_from(normalise(program.chain(arguments.iter().copied()).map(OsString::from)))
    }

    #[test]
    fn booleans_and_repeated_flags_are_read_as_go_reads_them() {
        for (text, value) in
            [("1", true), ("T", true), ("True", true), ("0", false), ("f", false), ("FALSE", false)]
        {
            assert_eq!(read(&[&format!("-insecure={text}")]).unwrap().insecure, value, "{text}");
        }
        assert!(read(&["-insecure"]).unwrap().insecure);
        assert!(read(&["-insecure=yes"]).is_err());
        assert_eq!(read(&["-port=8443", "-port=9443"]).unwrap().port, 9443, "the last one counts");
    }
}
