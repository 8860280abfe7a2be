//! What a process is to a person who looks for it: its names, its user, its container.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use super::cgroup;
use super::container::ContainerId;
use super::{proc_file, users};

/// A flag of a kernel thread (`PF_KTHREAD`).
const KERNEL_THREAD: u64 = 0x0020_0000;
/// Bytes of a command line that are kept: enough to tell processes apart, where some are
/// megabytes long.
const MOST_ARGUMENTS: u64 = 8 << 10;

/// A process, as it was when it was looked at. Most of it changes with `exec`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The host's number of it.
    pub pid: u32,
    /// The process that started it, or the one that took its place.
    pub parent: u32,
    /// When it started, clock ticks since the host did: with `pid`, what no other process has.
    pub start_ticks: u64,
    /// What the kernel calls it: at most 15 bytes, more only of kernel threads.
    pub comm: String,
    /// Its arguments, joined by spaces; empty for a kernel thread and for one that has ended.
    pub command: String,
    /// The last part of its first argument; empty where it has none.
    pub program: String,
    /// The file name of its executable, `None` for a kernel thread, for one that has ended, and
    /// without the right to look.
    pub executable: Option<String>,
    /// Its user (real).
    pub uid: u32,
    /// The user's name on the host; the number where it has none.
    pub user: Arc<str>,
    /// Its control group's path below `/sys/fs/cgroup`.
    pub cgroup: String,
    /// The innermost container that it is in.
    pub container: Option<ContainerId>,
    /// Its number in the innermost container, where that is another one.
    pub inner_pid: Option<u32>,
    /// Whether it is one of the kernel's.
    pub kernel_thread: bool,
}

impl Identity {
    /// A process of which the number only is known, since it has ended.
    #[must_use]
    pub fn unknown(pid: u32) -> Self {
        Self {
            pid,
            parent: 0,
            start_ticks: 0,
            comm: String::new(),
            command: String::new(),
            program: String::new(),
            executable: None,
            uid: 0,
            user: users::name(0),
            cgroup: String::new(),
            container: None,
            inner_pid: None,
            kernel_thread: false,
        }
    }

    /// Reads what a process is.
    ///
    /// # Errors
    /// `ENOENT` or `ESRCH` when the process is gone.
    pub fn read(pid: u32) -> io::Result<Self> {
        let read = |name: &str| -> io::Result<Vec<u8>> {
            let mut bytes = Vec::with_capacity(2 << 10);
            let file = File::open(format!("/proc/{pid}/{name}"))?;
            file.take(MOST_ARGUMENTS).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        let stat = Stat::parse(&text(read("stat")?)).ok_or_else(malformed)?;
        let status = Status::parse(&text(read("status")?)).ok_or_else(malformed)?;
        let cgroup = cgroup::path(&text(read("cgroup")?));
        let arguments = match stat.kernel_thread {
            true => Vec::new(),
            false => read("cmdline")?,
        };
        let executable = match stat.kernel_thread {
            true => None,
            false => proc_file::executable(pid).ok(),
        };
        Ok(Self {
            pid,
            parent: stat.parent,
            start_ticks: stat.start_ticks,
            comm: stat.comm,
            command: command(&arguments),
            program: program(&arguments),
            executable: executable
                .and_then(|path| Some(base_name(&path.to_string_lossy())?.to_owned())),
            uid: status.uid,
            user: users::name(status.uid),
            container: ContainerId::innermost(&cgroup),
            cgroup,
            inner_pid: status.inner_pid,
            kernel_thread: stat.kernel_thread,
        })
    }
}

/// When a process started, clock ticks since the host did; `None` when there is none.
#[must_use]
pub fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    Some(Stat::parse(&String::from_utf8_lossy(&stat))?.start_ticks)
}

/// What `/proc/PID/stat` says.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    comm: String,
    parent: u32,
    start_ticks: u64,
    kernel_thread: bool,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name may hold anything, spaces and parentheses too: the last one ends it.
        let (head, tail) = text.rsplit_once(')')?;
        let (_, comm) = head.split_once('(')?;
        // The third field comes first.
        let mut fields = tail.split_ascii_whitespace();
        let parent = fields.nth(4 - 3)?.parse().ok()?;
        let flags: u64 = fields.nth(9 - 5)?.parse().ok()?;
        let start_ticks = fields.nth(22 - 10)?.parse().ok()?;
        Some(Self {
            comm: comm.to_owned(),
            parent,
            start_ticks,
            kernel_thread: flags & KERNEL_THREAD != 0,
        })
    }
}

/// What `/proc/PID/status` says.
#[derive(Debug, PartialEq, Eq)]
struct Status {
    uid: u32,
    inner_pid: Option<u32>,
}

