//! kubelet's side of a plugin's socket.

use std::io;
use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use portwright_proto::device_plugin::Empty;
use portwright_proto::device_plugin::device_plugin_client::DevicePluginClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use super::Shared;

/// A client of the device plugin service.
pub type Client = DevicePluginClient<Channel>;

/// Connects to a socket.
pub async fn connect(socket: &Path) -> io::Result<Client> {
    Ok(DevicePluginClient::new(channel(socket).await?))
}

pub(super) async fn channel(socket: &Path) -> io::Result<Channel> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .map_err(io::Error::other)
}

/// Asks for options, then opens the stream; the future that is returned follows it.
pub(super) async fn follow(
    shared: Arc<Shared>,
    name: String,
    socket: &Path,
) -> io::Result<impl Future<Output = ()> + use<>> {
    let mut client = connect(socket).await?;
    client.get_device_plugin_options(Empty {}).await.map_err(io::Error::other)?;
    let mut stream = client.list_and_watch(Empty {}).await.map_err(io::Error::other)?.into_inner();
    let socket = socket.to_owned();
    shared.change(&name, |resource| {
        resource.connected = true;
        resource.registrations += 1;
        resource.socket = socket;
    });
    Ok(async move {
        while let Ok(Some(message)) = stream.message().await {
            shared.change(&name, |resource| {
                resource.devices = message.devices;
                resource.lists += 1;
            });
        }
        shared.change(&name, |resource| resource.connected = false);
    })
}
