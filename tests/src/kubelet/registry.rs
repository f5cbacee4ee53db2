//! The older way: plugins call Register on kubelet's socket.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use portwright_proto::device_plugin::registration_server::{Registration, RegistrationServer};
use portwright_proto::device_plugin::{Empty, RegisterRequest};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::{Kubelet, Shared, client, sockets};

/// Deletes all sockets, as kubelet does, and serves its own.
pub(super) async fn start(kubelet: &Kubelet) -> io::Result<()> {
    let folder = kubelet.dir.join("device-plugins");
    tokio::fs::create_dir_all(&folder).await?;
    for socket in sockets(&folder) {
        tokio::fs::remove_file(socket).await?;
    }
    let listener = UnixListener::bind(folder.join("kubelet.sock"))?;
    let service = Service {
        folder,
        shared: Arc::clone(&kubelet.shared),
        stop: kubelet.stop.clone(),
        tasks: kubelet.tasks.clone(),
    };
    let server = Server::builder()
        .add_service(RegistrationServer::new(service))
        .serve_with_incoming(UnixListenerStream::new(listener));
    let stop = kubelet.stop.clone();
    kubelet.tasks.spawn(async move { stop.run_until_cancelled(server).await.map(drop) });
    Ok(())
}

struct Service {
    folder: PathBuf,
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[tonic::async_trait]
impl Registration for Service {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let refusal = self.shared.refuse.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(text) = refusal {
            return Err(Status::unknown(text));
        }
        if self.stop.is_cancelled() {
            return Err(Status::unavailable("stopping"));
        }
        let request = request.into_inner();
        if request.version != "v1beta1" {
            return Err(Status::unknown(format!("version {}", request.version)));
        }
        let socket = self.folder.join(&request.endpoint);
        let follow = client::follow(Arc::clone(&self.shared), request.resource_name, &socket);
        let follow = follow
            .await
            .map_err(|error| Status::unknown(format!("failed to dial device plugin: {error}")))?;
        let (stop, shared) = (self.stop.clone(), Arc::clone(&self.shared));
        self.tasks.spawn(async move {
            if stop.run_until_cancelled(follow).await.is_none() {
                shared.hang_up();
            }
        });
        Ok(Response::new(Empty {}))
    }
}
