//! Finds or installs py-spy.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::python::Python;
use crate::tools;

/// What we compare with.
pub(super) const VERSION: &str = "0.4.3";

/// The given one, the one on `PATH`, or one in an environment of its own in the cache.
pub(super) fn find(given: Option<&Path>, python: &Python) -> Result<PathBuf> {
    if let Some(given) = given {
        check(given)?;
        return Ok(given.to_owned());
    }
    let on_path = PathBuf::from("py-spy");
    if check(&on_path).is_ok() {
        return Ok(on_path);
    }
    let dir = tools::cache()?.join(format!("py-spy-{VERSION}"));
    let exe = dir.join("bin/py-spy");
    if check(&exe).is_err() {
        eprintln!("installing py-spy {VERSION} into {}", dir.display());
        let mut venv = Command::new(&python.exe);
        tools::output(venv.args(["-m", "venv", "--clear"]).arg(&dir))?;
        let mut pip = Command::new(dir.join("bin/python"));
        let package = format!("py-spy=={VERSION}");
        let quiet = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ];
        tools::output(pip.args(quiet).arg(package))?;
        check(&exe)?;
    }
    Ok(exe)
}

/// Whether it is the version that we compare with.
fn check(exe: &Path) -> Result<()> {
    let version = tools::output(Command::new(exe).arg("--version"))
        .with_context(|| format!("{} does not run", exe.display()))?;
    if version.trim() != format!("py-spy {VERSION}") {
        bail!("{} is {}, not {VERSION}", exe.display(), version.trim());
    }
    Ok(())
}
