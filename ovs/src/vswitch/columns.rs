//! The tables and columns that are followed. `statistics` are left out everywhere: Open vSwitch rewrites them every
//! five seconds for every port, and they can be read when somebody wants them.

use crate::ovsdb::Monitor;

/// The database's name.
pub const DATABASE: &str = "Open_vSwitch";

/// What a session has to follow for [`super::Vswitch::read`].
#[must_use]
pub fn monitor() -> Monitor {
    Monitor::new(DATABASE)
        .table(
            "Open_vSwitch",
            &["bridges", "next_cfg", "cur_cfg", "other_config", "external_ids"],
            &["ovs_version", "datapath_types", "iface_types", "dpdk_initialized"],
        )
        .table(
            "Bridge",
            &[
                "name",
                "ports",
                "mirrors",
                "datapath_type",
                "datapath_id",
                "fail_mode",
                "flood_vlans",
                "controller",
            ],
            &["stp_enable", "rstp_enable", "mcast_snooping_enable", "other_config", "external_ids"],
        )
        .table(
            "Port",
            &["name", "interfaces", "tag", "trunks", "vlan_mode", "qos", "external_ids", "other_config"],
            &[
                "cvlans",
                "bond_mode",
                "lacp",
                "bond_updelay",
                "bond_downdelay",
                "bond_active_slave",
                "fake_bridge",
                "protected",
            ],
        )
        .table(
            "Interface",
            &["name", "type", "options", "ofport", "external_ids", "other_config"],
            &[
                "error",
                "ofport_request",
                "admin_state",
                "link_state",
                "mac_in_use",
                "mtu",
                "mtu_request",
                "ifindex",
                "ingress_policing_rate",
                "ingress_policing_burst",
            ],
        )
        .table(
            "Mirror",
            &[
                "name",
                "select_all",
                "select_src_port",
                "select_dst_port",
                "select_vlan",
                "output_port",
                "output_vlan",
            ],
            &["snaplen", "filter", "external_ids"],
        )
        .table("QoS", &["type", "queues", "other_config", "external_ids"], &[])
        .table("Queue", &["other_config", "external_ids"], &["dscp"])
}
