//! The definitions against a real API server: it takes them (the rules' estimated cost is within its budget), it takes the
//! policies of the scenarios, and it refuses what it is meant to refuse. Policies are only asked about (`dryRun`).

use http::{Method, Request};
use kube::Client;
use portwright::daemon::cluster::client::connect;

async fn send(client: &Client, method: Method, path: &str, kind: &str, body: String) -> Result<(), String> {
    let request = Request::builder().method(method).uri(path).header("content-type", kind);
    let request = request.body(body.into_bytes()).unwrap();
    let answer = client.request::<serde_json::Value>(request).await;
    answer.map(drop).map_err(|error| error.to_string())
}

async fn ask(client: &Client, policy: String) -> Result<(), String> {
    let path = "/apis/portwright.dev/v1alpha1/nodepolicies?dryRun=All&fieldValidation=Strict";
    send(client, Method::POST, path, "application/yaml", policy).await
}

#[tokio::test]
#[ignore = "needs KUBECONFIG of a real API server that may be written to"]
async fn a_real_api_server_takes_the_definitions_and_refuses_what_it_should() {
    let client = connect(Some("portwright-test-worker")).await.unwrap().client;
    for (name, yaml) in portwright_api::crds() {
        let path = format!(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}?fieldManager=portwright-test&force=true"
        );
        send(&client, Method::PATCH, &path, "application/apply-patch+yaml", yaml).await.unwrap();
    }
    let established = async {
        while let Err(error) = ask(&client, portwright_api::example().to_owned()).await {
            assert!(error.contains("404") || error.contains("not found"), "{error}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), established).await.unwrap();
    let scenarios = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/scenarios");
    let mut taken = 0;
    for folder in std::fs::read_dir(scenarios).unwrap() {
        let file = folder.unwrap().path().join("policy.yaml");
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        for policy in text.split("\n---\n").filter(|part| part.contains("kind: NodePolicy")) {
            let answer = ask(&client, policy.to_owned()).await;
            assert_eq!(answer, Ok(()), "{}", file.display());
            taken += 1;
        }
    }
    assert!(taken > 70, "{taken}");
    let specs = include_str!("../../../api/tests/policies/refused-by-the-server.txt");
    for spec in specs.lines() {
        let head = "apiVersion: portwright.dev/v1alpha1\nkind: NodePolicy\nmetadata: {name: x}\nspec:\n  ";
        let error = ask(&client, format!("{head}{spec}\n")).await.unwrap_err();
        assert!(error.contains("is invalid"), "{spec}: {error}");
    }
}
