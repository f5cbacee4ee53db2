//! Certificates: files that change under load, and those that the injector makes itself.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use http::StatusCode;
use portwright_injector::app::Pace;
use portwright_injector::certs::plan::Lifetimes;
use portwright_tests::apiserver::{ApiServer, Mood};
use serde_json::{Value, json};

use crate::rig::{Authority, Client, Injector, Rig, file_flags, nad, pod, until};

const SECRET: &str = "/api/v1/namespaces/injector/secrets/portwright-injector-certificates";
const WEBHOOK: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/portwright-injector";

/// What kubelet does when a mounted Secret changes: a new folder, then one link is swapped.
fn swap(mount: &Path, version: u32, fill: impl FnOnce(&Path)) {
    let folder = mount.join(format!("..version-{version}"));
    std::fs::create_dir(&folder).unwrap();
    fill(&folder);
    let fresh = mount.join("..data_tmp");
    std::os::unix::fs::symlink(&folder, &fresh).unwrap();
    std::fs::rename(fresh, mount.join("..data")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_under_load_loses_no_request_and_a_bad_pair_changes_nothing() {
    let api = ApiServer::start().await;
    nad(&api, "default", "foo-network", Some("example.com/foo"));
    let authority = Authority::new();
    let mount = tempfile::tempdir().unwrap();
    swap(mount.path(), 0, |dir| authority.issue(dir));
    for file in ["tls.crt", "tls.key"] {
        std::os::unix::fs::symlink(format!("..data/{file}"), mount.path().join(file)).unwrap();
    }
    let flags = file_flags(mount.path());
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let pace = Pace { files: Duration::from_millis(20), ..Pace::default() };
    let injector = Injector::start(&api, &flags, pace).await;
    injector.ready().await;

    let done = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let mut loads = Vec::new();
    for keep in [true, false] {
        let (done, served, roots) = (Arc::clone(&done), Arc::clone(&served), authority.pem.clone());
        let address = injector.webhook;
        loads.push(tokio::spawn(async move {
            let mut client = Client::connect(address, &[&roots]).await.unwrap();
            while !done.load(Ordering::Relaxed) {
                if !keep {
                    client = Client::connect(address, &[&roots]).await.unwrap();
                }
                assert!(client.review(&pod("foo-network")).await.is_patched());
                served.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let changes = async || injector.metric("portwright_injector_certificate_changes_total").await;
    let bad = async || injector.metric("portwright_injector_certificate_bad").await;
    for version in 1..4 {
        swap(mount.path(), version, |dir| authority.issue(dir));
        until("taken into use", async || changes().await == f64::from(version + 1)).await;
    }
    // A key that does not belong to the certificate, then a file that is no certificate: the old one is served.
    swap(mount.path(), 4, |dir| {
        authority.issue(dir);
        let certificate = std::fs::read(dir.join("tls.crt")).unwrap();
        authority.issue(dir);
        std::fs::write(dir.join("tls.crt"), certificate).unwrap();
    });
    until("refused", async || bad().await == 1.0).await;
    swap(mount.path(), 5, |dir| {
        authority.issue(dir);
        std::fs::write(dir.join("tls.crt"), "none").unwrap();
    });
    let seen = served.load(Ordering::Relaxed);
    until("served meanwhile", async || served.load(Ordering::Relaxed) > seen + 20).await;
    assert_eq!(changes().await, 4.0);
    swap(mount.path(), 6, |dir| authority.issue(dir));
    until("good again", async || bad().await == 0.0).await;
    done.store(true, Ordering::Relaxed);
    for load in loads {
        load.await.expect("not one request failed");
    }
    let expiry = injector.metric("portwright_injector_certificate_expiry_timestamp_seconds").await;
    assert!(expiry > 1.7e9, "{expiry}");
}

#[tokio::test]
async fn clients_are_asked_for_certificates_only_if_told() {
    let other = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.crt");
    std::fs::write(&ca, &other.pem).unwrap();
    let flag = format!("-client-ca={}", ca.display());
    let rig = Rig::start(&[&flag]).await;
    // With TLS 1.3 the refusal arrives after the handshake, with the first answer.
    let refused = match Client::connect(rig.injector.webhook, &[&rig.authority.pem]).await {
        Err(_) => true,
        Ok(mut client) => client.post("{}").await.is_err(),
    };
    assert!(refused);
    let rig = Rig::start(&[&flag, "-insecure=true"]).await;
    assert!(rig.review(&pod("foo-network")).await.is_patched());
}

#[tokio::test]
async fn tls_versions_suites_and_groups_are_what_the_flags_say() {
    let suite = rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
    let by_flags: [(&[&str], bool, rustls::ProtocolVersion); 4] = [
        (&[], false, rustls::ProtocolVersion::TLSv1_3),
        (&["-tls-min-version=VersionTLS13"], false, rustls::ProtocolVersion::TLSv1_3),
        (&["-tls-min-version=VersionTLS12"], true, rustls::ProtocolVersion::TLSv1_2),
        (
            &["-tls-cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "-tls-curve-preferences=23"],
            true,
            rustls::ProtocolVersion::TLSv1_2,
        ),
    ];
    for (flags, only_12, version) in by_flags {
        let rig = Rig::start(flags).await;
        let versions: &[_] = if only_12 { &[&rustls::version::TLS12] } else { rustls::ALL_VERSIONS };
        let stream =
            crate::rig::tls_with(rig.injector.webhook, &[&rig.authority.pem], versions).await.unwrap();
        let session = stream.get_ref().1;
        assert_eq!(session.protocol_version(), Some(version), "{flags:?}");
        assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]), "{flags:?}");
        if flags.len() == 2 {
            assert_eq!(session.negotiated_cipher_suite().unwrap().suite(), suite);
            assert_eq!(
                session.negotiated_key_exchange_group().unwrap().name(),
                rustls::NamedGroup::secp256r1
            );
        }
    }
    let rig = Rig::start(&["-tls-min-version=VersionTLS13"]).await;
    let old =
        crate::rig::tls_with(rig.injector.webhook, &[&rig.authority.pem], &[&rustls::version::TLS12]).await;
    assert!(old.is_err());
}

fn webhook_object() -> Value {
    let entry = |name: &str, service: &str| {
        json!({
            "name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"name": service, "namespace": "injector", "path": "/mutate"}},
        })
    };
    json!({
        "kind": "MutatingWebhookConfiguration",
        "webhooks": [entry("a.portwright.dev", "portwright-injector"), entry("b.example.com", "somebody-else")],
    })
}

/// The announced authorities, PEM.
fn bundle(api: &ApiServer) -> String {
    let object = api.get(WEBHOOK).unwrap();
    let text =
        object.pointer("/webhooks/0/clientConfig/caBundle").and_then(Value::as_str).unwrap_or_default();
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).unwrap()).unwrap()
}

async fn managed(api: &ApiServer, pace: Pace) -> Injector {
    Injector::start(api, &["--self-managed-certificates"], pace).await
}

async fn is_served(injector: &Injector, api: &ApiServer) -> bool {
    match Client::connect(injector.webhook, &[&bundle(api)]).await {
        Ok(mut client) => client.review(&pod("foo-network")).await.is_patched(),
        Err(_) => false,
    }
}

#[tokio::test]
async fn self_managed_certificates_are_made_announced_and_repaired() {
    let api = ApiServer::start().await;
    nad(&api, "default", "foo-network", Some("example.com/foo"));
    api.put(WEBHOOK, webhook_object());
    let first = managed(&api, Pace::default()).await;
    let (status, text) = first.probe("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("no certificate yet"), "without the Secret there is nothing to write to: {text}");
    // The Secret is shipped empty, and several replicas find it so.
    api.put(SECRET, json!({"kind": "Secret", "type": "Opaque"}));
    let second = managed(&api, Pace::default()).await;
    let third = managed(&api, Pace::default()).await;
    for injector in [&first, &second, &third] {
        injector.ready().await;
        until("served", async || is_served(injector, &api).await).await;
    }
    let untouched = api.get(WEBHOOK).unwrap();
    assert!(
        untouched.pointer("/webhooks/1/clientConfig/caBundle").is_none(),
        "another's entry is left alone"
    );

    // An edited configuration is put right.
    let good = bundle(&api);
    api.put(WEBHOOK, webhook_object());
    api.wait_for(WEBHOOK, |object| object.pointer("/webhooks/0/clientConfig/caBundle").is_some()).await;
    assert_eq!(bundle(&api), good);

    // An emptied Secret means new certificates, which every replica takes into use.
    api.put(SECRET, json!({"kind": "Secret", "type": "Opaque"}));
    api.wait_for(SECRET, |object| object.pointer("/data/tls.crt").is_some()).await;
    until("announced", async || bundle(&api) != good).await;
    for injector in [&first, &second, &third] {
        until("served", async || is_served(injector, &api).await).await;
    }
}

/// The certificate that a replica shows to whoever trusts what is announced.
async fn shown(injector: &Injector, api: &ApiServer) -> Option<Vec<u8>> {
    let stream = crate::rig::tls(injector.webhook, &[&bundle(api)]).await.ok()?;
    let (_, session) = stream.get_ref();
    session.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec())
}

/// Two replicas that found the certificates at the same moment: one write is refused, its author reads again and takes
/// what the other has made. Then both repair an edited configuration at the same moment.
#[tokio::test]
async fn of_two_replicas_that_start_at_once_one_loses_the_write_and_both_serve_one_authority() {
    let api = ApiServer::start().await;
    nad(&api, "default", "foo-network", Some("example.com/foo"));
    api.put(WEBHOOK, webhook_object());
    api.put(SECRET, json!({"kind": "Secret", "type": "Opaque"}));
    let writes =
        |method: &str, part: &str| api.requests(part).into_iter().filter(|(done, _)| done == method).count();
    api.set_mood(Mood::Undecided);
    let replicas = [managed(&api, Pace::default()).await, managed(&api, Pace::default()).await];
    until("both want to write", async || writes("PUT", "/secrets/") == 2).await;
    api.set_mood(Mood::Well);
    for injector in &replicas {
        injector.ready().await;
        until("served", async || is_served(injector, &api).await).await;
    }
    assert_eq!((writes("PUT", "/secrets/"), api.conflicts()), (2, 1), "one was refused and not repeated");
    let secret = api.get(SECRET).unwrap();
    let text = secret.pointer("/data/ca.crt").and_then(Value::as_str).unwrap();
    let authority = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    let announced = bundle(&api);
    assert_eq!(announced.as_bytes(), authority, "the one authority, and nothing else");
    let leaf = shown(&replicas[0], &api).await;
    assert!(leaf.is_some());
    assert_eq!(shown(&replicas[1], &api).await, leaf, "both show the same certificate");

    // Somebody announces another authority; both replicas notice and repair it.
    api.set_mood(Mood::Undecided);
    let before = writes("PATCH", "mutatingwebhookconfigurations");
    let mut edited = webhook_object();
    edited["webhooks"][0]["clientConfig"]["caBundle"] =
        base64::engine::general_purpose::STANDARD.encode(&Authority::new().pem).into();
    api.put(WEBHOOK, edited);
    until("both want to repair it", async || writes("PATCH", "mutatingwebhookconfigurations") == before + 2)
        .await;
    api.set_mood(Mood::Well);
    until("repaired", async || bundle(&api) == announced).await;
    for injector in &replicas {
        until("served", async || is_served(injector, &api).await).await;
        assert_eq!(shown(injector, &api).await, leaf, "with the certificate from before");
    }
    assert_eq!(writes("PUT", "/secrets/"), 2, "the Secret was left alone");
}

/// Lives of seconds instead of years: leaves and authorities change all the time, and nobody notices.
#[tokio::test(flavor = "multi_thread")]
async fn self_managed_renewal_is_never_noticed() {
    let api = ApiServer::start().await;
    nad(&api, "default", "foo-network", Some("example.com/foo"));
    api.put(WEBHOOK, webhook_object());
    api.put(SECRET, json!({"kind": "Secret"}));
    let lifetimes = Lifetimes { authority: 9, leaf: 6, settle: 1, overlap: 1, backdate: 0 };
    let pace = Pace { lifetimes, look: Duration::from_millis(200), ..Pace::default() };
    let injectors = [managed(&api, pace).await, managed(&api, pace).await];
    for injector in &injectors {
        injector.ready().await;
        until("served", async || is_served(injector, &api).await).await;
    }
    let mut authorities = std::collections::BTreeSet::new();
    let mut overlaps = 0;
    let watching = async {
        while authorities.len() < 3 {
            let announced = bundle(&api);
            overlaps += usize::from(announced.matches("BEGIN CERTIFICATE").count() > 1);
            // Who trusts what is announced now reaches every replica, at any moment.
            for injector in &injectors {
                let mut client = Client::connect(injector.webhook, &[&announced]).await.expect("trusted");
                assert!(client.review(&pod("foo-network")).await.is_patched());
            }
            let secret = api.get(SECRET).unwrap();
            authorities.insert(secret["data"]["ca.crt"].as_str().unwrap().to_owned());
        }
    };
    tokio::time::timeout(Duration::from_secs(40), watching).await.expect("authorities change");
    assert!(overlaps > 0, "old and new were announced together");
}
