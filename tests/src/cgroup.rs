//! Control groups of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::run::PATIENCE;

/// A control group of version 2; it is removed when this is dropped, once nobody is in it.
#[derive(Debug)]
pub struct Cgroup {
    directory: PathBuf,
    /// Its path, as `/proc/PID/cgroup` has it.
    pub path: String,
}

/// Where version 2 is mounted: by itself, or beside version 1.
fn mount() -> PathBuf {
    let places = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(PathBuf::from);
    let found = places
        .into_iter()
        .find(|place| place.join("cgroup.controllers").exists());
    found.expect("control groups of version 2")
}

impl Cgroup {
    /// Makes it.
    ///
    /// # Panics
    /// When that is not allowed.
    #[must_use]
    pub fn new(path: &str) -> Self {
        let directory = mount().join(path.trim_start_matches('/'));
        fs::create_dir_all(&directory).expect("a control group");
        Self {
            directory,
            path: path.to_owned(),
        }
    }

    /// Moves a process into it; its future children are in there, too.
    ///
    /// # Panics
    /// When it is gone.
    pub fn takes(&self, pid: u32) {
        fs::write(self.procs(), pid.to_string()).expect("a process in a control group");
    }

    /// The file that a process writes 0 to to go there.
    #[must_use]
    pub fn procs(&self) -> PathBuf {
        self.directory.join("cgroup.procs")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Processes leave when they end, a moment after they were killed.
        let begin = Instant::now();
        let is_busy = |path: &Path| fs::remove_dir(path).is_err() && path.exists();
        while is_busy(&self.directory) && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Others may have groups in there.
        if let Some(above) = self.directory.parent() {
            let _in_use = fs::remove_dir(above);
        }
    }
}

/// An identifier as container managers have them.
#[must_use]
pub fn container_id(seed: u32) -> String {
    // Of this run only, so that a group left behind by another is none of ours.
    let word = format!("{seed:08x}{:08x}", std::process::id());
    word.repeat(4)
}
