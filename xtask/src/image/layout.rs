//! The files of an OCI image layout: `oci-layout`, `index.json`, and blobs named by their digest.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::layer::Layer;

pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// When the image was made: always then, or the same programs would give another image.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// What was made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// Of the manifest: what `NAME@DIGEST` names.
    pub(super) digest: String,
    /// Tag.
    pub(super) tag: String,
    /// As OCI names it.
    pub(super) architecture: &'static str,
    /// Size of the layer in bytes.
    pub(super) compressed: usize,
    /// Programs and their sizes in bytes.
    pub(super) programs: Vec<(String, usize)>,
}

/// All files of the layout by path.
pub(super) fn files(
    layer: &Layer,
    architecture: &'static str,
    name: &str,
    tag: &str,
    programs: Vec<(String, usize)>,
) -> Result<(BTreeMap<String, Vec<u8>>, Image)> {
    let labels = json!({
        "org.opencontainers.image.title": "portwright",
        "org.opencontainers.image.description": "SR-IOV and Open vSwitch node provisioning for Kubernetes",
        "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
        "org.opencontainers.image.licenses": "Apache-2.0",
    });
    let config = json!({
        "created": CREATED,
        "architecture": architecture,
        "os": "linux",
        // Root is what the agent needs; the injector's Deployment takes another user.
        "config": {"User": "0:0", "Entrypoint": ["/portwright"], "WorkingDir": "/", "Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer.tar)]},
        "history": [{"created": CREATED, "created_by": "cargo xtask image"}],
    });
    let config = serde_json::to_vec(&config)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": [descriptor(LAYER, &layer.gzip)],
        "annotations": labels,
    });
    let manifest = serde_json::to_vec(&manifest)?;
    let mut entry = descriptor(MANIFEST, &manifest);
    if let Value::Object(entry) = &mut entry {
        entry.insert("platform".to_owned(), json!({"architecture": architecture, "os": "linux"}));
        let names = json!({"org.opencontainers.image.ref.name": tag, "io.containerd.image.name": name});
        entry.insert("annotations".to_owned(), names);
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
    let image = Image {
        digest: digest(&manifest),
        tag: tag.to_owned(),
        architecture,
        compressed: layer.gzip.len(),
        programs,
    };
    let mut files = BTreeMap::new();
    files.insert("oci-layout".to_owned(), serde_json::to_vec(&json!({"imageLayoutVersion": "1.0.0"}))?);
    files.insert("index.json".to_owned(), serde_json::to_vec(&index)?);
    for blob in [config, manifest, layer.gzip.clone()] {
        files.insert(format!("blobs/{}", digest(&blob).replace(':', "/")), blob);
    }
    Ok((files, image))
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(blob), "size": blob.len()})
}

/// `sha256:` and 64 hexadecimal digits.
pub(super) fn digest(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        // A String takes everything.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text
}
