//! The interpreters that the tests run with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fmt};

use anyhow::{Context, Result, bail};

use crate::{debian, tools};

/// The minor versions of Python 3 that pyenv must have.
const PYENV: [u32; 6] = [8, 9, 10, 11, 12, 13];

/// An interpreter.
#[derive(Debug)]
pub(crate) struct Python {
    /// As it says itself: `3.12.1`.
    pub(crate) version: String,
    /// Inside of `root`.
    pub(crate) exe: PathBuf,
    /// The chroot it is in.
    pub(crate) root: Option<PathBuf>,
}

/// A line of the file: version, executable, and the chroot or `-`.
impl fmt::Display for Python {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = self.root.as_deref().unwrap_or(Path::new("-"));
        write!(
            f,
            "{}\t{}\t{}",
            self.version,
            self.exe.display(),
            root.display()
        )
    }
}

/// Finds all interpreters, makes the chroots that are missing, and writes the file that the tests
/// read. What is missing at the end is an error in CI, else a warning.
pub(crate) fn write() -> Result<(PathBuf, Vec<Python>)> {
    let mut found = Vec::new();
    let mut missing = Vec::new();

    let versions = pyenv_versions();
    for minor in PYENV {
        match pyenv(versions.as_deref(), minor) {
            Ok(python) => found.push(python),
            Err(err) => missing.push(format!("Python 3.{minor}: {err:#}")),
        }
    }
    if let Err(err) = debian::make() {
        missing.push(format!("Debian's chroots: {err:#}"));
    }
    for suite in &debian::SUITES {
        for exe in suite.exes {
            match in_chroot(&debian::root(suite)?, exe) {
                Ok(python) => found.push(python),
                Err(err) => missing.push(format!("{exe} of Debian {}: {err:#}", suite.name)),
            }
        }
    }

    if !missing.is_empty() {
        let list = missing.join("\n    ");
        if tools::in_ci() {
            bail!("interpreters are missing:\n    {list}");
        }
        eprintln!("WARNING: not tested, because these interpreters are missing:\n    {list}");
    }
    let file = tools::cache()?.join("pythons.tsv");
    let lines: String = found.iter().map(|python| format!("{python}\n")).collect();
    fs::write(&file, lines).with_context(|| format!("cannot write {}", file.display()))?;
    Ok((file, found))
}

/// Where pyenv keeps its versions.
fn pyenv_versions() -> Option<PathBuf> {
    let root = tools::output(Command::new("pyenv").arg("root"))
        .map(|root| PathBuf::from(root.trim()))
        .ok()
        .or_else(|| env::var_os("PYENV_ROOT").map(PathBuf::from))
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv")))?;
    Some(root.join("versions")).filter(|versions| versions.is_dir())
}

/// pyenv's newest release of a minor version: the binary, not the shim.
fn pyenv(versions: Option<&Path>, minor: u32) -> Result<Python> {
    let hint = format!("`pyenv install 3.{minor}` installs it");
    let versions = versions.with_context(|| format!("there is no pyenv. With it, {hint}"))?;
    let prefix = format!("3.{minor}.");
    let newest = tools::directories(versions)
        .into_iter()
        .filter_map(|dir| {
            let patch = dir
                .file_name()?
                .to_str()?
                .strip_prefix(&prefix)?
                .parse::<u32>()
                .ok()?;
            Some((patch, dir))
        })
        .max()
        .with_context(|| format!("pyenv does not have it: {hint}"))?;
    let exe = fs::canonicalize(newest.1.join(format!("bin/python3.{minor}")))
        .with_context(|| format!("{} is broken: {hint}", newest.1.display()))?;
    Ok(Python {
        version: version(Command::new(&exe))?,
        exe,
        root: None,
    })
}

/// An interpreter of a chroot.
fn in_chroot(root: &Path, name: &str) -> Result<Python> {
    let exe = Path::new("/usr/bin").join(name);
    if !root.join("usr/bin").join(name).exists() {
        bail!(
            "`cargo xtask test` makes {} when it is root",
            root.display()
        );
    }
    let mut command = Command::new("chroot");
    command.arg(root).arg(&exe);
    Ok(Python {
        version: version(command)?,
        exe,
        root: Some(root.to_path_buf()),
    })
}

/// The version that an interpreter says it is.
fn version(mut python: Command) -> Result<String> {
    let program = "import sys; print('%d.%d.%d' % sys.version_info[:3])";
    Ok(tools::output(python.args(["-I", "-c", program]))?
        .trim()
        .to_owned())
}
