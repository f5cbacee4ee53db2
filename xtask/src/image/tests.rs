//! What is written is read again as a puller does, from programs that are nothing but headers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests fail by panicking")]

use std::io::Read as _;

use flate2::read::GzDecoder;
use serde_json::Value;

use super::layout::{CONFIG, INDEX, LAYER, MANIFEST, digest};
use super::*;

const NAME: &str = "docker.io/library/portwright:0.1.0";

/// A program that is nothing but headers: its machine, and the kinds of its program headers.
fn program(machine: u8, kinds: &[u32]) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(64, 0);
    (bytes[16], bytes[18], bytes[32], bytes[54]) = (3, machine, 64, 56);
    bytes[56] = u8::try_from(kinds.len()).unwrap();
    for kind in kinds {
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&[0; 52]);
    }
    bytes
}

/// A folder with stand-ins for both programs. Removed at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("portwright-image-{name}-{}", std::process::id()));
        sys::remove(&path).unwrap();
        let folder = Folder(path);
        for name in PROGRAMS {
            let mut bytes = program(62, &[6, 1]);
            bytes.extend_from_slice(name.repeat(1000).as_bytes());
            sys::write(&folder.0.join(name), &bytes).unwrap();
        }
        folder
    }

    fn write(&self) -> Image {
        write(&in_folder(&self.0), &self.0.join("image"), NAME).unwrap()
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&sys::read_bytes(&self.0.join("image").join(path)).unwrap()).unwrap()
    }

    /// The blob that a descriptor names, checked as a puller checks it.
    fn blob(&self, descriptor: &Value, media_type: &str) -> Vec<u8> {
        assert_eq!(descriptor["mediaType"], media_type);
        let named = descriptor["digest"].as_str().unwrap();
        let (algorithm, hash) = named.split_once(':').unwrap();
        let path = self.0.join("image/blobs").join(algorithm).join(hash);
        let bytes = sys::read_bytes(&path).unwrap();
        assert_eq!(digest(&bytes), named);
        assert_eq!(descriptor["size"].as_u64(), u64::try_from(bytes.len()).ok());
        bytes
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        sys::remove(&self.0).unwrap_or_default();
    }
}

fn unpack(mut archive: tar::Archive<impl std::io::Read>) -> Vec<(String, u32, u64, Vec<u8>)> {
    let read = |entry: std::io::Result<tar::Entry<'_, _>>| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        let path = entry.path().unwrap().display().to_string();
        (path, header.mode().unwrap(), header.mtime().unwrap(), bytes)
    };
    archive.entries().unwrap().map(read).collect()
}

#[test]
fn what_is_written_is_a_whole_image() {
    let folder = Folder::new("whole");
    let image = folder.write();
    assert_eq!(folder.json("oci-layout")["imageLayoutVersion"], "1.0.0");
    let index = folder.json("index.json");
    assert_eq!((index["schemaVersion"].as_u64(), index["mediaType"].as_str()), (Some(2), Some(INDEX)));
    let entry = &index["manifests"][0];
    assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], "0.1.0");
    assert_eq!(entry["annotations"]["io.containerd.image.name"], NAME);
    assert_eq!(entry["digest"], image.digest);
    let manifest: Value = serde_json::from_slice(&folder.blob(entry, MANIFEST)).unwrap();
    let config: Value = serde_json::from_slice(&folder.blob(&manifest["config"], CONFIG)).unwrap();
    assert_eq!((config["architecture"].as_str(), config["os"].as_str()), (Some("amd64"), Some("linux")));
    assert_eq!(config["config"]["Entrypoint"][0], "/portwright");
    assert_eq!(config["config"]["User"], "0:0");
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1, "nothing is below our layer");
    let layer = folder.blob(&manifest["layers"][0], LAYER);
    let mut tar = Vec::new();
    GzDecoder::new(layer.as_slice()).read_to_end(&mut tar).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"][0], digest(&tar), "the digest of what is unpacked");
    let files = unpack(tar::Archive::new(tar.as_slice()));
    let expected =
        PROGRAMS.map(|name| (name.to_owned(), 0o755, 0, sys::read_bytes(&folder.0.join(name)).unwrap()));
    assert_eq!(files, expected);
    let blobs = sys::list(&folder.0.join("image/blobs/sha256")).unwrap();
    assert_eq!(blobs.len(), 3, "no blob that nothing names: {blobs:?}");
}

#[test]
fn the_archive_holds_the_same_files() {
    let folder = Folder::new("archive");
    folder.write();
    let bytes = sys::read_bytes(&folder.0.join("image.tar")).unwrap();
    let files = unpack(tar::Archive::new(bytes.as_slice()));
    assert_eq!(files.len(), 5);
    for (path, _, _, bytes) in files {
        assert_eq!(sys::read_bytes(&folder.0.join("image").join(&path)).unwrap(), bytes, "{path}");
    }
}

#[test]
fn the_same_programs_give_the_same_bytes_and_others_do_not() {
    let (one, other) = (Folder::new("one"), Folder::new("other"));
    let (first, second) = (one.write(), other.write());
    assert_eq!(first, second);
    let archive = |folder: &Folder| sys::read_bytes(&folder.0.join("image.tar")).unwrap();
    assert_eq!(archive(&one), archive(&other));
    sys::write(&other.0.join("portwright"), &program(62, &[1])).unwrap();
    assert_ne!(other.write().digest, first.digest);
    let blobs = sys::list(&other.0.join("image/blobs/sha256")).unwrap();
    assert_eq!(blobs.len(), 3, "what was there before is gone");
}

#[test]
fn programs_that_could_not_start_are_refused() {
    let folder = Folder::new("refused");
    let cases: [(Vec<u8>, &str); 5] = [
        (program(62, &[6, 3, 1]), "is not static"),
        (b"#!/bin/sh\n".to_vec(), "is no 64-bit"),
        (program(40, &[]), "ELF number 40"),
        (program(183, &[1]), "for another machine"),
        (program(62, &[6, 3])[..70].to_vec(), "is cut off"),
    ];
    for (bytes, why) in cases {
        sys::write(&folder.0.join("portwright-injector"), &bytes).unwrap();
        let error = write(&in_folder(&folder.0), &folder.0.join("image"), NAME).unwrap_err();
        assert!(format!("{error:#}").contains(why), "{error:#}");
    }
    sys::remove(&folder.0.join("portwright-injector")).unwrap();
    let error = write(&in_folder(&folder.0), &folder.0.join("image"), NAME).unwrap_err();
    assert!(format!("{error:#}").contains("portwright-injector"), "{error:#}");
    assert!(!folder.0.join("image").exists(), "nothing is written before everything is known to be good");
}

#[test]
fn a_name_needs_a_tag() {
    let folder = Folder::new("tag");
    for name in ["portwright", "registry:5000/portwright", "portwright:"] {
        assert!(write(&in_folder(&folder.0), &folder.0.join("image"), name).is_err(), "{name}");
    }
}
