//! Reviews of the sizes that occur.

use serde_json::{Value, json};

/// A body with what it stands for.
pub struct Body {
    pub name: &'static str,
    pub text: String,
    pub pod: Value,
}

/// Plain pods, ordinary ones, and one of the largest.
pub fn all() -> Vec<Body> {
    let sized = |name, networks: Option<&str>, containers: usize, env: usize, value: usize| {
        let pod = pod(networks, containers, env, value);
        Body { name, text: review(&pod), pod }
    };
    vec![
        sized("3 KB, no network", None, 1, 12, 40),
        sized("3 KB, 1 network", Some("net-0"), 1, 12, 40),
        sized("14 KB, 3 networks", Some("net-0,net-1@eth1,net-0"), 4, 40, 40),
        sized(
            "14 KB, JSON form",
            Some(r#"[{"name":"net-0"},{"name":"net-1","interface":"eth1"}]"#),
            4,
            40,
            40,
        ),
        sized("760 KB, 1 network", Some("net-0"), 4, 180, 1000),
    ]
}

fn pod(networks: Option<&str>, containers: usize, env: usize, value: usize) -> Value {
    let variables: Vec<Value> =
        (0..env).map(|i| json!({"name": format!("VARIABLE_{i}"), "value": "x".repeat(value)})).collect();
    let container = |i: usize| {
        json!({
            "name": format!("c{i}"), "image": "registry.example.com/team/app:1.2.3", "env": variables,
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            "volumeMounts": [{"name": "kube-api-access-x", "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "imagePullPolicy": "IfNotPresent",
        })
    };
    let annotations = networks.map(|networks| json!({"k8s.v1.cni.cncf.io/networks": networks}));
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "generateName": "app-7c5ddbdf54-", "namespace": "default", "labels": {"app": "app", "pod-template-hash": "7c5ddbdf54"},
            "annotations": annotations,
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "app-7c5ddbdf54", "uid": "8b2f1c1e-0000-4000-8000-000000000000", "controller": true, "blockOwnerDeletion": true}],
        },
        "spec": {
            "containers": (0..containers).map(container).collect::<Vec<_>>(),
            "volumes": [{"name": "kube-api-access-x", "projected": {"sources": [{"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}], "defaultMode": 420}}],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst", "serviceAccountName": "default",
            "securityContext": {}, "schedulerName": "default-scheduler", "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority",
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
        },
        "status": {},
    })
}

/// The review that an API server makes of a pod.
pub fn review(pod: &Value) -> String {
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"}, "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"}, "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "default", "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller", "uid": "a", "groups": ["system:serviceaccounts", "system:authenticated"]},
            "object": pod, "oldObject": null, "dryRun": false, "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
    .to_string()
}

/// A pod with one network, for look-ups.
pub fn small(network: &str) -> String {
    review(&pod(Some(network), 1, 0, 0))
}
