//! Says when the committed BPF object is not of the sources next to it.

use std::path::{Path, PathBuf};
use std::{env, fs};

mod bpf_sources;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=bpf_sources.rs");
    println!("cargo::rerun-if-changed=bpf");
    let crate_dir = env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .unwrap_or_default();
    let Some(workspace) = crate_dir.parent() else {
        return;
    };
    if let Some(reason) = stale(&crate_dir, workspace) {
        println!("cargo::rustc-env=PYSCRY_BPF_STALE=1");
        println!("cargo::warning={reason}; `cargo xtask ebpf` makes it anew");
    }
}

/// Why the object does not fit the sources; none when it does, or when there are no sources.
fn stale(crate_dir: &Path, workspace: &Path) -> Option<String> {
    if !crate_dir.join("bpf/pyscry.bpf.o").is_file() {
        return Some("there is no BPF object".to_owned());
    }
    let sources = match bpf_sources::digests(workspace) {
        Ok(sources) => sources?,
        Err(err) => return Some(format!("cannot tell the age of the BPF object: {err}")),
    };
    for path in bpf_sources::PATHS
        .iter()
        .chain(&["Cargo.toml", "Cargo.lock"])
    {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    let Ok(built_from) = fs::read_to_string(crate_dir.join("bpf/sources.sha256")) else {
        return Some("nothing says what the BPF object was built from".to_owned());
    };
    let changed = bpf_sources::changed(&built_from, &sources);
    (!changed.is_empty()).then(|| {
        format!(
            "the BPF object is older than its sources ({})",
            changed.join(", ")
        )
    })
}
