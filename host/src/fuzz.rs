//! Entry points for fuzzing: safe functions that take any bytes and panic only if something is wrong.

use std::hint::black_box;

use portwright_core::PciAddress;

use crate::proc::{address, module, mount, process, route, tcp};
use crate::sysfs::parse;

/// Gives bytes to every parser of sysfs and `proc` texts. Beyond not panicking, it checks that what a parser takes is what
/// it should be: a class has six digits, a number in a name is written in one way only.
pub fn fuzz_sysfs(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let line = text.lines().next().unwrap_or_default();
    words(line);
    tables(&text);
    crate::inventory::fuzz(&text);
}

/// Values of one line.
fn words(line: &str) {
    if let Some(class) = parse::class(line) {
        assert_eq!(class.len(), 6, "a class of {line:?}");
    }
    for number in ["virtfn", "vdpa", "uio"].iter().filter_map(|prefix| parse::numbered::<u32>(line, prefix)) {
        assert!(line.ends_with(&number.to_string()), "{number} in {line:?}");
    }
    if let Some(port) = parse::vf_port(line)
        && let Some(pf) = port.pf
    {
        let again = parse::vf_port(&format!("pf{pf}vf{}", port.vf));
        assert_eq!(again, Some(port), "{line:?}");
    }
    if let Some(number) = parse::decimal::<u64>(line) {
        assert_eq!(parse::decimal_or_negative(line), Some(Some(number)), "{line:?}");
    }
    if let Ok(address) = line.parse::<PciAddress>() {
        assert_eq!(address.to_string().parse(), Ok(address), "{line:?}");
    }
    black_box((parse::hex(line), parse::flag(line), parse::driver_override(line), parse::lockdown(line)));
    black_box((parse::function_in_path(line), parse::uplink_port(line)));
}

/// Whole files.
fn tables(text: &str) {
    let routes = route::routes4(text);
    let addresses = address::addresses(text, &routes, text);
    black_box((route::default_routes(&routes, text), addresses));
    for session in tcp::sessions(text) {
        assert!(!session.local.is_loopback() && !session.remote.is_loopback(), "{session:?}");
    }
    for name in module::network_modules(text) {
        assert!(!name.is_empty() && !name.contains('-'), "{name:?}");
    }
    if let Some(id) = process::container(text) {
        assert_eq!(id.len(), 64, "{id:?}");
    }
    black_box((process::api_servers(text), process::kubeconfig(text)));
    for address in process::node_addresses(text) {
        assert!(!address.is_unspecified(), "{address}");
    }
    for mount in mount::namespaces(text) {
        black_box(mount.name());
    }
}
