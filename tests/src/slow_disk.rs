//! A disk that reads slowly.
//!
//! One that a hypervisor reads may have read before the thread that asked comes to wait: while the
//! hypervisor works, the thread's CPU stands still. Of 512 pages that were read one by one, all but one
//! came without any wait (kernel 6.18, virtio).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::cgroup::Limits;

/// Reads a second: one takes longer than a disk of a virtual machine, and not so long that a test is felt.
const READS: u32 = 2000;

/// A control group whose processes read slowly from the disk that has the file.
///
/// # Panics
/// When the file is on no disk, or its reads cannot be limited.
#[must_use]
pub fn slow_disk(file: &Path) -> Limits {
    let disk = disk_of(file);
    let group = Limits::of("blkio", "io");
    if group.version == 1 {
        group.set(
            "blkio.throttle.read_iops_device",
            &format!("{disk} {READS}"),
        );
    } else {
        group.set("io.max", &format!("{disk} riops={READS}"));
    }
    group
}

/// Its number, `MAJOR:MINOR`: a limit is one of the whole disk.
fn disk_of(file: &Path) -> String {
    let device = fs::metadata(file).expect("a file").dev();
    let number = format!("{}:{}", libc::major(device), libc::minor(device));
    let place = PathBuf::from("/sys/dev/block").join(&number);
    let place = fs::canonicalize(&place).unwrap_or_else(|error| {
        panic!(
            "{}: {error}: {} has to be on a disk",
            place.display(),
            file.display()
        )
    });
    let whole = match place.join("partition").exists() {
        true => place.parent().expect("a disk").to_path_buf(),
        false => place,
    };
    let number = fs::read_to_string(whole.join("dev")).expect("its number");
    number.trim().to_owned()
}
