//! The wire, seen by another gRPC implementation: Debian's `python3-grpcio` with a decoder of its own.

use std::path::Path;
use std::process::Stdio;

use portwright_device_plugin::Registration;
use portwright_tests::kubelet::{Kubelet, raw};

use crate::rig::{CONFIG, NODE, Rig, ids};

/// The one that Debian's packages belong to; another may come first in the path.
const PYTHON: &str = "/usr/bin/python3";

#[tokio::test]
async fn another_implementation_reads_the_same() {
    let there =
        tokio::process::Command::new(PYTHON).args(["-c", "import grpc"]).stderr(Stdio::null()).status().await;
    if !there.is_ok_and(|status| status.success()) {
        panic!("python3-grpcio is missing (hint: cargo xtask setup)");
    }
    let mut rig = Rig::new(NODE, CONFIG, Registration::Watcher);
    let kubelet = Kubelet::start(&rig.dir, true).await.unwrap();
    rig.publish().await;
    ids(&kubelet, "intel.com/dpdk", &["0000:3b:01.2", "0000:3b:01.3"]).await;
    let socket = kubelet.resource("intel.com/dpdk").unwrap().socket;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/device_plugin/client.py");
    for authority in ["localhost".to_owned(), raw::authority(&socket)] {
        let output = tokio::process::Command::new(PYTHON)
            .arg(&script)
            .arg(&socket)
            .arg(&authority)
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let (text, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let expected = "info DevicePlugin intel.com/dpdk v1beta1\n\
            options [(2, 1)]\n\
            device 0000:3b:01.2 Healthy node 0\n\
            device 0000:3b:01.3 Healthy node 0\n\
            preferred 0000:3b:01.3\n\
            env PCIDEVICE_INTEL_COM_DPDK=0000:3b:01.3\n\
            env PCIDEVICE_INTEL_COM_DPDK_INFO={\"0000:3b:01.3\":{\"generic\":{\"deviceID\":\"0000:3b:01.3\"},\"vfio\":{\"dev-mount\":\"/dev/vfio/13\",\"mount\":\"/dev/vfio/vfio\"}}}\n\
            node /dev/vfio/vfio /dev/vfio/vfio rw\n\
            node /dev/vfio/13 /dev/vfio/13 rw\n\
            error NOT_FOUND intel.com/dpdk: device nobody is not there, or is not in this pool any more\n";
        assert_eq!(text, expected, "{authority}: {errors}");
    }
}
