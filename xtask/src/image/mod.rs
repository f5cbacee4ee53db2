//! `cargo xtask image`: the container image, written as an OCI image layout (image-spec 1.1) without a container engine.
//!
//! One image holds both programs: `/portwright` is its entry point, the injector's Deployment names `/portwright-injector`.
//! There is nothing else in it, `FROM scratch`: no shell, no libraries, no certificates. The programs speak with one TLS
//! server, the API server, whose authority comes with the service account's token. The same binaries give the same bytes.

mod elf;
mod layer;
mod layout;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::{bench, sys};
use layout::Image;

/// Programs in the image: file name and where it is built.
pub(crate) const PROGRAMS: [&str; 2] = ["portwright", "portwright-injector"];

/// Options of `cargo xtask image`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ImageArgs {
    /// Take the programs from this folder instead of building them (which takes some minutes).
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
    /// Where the layout is written; an archive of the same is written beside it (DIR.tar) [default: image in cargo's
    /// target folder].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Name and tag under which `ctr images import` knows it.
    #[arg(long, default_value = concat!("docker.io/library/portwright:", env!("CARGO_PKG_VERSION")), value_name = "NAME:TAG")]
    name: String,
}

/// Builds what is missing and writes the image.
pub(crate) fn run(args: &ImageArgs) -> Result<bool> {
    let binaries = match &args.binaries {
        Some(dir) => in_folder(dir),
        None => {
            sys::say("building static binaries with full optimisation, which takes some minutes");
            bench::release_binaries(&PROGRAMS)?
        }
    };
    let out = match &args.out {
        Some(out) => out.clone(),
        None => sys::target()?.join("image"),
    };
    let image = write(&binaries, &out, &args.name)?;
    for (name, bytes) in &image.programs {
        sys::out(&format!("/{name}: {} ({})", megabytes(*bytes), image.architecture));
    }
    sys::out(&format!("{}: {} compressed", image.digest, megabytes(image.compressed)));
    sys::out(&format!("layout {}, archive {}", out.display(), archive(&out).display()));
    sys::out(&format!(
        "push it with: skopeo copy oci:{}:{} docker://REGISTRY/NAME",
        out.display(),
        image.tag
    ));
    sys::out(&format!("or on a node: ctr -n k8s.io images import {}", archive(&out).display()));
    Ok(true)
}

/// The programs of a folder.
fn in_folder(folder: &Path) -> Vec<PathBuf> {
    PROGRAMS.iter().map(|program| folder.join(program)).collect()
}

/// Writes the image made of the programs in these files. What was in `out` before is replaced.
fn write(binaries: &[PathBuf], out: &Path, name: &str) -> Result<Image> {
    let Some((_, tag)) = name.rsplit_once(':').filter(|(_, tag)| !tag.is_empty() && !tag.contains('/'))
    else {
        bail!("{name}: a tag is missing, as in portwright:0.1.0");
    };
    let mut programs = Vec::new();
    let mut architecture = None;
    for (program, path) in PROGRAMS.into_iter().zip(binaries) {
        let bytes = sys::read_bytes(path)?;
        let found = elf::static_program(&bytes).with_context(|| path.display().to_string())?;
        if architecture.is_some_and(|other| other != found) {
            bail!("{}: is for {found}, the program before it for another machine", path.display());
        }
        architecture = Some(found);
        programs.push((program, bytes));
    }
    let architecture = architecture.context("an image without programs")?;
    let layer = layer::of(&programs)?;
    let sizes = programs.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.len())).collect();
    let (files, image) = layout::files(&layer, architecture, name, tag, sizes)?;
    sys::remove(out)?;
    for (path, bytes) in &files {
        sys::write(&out.join(path), bytes)?;
    }
    sys::write(&archive(out), &layer::archive(&files)?)?;
    Ok(image)
}

/// The archive beside a layout.
fn archive(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".tar");
    name.into()
}

fn megabytes(bytes: usize) -> String {
    let tenths = bytes.div_ceil(100_000);
    format!("{}.{} MB", tenths.div_euclid(10), tenths.rem_euclid(10))
}

#[cfg(test)]
mod tests;
