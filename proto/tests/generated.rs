//! The committed code is what the definitions generate. `BLESS=1` writes it instead of comparing (`cargo xtask codegen`).
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking and read the repository"
)]

use std::path::Path;

const DEFINITIONS: &[&str] = &["deviceplugin.proto", "pluginregistration.proto", "podresources.proto"];
const MODULES: &[&str] = &["pluginregistration.rs", "v1.rs", "v1beta1.rs"];

#[test]
fn the_committed_code_is_what_the_definitions_generate() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let set = protox::compile(DEFINITIONS, [here.join("proto")]).unwrap();
    let made = tempfile::tempdir().unwrap();
    tonic_prost_build::configure().out_dir(made.path()).btree_map(".").compile_fds(set).unwrap();
    for module in MODULES {
        let text = std::fs::read_to_string(made.path().join(module)).unwrap();
        let path = here.join("src/generated").join(module);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&path, text).unwrap();
            continue;
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == text, "{} is outdated (hint: cargo xtask codegen)", path.display());
    }
}
