//! `proc/<pid>/mountinfo`: network namespaces that are kept by a mount (`ip netns add` and container runtimes do that).

use crate::sysfs::parse;

/// A mounted network namespace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NamespaceMount {
    /// Inode of the namespace.
    pub(crate) inode: u64,
    /// Where it is mounted, as its mount namespace sees it.
    pub(crate) path: String,
}

impl NamespaceMount {
    /// Its name, if it is where `ip netns` looks.
    pub(crate) fn name(&self) -> Option<&str> {
        let folder = ["/run/netns/", "/var/run/netns/"];
        let name = folder.iter().find_map(|folder| self.path.strip_prefix(folder))?;
        (!name.is_empty() && !name.contains('/')).then_some(name)
    }
}

/// All of them. A line is `id parent device root mount-point options … - type source options`; the root of such a mount is
/// `net:[inode]` and its type `nsfs`.
pub(crate) fn namespaces(mountinfo: &str) -> impl Iterator<Item = NamespaceMount> + '_ {
    mountinfo.lines().filter_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        if source.split(' ').next() != Some("nsfs") {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let inode = fields.next()?.strip_prefix("net:[")?.strip_suffix(']')?;
        Some(NamespaceMount { inode: parse::decimal(inode)?, path: unescape(fields.next()?) })
    })
}

/// Blanks and backslashes are written as three octal digits after a backslash.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code.filter(u8::is_ascii) {
            Some(code) => {
                plain.push(char::from(code));
                plain.push_str(part.get(3..).unwrap_or_default());
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounted_namespaces_are_found() {
        let text = "22 1 0:21 / /sys rw,nosuid - sysfs sysfs rw\n\
            401 30 0:4 net:[4026532200] /run/netns/blue rw shared:200 - nsfs nsfs rw\n\
            402 30 0:4 mnt:[4026532201] /run/x rw - nsfs nsfs rw\n\
            403 30 0:4 net:[4026532202] /var/run/docker/netns/a\\040b rw - nsfs nsfs rw\n\
            404 30 0:4 net:[x] /run/netns/y rw - nsfs nsfs rw\n405 - nsfs\n - \n";
        let found: Vec<NamespaceMount> = namespaces(text).collect();
        let names: Vec<_> =
            found.iter().map(|mount| (mount.inode, mount.path.as_str(), mount.name())).collect();
        assert_eq!(
            names,
            [
                (4_026_532_200, "/run/netns/blue", Some("blue")),
                (4_026_532_202, "/var/run/docker/netns/a b", None),
            ]
        );
    }

    #[test]
    fn odd_escapes_stay_as_they_are() {
        for odd in ["a\\", "a\\9", "a\\777", "\\é", "\\\\"] {
            assert_eq!(unescape(odd), odd);
        }
    }
}
