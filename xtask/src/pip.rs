//! Packages of PyPI.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::tools;

/// Installs a package as it is there, without what it depends on, into a directory.
pub(crate) fn install(python: &Path, package: &str, target: &Path) -> Result<()> {
    tools::run(
        Command::new(python)
            .args(["-I", "-m", "pip", "install", "--quiet", "--no-deps"])
            .args(["--only-binary", ":all:", "--disable-pip-version-check"])
            .args(["--root-user-action", "ignore", "--target"])
            .arg(target)
            .arg(package),
    )
}
