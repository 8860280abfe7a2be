//! Finds the pinned tools, and says how to get one that is not there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::tools::{self, pins};

/// What installs everything, named in each message.
const SCRIPT: &str = "scripts/install-build-tools.sh";

/// A toolchain that rustup has.
struct Installed {
    name: String,
    sysroot: PathBuf,
}

/// The tools to build the object with.
#[derive(Debug)]
pub(crate) struct Toolchain {
    /// The nightly compiler's directory.
    pub(crate) sysroot: PathBuf,
    /// The `library` directory of the standard library's sources.
    pub(crate) rust_src: PathBuf,
}

/// Every pinned tool, or which one is missing and the command that installs it.
pub(crate) fn find() -> Result<Toolchain> {
    let installed = installed()?;
    let nightly = nightly(&installed)?;
    bpf_linker(nightly)?;
    Ok(Toolchain {
        sysroot: nightly.sysroot.clone(),
        rust_src: rust_src(&installed)?,
    })
}

/// Every toolchain that rustup has.
fn installed() -> Result<Vec<Installed>> {
    let list = tools::output(Command::new("rustup").args(["toolchain", "list"])).context(
        "the BPF object needs a nightly compiler, found through rustup: https://rustup.rs",
    )?;
    let mut installed = Vec::new();
    for name in list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
    {
        // A toolchain that was linked by hand may be gone.
        let rustc = ["run", name, "rustc", "--print", "sysroot"];
        if let Ok(sysroot) = tools::output(Command::new("rustup").args(rustc)) {
            let sysroot = PathBuf::from(sysroot.trim());
            installed.push(Installed {
                name: name.to_owned(),
                sysroot,
            });
        }
    }
    Ok(installed)
}

/// The toolchain that was built from the pinned commit, whatever rustup calls it here.
fn nightly(installed: &[Installed]) -> Result<&Installed> {
    for toolchain in installed {
        let rustc = toolchain.sysroot.join("bin/rustc");
        let version = tools::output(Command::new(rustc).arg("-vV"))?;
        let commit = version
            .lines()
            .find_map(|line| line.strip_prefix("commit-hash: "));
        if commit == Some(pins::RUSTC_COMMIT) {
            return Ok(toolchain);
        }
    }
    bail!(
        "rustc {} is not installed, and the BPF object is built with no other:\n    \
         rustup toolchain install {} --profile minimal",
        pins::RUSTC_RELEASE,
        pins::RUSTC_TOOLCHAIN
    )
}

/// Checks that the `bpf-linker` on the path is the pinned one.
fn bpf_linker(nightly: &Installed) -> Result<()> {
    let wanted = pins::BPF_LINKER;
    let found = tools::output(Command::new("bpf-linker").arg("--version"));
    let found = found.as_deref().map_or("not installed", str::trim);
    if found != format!("bpf-linker {wanted}") {
        bail!(
            "bpf-linker {wanted} is needed, it is {found}. {SCRIPT} installs it, or\n    \
             cargo +{} install bpf-linker --version {wanted} --locked --force",
            nightly.name
        );
    }
    Ok(())
}

/// The pinned standard library's sources: known by content, as several packages carry them.
fn rust_src(installed: &[Installed]) -> Result<PathBuf> {
    let mut places = vec![tools::cache()?.join(format!("rust-src-{}", pins::RUST_SRC))];
    let in_sysroot = |toolchain: &Installed| toolchain.sysroot.join("lib/rustlib/src/rust");
    places.extend(installed.iter().map(in_sysroot));
    let mut others = Vec::new();
    for place in places {
        let library = place.join("library");
        if !library.join("core/Cargo.toml").is_file() {
            continue;
        }
        let digest = digest(&library)?;
        if digest == pins::RUST_SRC_SHA256 {
            return Ok(library);
        }
        others.push(format!("\n    {} has {digest}", library.display()));
    }
    bail!(
        "the sources of Rust's standard library {release} are not there, which `core` is built \
         from. {SCRIPT} installs them from Debian's {} (SHA-256 {}), or rustup:\n    \
         rustup toolchain install {release} --profile minimal --component rust-src\n\
         Wanted are sources with SHA-256 {}{}",
        pins::RUST_SRC_DEB,
        pins::RUST_SRC_DEB_SHA256,
        pins::RUST_SRC_SHA256,
        others.concat(),
        release = pins::RUST_SRC,
    )
}

/// The SHA-256 over the names and contents of what the object is compiled from.
fn digest(library: &Path) -> Result<String> {
    let mut files = Vec::new();
    for part in [
        "core/src",
        "compiler-builtins/compiler-builtins",
        "compiler-builtins/libm/src",
    ] {
        list(&library.join(part), &mut files)?;
    }
    files.sort();
    let mut hasher = Sha256::new();
    for file in files {
        let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.strip_prefix(library).unwrap_or(&file);
        hasher.update(name.as_os_str().as_encoded_bytes());
        hasher.update([0]);
        hasher.update(text.len().to_le_bytes());
        hasher.update(&text);
    }
    Ok(format!("{:x}", hasher.finalize()))
}

/// Every `.rs` file under a directory.
fn list(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
