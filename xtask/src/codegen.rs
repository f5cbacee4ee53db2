//! `cargo xtask codegen`: files that are generated from code and committed.

use crate::sys;
use anyhow::Result;
use std::path::PathBuf;

/// A generated file and the command line of `portwright` that prints it.
struct Generated {
    file: &'static str,
    verb: &'static [&'static str],
}

const FILES: &[Generated] = &[Generated { file: "deploy/crds/portwright.dev.yaml", verb: &["crds"] }];

/// Writes the files, or with `check` compares them. True if they are (now) what the code generates.
pub(crate) fn run(check: bool) -> Result<bool> {
    let mut good = crate::codegen_proto::run(check)?;
    for generated in FILES {
        let text = sys::capture(
            sys::cargo()?.args(["run", "--quiet", "-p", "portwright", "--"]).args(generated.verb),
        )?;
        let path: PathBuf = sys::workspace()?.join(generated.file);
        let same = path.is_file() && sys::read(&path)? == text;
        if same {
            continue;
        }
        if check {
            good = false;
            sys::say(&format!(
                "codegen: {} is not what the code generates\nhint: cargo xtask codegen",
                generated.file
            ));
        } else {
            sys::write(&path, text.as_bytes())?;
            sys::say(&format!("codegen: wrote {}", generated.file));
        }
    }
    Ok(good)
}
