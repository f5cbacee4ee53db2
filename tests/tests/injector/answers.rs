//! What comes back for which request.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::rig::{Rig, amount, pod, review};

#[tokio::test]
async fn a_review_is_answered_in_the_api_servers_terms() {
    let rig = Rig::start(&[]).await;
    let pod = pod("foo-network");
    let answer = rig.review(&pod).await;
    let json = answer.json();
    assert_eq!(json["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(json["kind"], "AdmissionReview");
    assert_eq!(json["response"]["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002");
    assert!(json.get("request").is_none(), "the pod is not sent back");
    assert_eq!(amount(&answer, &pod, "example.com/foo").as_deref(), Some("1"));

    // The second pass over our own result needs nothing, so nothing is sent.
    let mut treated = pod.clone();
    json_patch::patch(&mut treated, &answer.patch()).unwrap();
    let again = rig.review(&treated).await.json();
    assert_eq!(again["response"]["allowed"], true);
    assert!(again["response"].get("patch").is_none() && again["response"].get("patchType").is_none());
}

#[tokio::test]
async fn a_refusal_has_a_code_a_reason_and_a_sentence() {
    let rig = Rig::start(&[]).await;
    for (networks, code, reason, part) in [
        ("net1@if1@if2", 400, "BadRequest", "more than one '@'"),
        ("foo-network,", 400, "BadRequest", "name is missing"),
        ("nowhere", 403, "Forbidden", "default/nowhere does not exist"),
    ] {
        let answer = rig.review(&pod(networks)).await;
        assert_eq!(answer.status, StatusCode::OK, "a refusal is an answer, not a failure");
        let response = &answer.json()["response"];
        assert_eq!(response["allowed"], false);
        assert_eq!(response["status"]["code"], code);
        assert_eq!(response["status"]["reason"], reason);
        assert!(response["status"]["message"].as_str().unwrap().contains(part), "{response}");
    }
}

#[tokio::test]
async fn warnings_are_short() {
    let rig = Rig::start(&["--missing-nad=warn"]).await;
    let long = "n".repeat(200);
    let answer = rig.review(&pod(&format!("foo-network,{long},nowhere"))).await.json();
    let warnings = answer["response"]["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 2);
    assert!(warnings.iter().all(|warning| warning.as_str().unwrap().len() <= 120), "{warnings:?}");
}

#[tokio::test]
async fn what_is_no_review_gets_an_http_status() {
    let rig = Rig::start(&[]).await;
    let good = review(&pod("foo-network"));
    let mut deep = String::from(
        r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","kind":{"kind":"Pod"},"object":{"spec":"#,
    );
    deep.push_str(&"[".repeat(200_000));
    let deep_value = good
        .replace("\"image\":\"x\"", &format!("\"image\":{}1{}", "[".repeat(100_000), "]".repeat(100_000)));
    let json = "application/json";
    let at = good.find("\"image\":\"x\"").unwrap() + "\"image\":\"".len();
    let not_utf8 = [&good.as_bytes()[..at], &[0xff, 0xfe], &good.as_bytes()[at..]].concat();
    let image_twice = good.replace("\"image\":\"x\"", "\"image\":\"x\",\"image\":\"y\"");
    let cases: [(&str, &str, &str, Vec<u8>, u16); 18] = [
        ("POST", "/mutate", json, Vec::new(), 400),
        ("POST", "/mutate", json, b"nonsense".to_vec(), 400),
        ("POST", "/mutate", json, b"{}".to_vec(), 400),
        ("POST", "/mutate", json, b"[]".to_vec(), 400),
        (
            "POST",
            "/mutate",
            json,
            good.replace("admission.k8s.io/v1", "admission.k8s.io/v1beta1").into(),
            400,
        ),
        ("POST", "/mutate", json, good.replace("705ab4f5-6393-11e8-b7cc-42010a800002", "").into(), 400),
        ("POST", "/mutate", json, good.replace("\"generateName\"", "\"generat\u{0}").into(), 400),
        ("POST", "/mutate", json, [good.as_bytes(), &[0xff, 0xfe]].concat(), 400),
        ("POST", "/mutate", json, not_utf8, 400),
        // The API server has decoded the pod; of equal keys the last counts, as in Go.
        ("POST", "/mutate", json, image_twice.into(), 200),
        ("POST", "/mutate", json, good.replace("\"operation\"", "\"uid\":\"x\",\"operation\"").into(), 400),
        ("POST", "/mutate", json, deep.into(), 400),
        ("POST", "/mutate", json, deep_value.into(), 200),
        ("POST", "/mutate", "application/json; charset=utf-8", good.clone().into(), 200),
        ("POST", "/mutate", "text/plain", good.clone().into(), 415),
        ("GET", "/mutate", json, Vec::new(), 405),
        ("POST", "/other", json, good.clone().into(), 404),
        ("POST", "/mutate", json, vec![b' '; 8 * 1024 * 1024], 413),
    ];
    // One who does nothing wrong has a connection throughout.
    let mut beside = rig.client().await;
    for (method, path, kind, body, status) in cases {
        let head = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let request =
            Request::builder().method(method).uri(path).header("content-type", kind).header("host", "x");
        let answer = rig.client().await.send(request.body(Full::new(Bytes::from(body))).unwrap()).await;
        let answer = answer.unwrap_or_else(|error| panic!("{method} {path} {head}: {error}"));
        assert_eq!(answer.status.as_u16(), status, "{method} {path} {head}: {}", answer.text);
        assert!(beside.post(good.clone()).await.unwrap().is_patched(), "after {method} {path} {head}");
    }
    assert_eq!(rig.injector.metric("portwright_injector_panics_total").await, 0.0);
}

#[tokio::test]
async fn objects_that_are_not_for_us_pass_and_broken_ones_are_refused() {
    let rig = Rig::start(&[]).await;
    let good = review(&pod("foo-network"));
    for (body, allowed) in [
        (good.replace("\"CREATE\"", "\"UPDATE\""), true),
        (good.replace("\"kind\":\"Pod\",\"version\"", "\"kind\":\"Service\",\"version\""), true),
        (good.replace("\"dryRun\"", "\"subResource\":\"binding\",\"dryRun\""), true),
        (review(&Value::Null), false),
        (review(&json!("pod")), false),
        (review(&json!({"metadata": {"annotations": []}, "spec": {"containers": []}})), false),
        (review(&json!({"metadata": null, "spec": null})), true),
        (
            review(
                &json!({"metadata": {"annotations": {"k8s.v1.cni.cncf.io/networks": "[null]"}}, "spec": {"containers": [{}]}}),
            ),
            false,
        ),
    ] {
        let answer = rig.client().await.post(body.clone()).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{body}");
        assert_eq!(answer.json()["response"]["allowed"], allowed, "{body}\n{}", answer.text);
        assert!(answer.json()["response"].get("patch").is_none(), "{body}");
    }
}

#[tokio::test]
async fn pods_of_three_megabytes_and_reviews_of_six_are_served() {
    let rig = Rig::start(&[]).await;
    let mut pod = pod("foo-network");
    let value = "x".repeat(1000);
    let env: Vec<Value> = (0..2900).map(|i| json!({"name": format!("E{i}"), "value": value})).collect();
    pod["spec"]["containers"][0]["env"] = env.into();
    let body = review(&pod);
    assert!(body.len() > 2_900_000);
    let answer = rig.client().await.post(body).await.unwrap();
    assert_eq!(amount(&answer, &pod, "example.com/foo").as_deref(), Some("1"));
    pod["metadata"]["managedFields"] = json!([{"fieldsV1": {"f:x": "y".repeat(3_500_000)}}]);
    let answer = rig.client().await.post(review(&pod)).await.unwrap();
    assert!(answer.is_patched());
}
