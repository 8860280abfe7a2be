//! Packages of a Debian suite, verified by apt, without the host's own package sources knowing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::{debian, tools};

/// What Debian signs its suites with.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A suite's index, in a directory of its own.
#[derive(Debug)]
pub(crate) struct Apt {
    dir: PathBuf,
}

impl Apt {
    /// Fetches the index of a suite into `dir`.
    pub(crate) fn open(suite: &str, dir: &Path) -> Result<Self> {
        for part in ["lists/partial", "cache/archives/partial", "packages"] {
            fs::create_dir_all(dir.join(part))
                .with_context(|| format!("cannot make directories in {}", dir.display()))?;
        }
        fs::write(dir.join("status"), "")?;
        fs::write(
            dir.join("sources.list"),
            format!(
                "deb [arch=amd64 signed-by={KEYRING}] {} {suite} main\n",
                debian::mirror()
            ),
        )?;
        let apt = Self {
            dir: dir.to_path_buf(),
        };
        tools::output(apt.command("apt-get").arg("update"))?;
        Ok(apt)
    }

    /// What a package depends on.
    pub(crate) fn depends(&self, package: &str) -> Result<Vec<String>> {
        let text = tools::output(self.command("apt-cache").args(["depends", package]))?;
        Ok(text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .map(str::to_owned)
            .collect())
    }

    /// Unpacks packages, together, into a directory.
    pub(crate) fn unpack(&self, packages: &[&str], root: &Path) -> Result<()> {
        fs::create_dir_all(root)?;
        unpack_files(self.download(packages)?, root)
    }

    /// Unpacks a package and all that it depends on, as if nothing was installed, into a directory.
    pub(crate) fn unpack_with_depends(&self, package: &str, root: &Path) -> Result<()> {
        let mut apt = self.command("apt-get");
        apt.args(["-y", "--download-only", "--no-install-recommends"])
            .args(["install", package]);
        tools::output(&mut apt)?;
        let archives = self.dir.join("cache/archives");
        let entries = fs::read_dir(&archives)?.collect::<std::io::Result<Vec<_>>>()?;
        let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
        // Beside them are a lock and what is not all there.
        paths.retain(|path| path.extension().is_some_and(|kind| kind == "deb"));
        unpack_files(paths, root)
    }

    /// Unpacks the one file of a package that matches a pattern into a directory, and no more of the
    /// package than it takes to come to that file.
    pub(crate) fn unpack_file(&self, package: &str, file: &str, root: &Path) -> Result<()> {
        fs::create_dir_all(root)?;
        for deb in self.download(&[package])? {
            let mut reader = Command::new("dpkg-deb")
                .arg("--fsys-tarfile")
                .arg(&deb)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .context("cannot run dpkg-deb")?;
            let archive = reader.stdout.take().context("dpkg-deb has no output")?;
            let unpacked = Command::new("tar")
                .args(["-x", "--wildcards", "--occurrence=1", "-C"])
                .arg(root)
                .arg(file)
                .stdin(archive)
                .status()
                .context("cannot run tar")?;
            // It ends by itself, but with an error, when nobody reads the rest.
            let _ = reader.wait();
            ensure!(
                unpacked.success(),
                "cannot unpack {file} of {package}: {unpacked}"
            );
            fs::remove_file(deb)?;
        }
        Ok(())
    }

    /// Downloads packages, and returns their files.
    fn download(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let dir = self.dir.join("packages");
        let mut apt = self.command("apt-get");
        tools::output(apt.arg("download").args(packages).current_dir(&dir))?;
        let entries = fs::read_dir(&dir)?.collect::<std::io::Result<Vec<_>>>()?;
        Ok(entries.into_iter().map(|entry| entry.path()).collect())
    }

    /// apt or apt-cache with every path of the host's replaced.
    fn command(&self, program: &str) -> Command {
        let path = |name: &str| self.dir.join(name).display().to_string();
        let mut command = Command::new(program);
        command.arg("-qq");
        for option in [
            format!("Dir::Etc::SourceList={}", path("sources.list")),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={}", path("lists")),
            format!("Dir::State::Status={}", path("status")),
            format!("Dir::Cache={}", path("cache")),
            // A host may have turned these off, then every command reads the index anew.
            "Dir::Cache::pkgcache=pkgcache.bin".to_owned(),
            "Dir::Cache::srcpkgcache=srcpkgcache.bin".to_owned(),
            "Acquire::GzipIndexes=false".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            "APT::Architectures=amd64".to_owned(),
            // As root, apt would fetch as a user that cannot write here.
            "APT::Sandbox::User=root".to_owned(),
            // Nobody refreshes the dates of a suite that is no longer supported.
            "Acquire::Check-Valid-Until=false".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "Acquire::Retries=3".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }
}

/// Unpacks downloaded packages into a directory, and removes them.
fn unpack_files(debs: Vec<PathBuf>, root: &Path) -> Result<()> {
    for deb in debs {
        tools::output(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(root))?;
        fs::remove_file(deb)?;
    }
    Ok(())
}
