//! numpy and the OpenBLAS it comes with: large libraries that no distribution built.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::made_once::made_once;
use crate::pip;
use crate::pythons::Python;

/// What pip installs.
const RELEASE: &str = "numpy==2.2.6";
/// The minor version of the pyenv's Python that it is for.
const MINOR: &str = "3.12.";

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
    let name = Path::new("numpy").join(version);
    made_once(name, RELEASE, |site| pip::install(python, RELEASE, site))
}
