//! `cargo xtask vm`: boots Debian's kernels in QEMU, without KVM; there every program must load,
//! and a Python in a chroot is profiled on- and off-CPU, without and with native frames, and with the
//! causes of its waits.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use emulator::Emulator;

use crate::tools;

mod apt;
mod causes;
mod cpio;
mod emulator;
mod folded;
mod guest;
mod image;
mod libraries;
mod native;
mod outcome;
mod qemu;

/// A kernel, and the Debian suite that it and the Python to profile are from.
#[derive(Debug)]
struct Kernel {
    version: &'static str,
    suite: &'static str,
    python: &'static str,
    /// Packages with libraries that this Python needs besides those that all need.
    libraries: &'static [&'static str],
}

const KERNELS: [Kernel; 4] = [
    Kernel {
        version: "5.10",
        suite: "bullseye",
        python: "python3.9",
        libraries: &[],
    },
    Kernel {
        version: "6.1",
        suite: "bookworm",
        python: "python3.11",
        libraries: &[],
    },
    Kernel {
        version: "6.12",
        suite: "trixie",
        python: "python3.13",
        libraries: &[],
    },
    Kernel {
        version: "7.2",
        suite: "sid",
        python: "python3.15",
        libraries: &["libgcc-s1", "libzstd1"],
    },
];

/// Boot, six recordings and the end take a third of it.
const HANGS_AFTER: Duration = Duration::from_secs(120);

/// Longer than a boot takes on any machine that is not overloaded.
const SLOW_BOOT: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kernels to boot, such as 5.10 [default: all].
    kernels: Vec<String>,
    /// Print the console of every guest.
    #[arg(short, long)]
    verbose: bool,
}

pub(crate) fn main(args: &Args) -> Result<()> {
    let kernels = selected(&args.kernels)?;
    tools::run(tools::cargo().args([
        "build",
        "--quiet",
        "--release",
        "--package",
        "profiler-userspace",
    ]))?;
    let pyscry = tools::target().join("release/pyscry");
    let emulator = Emulator::fetch().context("cannot get an emulator")?;
    let mut outcomes = Vec::new();
    let mut failed = Vec::new();
    for kernel in kernels {
        // A kernel that fails does not keep the others from being tried.
        match boot(&emulator, kernel, &pyscry, args.verbose) {
            Ok(outcome) => outcomes.push(outcome),
            Err(err) => {
                eprintln!("{}: {err:#}", kernel.version);
                failed.push(kernel.version);
            }
        }
    }
    print!("{}", outcome::tables(&outcomes));
    if !failed.is_empty() {
        bail!("failed on {}", failed.join(", "));
    }
    Ok(())
}

fn selected(versions: &[String]) -> Result<Vec<&'static Kernel>> {
    if versions.is_empty() {
        return Ok(KERNELS.iter().collect());
    }
    versions
        .iter()
        .map(|version| {
            KERNELS
                .iter()
                .find(|kernel| kernel.version == version)
                .with_context(|| {
                    let known: Vec<_> = KERNELS.iter().map(|kernel| kernel.version).collect();
                    format!("no kernel {version} here, but {}", known.join(", "))
                })
        })
        .collect()
}

/// Boots one kernel and judges what its console says.
fn boot(
    emulator: &Emulator,
    kernel: &Kernel,
    pyscry: &Path,
    verbose: bool,
) -> Result<outcome::Outcome> {
    let guest = guest::fetch(kernel)?;
    let dir = tempfile::tempdir_in(tools::target())?;
    let initramfs = dir.path().join("initramfs");
    image::write(&initramfs, pyscry, &guest, kernel.python)?;
    eprintln!("booting {} with {}", kernel.version, kernel.python);
    let run = qemu::run(emulator, &guest.vmlinuz, &initramfs, HANGS_AFTER, verbose)?;
    let outcome = outcome::judge(kernel.version, kernel.python, &run)
        .map_err(|err| anyhow!("{err:#}\nThe end of the console:\n{}", run.tail()))?;
    if outcome.boot > SLOW_BOOT {
        eprintln!(
            "{}: slow, {:.1} s to boot",
            kernel.version,
            outcome.boot.as_secs_f64()
        );
    }
    Ok(outcome)
}
