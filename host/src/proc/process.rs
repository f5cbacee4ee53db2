//! What `proc/<pid>` tells of a process: its container and, for kubelet, the addresses it was started with.

use std::net::{IpAddr, SocketAddr};

/// ID of the container that a process runs in: the last 64 hexadecimal digits in its cgroup paths, as containerd, CRI-O
/// and Docker name the innermost group (`cri-containerd-<id>.scope`, `crio-<id>.scope`, `.../<id>`).
pub(crate) fn container(cgroup: &str) -> Option<String> {
    cgroup.lines().find_map(|line| {
        let path = line.splitn(3, ':').nth(2)?;
        path.rsplit('/').find_map(container_part)
    })
}

fn container_part(part: &str) -> Option<String> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let id = part.rsplit(['-', ':']).next()?;
    let plain = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| id.to_owned())
}

/// Addresses in kubelet's `--node-ip` (one, or one of each family), from its command line with NUL between words.
pub(crate) fn node_addresses(cmdline: &str) -> Vec<IpAddr> {
    let values = values_of(cmdline, "--node-ip");
    let addresses = values
        .iter()
        .flat_map(|value| value.split(','))
        .filter_map(|text| text.trim().parse::<IpAddr>().ok());
    // `0.0.0.0` and `::` ask kubelet to choose by family.
    addresses.filter(|address| !address.is_unspecified()).collect()
}

/// The file in kubelet's `--kubeconfig`, from its command line.
pub(crate) fn kubeconfig(cmdline: &str) -> Option<&str> {
    values_of(cmdline, "--kubeconfig").into_iter().rfind(|path| path.starts_with('/'))
}

/// Values of an option that stand after `=` or in the next word.
fn values_of<'a>(cmdline: &'a str, option: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut words = cmdline.split('\0');
    while let Some(word) = words.next() {
        match word.strip_prefix(option) {
            Some("") => found.extend(words.next()),
            Some(rest) => found.extend(rest.strip_prefix('=')),
            None => {}
        }
    }
    found
}

/// API servers that a kubeconfig names by address, with their ports (443 where none is written). One that is named by a host
/// name is left out: nothing is resolved here.
pub(crate) fn api_servers(kubeconfig: &str) -> Vec<(IpAddr, u16)> {
    const HTTPS: u16 = 443;
    let server = |line: &str| {
        let line = line.trim().trim_start_matches("- ");
        let value = line.strip_prefix("server:")?.trim().trim_matches(['"', '\'']);
        let authority = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"))?;
        let authority = authority.split('/').next()?;
        let plain = authority.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let with_port = authority.parse::<SocketAddr>().map(|server| (server.ip(), server.port()));
        with_port.ok().or_else(|| Some((plain.ok()?, HTTPS)))
    };
    kubeconfig.lines().filter_map(server).collect()
}

/// Whether the process's first thread is a zombie and other threads run on, from `proc/<pid>/stat`.
pub(crate) fn lives_in_threads(stat: &str) -> bool {
    // The command, in parentheses, may itself hold spaces and parentheses.
    let Some((_, rest)) = stat.rsplit_once(')') else { return false };
    let mut fields = rest.split_ascii_whitespace();
    // State is the third field, the number of threads the twentieth.
    fields.next() == Some("Z")
        && fields.nth(16).and_then(|text| text.parse().ok()).is_some_and(|n: u32| n > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids_are_found_in_both_cgroup_versions() {
        let id = "0123456789abcdef".repeat(4);
        let cases = [
            format!("0::/kubepods.slice/kubepods-podx.slice/cri-containerd-{id}.scope\n"),
            format!("0::/kubepods.slice/crio-{id}.scope/container\n"),
            format!("12:cpu:/kubepods/burstable/pod1/{id}\n0::/\n"),
            format!("0::/system.slice/containerd.service/kubepods-pod:cri-containerd:{id}\n"),
        ];
        for case in cases {
            assert_eq!(container(&case).as_deref(), Some(id.as_str()), "{case}");
        }
        for none in ["", "0::/", "0::/user.slice/user-0.slice", "garbage", "0::/abc-0123"] {
            assert_eq!(container(none), None, "{none}");
        }
    }

    #[test]
    fn api_servers_are_those_with_an_address() {
        let cases: [(&str, &[(&str, u16)]); 7] = [
            ("clusters:\n- cluster:\n    server: https://192.0.2.7:8443\n", &[("192.0.2.7", 8443)]),
            ("    server: \"https://192.0.2.7\"\r\n", &[("192.0.2.7", 443)]),
            ("- server: 'https://[2001:db8::1]:9443/k8s'\n", &[("2001:db8::1", 9443)]),
            ("  server: https://[2001:db8::1]/\n", &[("2001:db8::1", 443)]),
            ("  server: https://api.example:6443\n", &[]),
            ("  server: https://192.0.2.7:99999\n  server:\n  servers: https://192.0.2.8\n", &[]),
            ("", &[]),
        ];
        for (text, expected) in cases {
            let expected: Vec<(IpAddr, u16)> =
                expected.iter().map(|(address, port)| (address.parse().unwrap(), *port)).collect();
            assert_eq!(api_servers(text), expected, "{text}");
        }
        assert_eq!(kubeconfig("kubelet\0--kubeconfig=/a\0--kubeconfig\0/b\0"), Some("/b"));
        assert_eq!(kubeconfig("kubelet\0--bootstrap-kubeconfig=/a\0--kubeconfig=relative\0"), None);
    }

    #[test]
    fn node_addresses_are_read_from_both_forms() {
        let words = |text: &str| node_addresses(&text.replace(' ', "\0"));
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(words("kubelet --v=2 --node-ip=192.0.2.2"), [ip("192.0.2.2")]);
        assert_eq!(
            words("kubelet --node-ip 192.0.2.2,2001:db8::2 --v=2"),
            [ip("192.0.2.2"), ip("2001:db8::2")]
        );
        for none in [
            "kubelet",
            "kubelet --node-ip",
            "kubelet --node-ip=::",
            "kubelet --node-ips=192.0.2.2",
            "x --node-ip=no",
        ] {
            assert_eq!(words(none), [] as [IpAddr; 0], "{none}");
        }
    }
}
