//! Answers Allocate: all devices are checked and their nodes read before anything is written or said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portwright_core::drive::chain;
use portwright_core::pools::answer::{self, Node, Resolved};
use portwright_core::pools::{Health, Pool, PoolDevice};
use portwright_host::device_nodes::{self, NodesError, Question};
use portwright_proto::device_plugin::{
    AllocateRequest, AllocateResponse, CdiDevice, ContainerAllocateResponse, DeviceSpec,
};
use tonic::Status;

use crate::files;
use crate::plugin::Context;

/// kubelet asks for one container at a time.
const MOST_CONTAINERS: usize = 256;
/// More devices than a pool can have.
const MOST_DEVICES: usize = 4096;

/// Answers one call; `now` gives the pool as it is at the moment. An error names the resource, the device and the reason, as
/// kubelet shows it in the pod's status.
pub async fn allocate(
    context: &Context,
    now: &(dyn Fn() -> Arc<Pool> + Send + Sync),
    request: &AllocateRequest,
) -> Result<AllocateResponse, Status> {
    let containers = &request.container_requests;
    let asked = now();
    check(&asked, request)?;
    let ids = || containers.iter().flat_map(|container| &container.device_ids);
    // By kubelet's word nobody has them: what was handed out before has ended, however short ago that was.
    context.ledger.take_back(ids());
    for id in ids() {
        wait(context, &asked, find(&asked, id)?).await?;
    }
    // Whoever put a device in order may have given it another driver, and while we waited it may have gone.
    let pool = now();
    let resource = &pool.spec.resource;
    let mut chosen: Vec<Vec<(&PoolDevice, Resolved)>> = Vec::with_capacity(containers.len());
    for container in containers {
        let devices = container.device_ids.iter().map(|id| {
            let device = find(&pool, id)?;
            let found = resolve(context, &pool, device);
            let (resolved, _) = found.map_err(|error| refusal(&pool, device, &chain(&error)))?;
            Ok((device, resolved))
        });
        chosen.push(devices.collect::<Result<_, Status>>()?);
    }
    let all = || chosen.iter().flatten().map(|(device, _)| (device.id(), device.candidate.address));
    context.ledger.hand_out(resource, all()).map_err(|id| {
        Status::failed_precondition(format!("{resource}: device {id} is about to be changed; retry later"))
    })?;
    context.metrics.allocated(resource, context.ledger.allocated(resource));
    write_files(context, &pool, &chosen)?;
    let container_responses = chosen.iter().map(|devices| respond(context, &pool, devices)).collect();
    Ok(AllocateResponse { container_responses })
}

/// Refuses requests that kubelet does not make.
fn check(pool: &Pool, request: &AllocateRequest) -> Result<(), Status> {
    let (resource, containers) = (&pool.spec.resource, &request.container_requests);
    if containers.len() > MOST_CONTAINERS {
        let what =
            format!("{resource}: {} containers in one call; {MOST_CONTAINERS} is the most", containers.len());
        return Err(Status::invalid_argument(what));
    }
    let mut seen = BTreeSet::new();
    for container in containers {
        let ids = &container.device_ids;
        if ids.is_empty() || ids.len() > MOST_DEVICES {
            return Err(Status::invalid_argument(format!(
                "{resource}: a container asks for {} devices",
                ids.len()
            )));
        }
        for id in ids {
            if !seen.insert(id.as_str()) {
                return Err(Status::invalid_argument(format!(
                    "{resource}: device {} is asked for twice",
                    short(id)
                )));
            }
        }
    }
    Ok(())
}

/// A device that can be used.
fn find<'p>(pool: &'p Pool, id: &str) -> Result<&'p PoolDevice, Status> {
    let resource = &pool.spec.resource;
    let device = pool.device(id).ok_or_else(|| {
        let id = short(id);
        Status::not_found(format!("{resource}: device {id} is not there, or is not in this pool any more"))
    })?;
    match &device.health {
        // Whoever is withheld is waited for.
        Health::Healthy | Health::Withheld { .. } => Ok(device),
        Health::Unhealthy { why } => {
            Err(Status::failed_precondition(format!("{resource}: device {id} is unhealthy: {why}")))
        }
    }
}

/// Enough of an id that somebody made up.
fn short(id: &str) -> String {
    id.chars().take(64).flat_map(char::escape_debug).collect()
}

