//! What the committed BPF object is made from.
//!
//! `cargo xtask ebpf` writes the digests of these sources next to the object, and this crate's
//! build script compares them. Both compile this file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use sha2::{Digest, Sha256};

/// Where the object and `sources.sha256` are, from the root of the workspace.
#[allow(
    dead_code,
    reason = "the build script finds it through its own directory"
)]
pub(crate) const COMMITTED: &str = "profiler-userspace/bpf";

/// Whole files, and all `.rs` files of directories.
pub(crate) const PATHS: [&str; 8] = [
    "profiler-common/Cargo.toml",
    "profiler-common/src",
    "profiler-ebpf/Cargo.toml",
    "profiler-ebpf/src",
    "xtask/src/ebpf/recipe.rs",
    "xtask/src/ebpf/rustc.sh",
    "xtask/src/ebpf/strip.rs",
    "xtask/src/tools/pins.rs",
];

/// The digests as `sha256sum` prints them, a line per source, sorted; none when the sources are
/// not there, as in a published package.
pub(crate) fn digests(workspace: &Path) -> io::Result<Option<String>> {
    if !workspace.join("profiler-ebpf/src").is_dir() {
        return Ok(None);
    }
    let mut files = Vec::new();
    for path in PATHS {
        list(&workspace.join(path), &mut files)?;
    }
    files.sort();
    let mut lines = String::new();
    for file in files {
        let name = file.strip_prefix(workspace).unwrap_or(&file);
        line(&mut lines, &name.display().to_string(), &fs::read(&file)?);
    }
    let manifest = fs::read_to_string(workspace.join("Cargo.toml"))?;
    line(
        &mut lines,
        "Cargo.toml (BPF)",
        settings(&manifest).as_bytes(),
    );
    let lock = fs::read_to_string(workspace.join("Cargo.lock"))?;
    line(&mut lines, "Cargo.lock (BPF)", packages(&lock).as_bytes());
    Ok(Some(lines))
}

/// Which sources differ between two lists of digests.
pub(crate) fn changed(old: &str, new: &str) -> Vec<String> {
    let missing = |from: &str, line: &&str| !from.lines().any(|other| other == *line);
    let mut names: Vec<String> = new
        .lines()
        .filter(|line| missing(old, line))
        .chain(old.lines().filter(|line| missing(new, line)))
        .filter_map(|line| line.split_once("  ").map(|(_, name)| name.to_owned()))
        .collect();
    names.sort();
    names.dedup();
    names
}

fn line(lines: &mut String, name: &str, contents: &[u8]) {
    // Writing to a string does not fail.
    let _ = writeln!(lines, "{:x}  {name}", Sha256::digest(contents));
}

/// A file itself, or every `.rs` file under a directory.
fn list(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            let path = entry?.path();
            if path.is_dir() || path.extension().is_some_and(|extension| extension == "rs") {
                list(&path, files)?;
            }
        }
    } else {
        files.push(path.to_path_buf());
    }
    Ok(())
}

/// The lines of the workspace's manifest that the object depends on.
fn settings(manifest: &str) -> String {
    let mut section = "";
    let mut kept = String::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let ours = match section {
            "[profile.bpf]" => !line.is_empty() && !line.starts_with('#'),
            "[workspace.package]" => line.starts_with("edition"),
            "[workspace.dependencies]" => line.starts_with("aya-ebpf"),
            _ => false,
        };
        if ours {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// The entries of the lock file that the object depends on.
fn packages(lock: &str) -> String {
    lock.split("\n\n")
        .filter(|entry| entry.contains("name = \"aya-ebpf"))
        .collect()
}
