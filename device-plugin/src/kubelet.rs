//! Where kubelet's sockets are, and how a resource is made known to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use portwright_core::pools::ResourceName;
use portwright_proto::device_plugin::registration_client::RegistrationClient;
use portwright_proto::device_plugin::{DevicePluginOptions, RegisterRequest};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// Version of the device plugin API.
pub(crate) const API_VERSION: &str = "v1beta1";
/// kubelet gives a plugin as long.
const REGISTER_WITHIN: Duration = Duration::from_secs(10);
/// A unix socket's path has at most 107 bytes (`man 7 unix`), and ours has one more while it is made.
const LONGEST_PATH: usize = 106;

/// How kubelet is told of resources.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Registration {
    /// By plugin watcher if kubelet has a `plugins_registry`, else as in the beginning.
    #[default]
    Auto,
    /// kubelet finds the socket in `plugins_registry` and asks.
    Watcher,
    /// The plugin calls kubelet's socket in `device-plugins`.
    Legacy,
}

/// kubelet's folders.
#[derive(Debug, Clone)]
pub struct Paths {
    /// `/var/lib/kubelet`.
    pub folder: PathBuf,
}

impl Paths {
    /// Folder of the plugin watcher.
    pub fn registry(&self) -> PathBuf {
        self.folder.join("plugins_registry")
    }

    /// Folder of device plugins' sockets.
    pub fn device_plugins(&self) -> PathBuf {
        self.folder.join("device-plugins")
    }

    /// kubelet's own socket for registrations.
    pub fn kubelet_socket(&self) -> PathBuf {
        self.device_plugins().join("kubelet.sock")
    }

    /// Socket of the pod resources API.
    pub fn pod_resources(&self) -> PathBuf {
        self.folder.join("pod-resources/kubelet.sock")
    }

    /// Where kubelet remembers what it gave out.
    pub fn checkpoint(&self) -> PathBuf {
        self.device_plugins().join("kubelet_internal_checkpoint")
    }

    /// Which way to register, now.
    pub(crate) fn mode(&self, registration: Registration) -> Mode {
        match registration {
            Registration::Watcher => Mode::Watcher,
            Registration::Legacy => Mode::Legacy,
            Registration::Auto if self.registry().is_dir() => Mode::Watcher,
            Registration::Auto => Mode::Legacy,
        }
    }

    /// A resource's socket.
    pub(crate) fn socket(&self, mode: Mode, resource: &ResourceName) -> PathBuf {
        let folder = match mode {
            Mode::Watcher => self.registry(),
            Mode::Legacy => self.device_plugins(),
        };
        folder.join(socket_name(resource))
    }

    /// Whether a resource's socket can have its name here; if not, why.
    pub fn check(&self, resource: &ResourceName) -> Result<(), String> {
        let path = self.socket(Mode::Watcher, resource);
        let length = path.as_os_str().len();
        if length <= LONGEST_PATH {
            return Ok(());
        }
        Err(format!(
            "its socket {} would have a path of {length} bytes; {LONGEST_PATH} is the most",
            path.display()
        ))
    }
}

/// The way that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Watcher,
    Legacy,
}

impl Mode {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Mode::Watcher => "watcher",
            Mode::Legacy => "legacy",
        }
    }
}

/// File name of a resource's socket, as sriov-network-device-plugin names it.
pub fn socket_name(resource: &ResourceName) -> String {
    format!("{}_{}.sock", resource.prefix, resource.name)
}

/// What tells one socket from the one that replaces it under the same name.
pub(crate) type Identity = (u64, u64, i64, i64);

/// Identity of the socket at a path, if one is there.
pub(crate) fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let found = std::fs::symlink_metadata(path).ok().filter(|found| found.file_type().is_socket())?;
    Some((found.dev(), found.ino(), found.ctime(), found.ctime_nsec()))
}

/// A call to kubelet that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KubeletError {
    /// Its socket takes no connection.
    #[error("cannot connect to {}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// It answered with an error.
    #[error("kubelet refuses {what}: {}", status.message())]
    Refused {
        /// What was asked.
        what: String,
        /// Its answer.
        status: Box<tonic::Status>,
    },
    /// It did not answer.
    #[error("kubelet does not answer on {} within {} s", socket.display(), within.as_secs())]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// How long was waited.
        within: Duration,
    },
}

/// Connects to a unix socket.
pub(crate) async fn connect(socket: &Path) -> Result<Channel, KubeletError> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let connected = Endpoint::from_static("http://localhost").connect_with_connector(connector).await;
    connected.map_err(|source| KubeletError::Connect { socket: socket.to_owned(), source })
}

/// Calls Register.
pub(crate) async fn register(paths: &Paths, resource: &ResourceName) -> Result<(), KubeletError> {
    let socket = paths.kubelet_socket();
    let call = async {
        let mut client = RegistrationClient::new(connect(&socket).await?);
        let request = RegisterRequest {
            version: API_VERSION.to_owned(),
            endpoint: socket_name(resource),
            resource_name: resource.to_string(),
            options: Some(options()),
        };
        let answer = client.register(request).await;
        answer.map(drop).map_err(|status| KubeletError::Refused {
            what: format!("to register {resource}"),
            status: Box::new(status),
        })
    };
    match tokio::time::timeout(REGISTER_WITHIN, call).await {
        Ok(result) => result,
        Err(_) => Err(KubeletError::Silent { socket: socket.clone(), within: REGISTER_WITHIN }),
    }
}

/// What we can do beyond the minimum.
pub(crate) fn options() -> DevicePluginOptions {
    DevicePluginOptions { pre_start_required: false, get_preferred_allocation_available: true }
}
