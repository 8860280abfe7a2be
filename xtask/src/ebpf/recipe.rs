//! How the BPF object is built.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{strip, toolchain::Toolchain};
use crate::tools;

/// See the script itself.
const RUSTC_WRAPPER: &str = include_str!("rustc.sh");

/// What rustc gets: BTF needs debug information, and comes from the linker.
const RUSTFLAGS: [&str; 3] = ["-Clinker=bpf-linker", "-Clink-arg=--btf", "-Cdebuginfo=2"];

/// Settings of the outer cargo, the user or the host that would end up in the object.
const FOREIGN: [&str; 12] = [
    "CARGO_BUILD_",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_INCREMENTAL",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "CARGO_UNSTABLE_",
    "RUSTC",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// Builds the object in `dir` and returns its bytes.
pub(crate) fn build(toolchain: &Toolchain, dir: &Path) -> Result<Vec<u8>> {
    let wrapper = dir.join("rustc.sh");
    if fs::read_to_string(&wrapper).ok().as_deref() != Some(RUSTC_WRAPPER) {
        // cargo does not see that another wrapper compiles otherwise.
        if dir.exists() {
            fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        fs::create_dir_all(dir)
            .and_then(|()| fs::write(&wrapper, RUSTC_WRAPPER))
            .and_then(|()| fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot write {}", wrapper.display()))?;
    }

    let mut cargo = Command::new(toolchain.sysroot.join("bin/cargo"));
    for (name, _) in std::env::vars_os() {
        if FOREIGN.iter().any(|prefix| starts_with(&name, prefix)) {
            cargo.env_remove(name);
        }
    }
    cargo
        .current_dir(tools::workspace())
        .args([
            "build",
            "--locked",
            "--package",
            "profiler-ebpf",
            "--profile",
            "bpf",
        ])
        .args([
            "--target",
            "bpfel-unknown-none",
            "-Zbuild-std=core",
            "--target-dir",
        ])
        .arg(dir)
        .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"))
        .env("PYSCRY_WORKSPACE", tools::workspace())
        .env("RUSTC", toolchain.sysroot.join("bin/rustc"))
        .env("RUSTC_WRAPPER", wrapper)
        // Where bpf-linker looks for LLVM.
        .env("LD_LIBRARY_PATH", toolchain.sysroot.join("lib"))
        // cargo's only way to take the standard library from elsewhere than the compiler's own
        // directory; the compiler, and so cargo, is pinned.
        .env("__CARGO_TESTS_ONLY_SRC_ROOT", &toolchain.rust_src);
    tools::run(&mut cargo)?;

    let object = dir.join("bpfel-unknown-none/bpf/pyscry-bpf");
    let bytes = fs::read(&object).with_context(|| format!("no object at {}", object.display()))?;
    strip::debug(&bytes)
}

fn starts_with(name: &OsStr, prefix: &str) -> bool {
    name.as_encoded_bytes().starts_with(prefix.as_bytes())
}
