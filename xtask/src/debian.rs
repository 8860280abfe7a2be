//! Debian's interpreters, in chroots that are kept between runs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, thread};

use anyhow::{Context, Result, bail};

use crate::tools;

/// A suite and the interpreters that are wanted of it.
#[derive(Debug)]
pub(crate) struct Suite {
    /// The name that debootstrap knows.
    pub(crate) name: &'static str,
    /// Packages to install.
    packages: &'static [&'static str],
    /// Interpreters to expect in `/usr/bin`.
    pub(crate) exes: &'static [&'static str],
}

/// The chroots.
pub(crate) const SUITES: [Suite; 3] = [
    Suite {
        name: "bullseye",
        packages: &["python3"],
        exes: &["python3.9"],
    },
    Suite {
        name: "bookworm",
        packages: &["python3"],
        exes: &["python3.11"],
    },
    Suite {
        name: "sid",
        packages: &["python3.13", "python3.14", "python3.15"],
        exes: &["python3.13", "python3.14", "python3.15"],
    },
];

/// In a chroot that is complete: what it was made with. One without it, or with other packages in
/// it, is made anew.
const STAMP: &str = ".pyscry-complete";

/// Debian's mirror.
pub(crate) fn mirror() -> String {
    env::var("PYSCRY_DEBIAN_MIRROR").unwrap_or_else(|_| "http://deb.debian.org/debian".to_owned())
}

/// The chroot of a suite, complete or not.
pub(crate) fn root(suite: &Suite) -> Result<PathBuf> {
    Ok(tools::cache()?.join("debian").join(suite.name))
}

/// Makes the chroots that are not there. An error names every one that could not be made.
pub(crate) fn make() -> Result<()> {
    let failed: Vec<String> = thread::scope(|scope| {
        // Half of a debootstrap is waiting for the mirror, so all run at once.
        let running: Vec<_> = SUITES
            .iter()
            .map(|suite| (suite, scope.spawn(move || make_one(suite))))
            .collect();
        running
            .into_iter()
            .filter_map(|(suite, thread)| match thread.join() {
                Ok(Ok(())) => None,
                Ok(Err(err)) => Some(format!("{}: {err:#}", suite.name)),
                Err(_) => Some(format!("{}: panicked", suite.name)),
            })
            .collect()
    });
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(())
}

fn make_one(suite: &Suite) -> Result<()> {
    let root = root(suite)?;
    let recipe = suite.packages.join(",");
    if fs::read_to_string(root.join(STAMP)).is_ok_and(|stamp| stamp == recipe) {
        return Ok(());
    }
    if !tools::is_root()? {
        bail!("only root can make a chroot");
    }
    remove(&root)?;
    fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
    eprintln!(
        "debootstrap {} in {} (once, about a minute)",
        suite.name,
        root.display()
    );

    let log = root.with_extension("log");
    let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let status = Command::new("debootstrap")
        .arg("--variant=minbase")
        .arg(format!("--include={recipe}"))
        .arg(suite.name)
        .arg(&root)
        .arg(mirror())
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .context("cannot run debootstrap, which scripts/install-build-tools.sh installs")?;
    if !status.success() {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let tail: Vec<&str> = text.lines().rev().take(5).collect();
        bail!(
            "debootstrap ended with {status}; the end of {}:\n{}",
            log.display(),
            tail.into_iter().rev().collect::<Vec<_>>().join("\n")
        );
    }
    remove(&root.join("var/cache/apt/archives"))?;
    fs::write(root.join(STAMP), recipe)
        .with_context(|| format!("cannot write into {}", root.display()))
}

/// Removes a directory, but nothing that is mounted in it.
fn remove(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    tools::run(
        Command::new("rm")
            .args(["-rf", "--one-file-system", "--"])
            .arg(dir),
    )
}
