//! What `proc/<pid>` tells of a process: its container and, for kubelet, the addresses it was started with.

use std::net::IpAddr;

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
    let mut found = Vec::new();
    let mut words = cmdline.split('\0');
    while let Some(word) = words.next() {
        let value = match word.strip_prefix("--node-ip") {
            Some("") => words.next().unwrap_or_default(),
            Some(rest) => rest.strip_prefix('=').unwrap_or_default(),
            None => continue,
        };
        let addresses = value.split(',').filter_map(|text| text.trim().parse::<IpAddr>().ok());
        // `0.0.0.0` and `::` ask kubelet to choose by family.
        found.extend(addresses.filter(|address| !address.is_unspecified()));
    }
    found
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
