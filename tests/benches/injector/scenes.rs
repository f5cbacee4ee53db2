//! What is measured, in the order in which it is printed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use bytes::Bytes;
use futures::future::join_all;
use portwright_tests::apiserver::{ApiServer, Mood};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::attacks;
use crate::bodies::{self, Body};
use crate::goals::{LOOKUPS, MEMORY_KIB, Missed, READY};
use crate::load::{self, Client, Figures};
use crate::options::Options;
use crate::process::{Injector, Surroundings};

fn nad(name: &str, resource: &str) -> (String, Value) {
    let path = format!("/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions/{name}");
    let config = "{\"cniVersion\":\"1.0.0\",\"type\":\"sriov\",\"vlan\":100,\"ipam\":{\"type\":\"whereabouts\",\"range\":\"10.0.0.0/16\"}}";
    let object = json!({
        "kind": "NetworkAttachmentDefinition", "metadata": {"annotations": {"k8s.v1.cni.cncf.io/resourceName": resource}},
        "spec": {"config": config},
    });
    (path, object)
}

/// Everything; the goals that were missed.
pub async fn all(options: &Options) -> Vec<String> {
    let mut missed = Missed::default();
    let api = ApiServer::start().await;
    api.put_all(
        (0..10_000).map(|i| {
            nad(&format!("net-{i}"), if i % 2 == 0 { "example.com/even" } else { "example.com/odd" })
        }),
    );
    let around = Surroundings::new(&api);
    let client = Client::new(&around.authority);
    let front = tls_front(&api, &around).await;

    println!("cold start with 10,000 networks");
    let mut ours = Injector::ours(options, &around);
    let took = ours.ready().await;
    println!(
        "  ours: ready after {:.0} ms, {} KiB resident",
        took.as_secs_f64() * 1000.0,
        ours.memory_kib().0
    );
    missed.unless(took <= READY, || format!("ready with 10,000 networks after {took:.2?}, not {READY:?}"));
    let idle = (options.idle > 0).then(|| {
        let injector = Injector::ours(options, &around);
        tokio::spawn(attacks::idle(client.clone(), injector, Duration::from_secs(options.idle)))
    });
    let mut peer = options.peer.as_deref().map(|binary| Injector::peer(binary, &around, front));
    if let Some(peer) = &mut peer {
        let took = peer.ready().await;
        println!(
            "  peer: ready after {:.0} ms (its readiness may not mean a filled cache), {} KiB resident",
            took.as_secs_f64() * 1000.0,
            peer.memory_kib().0
        );
    }
    let bodies = if options.rounds == 0 { Vec::new() } else { bodies::all() };
    for body in bodies {
        for fresh in [false, true] {
            measure(options, &client, &body, fresh, &ours, peer.as_ref(), &mut missed).await;
        }
    }
    let memory = |name: &str, injector: &Injector| {
        let (now, most) = injector.memory_kib();
        println!("  {name}: {now} KiB now, {most} KiB at most");
        now as f64
    };
    println!("resident memory after the load");
    let own = memory("ours", &ours);
    if let Some(peer) = &peer {
        println!("  ours / peer: {:.2}", own / memory("peer", peer));
    }
    first_requests(options, &client, &around, &api, &mut missed).await;
    if options.flood > 0 {
        attacks::flood(options, &client, &ours, &mut missed).await;
    }
    if let Some(idle) = idle {
        let served = idle.await.unwrap();
        println!("after {} s of silence: {served:?}", options.idle);
        missed.unless(served.is_ok(), || format!("a connection that was silent was not served: {served:?}"));
    }
    missed.0
}

