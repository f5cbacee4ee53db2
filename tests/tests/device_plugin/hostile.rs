//! Requests that no kubelet sends: an error, never a wrong answer, never the end of the service.

use portwright_device_plugin::Registration;
use portwright_proto::device_plugin::{
    AllocateRequest, ContainerAllocateRequest, ContainerPreferredAllocationRequest, Empty,
    PreStartContainerRequest, PreferredAllocationRequest,
};
use portwright_tests::kubelet::Kubelet;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tonic::Code;

use crate::rig::{CONFIG, NODE, Rig, SOON, ids, refused, request};

const NET: &str = "intel.com/net";

#[tokio::test]
async fn what_cannot_be_is_refused_with_resource_device_and_reason() {
    let mut rig = Rig::new(NODE, CONFIG, Registration::Watcher);
    let kubelet = Kubelet::start(&rig.dir, true).await.unwrap();
    rig.publish().await;
    ids(&kubelet, NET, &["0000:3b:01.0", "0000:3b:01.1"]).await;
    let mut client = kubelet.client(NET).await.unwrap();
    let long = "x".repeat(100_000);
    let cases: [(AllocateRequest, Code, &str); 8] = [
        (request(&["0000:3b:01.7"]), Code::NotFound, "device 0000:3b:01.7 is not there"),
        (request(&["0000:3b:01.2"]), Code::NotFound, "device 0000:3b:01.2 is not there"),
        (request(&[""]), Code::NotFound, "intel.com/net: device "),
        (request(&["../../etc/passwd\n"]), Code::NotFound, "passwd\\n"),
        (request(&[&long]), Code::NotFound, "xxx"),
        (
            request(&["0000:3b:01.0", "0000:3b:01.0"]),
            Code::InvalidArgument,
            "0000:3b:01.0 is asked for twice",
        ),
        (request(&[]), Code::InvalidArgument, "a container asks for 0 devices"),
        (
            AllocateRequest {
                container_requests: vec![
                    ContainerAllocateRequest {
                        device_ids: vec!["0000:3b:01.0".to_owned()]
                    };
                    10_000
                ],
            },
            Code::InvalidArgument,
            "10000 containers",
        ),
    ];
    for (request, code, words) in cases {
        let (found, text) = refused(&mut client, request).await;
        assert_eq!(found, code, "{text}");
        assert!(text.starts_with("intel.com/net: ") && text.contains(words) && text.len() < 300, "{text}");
    }
    let nothing = client.allocate(AllocateRequest::default()).await.unwrap();
    assert!(nothing.get_ref().container_responses.is_empty(), "an empty request is no error");

    let strange = ContainerPreferredAllocationRequest {
        available_device_ids: vec![long.clone(), "0000:3b:01.1".to_owned()],
        must_include_device_ids: vec!["nobody".to_owned()],
        allocation_size: i32::MIN,
    };
    for size in [i32::MIN, -1, 0, 1, i32::MAX] {
        let request = PreferredAllocationRequest {
            container_requests: vec![ContainerPreferredAllocationRequest {
                allocation_size: size,
                ..strange.clone()
            }],
        };
        let answer = client.get_preferred_allocation(request).await.unwrap().into_inner();
        let chosen = &answer.container_responses[0].device_ids;
        let expected: &[&str] = if size > 0 { &["0000:3b:01.1"] } else { &[] };
        assert_eq!(chosen, expected, "{size}");
    }
    let unknown = PreStartContainerRequest { device_ids: vec!["nobody".to_owned()] };
    assert!(client.pre_start_container(unknown).await.is_ok());

    // A good request after all of that, and the device list was not disturbed.
    assert!(client.allocate(request(&["0000:3b:01.0"])).await.is_ok());
    assert_eq!(ids(&kubelet, NET, &["0000:3b:01.0", "0000:3b:01.1"]).await.registrations, 1);
}

#[tokio::test]
async fn clients_that_say_nothing_or_nonsense_keep_nobody_out() {
    let mut rig = Rig::new(NODE, CONFIG, Registration::Watcher);
    let kubelet = Kubelet::start(&rig.dir, true).await.unwrap();
    rig.publish().await;
    let socket = ids(&kubelet, NET, &["0000:3b:01.0", "0000:3b:01.1"]).await.socket;
    let mut silent = Vec::new();
    for number in 0..40 {
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        let nonsense: &[u8] = match number % 4 {
            0 => b"",
            1 => b"GET / HTTP/1.1\r\n\r\n",
            2 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x01\x04\x00\x00\x00\x01",
            _ => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x03\x01\x04\x00\x00\x00\x01\x41\x7f\xff",
        };
        stream.write_all(nonsense).await.unwrap();
        silent.push(stream);
    }
    let mut client = kubelet.client(NET).await.unwrap();
    assert!(client.allocate(request(&["0000:3b:01.0"])).await.is_ok());

    // More streams than anybody needs are refused; the one of kubelet goes on.
    let mut streams = Vec::new();
    let refusal = loop {
        match client.list_and_watch(Empty {}).await {
            Ok(stream) => streams.push(stream.into_inner()),
            Err(status) => break status,
        }
        assert!(streams.len() < 100);
    };
    assert_eq!(refusal.code(), Code::ResourceExhausted);
    rig.tree.remove_function("0000:3b:01.1").unwrap();
    rig.publish().await;
    ids(&kubelet, NET, &["0000:3b:01.0"]).await;
    // And a stop does not wait for any of them.
    tokio::time::timeout(SOON, rig.plugin.stop()).await.unwrap();
}

#[tokio::test]
async fn a_kubelet_that_hangs_or_hangs_up_keeps_nobody_from_stopping() {
    for hang_up in [false, true] {
        let mut rig = Rig::new(NODE, CONFIG, Registration::Legacy);
        let folder = rig.dir.join("device-plugins");
        std::fs::create_dir_all(&folder).unwrap();
        let listener = tokio::net::UnixListener::bind(folder.join("kubelet.sock")).unwrap();
        rig.publish().await;
        let (stream, _) = tokio::time::timeout(SOON, listener.accept()).await.unwrap().unwrap();
        if hang_up {
            drop(stream);
            // It is tried again after a pause, and not in a hurry.
            tokio::time::timeout(SOON, listener.accept()).await.unwrap().unwrap();
        }
        // It serves all the same.
        let socket = folder.join("intel.com_net.sock");
        let mut client = portwright_tests::kubelet::connect(&socket).await.unwrap();
        assert!(client.allocate(request(&["0000:3b:01.0"])).await.is_ok());
        drop(client);
        let stopped = tokio::time::timeout(std::time::Duration::from_secs(5), rig.plugin.stop()).await;
        assert!(stopped.is_ok(), "hang up: {hang_up}");
    }
}
