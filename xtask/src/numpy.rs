//! numpy and the OpenBLAS it comes with: large libraries that no distribution built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::pythons::Python;
use crate::tools;

/// What pip installs.
const RELEASE: &str = "numpy==2.2.6";
/// The minor version of the pyenv's Python that it is for.
const MINOR: &str = "3.12.";
/// In a directory that is complete: what it was made of.
const STAMP: &str = ".pyscry-complete";

/// Installs numpy for the tests, and returns the directory that a `PYTHONPATH` may name.
pub(crate) fn install(pythons: &[Python]) -> Result<PathBuf> {
    let python = pythons
        .iter()
        .find(|python| python.root.is_none() && python.version.starts_with(MINOR))
        .with_context(|| format!("it needs pyenv's Python {MINOR}*"))?;
    install_for(&python.exe, &python.version)
}

/// The same for any interpreter that the release is for.
pub(crate) fn install_for(python: &Path, version: &str) -> Result<PathBuf> {
    let site = tools::cache()?.join("numpy").join(version);
    let stamp = site.join(STAMP);
    if fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == RELEASE) {
        return Ok(site);
    }
    if site.exists() {
        fs::remove_dir_all(&site).with_context(|| format!("cannot remove {}", site.display()))?;
    }
    tools::run(
        Command::new(python)
            .args(["-I", "-m", "pip", "install", "--quiet", "--no-deps"])
            .args(["--only-binary", ":all:", "--disable-pip-version-check"])
            .args(["--root-user-action", "ignore", "--target"])
            .arg(&site)
            .arg(RELEASE),
    )?;
    fs::write(&stamp, RELEASE).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(site)
}
