//! The time of day jumps, by three days forwards and by six back, while the daemon is in the middle of things: it has a place
//! among the nodes that may be disrupted, serves pools, and waits until a port without interface may be collected. Nothing of
//! that moves. The API server and kubelet are those of the tests, and their clock is the one that jumps.

use super::{Lab, Scenario, plain};
use crate::apiserver::{ApiServer, Ending};
use crate::kubelet::{Answer, Kubelet, Noted, Pod};
use crate::lab::{cli, eventually, guest, switch, sys};
use anyhow::{Context as _, Result, ensure};
use portwright_host::deadline::unix_seconds;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

pub(super) fn table() -> Vec<Scenario> {
    vec![plain("clock-jumps-move-nothing", jumps)]
}

const WITHIN: Duration = Duration::from_secs(60);
const DAYS: i64 = 3 * 86_400;
/// How long a port may be without interface.
const GRACE: Duration = Duration::from_secs(60);
/// The daemon looks at Open vSwitch every 30 s; the rest is for emulation.
const LATE: Duration = Duration::from_secs(45);
const KUBELET: &str = "/tmp/clock-kubelet";
const STATE: &str = "/tmp/clock-state";
const CONFIG: &str = "/tmp/clock-kubeconfig";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/portwright/leases";
const NET: &str = "portwright.dev/net";
const HELD: &str = "portwright.dev/held";
const POD: &str = "/api/v1/namespaces/web/pods/a-0";

/// Everything around the daemon.
struct World {
    runtime: Runtime,
    api: ApiServer,
    kubelet: Kubelet,
    /// The port whose pool is served, and the one that is to have another VF.
    ports: [String; 2],
}

fn jumps(lab: &mut Lab) -> Result<()> {
    let ports = [lab.card(0)?, lab.card(1)?];
    let began = (unix_seconds(), sys::now());
    for path in [KUBELET, STATE] {
        sys::remove(path)?;
    }
    let done = switch::beside(|| {
        let world = World::new(ports)?;
        let mut daemon = world.start()?;
        let done = world.go(lab);
        sys::tool("kill", &["-TERM", &daemon.child.id().to_string()])?;
        let ended = eventually("the daemon ends", WITHIN, || daemon.child.try_wait().ok().flatten());
        let said = daemon.finish(WITHIN)?;
        done.with_context(|| format!("the daemon said:\n{}", said.stderr))?;
        ensure!(ended?.code() == Some(0), "it did not end well:\n{said}");
        let left = world.api.list(LEASES);
        ensure!(left.is_empty(), "Leases are left: {left:?}");
        world.runtime.block_on(world.kubelet.stop());
        Ok(())
    });
    // Gone already, if all went well.
    sys::run(sys::command("ip", &["link", "del", "stale0"]), WITHIN)?;
    // The machine's next scenarios have the time that it really is.
    let now = began.0.saturating_add(began.1.elapsed().as_secs());
    sys::tool("date", &["-s", &format!("@{now}")])?;
    done
}

/// Lets the time of day jump.
fn jump(seconds: i64) -> Result<()> {
    let to = i64::try_from(unix_seconds())?.saturating_add(seconds);
    sys::tool("date", &["-s", &format!("@{to}")])?;
    let now = i64::try_from(unix_seconds())?;
    ensure!((now - to).abs() < 60, "the clock did not jump: {now}, not {to}");
    Ok(())
}

/// What the daemon knows after a round that is started now.
fn look() -> Result<Value> {
    let output = cli::portwright(&["reconcile", "-o", "json"])?;
    serde_json::from_str(&output.stdout).with_context(|| format!("{output}"))
}

fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

