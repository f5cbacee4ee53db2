//! `proc/net/tcp` and `tcp6`: established sessions.

use std::net::IpAddr;

use portwright_core::observed::Session;

use super::{native_v4, native_v6};

/// `TCP_ESTABLISHED` (`net/tcp_states.h`).
const ESTABLISHED: &str = "01";

/// Established sessions that are not on loopback, IPv4-mapped addresses as IPv4.
pub(crate) fn sessions(text: &str) -> impl Iterator<Item = Session> + '_ {
    text.lines().filter_map(session)
}

fn session(line: &str) -> Option<Session> {
    let mut fields = line.split_ascii_whitespace();
    let slot = fields.next()?;
    let (local, remote) = (fields.next()?, fields.next()?);
    if !slot.ends_with(':') || fields.next()? != ESTABLISHED {
        return None;
    }
    let (local, local_port) = endpoint(local)?;
    let (remote, remote_port) = endpoint(remote)?;
    let outside = !local.is_loopback() && !remote.is_loopback();
    outside.then_some(Session { local, local_port, remote, remote_port })
}

fn endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let plain = port.len() == 4 && port.bytes().all(|byte| byte.is_ascii_hexdigit());
    let port = plain.then(|| u16::from_str_radix(port, 16).ok()).flatten()?;
    let address = match address.len() {
        8 => IpAddr::V4(native_v4(address)?),
        32 => IpAddr::V6(native_v6(address)?),
        _ => return None,
    };
    Some((address.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn established_sessions_are_found_and_others_are_not() {
        // Written by hand: a session to an API server, a listener, one on loopback, an IPv4-mapped one, and noise.
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n\
   0: 020200C0:A0F2 010200C0:192B 01 00000000:00000000 00:00000000 00000000     0\n\
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n\
   2: 0100007F:0016 0100007F:9000 01 00000000:00000000 00:00000000 00000000     0\n\
   3: 0000000000000000FFFF0000020200C0:0016 0000000000000000FFFF0000630200C0:C000 01 0 0\n\
   4: B80D0120000000000000000005000000:00B3 B80D0120000000000000000006000000:9C40 01 0 0\n\
   5: 020200C0:A0F 010200C0:192B 01\n 6: 01\n\n";
        let found: Vec<String> = sessions(text)
            .map(|s| format!("{} {} {} {}", s.local, s.local_port, s.remote, s.remote_port))
            .collect();
        assert_eq!(
            found,
            [
                "192.0.2.2 41202 192.0.2.1 6443",
                "192.0.2.2 22 192.0.2.99 49152",
                "2001:db8::5 179 2001:db8::6 40000",
            ]
        );
    }
}