impl Status {
    fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let uid = value("Uid:")?
            .split_ascii_whitespace()
            .next()?
            .parse()
            .ok()?;
        let inner = value("NSpid:").and_then(|pids| pids.split_ascii_whitespace().nth_back(0));
        let outer = value("NSpid:").and_then(|pids| pids.split_ascii_whitespace().next());
        Some(Self {
            uid,
            inner_pid: inner
                .filter(|inner| Some(*inner) != outer)
                .and_then(|inner| inner.parse().ok()),
        })
    }
}

/// Arguments joined by spaces.
fn command(arguments: &[u8]) -> String {
    let joined: Vec<_> = arguments
        .split(|byte| *byte == 0)
        .map(String::from_utf8_lossy)
        .collect();
    joined.join(" ").trim_end().to_owned()
}

/// The last part of the first argument.
fn program(arguments: &[u8]) -> String {
    let first = arguments
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    let first = String::from_utf8_lossy(first);
    // The shell that a login starts has a dash in front.
    let first = first.strip_prefix('-').unwrap_or(&first);
    base_name(first).unwrap_or_default().to_owned()
}

/// The last part of a path, without what the kernel adds to that of a removed file.
fn base_name(path: &str) -> Option<&str> {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    path.rsplit('/').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat() {
        for (text, comm, parent, start_ticks, kernel_thread) in [
            (
                "1234 (python3) S 1 1234 1234 0 -1 4194560 1034 0 0 0 5 2 0 0 20 0 3 0 8812345 \
                 15728640 2048 18446744073709551615 1 1 0 0 0 0 0 16781312 2 0 0 0 17 1 0 0 0 0 0",
                "python3",
                1,
                8_812_345,
                false,
            ),
            (
                "77 (a) b (c) R) R 5 77 77 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 42 0 0",
                "a) b (c) R",
                5,
                42,
                false,
            ),
            (
                "30 (kworker/1:0H-events_highpri) I 2 0 0 0 -1 69238880 0 0 0 0 0 0 0 0 0 -20 1 0 \
                 9 0 0",
                "kworker/1:0H-events_highpri",
                2,
                9,
                true,
            ),
        ] {
            let expected = Stat {
                comm: comm.to_owned(),
                parent,
                start_ticks,
                kernel_thread,
            };
            assert_eq!(Stat::parse(text), Some(expected), "{text}");
        }
        for text in ["", "12", "12 (a", "12 (a) S", "12 (a) S 1 2 3 4 5"] {
            assert_eq!(Stat::parse(text), None, "{text}");
        }
    }

    #[test]
    fn status() {
        let text = |pids: &str| {
            format!(
                "Name:\tUid: 9\nUmask:\t0022\nPid:\t4567\nUid:\t33\t34\t35\t36\n{pids}VmPeak:\n"
            )
        };
        for (pids, inner_pid) in [
            ("NSpid:\t4567\n", None),
            ("NSpid:\t4567\t12\n", Some(12)),
            ("NSpid:\t4567\t812\t1\n", Some(1)),
            ("", None),
        ] {
            let expected = Status { uid: 33, inner_pid };
            assert_eq!(Status::parse(&text(pids)), Some(expected), "{pids}");
        }
        assert_eq!(Status::parse("Name:\tpython3\n"), None);
    }

    #[test]
    fn arguments() {
        for (bytes, whole, first) in [
            (
                &b"/usr/bin/python3\0-m\0http.server\0"[..],
                "/usr/bin/python3 -m http.server",
                "python3",
            ),
            (b"-bash\0", "-bash", "bash"),
            (
                b"gunicorn: worker [app]\0\0\0\0",
                "gunicorn: worker [app]",
                "gunicorn: worker [app]",
            ),
            (b"", "", ""),
        ] {
            assert_eq!(command(bytes), whole);
            assert_eq!(program(bytes), first);
        }
        assert_eq!(
            base_name("/opt/py/bin/python3.12 (deleted)"),
            Some("python3.12")
        );
    }

    #[test]
    fn of_this_process() {
        let own = Identity::read(std::process::id()).expect("it runs");
        assert_eq!(own.pid, std::process::id());
        assert_eq!(own.parent, std::os::unix::process::parent_id());
        // SAFETY: it takes nothing and cannot fail.
        assert_eq!(own.uid, unsafe { libc::getuid() });
        assert!(
            own.command
                .starts_with(&std::env::args().next().expect("one"))
        );
        assert!(!own.kernel_thread && own.start_ticks > 0 && own.cgroup.starts_with('/'));
        let file = std::env::current_exe().expect("one");
        assert_eq!(
            own.executable.as_deref(),
            file.file_name().and_then(|name| name.to_str())
        );
        assert!(Identity::read(u32::MAX).is_err());
    }
}
