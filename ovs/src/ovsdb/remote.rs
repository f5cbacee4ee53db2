//! Where a server listens, in the words of ovs-vsctl's `--db`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The port that OVSDB has with IANA, used when a `tcp:` remote names none.
const DEFAULT_PORT: u16 = 6640;

/// A server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// `unix:PATH`
    Unix(PathBuf),
    /// `tcp:HOST[:PORT]`; an IPv6 address stands in brackets.
    Tcp {
        /// A name or an address without brackets.
        host: String,
        /// The port.
        port: u16,
    },
}

/// A text that names no server that we can reach.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// `ssl:`
    #[error(
        "{remote:?}: TLS to OVSDB is not supported; this client runs beside the server: use unix:PATH or tcp:127.0.0.1:6640"
    )]
    Tls {
        /// The text as given.
        remote: String,
    },
    /// `punix:`, `ptcp:` and `pssl:` are what a server is given.
    #[error("{remote:?} is where a server listens; a client connects to unix:PATH or tcp:HOST:PORT")]
    Passive {
        /// The text as given.
        remote: String,
    },
    /// Anything else.
    #[error("{remote:?} is not an OVSDB remote: {what}; expected unix:PATH or tcp:HOST[:PORT]")]
    Syntax {
        /// The text as given.
        remote: String,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl Remote {
    /// The directory of a unix socket, where OVS puts its pid files and control sockets too.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => path.parent(),
            Self::Tcp { .. } => None,
        }
    }
}

impl FromStr for Remote {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Self, RemoteError> {
        let wrong = |what| RemoteError::Syntax { remote: text.to_owned(), what };
        let (method, rest) =
            text.split_once(':').ok_or_else(|| wrong("there is no \"unix:\" or \"tcp:\" in front"))?;
        match method {
            "unix" if rest.is_empty() => Err(wrong("the path is empty")),
            "unix" => Ok(Self::Unix(PathBuf::from(rest))),
            "tcp" => {
                let (host, port) = host_and_port(rest).map_err(wrong)?;
                Ok(Self::Tcp { host: host.to_owned(), port })
            }
            "ssl" => Err(RemoteError::Tls { remote: text.to_owned() }),
            "punix" | "ptcp" | "pssl" => Err(RemoteError::Passive { remote: text.to_owned() }),
            _ => Err(wrong("the method is unknown")),
        }
    }
}

fn host_and_port(text: &str) -> Result<(&str, u16), &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("the bracket is not closed")?;
            let port = match after {
                "" => None,
                after => Some(after.strip_prefix(':').ok_or("after the bracket comes :PORT")?),
            };
            (host, port)
        }
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err("an IPv6 address stands in brackets"),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err("the host is empty");
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => {
            port.parse().ok().filter(|port| *port != 0).ok_or("the port is not a number from 1 to 65535")?
        }
    };
    Ok((host, port))
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_ovs_users_write() {
        for (text, shown) in [
            ("unix:/run/openvswitch/db.sock", "unix:/run/openvswitch/db.sock"),
            ("tcp:127.0.0.1:6641", "tcp:127.0.0.1:6641"),
            ("tcp:node", "tcp:node:6640"),
            ("tcp:[::1]:6640", "tcp:[::1]:6640"),
            ("tcp:[fe80::1]", "tcp:[fe80::1]:6640"),
        ] {
            assert_eq!(text.parse::<Remote>().unwrap().to_string(), shown);
        }
        for (text, part) in [
            ("ssl:127.0.0.1:6640", "TLS"),
            ("punix:/x", "server listens"),
            ("/run/db.sock", "in front"),
            ("unix:", "path is empty"),
            ("tcp:::1:6640", "brackets"),
            ("tcp:[::1", "not closed"),
            ("tcp:a:0", "port"),
            ("tcp:a:70000", "port"),
            ("tcp::1", "host is empty"),
            ("http://x", "unknown"),
        ] {
            let error = text.parse::<Remote>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
