//! A Debian suite's kernel and Python, unpacked in the cache.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Kernel, apt::Apt};
use crate::tools;

/// The package that depends on the suite's newest kernel for virtual machines.
const META: &str = "linux-image-cloud-amd64";

/// What was unpacked.
#[derive(Debug)]
pub(crate) struct Guest {
    /// To boot.
    pub(crate) vmlinuz: PathBuf,
    /// The directory with the Python and its libraries.
    pub(crate) root: PathBuf,
}

/// Fetches what is not in the cache.
pub(crate) fn fetch(kernel: &Kernel) -> Result<Guest> {
    let dir = tools::cache()?.join("vm").join(kernel.suite);
    let guest = Guest {
        vmlinuz: dir.join("vmlinuz"),
        root: dir.join("root"),
    };
    // The kernel is written last, so with it everything is there.
    if !guest.vmlinuz.is_file() {
        eprintln!(
            "fetching {} and {} of Debian {}",
            META, kernel.python, kernel.suite
        );
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        fetch_all(kernel, &guest)
            .with_context(|| format!("cannot get a guest of Debian {}", kernel.suite))?;
    }
    // Each time, as the programs may need other modules than before. Only root can; without, the
    // guest is only slower.
    if tools::is_root()? {
        compile(kernel, &guest)?;
    }
    Ok(guest)
}

fn fetch_all(kernel: &Kernel, guest: &Guest) -> Result<()> {
    let dir = guest.root.parent().context("the root is in a directory")?;
    let apt = Apt::open(kernel.suite, &dir.join("apt"))?;
    let images: Vec<_> = apt
        .depends(META)?
        .into_iter()
        .filter(|package| package.starts_with("linux-image-"))
        .collect();
    let wanted = format!("linux-image-{}.", kernel.version);
    let Some(image) = images.iter().find(|image| image.starts_with(&wanted)) else {
        bail!(
            "it has no kernel {}, but {}",
            kernel.version,
            images.join(", ")
        );
    };

    let minimal = format!("{}-minimal", kernel.python);
    let library = format!("lib{minimal}");
    let mut packages = vec!["libc6", "libexpat1", "zlib1g", &minimal, &library];
    packages.extend(kernel.libraries);
    apt.unpack(&packages, &guest.root)?;
    for dir in ["lib", "lib64"] {
        // Where the libraries are in /usr, another package has the links to them.
        if !guest.root.join(dir).exists() {
            symlink(Path::new("usr").join(dir), guest.root.join(dir))?;
        }
    }
    // Newer suites have the kernel itself in a package of its own.
    let parts = apt.depends(image)?;
    let binary = parts
        .iter()
        .find(|part| part.starts_with("linux-binary-"))
        .unwrap_or(image);
    let release = image.trim_start_matches("linux-image-");
    let unpacked = dir.join("image");
    // It is in /boot, or with the modules.
    apt.unpack_file(binary, "*/vmlinuz*", &unpacked)?;
    let places = [
        format!("boot/vmlinuz-{release}"),
        format!("usr/lib/modules/{release}/vmlinuz"),
        format!("lib/modules/{release}/vmlinuz"),
    ];
    let vmlinuz = places
        .iter()
        .map(|place| unpacked.join(place))
        .find(|path| path.is_file())
        .with_context(|| format!("no kernel in {binary}"))?;
    fs::rename(vmlinuz, dir.join("vmlinuz.new"))?;
    fs::remove_dir_all(&unpacked)?;
    fs::remove_dir_all(dir.join("apt"))?;
    fs::rename(dir.join("vmlinuz.new"), &guest.vmlinuz)?;
    Ok(())
}

/// Starts the Python with what the guest's programs import, which writes what it compiles: that
/// takes the guest seconds.
fn compile(kernel: &Kernel, guest: &Guest) -> Result<()> {
    // Compiled files have the time of their source, which is this in the guest.
    tools::output(Command::new("find").arg(&guest.root).args([
        "-name", "*.py", "-type", "f", "-exec", "touch", "-d", "@0", "{}", "+",
    ]))?;
    let exe = format!("/usr/bin/{}", kernel.python);
    tools::output(Command::new("chroot").arg(&guest.root).arg(exe).args([
        "-S",
        "-E",
        "-c",
        "import fcntl, select, threading, time",
    ]))?;
    Ok(())
}