fn refusal(pool: &Pool, device: &PoolDevice, why: &str) -> Status {
    Status::failed_precondition(format!("{}: device {}: {why}", pool.spec.resource, device.id()))
}

/// Waits until whoever still has the device has let go of it, and until it is as it should be.
async fn wait(context: &Context, pool: &Pool, device: &PoolDevice) -> Result<(), Status> {
    let withheld = matches!(device.health, Health::Withheld { .. });
    // What a device that is still being put in order lacks says nothing about it.
    let netdevs = match resolve(context, pool, device) {
        Ok((_, netdevs)) => netdevs,
        Err(_) if withheld => Vec::new(),
        Err(error) => return Err(refusal(pool, device, &chain(&error))),
    };
    let candidate = &device.candidate;
    let lost_netdev =
        netdevs.is_empty() && device.options.vdpa.is_none() && is_kernel(candidate.driver.as_deref());
    if withheld || lost_netdev || context.ledger.used_before(device.id()) {
        context.gate.ready(device).await.map_err(|why| refusal(pool, device, &why))?;
    }
    Ok(())
}

fn is_kernel(driver: Option<&str>) -> bool {
    driver.is_some_and(|driver| !driver.contains("vfio") && !driver.contains("uio"))
}

fn resolve(
    context: &Context,
    pool: &Pool,
    device: &PoolDevice,
) -> Result<(Resolved, Vec<String>), NodesError> {
    let candidate = &device.candidate;
    let Some(address) = candidate.address else { return Ok((Resolved::default(), Vec::new())) };
    let question = Question {
        address,
        aux: candidate.aux.is_some().then_some(candidate.id.as_str()),
        driver: candidate.driver.as_deref(),
        rdma: device.options.rdma,
        vhost_net: device.options.vhost_net,
        vdpa: device.options.vdpa.zip(candidate.vdpa.as_deref()),
        iommufd: pool.spec.iommufd,
    };
    device_nodes::resolve(&context.root, &question)
}

fn write_files(
    context: &Context,
    pool: &Pool,
    chosen: &[Vec<(&PoolDevice, Resolved)>],
) -> Result<(), Status> {
    let (resource, kind) = (&pool.spec.resource, pool.spec.device_type);
    let failed = |error: &dyn std::error::Error| Status::internal(format!("{resource}: {}", chain(error)));
    for (device, resolved) in chosen.iter().flatten() {
        if let Some(info) = answer::device_info(kind, device, resolved) {
            files::write_device_info(&context.root, resource, device.id(), &info)
                .map_err(|error| failed(&error))?;
        }
    }
    if context.settings.use_cdi {
        let nodes = chosen
            .iter()
            .flatten()
            .map(|(device, resolved)| (device.id().to_owned(), resolved.nodes.clone()));
        context.update_cdi(resource, kind, nodes.collect()).map_err(|error| failed(&error))?;
    }
    Ok(())
}

fn respond(context: &Context, pool: &Pool, devices: &[(&PoolDevice, Resolved)]) -> ContainerAllocateResponse {
    let (resource, kind) = (&pool.spec.resource, pool.spec.device_type);
    let devices: Vec<(&PoolDevice, &Resolved)> =
        devices.iter().map(|(device, resolved)| (*device, resolved)).collect();
    let envs = answer::environment(resource, kind, &pool.spec.additional_info, &devices);
    let mut response = ContainerAllocateResponse { envs, ..ContainerAllocateResponse::default() };
    if context.settings.use_cdi {
        let with_nodes = devices.iter().filter(|(_, resolved)| !resolved.nodes.is_empty());
        let ids: Vec<&str> = with_nodes.map(|(device, _)| device.id()).collect();
        if !ids.is_empty() {
            let cdi = answer::cdi_kind(resource, kind);
            response.cdi_devices = ids.iter().map(|id| CdiDevice { name: format!("{cdi}={id}") }).collect();
            response.annotations = BTreeMap::from([answer::cdi_annotation(resource, kind, &ids)]);
        }
        return response;
    }
    let mut hosts = BTreeSet::new();
    let nodes =
        devices.iter().flat_map(|(_, resolved)| &resolved.nodes).filter(|node| hosts.insert(&node.host));
    response.devices = nodes
        .map(|Node { host, container }| DeviceSpec {
            container_path: container.clone(),
            host_path: host.clone(),
            permissions: "rw".to_owned(),
        })
        .collect();
    response
}
