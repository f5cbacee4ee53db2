//! What kubelet calls on a pool's socket.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::Stream;
use portwright_core::pools::Pool;
use portwright_core::pools::prefer;
use portwright_host::deadline::Stopwatch;
use portwright_proto::device_plugin::device_plugin_server::DevicePlugin;
use portwright_proto::device_plugin::{
    AllocateRequest, AllocateResponse, ContainerPreferredAllocationResponse, Device, DevicePluginOptions,
    Empty, ListAndWatchResponse, NumaNode, PreStartContainerRequest, PreStartContainerResponse,
    PreferredAllocationRequest, PreferredAllocationResponse, TopologyInfo,
};
use portwright_proto::registration::registration_server::Registration;
use portwright_proto::registration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::allocate;
use crate::kubelet::{API_VERSION, options};
use crate::plugin::Context;

/// kubelet has one stream; a few more may overlap while it restarts.
const MOST_STREAMS: usize = 16;

/// How many ListAndWatch streams are open, and a call when the last one ends.
#[derive(Debug)]
pub(crate) struct Streams {
    open: AtomicUsize,
    pub(crate) lost: Notify,
    /// Counts when the first one opens and the last one ends, for all pools together.
    changes: watch::Sender<u64>,
}

impl Streams {
    /// No stream yet.
    pub(crate) fn new(changes: watch::Sender<u64>) -> Streams {
        Streams { open: AtomicUsize::new(0), lost: Notify::new(), changes }
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Whether kubelet listens.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst) > 0
    }
}

/// One open stream.
struct OpenStream(Arc<Streams>);

impl OpenStream {
    fn begin(streams: &Arc<Streams>) -> Option<OpenStream> {
        let before = streams.open.fetch_add(1, Ordering::SeqCst);
        let stream = OpenStream(Arc::clone(streams));
        if before == 0 {
            streams.changed();
        }
        (before < MOST_STREAMS).then_some(stream)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.lost.notify_one();
            self.0.changed();
        }
    }
}

/// The service of one pool, for one life of its socket.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) context: Arc<Context>,
    pub(crate) pool: watch::Receiver<Arc<Pool>>,
    pub(crate) streams: Arc<Streams>,
    pub(crate) stop: CancellationToken,
    /// Where the socket is: what the plugin watcher dials.
    pub(crate) endpoint: String,
}

impl Service {
    fn pool(&self) -> Arc<Pool> {
        let pool = Arc::clone(&self.pool.borrow());
        self.context.metrics.contact(&pool.spec.resource);
        pool
    }
}

/// The list as it goes to kubelet.
fn list(pool: &Pool) -> Vec<Device> {
    let topology = |node: Option<u16>| {
        let node = node.filter(|_| !pool.spec.exclude_topology)?;
        Some(TopologyInfo { nodes: vec![NumaNode { id: i64::from(node) }] })
    };
    let device = |device: &portwright_core::pools::PoolDevice| Device {
        id: device.id().to_owned(),
        health: if device.is_healthy() { "Healthy" } else { "Unhealthy" }.to_owned(),
        topology: topology(device.candidate.numa_node),
    };
    pool.shown().map(device).collect()
}

type DeviceLists = Pin<Box<dyn Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

#[tonic::async_trait]
impl DevicePlugin for Service {
    type ListAndWatchStream = DeviceLists;

    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        self.pool();
        Ok(Response::new(options()))
    }

    async fn list_and_watch(&self, _: Request<Empty>) -> Result<Response<DeviceLists>, Status> {
        let resource = self.pool().spec.resource.clone();
        let open = OpenStream::begin(&self.streams).ok_or_else(|| {
            Status::resource_exhausted(format!("{resource}: {MOST_STREAMS} streams are open already"))
        })?;
        let mut pool = self.pool.clone();
        pool.mark_changed();
        let state = (pool, None::<Vec<Device>>, self.stop.clone(), open);
        let lists = futures::stream::unfold(state, |(mut pool, mut sent, stop, open)| async move {
            loop {
                // A server that waits for its streams before it stops must end them first.
                stop.run_until_cancelled(pool.changed()).await?.ok()?;
                let devices = list(&pool.borrow_and_update());
                if sent.as_ref() != Some(&devices) {
                    let message = Ok(ListAndWatchResponse { devices: devices.clone() });
                    sent = Some(devices);
                    return Some((message, (pool, sent, stop, open)));
                }
            }
        });
        Ok(Response::new(Box::pin(lists)))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let pool = self.pool();
        let answer = |request: &portwright_proto::device_plugin::ContainerPreferredAllocationRequest| {
            let size = usize::try_from(request.allocation_size).unwrap_or_default();
            let (available, must) = (&request.available_device_ids, &request.must_include_device_ids);
            ContainerPreferredAllocationResponse { device_ids: prefer::choose(&pool, available, must, size) }
        };
        let container_responses = request.get_ref().container_requests.iter().map(answer).collect();
        Ok(Response::new(PreferredAllocationResponse { container_responses }))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        let watch = Stopwatch::start();
        let pool = self.pool();
        let resource = &pool.spec.resource;
        let now = || Arc::clone(&self.pool.borrow());
        let answer = allocate::allocate(&self.context, &now, request.get_ref()).await;
        self.context.metrics.allocate(resource, watch.elapsed(), answer.is_ok());
        match &answer {
            Ok(_) => tracing::info!(%resource, devices = ?ids(request.get_ref()), "allocated"),
            Err(status) => tracing::warn!(%resource, reason = status.message(), "not allocated"),
        }
        answer.map(Response::new)
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        Ok(Response::new(PreStartContainerResponse {}))
    }
}

fn ids(request: &AllocateRequest) -> Vec<&str> {
    request
        .container_requests
        .iter()
        .flat_map(|container| &container.device_ids)
        .map(String::as_str)
        .collect()
}

#[tonic::async_trait]
impl Registration for Service {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "DevicePlugin".to_owned(),
            name: self.pool().spec.resource.to_string(),
            endpoint: self.endpoint.clone(),
            supported_versions: vec![API_VERSION.to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let pool = self.pool();
        let resource = &pool.spec.resource;
        let status = request.get_ref();
        if status.plugin_registered {
            self.context.metrics.registered(resource);
            tracing::info!(%resource, mode = "watcher", "registered with kubelet");
        } else {
            // kubelet tries again by itself, with growing pauses.
            self.context.metrics.registration_failed(resource);
            tracing::warn!(%resource, reason = status.error, "kubelet refuses the registration");
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