/// One body, alternately on ours and the peer.
async fn measure(
    options: &Options,
    client: &Client,
    body: &Body,
    fresh: bool,
    ours: &Injector,
    peer: Option<&Injector>,
    missed: &mut Missed,
) {
    println!(
        "{} ({} bytes), {}",
        body.name,
        body.text.len(),
        if fresh { "new connections" } else { "kept connections" }
    );
    let bytes = Bytes::from(body.text.clone());
    let mut best = [Figures::default(); 2];
    let mut cpu = [f64::MAX; 2];
    let mut failed = [0; 2];
    let mut memory = [0; 2];
    for round in 0..options.rounds {
        // Who goes first changes, so that being second is nobody's disadvantage.
        for turn in 0..2 {
            let index = (round + turn) % 2;
            let Some(injector) = [Some(ours), peer][index] else { continue };
            injector.forget_peak();
            let before = injector.cpu_ms();
            let time = Duration::from_secs(options.seconds);
            let figures = load::run(client, injector.address, &bytes, options.connections, time, fresh).await;
            let spent = (injector.cpu_ms() - before) as f64 / figures.requests.max(1) as f64 * 1000.0;
            cpu[index] = cpu[index].min(spent);
            failed[index] += figures.failed;
            memory[index] = injector.memory_kib().1.max(memory[index]);
            if figures.per_second > best[index].per_second {
                best[index] = figures;
            }
        }
    }
    for (index, name) in ["ours", "peer"].into_iter().enumerate().take(1 + usize::from(peer.is_some())) {
        let Figures { per_second, p50, p99, p999, requests, .. } = best[index];
        println!(
            "  {name}: {per_second:.0}/s, p50 {p50:.2?}, p99 {p99:.2?}, p99.9 {p999:.2?}, {:.0} ms CPU per 1,000, {:.1} MiB at most, {requests} in the best round, {} failed in all",
            cpu[index],
            memory[index] as f64 / 1024.0,
            failed[index]
        );
    }
    let kind = if fresh { "new" } else { "kept" };
    missed.unless(failed[0] == 0, || {
        format!("{}, {kind} connections: {} requests failed", body.name, failed[0])
    });
    missed.unless(best[0].requests > 0, || format!("{}, {kind} connections: nothing was served", body.name));
    missed.unless(memory[0] <= MEMORY_KIB, || {
        format!("{}, {kind} connections: {} KiB resident", body.name, memory[0])
    });
    if let Some(peer) = peer {
        if same_pod(client, body, ours, peer).await {
            println!(
                "  ours / peer: {:.1} × requests per second, {:.2} × CPU",
                best[0].per_second / best[1].per_second,
                cpu[0] / cpu[1]
            );
        } else {
            println!("  no ratio: the two make different pods of this body");
        }
    }
}

async fn same_pod(client: &Client, body: &Body, ours: &Injector, peer: &Injector) -> bool {
    let mut results = Vec::new();
    for injector in [ours, peer] {
        let mut connection = client.connect(injector.address).await.unwrap();
        let Ok(answer) = connection.post(Bytes::from(body.text.clone())).await else { return false };
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        let mut pod = body.pod.clone();
        if let Some(patch) = answer["response"]["patch"].as_str() {
            let patch = base64::engine::general_purpose::STANDARD.decode(patch).unwrap();
            let patch: Option<json_patch::Patch> = serde_json::from_slice(&patch).unwrap();
            json_patch::patch(&mut pod, &patch.unwrap_or_default()).unwrap();
        }
        results.push((answer["response"]["allowed"].clone(), pod));
    }
    results[0] == results[1]
}

/// A hundred pods at once that name a network which the cache does not have.
async fn first_requests(
    options: &Options,
    client: &Client,
    around: &Surroundings,
    api: &ApiServer,
    missed: &mut Missed,
) {
    api.set_mood(Mood::Blind);
    let mut injector = Injector::start_blind(options, around);
    injector.ready().await;
    let mut connections = Vec::new();
    for _ in 0..100 {
        connections.push(client.connect(injector.address).await.unwrap());
    }
    let body = Bytes::from(bodies::small("net-77"));
    let before = api.requests("network-attachment-definitions/net-77").len();
    let started = Instant::now();
    let answers = join_all(connections.iter_mut().map(|connection| connection.post(body.clone()))).await;
    let good = answers.iter().filter(|answer| answer.is_ok()).count();
    let asked = api.requests("network-attachment-definitions/net-77").len() - before;
    println!(
        "100 first requests at once: {good} answered, the last after {:.1?}, with {asked} look-ups",
        started.elapsed()
    );
    missed.unless(good == answers.len(), || format!("of 100 first requests {good} were answered"));
    missed.unless(asked <= LOOKUPS, || format!("100 first requests made {asked} look-ups"));
    api.set_mood(Mood::Well);
}

/// The API server over TLS, for injectors that will not speak to it otherwise.
async fn tls_front(api: &ApiServer, around: &Surroundings) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(around.server_config()));
    let back: SocketAddr = api.url().trim_start_matches("http://").parse().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut front = acceptor.accept(stream).await.ok()?;
                let mut back = TcpStream::connect(back).await.ok()?;
                tokio::io::copy_bidirectional(&mut front, &mut back).await.ok()
            });
        }
    });
    address
}
