//! The policies that scenarios apply, as an operator would write them.

/// One NIC entry for a PF address.
pub(crate) fn nic(address: &str, rest: &str) -> String {
    let body: String = rest.lines().map(|line| format!("    {line}\n")).collect();
    format!("  - select: {{addresses: [\"{address}\"]}}\n{body}")
}

/// A policy document of these NIC entries.
pub(crate) fn document(nics: &[String]) -> String {
    with_disruption("WhenIdle", nics)
}

/// A policy document with a disruption mode.
pub(crate) fn with_disruption(disruption: &str, nics: &[String]) -> String {
    format!(
        "apiVersion: portwright.dev/v1alpha1\nkind: NodePolicy\nmetadata: {{name: lab}}\nspec:\n  \
         disruption: {disruption}\n  nics:\n{}",
        nics.concat()
    )
}

/// So many VFs with the kernel's driver and nothing special.
pub(crate) fn plain(vfs: u32) -> String {
    format!("vfs: {vfs}")
}

/// So many VFs, all for vfio-pci.
pub(crate) fn vfio(vfs: u32) -> String {
    let last = vfs.saturating_sub(1);
    format!("vfs: {vfs}\nvfGroups:\n- {{vfs: \"0-{last}\", pool: dpdk, driver: vfio-pci}}")
}

/// The big one: seven VFs in three groups. `vlan` is that of VFs 2-4.
pub(crate) fn three_groups(vlan: u16) -> String {
    format!(
        "vfs: 7\nmtu: 2000\nvfGroups:\n\
         - {{vfs: \"0-1\", pool: dpdk, driver: vfio-pci}}\n\
         - vfs: \"2-4\"\n  pool: net\n  driver: kernel\n  mtu: 1500\n  trust: true\n  spoofCheck: false\n  \
           vlan: {{id: {vlan}, qos: 3}}\n  txRate: {{max: 500}}\n  macs: stable\n\
         - {{vfs: \"5-6\", pool: plain, driver: kernel}}"
    )
}
