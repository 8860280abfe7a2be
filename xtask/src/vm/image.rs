//! The guest's files: busybox, pyscry with its libraries, and a Python in `/guest`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{cpio::Cpio, guest::Guest, libraries};
use crate::tools;

/// The first program that the kernel starts.
const INIT: &str = include_str!("init.sh");

/// What is profiled, by name.
const PROGRAMS: [(&str, &str); 2] = [
    ("program.py", include_str!("program.py")),
    ("waits.py", include_str!("waits.py")),
];

/// Where the Python is: pyscry must look for its files there.
const CHROOT: &str = "guest";

/// Directories that are mounted on or written to.
const EMPTY: [&str; 6] = ["dev", "proc", "sys", "tmp", "guest/dev", "guest/tmp"];

/// Character devices: the kernel opens the console for the first program, before anything is
/// mounted, and a Python does not start without random numbers.
const DEVICES: [(&str, u32, u32); 3] = [
    ("dev/console", 5, 1),
    ("guest/dev/null", 1, 3),
    ("guest/dev/urandom", 1, 9),
];

/// Files of the guest by path, without the first `/`.
type Files = BTreeMap<String, Vec<u8>>;

/// Writes the archive.
pub(crate) fn write(path: &Path, pyscry: &Path, guest: &Guest, python: &str) -> Result<()> {
    let mut files = Files::new();
    files.insert("init".into(), INIT.replace("@PYTHON@", python).into_bytes());
    files.insert("bin/busybox".into(), read(&busybox()?)?);
    files.insert("bin/pyscry".into(), stripped(pyscry)?);
    let root = Path::new("/");
    let inside = pyscry.strip_prefix(root).unwrap_or(pyscry);
    for (name, file) in libraries::of(root, inside)? {
        files.insert(name.display().to_string(), read(&root.join(file))?);
    }

    for (name, program) in PROGRAMS {
        files.insert(format!("{CHROOT}/{name}"), program.as_bytes().to_vec());
    }
    let exe = PathBuf::from("usr/bin").join(python);
    let mut found = libraries::of(&guest.root, &exe)?;
    found.insert(exe.clone(), exe);
    let library = PathBuf::from("usr/lib").join(python);
    list(&guest.root, &library, &mut |path| {
        found.insert(path.clone(), path);
    })?;
    for (name, file) in found {
        let name = Path::new(CHROOT).join(name).display().to_string();
        files.insert(name, read(&guest.root.join(file))?);
    }
    pack(path, &files).with_context(|| format!("cannot write {}", path.display()))
}

fn pack(path: &Path, files: &Files) -> Result<()> {
    let mut cpio = Cpio::new(BufWriter::new(File::create(path)?));
    let mut directories: Vec<String> = EMPTY.iter().map(|dir| (*dir).to_owned()).collect();
    for file in files.keys().chain(&directories.clone()) {
        let mut dir = Path::new(file);
        while let Some(parent) = dir.parent().filter(|parent| *parent != Path::new("")) {
            directories.push(parent.display().to_string());
            dir = parent;
        }
    }
    // A parent sorts before what is in it.
    directories.sort();
    directories.dedup();
    for dir in directories {
        cpio.directory(&dir)?;
    }
    for (path, major, minor) in DEVICES {
        cpio.device(path, major, minor)?;
    }
    for (path, data) in files {
        cpio.file(path, data)?;
    }
    cpio.finish()?;
    Ok(())
}

/// Every file below `root/path`.
fn list(root: &Path, path: &Path, found: &mut dyn FnMut(PathBuf)) -> Result<()> {
    let dir = root.join(path);
    let entries = fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for entry in entries {
        let entry = entry?;
        let path = path.join(entry.file_name());
        // A link may well lead to a package that is not there.
        match fs::metadata(entry.path()) {
            Ok(target) if target.is_dir() => list(root, &path, found)?,
            Ok(_) => found(path),
            Err(_) => {}
        }
    }
    Ok(())
}

/// A static busybox: the guest has no libraries for its shell.
fn busybox() -> Result<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .context("there is no busybox, which scripts/install-build-tools.sh installs")
}

/// The binary without what only a debugger reads: less to load.
fn stripped(binary: &Path) -> Result<Vec<u8>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("stripped");
    tools::run(Command::new("strip").arg("-o").arg(&path).arg(binary))?;
    read(&path)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
