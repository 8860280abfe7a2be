//! QEMU, of a Debian suite and unpacked in the cache, whatever the host has.
//!
//! Guests are emulated, on a thread for each CPU, and a kernel rewrites its own code as programs are
//! attached to its tracepoints. QEMU 7.2 ran code now and then, on a busy host, that had been rewritten
//! meanwhile: the guest died of the `int3` that stands in for an instruction while that is replaced. Since
//! 8.1 code cannot be written to while it is translated.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::apt::Apt;
use crate::made_once::made_once;

/// Has QEMU 10.0.
const SUITE: &str = "trixie";
const PACKAGE: &str = "qemu-system-x86";
/// Where its libraries are.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// An unpacked QEMU.
#[derive(Debug)]
pub(super) struct Emulator {
    root: PathBuf,
}

impl Emulator {
    /// Fetches it where it is not in the cache.
    pub(super) fn fetch() -> Result<Self> {
        let root = made_once("vm/qemu", &format!("{PACKAGE} of {SUITE}"), |root| {
            eprintln!("fetching {PACKAGE} of Debian {SUITE}");
            let dir = tempfile::tempdir()?;
            Apt::open(SUITE, dir.path())?.unpack_with_depends(PACKAGE, root)
        })?;
        Ok(Self { root })
    }

    /// Runs it, with its own loader, libraries and firmware.
    pub(super) fn command(&self) -> Command {
        let libraries = self.root.join(LIBRARIES);
        let share = self.root.join("usr/share");
        let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        command
            .arg("--library-path")
            .arg(&libraries)
            .arg(self.root.join("usr/bin/qemu-system-x86_64"));
        for firmware in ["seabios", "qemu"] {
            command.arg("-L").arg(share.join(firmware));
        }
        command.env("QEMU_MODULE_DIR", libraries.join("qemu"));
        command
    }
}
