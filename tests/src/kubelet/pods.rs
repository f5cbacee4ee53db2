//! The pod resources API.

use std::io;
use std::sync::{Arc, PoisonError};

use portwright_proto::pod_resources::pod_resources_lister_server::{
    PodResourcesLister, PodResourcesListerServer,
};
use portwright_proto::pod_resources::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices, ContainerResources,
    GetPodResourcesRequest, GetPodResourcesResponse, ListPodResourcesRequest, ListPodResourcesResponse,
    PodResources,
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::{Kubelet, Shared};

/// A container of a pod with its devices of one resource. List tells of ordinary containers and of sidecars (init containers
/// that are restarted always), not of other init containers. Several of one pod, one after the other, are one pod's.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Container.
    pub container: String,
    /// Resource.
    pub resource: String,
    /// Device ids.
    pub devices: Vec<String>,
}

/// What List answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// These pods.
    Pods(Vec<Pod>),
    /// An error, as the rate limit gives.
    Refused,
    /// Nothing, ever.
    Silent,
}

impl Default for Answer {
    fn default() -> Self {
        Answer::Pods(Vec::new())
    }
}

pub(super) async fn start(kubelet: &Kubelet) -> io::Result<()> {
    let folder = kubelet.dir.join("pod-resources");
    tokio::fs::create_dir_all(&folder).await?;
    let socket = folder.join("kubelet.sock");
    if socket.exists() {
        tokio::fs::remove_file(&socket).await?;
    }
    let listener = UnixListener::bind(socket)?;
    let server = Server::builder()
        .add_service(PodResourcesListerServer::new(Service { shared: Arc::clone(&kubelet.shared) }))
        .serve_with_incoming(UnixListenerStream::new(listener));
    let stop = kubelet.stop.clone();
    kubelet.tasks.spawn(async move { stop.run_until_cancelled(server).await.map(drop) });
    Ok(())
}

struct Service {
    shared: Arc<Shared>,
}

#[tonic::async_trait]
impl PodResourcesLister for Service {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        let answer = self.shared.pods.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let pods = match answer {
            Answer::Pods(pods) => pods,
            Answer::Refused => return Err(Status::resource_exhausted("rejected by rate limit")),
            Answer::Silent => std::future::pending().await,
        };
        // One message per device, as kubelet 1.36 sends them.
        let devices = |pod: &Pod| {
            let one = |id: &String| ContainerDevices {
                resource_name: pod.resource.clone(),
                device_ids: vec![id.clone()],
                topology: None,
            };
            pod.devices.iter().map(one).collect()
        };
        let container = |pod: &Pod| ContainerResources {
            name: pod.container.clone(),
            devices: devices(pod),
            ..ContainerResources::default()
        };
        let same = |one: &Pod, other: &Pod| (&one.namespace, &one.name) == (&other.namespace, &other.name);
        let of_pod = |containers: &[Pod]| {
            containers.first().map(|pod| PodResources {
                name: pod.name.clone(),
                namespace: pod.namespace.clone(),
                containers: containers.iter().map(container).collect(),
            })
        };
        let pod_resources = pods.chunk_by(same).filter_map(of_pod).collect();
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        Ok(Response::new(AllocatableResourcesResponse::default()))
    }

    async fn get(
        &self,
        _: Request<GetPodResourcesRequest>,
    ) -> Result<Response<GetPodResourcesResponse>, Status> {
        Err(Status::unknown("not used here"))
    }
}
