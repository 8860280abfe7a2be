//! Control groups of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::run::PATIENCE;

/// A control group of version 2; it is removed when this is dropped, once nobody is in it.
#[derive(Debug)]
pub struct Cgroup {
    directory: PathBuf,
    /// Its path, as `/proc/PID/cgroup` has it.
    pub path: String,
}

/// A control group of one controller, wherever that one is; it is removed when this is dropped, once
/// nobody is in it.
#[derive(Debug)]
pub struct Limits {
    directory: PathBuf,
    /// 1 or 2: their files differ.
    pub version: u8,
}

impl Limits {
    /// Makes one below the root of the hierarchy of a controller: one of version 1 that goes by the
    /// name, or version 2.
    ///
    /// # Panics
    /// When there is none, or that is not allowed.
    #[must_use]
    pub fn of(version_1: &str, version_2: &str) -> Self {
        if let Some(mount) = mounted("cgroup", version_1) {
            Self::below(&mount, 1)
        } else if let Some(mount) = mounted("cgroup2", "") {
            // It may have been handed on already.
            let _handed_on = fs::write(
                mount.join("cgroup.subtree_control"),
                format!("+{version_2}"),
            );
            Self::below(&mount, 2)
        } else {
            panic!("control groups are not mounted: this test needs the controller {version_2}");
        }
    }

    /// Makes one in each hierarchy whose groups can be frozen: the freezer's own of version 1, and
    /// version 2.
    ///
    /// # Panics
    /// When there is none, or that is not allowed.
    #[must_use]
    pub fn that_freeze() -> Vec<Self> {
        let mounts = [
            (mounted("cgroup", "freezer"), 1),
            (mounted("cgroup2", ""), 2),
        ];
        let groups: Vec<_> = mounts
            .into_iter()
            .filter_map(|(mount, version)| Some(Self::below(&mount?, version)))
            .collect();
        assert!(!groups.is_empty(), "no control group can be frozen here");
        groups
    }

    fn below(mount: &Path, version: u8) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let count = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("pyscry-tests-{}-{count}", std::process::id());
        let directory = mount.join(name);
        fs::create_dir(&directory).expect("a control group");
        Self { directory, version }
    }

    /// Writes one of its files.
    ///
    /// # Panics
    /// When there is no such file, or the kernel does not take it.
    pub fn set(&self, file: &str, text: &str) {
        let file = self.directory.join(file);
        fs::write(&file, text).unwrap_or_else(|error| {
            panic!(
                "{}: {error}: a test needs the controller of that file",
                file.display()
            )
        });
    }

    /// Reads one of its files.
    ///
    /// # Panics
    /// When there is no such file.
    #[must_use]
    pub fn get(&self, file: &str) -> String {
        fs::read_to_string(self.directory.join(file)).expect("a file of a control group")
    }

    /// Moves a process into it.
    ///
    /// # Panics
    /// When it is gone.
    pub fn takes(&self, pid: u32) {
        self.set("cgroup.procs", &pid.to_string());
    }

    /// Moves a process out of it, to the root.
    ///
    /// # Panics
    /// When it is gone.
    pub fn leaves(&self, pid: u32) {
        let above = self.directory.parent().expect("a root");
        fs::write(above.join("cgroup.procs"), pid.to_string()).expect("a process");
    }

    /// Freezes its processes for as long as the value lives: it is one of [`Limits::that_freeze`].
    ///
    /// # Panics
    /// When that is not allowed.
    #[must_use]
    pub fn freeze(&self) -> Frozen<'_> {
        let (file, thaw, freeze) = match self.version {
            1 => ("freezer.state", "THAWED", "FROZEN"),
            _ => ("cgroup.freeze", "0", "1"),
        };
        self.set(file, freeze);
        Frozen {
            group: self,
            file,
            thaw,
        }
    }

    /// Its name, the last part of its path.
    ///
    /// # Panics
    /// Never: it has one.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.directory.file_name().expect("a name");
        name.to_string_lossy().into_owned()
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        remove(&self.directory);
    }
}

/// A frozen group. What is frozen cannot be killed in version 1.
#[derive(Debug)]
pub struct Frozen<'a> {
    group: &'a Limits,
    file: &'static str,
    thaw: &'static str,
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.group.set(self.file, self.thaw);
    }
}

/// Removes a group once its processes have left, which they do a moment after they were killed.
fn remove(directory: &Path) {
    let begin = Instant::now();
    let is_busy = || fs::remove_dir(directory).is_err() && directory.exists();
    while is_busy() && begin.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where a hierarchy is mounted, the first of its kind that has the option, where there is to be one.
fn mounted(kind: &str, option: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    mounts.lines().find_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let fits = words[2] == kind
            && (option.is_empty() || words[3].split(',').any(|word| word == option));
        fits.then(|| PathBuf::from(words[1]))
    })
}

impl Cgroup {
    /// Makes it.
    ///
    /// # Panics
    /// When that is not allowed.
    #[must_use]
    pub fn new(path: &str) -> Self {
        let mount = mounted("cgroup2", "").expect("control groups of version 2");
        let directory = mount.join(path.trim_start_matches('/'));
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
        remove(&self.directory);
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
