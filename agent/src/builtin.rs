//! The hardware profiles of `hw-profiles/`, compiled in. A test compares this list with the folder.

use portwright_core::Profiles;
use portwright_core::profile::ProfileError;

macro_rules! files {
    ($($name:literal,)+) => {
        /// File names and contents.
        pub const FILES: &[(&str, &str)] =
            &[$((concat!($name, ".toml"), include_str!(concat!("../../hw-profiles/", $name, ".toml"))),)+];
    };
}

files! {
    "be2net", "bnx2x", "bnxt", "cxgb4", "ena", "enic", "fbnic", "fm10k", "gve", "hinic", "hns3", "i40e", "ice", "idpf",
    "igb", "ionic", "ixgbe", "liquidio", "mana", "mlx4", "mlx5", "netdevsim", "nfp", "octeon", "qede", "rvu", "sfc",
    "virtio",
}

/// The profiles that are compiled in. An error is a mistake in this repository; a test keeps it from happening.
pub fn profiles() -> Result<Profiles, Vec<ProfileError>> {
    Profiles::parse(FILES.iter().copied())
}