impl World {
    fn new(ports: [String; 2]) -> Result<World> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let api = runtime.block_on(ApiServer::start());
        let kubelet = runtime.block_on(Kubelet::start(Path::new(KUBELET), false))?;
        sys::write(CONFIG, &api.kubeconfig())?;
        let node = json!({"kind": "Node", "metadata": {"labels": {"role": "worker"}}, "spec": {}});
        api.put("/api/v1/nodes/lab-node", node);
        Ok(World { runtime, api, kubelet, ports })
    }

    fn want(&self, name: &str, spec: &Value) {
        let mut spec = spec.clone();
        if let Some(map) = spec.as_object_mut() {
            map.insert("nodeSelector".to_owned(), json!({"matchLabels": {"role": "worker"}}));
        }
        let policy = json!({"kind": "NodePolicy", "metadata": {"name": name}, "spec": spec});
        self.api.put(&format!("/apis/portwright.dev/v1alpha1/nodepolicies/{name}"), policy);
    }

    /// So many VFs of the second port, for which a pod is to be evicted.
    fn want_held(&self, vfs: u32) {
        let [_, port] = &self.ports;
        let group = json!({"vfs": "0-1", "pool": "held", "driver": "kernel"});
        let nic = json!({"select": {"addresses": [port]}, "vfs": vfs, "vfGroups": [group]});
        self.want("held", &json!({"disruption": "Evict", "maxUnavailable": 1, "nics": [nic]}));
    }

    fn start(&self) -> Result<sys::Running> {
        let [port, _] = &self.ports;
        sys::tool("ip", &["link", "add", "stale0", "type", "dummy"])?;
        let group = json!({"vfs": "0-2", "pool": "net", "driver": "kernel"});
        let bridge = json!({"name": "br-lab", "datapath": "system", "ports": [{"name": "stale0"}]});
        let nic = json!({"select": {"addresses": [port]}, "vfs": 3, "vfGroups": [group]});
        let ovs = json!({"collect": {"graceSeconds": GRACE.as_secs()}});
        self.want("pools", &json!({"ovs": ovs, "nics": [nic], "bridges": [bridge]}));
        self.want_held(2);
        let words =
            ["run", "--kube", "--node-name", "lab-node", "--kubelet-dir", KUBELET, "--state-dir", STATE];
        let mut command = sys::command("portwright", &words);
        command.env("KUBECONFIG", CONFIG);
        sys::Running::start(command)
    }

    /// Two pods have a VF each; one of them kubelet only has in its checkpoint, and it cannot be asked.
    fn run_pods(&self) -> Result<()> {
        let pod = |name: &str| {
            let path = POD.replace("a-0", name);
            let labels = json!({"labels": {"app": name}});
            self.api.put(&path, json!({"kind": "Pod", "metadata": labels, "spec": {"nodeName": "lab-node"}, "status": {"phase": "Running"}}));
            let uid =
                self.api.get(&path).and_then(|pod| Some(at(&pod, "/metadata/uid").as_str()?.to_owned()));
            uid.context("a pod has a UID")
        };
        let of = |uid: String, resource: &str, port: &str| -> Result<Noted> {
            let (container, resource) = ("app".to_owned(), resource.to_owned());
            Ok(Noted { uid, container, resource, device: guest::vf(port, 0)? })
        };
        let [port, held] = &self.ports;
        let noted = [of(pod("a-0")?, HELD, held)?, of(pod("b-0")?, NET, port)?];
        // It ends when the scenario says so.
        self.api.set_ending(Ending::Marked);
        self.runtime.block_on(self.kubelet.note(&noted))?;
        self.kubelet.set_pods(Answer::Refused);
        Ok(())
    }

    fn go(&self, lab: &mut Lab) -> Result<()> {
        eventually("all is as wanted", WITHIN, || {
            let vfs = [0, 1].map(|port| self.ports.get(port).map(|port| guest::vfs(port).len()));
            let state = look().ok().filter(|_| vfs == [Some(3), Some(2)])?;
            (at(&state, "/summary/pending") == 0 && at(&state, "/summary/running") == false).then_some(())
        })?;
        for resource in [NET, HELD] {
            let good = |found: &crate::kubelet::Resource| found.connected && !found.devices.is_empty();
            let found = self.runtime.block_on(self.kubelet.wait(resource, WITHIN, good));
            ensure!(found.is_ok(), "{resource} is not registered: {found:?}");
        }
        self.run_pods()?;
        self.want_held(3);
        let place = || self.api.list(LEASES).len() == 1 && !self.api.requests("a-0/eviction").is_empty();
        ensure!(self.runtime.block_on(self.api.wait_until(WITHIN, place)), "it got no place");
        let gone = sys::now();
        sys::tool("ip", &["link", "del", "stale0"])?;
        // Its time begins before the jump.
        eventually("the port without interface being seen", WITHIN, || {
            let state = look().ok()?;
            let mut blocked = at(&state, "/plan/blocked").as_array().into_iter().flatten();
            let missing = |one: &Value| at(one, "/object") == "bridge/br-lab/port/stale0";
            blocked.any(missing).then_some(())
        })?;
        let before = self.kubelet.resource(NET).context("it is registered")?;

        jump(DAYS)?;
        self.unmoved("three days later", &before.lists)?;
        jump(-2 * DAYS)?;
        self.unmoved("three days earlier", &before.lists)?;
        self.collected(gone, lab)?;
        self.unmoved("in the end", &before.lists)?;
        self.finish()
    }

    /// The place is renewed, no other pod and no device is touched, and the VFs of both pods count as used.
    fn unmoved(&self, when: &str, lists: &u64) -> Result<()> {
        let known = self.api.history(LEASES).len();
        let renewed = || self.api.history(LEASES).len() > known;
        ensure!(
            self.runtime.block_on(self.api.wait_until(WITHIN, renewed)),
            "{when}: the place was not renewed"
        );
        let state = look()?;
        for change in self.api.history(LEASES) {
            let spec = at(&change.object, "/spec");
            let ours = at(spec, "/holderIdentity") == "lab-node" && at(spec, "/leaseTransitions") == 0;
            ensure!(ours && change.kind != "DELETED", "{when}: the place has changed hands: {change:?}");
        }
        for port in &self.ports {
            let pfs = at(&state, "/pfs").as_array().into_iter().flatten();
            let found = pfs.clone().find(|pf| at(pf, "/address") == port.as_str()).context("no port")?;
            ensure!(at(found, "/inUse") == 1, "{when}: the pod's VF looks free: {found}");
        }
        let waits = at(&state, "/plan/waiting").as_array().into_iter().flatten();
        let mut reasons = waits.filter_map(|one| at(one, "/for").as_str());
        ensure!(reasons.any(|why| why == "web/a-0 is being evicted"), "{when}: the turn is over: {state}");
        let evictions = self.api.requests("/eviction");
        ensure!(evictions.len() == 1, "{when}: more was evicted: {evictions:?}");
        let now = self.kubelet.resource(NET).context("it is registered")?;
        let same = now.connected && now.registrations == 1 && now.lists == *lists;
        ensure!(
            same && now.ids().iter().all(|id| !id.starts_with('!')),
            "{when}: the pool has changed: {now:?}"
        );
        Ok(())
    }

    /// The port without interface goes when its time has come.
    fn collected(&self, gone: Instant, lab: &mut Lab) -> Result<()> {
        let there = || switch::vsctl("list-ports br-lab").map(|ports| ports.contains("stale0"));
        ensure!(there()?, "the port was collected after {} s", gone.elapsed().as_secs());
        ensure!(gone.elapsed() < GRACE, "this machine is too slow to show anything");
        let left = (GRACE + LATE).saturating_sub(gone.elapsed());
        eventually("the port being collected", left, || there().ok().filter(|there| !there))?;
        let took = gone.elapsed();
        ensure!(took + Duration::from_secs(1) >= GRACE, "the port was collected after {} s", took.as_secs());
        lab.note(&format!(
            "the stale port was collected {:.0} s after its interface had gone",
            took.as_secs_f64()
        ))
    }

    /// The place is worth something still: the pod ends, and the port gets its VFs.
    fn finish(&self) -> Result<()> {
        let [port, held] = &self.ports;
        self.api.delete(POD);
        let (namespace, name) = ("web".to_owned(), "b-0".to_owned());
        let devices = vec![guest::vf(port, 0)?];
        let (container, resource) = ("app".to_owned(), NET.to_owned());
        self.kubelet.set_pods(Answer::Pods(vec![Pod { namespace, name, container, resource, devices }]));
        self.runtime.block_on(self.kubelet.note(&[]))?;
        eventually("the port has its VFs", WITHIN, || (guest::vfs(held).len() == 3).then_some(()))
    }
}
