//! Native programs, built from `tests/programs` when a test needs them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::run::PATIENCE;

/// Where the sources are.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/programs");

/// The path of a program's source, `native/chain.c`.
#[must_use]
pub fn source(name: &str) -> PathBuf {
    Path::new(SOURCES).join(name)
}

/// Compiles a source, with a compiler that is on the path. What is wrong with it is in the panic:
/// a machine without the compiler cannot run these tests.
///
/// # Panics
/// When there is no such compiler, or it fails.
pub fn compile<S: AsRef<str>>(compiler: &str, name: &str, flags: &[S], output: &Path) {
    let mut command = Command::new(compiler);
    command.arg(source(name)).arg("-o").arg(output);
    command.args(flags.iter().map(AsRef::as_ref));
    let done = command.output().unwrap_or_else(|error| {
        panic!("cannot run {compiler} ({error}): scripts/install-build-tools.sh installs it")
    });
    assert!(
        done.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// A directory with programs and libraries; it goes when this is dropped.
#[derive(Debug)]
pub struct Workshop(TempDir);

impl Default for Workshop {
    fn default() -> Self {
        Self(tempfile::tempdir().expect("a directory for programs"))
    }
}

impl Workshop {
    /// Where a file of this name is, or will be.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Compiles a source into a file of the given name.
    ///
    /// # Panics
    /// As [`compile`].
    #[must_use]
    pub fn make(&self, compiler: &str, source: &str, flags: &[&str], name: &str) -> PathBuf {
        let output = self.path(name);
        compile(compiler, source, flags, &output);
        output
    }
}

/// A running native program; it is killed when this is dropped.
#[derive(Debug)]
pub struct Native {
    child: Child,
    _stdout: BufReader<ChildStdout>,
}

impl Native {
    /// Starts a program that prints `ready` once it does what it is made for.
    ///
    /// # Panics
    /// When it cannot be started or does not say so.
    #[must_use]
    pub fn start(exe: &Path, args: &[&str]) -> Self {
        let mut child = Command::new(exe)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", exe.display()));
        let mut stdout = BufReader::new(child.stdout.take().expect("its output"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line of the program");
        assert_eq!(line, "ready\n", "{} did not get ready", exe.display());
        Self {
            child,
            _stdout: stdout,
        }
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has left behind what printed `ready`: until it has used the CPU for more
    /// than that takes.
    ///
    /// # Panics
    /// When it does not use the CPU.
    #[must_use]
    pub fn settled(self) -> Self {
        settle(self.pid());
        self
    }

    /// As [`wait_for_call`].
    ///
    /// # Panics
    /// As there.
    #[must_use]
    pub fn blocked_in(self, call: i64) -> Self {
        wait_for_call(self.pid(), call);
        self
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Waits until a process has used the CPU for more than it takes to print a line and go on.
///
/// # Panics
/// When it does not use the CPU.
pub fn settle(pid: u32) {
    run_for(pid, Duration::from_millis(30));
}

/// Waits until a process has used the CPU for so long.
///
/// # Panics
/// When it does not use the CPU.
pub fn run_for(pid: u32, time: Duration) {
    // SAFETY: no arguments but a number.
    let a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let a_second = u64::try_from(a_second).expect("ticks");
    let end = ticks(pid) + (a_second * time.as_millis() as u64).div_ceil(1000);
    wait_until(|| ticks(pid) >= end, "it uses no CPU");
}

/// Waits until all threads of a process are blocked in the system call of this number, or in one
/// that goes on with it after an interruption.
///
/// # Panics
/// When it does not get there.
pub fn wait_for_call(pid: u32, call: i64) {
    let is_there = || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
        threads
            .map(|thread| thread.expect("a thread").path())
            .all(|thread| {
                let text = fs::read_to_string(thread.join("syscall")).expect("its system call");
                let number = text
                    .split(' ')
                    .next()
                    .and_then(|number| number.parse().ok());
                // `running`, where it is not blocked.
                number
                    .is_some_and(|number: i64| [call, libc::SYS_restart_syscall].contains(&number))
            })
    };
    wait_until(is_there, "it does not call the kernel");
}

fn wait_until(is_so: impl Fn() -> bool, otherwise: &str) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "{otherwise}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// CPU time of a process, in the kernel's clock ticks.
fn ticks(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its times");
    let (_, fields) = text.rsplit_once(") ").expect("a name in parentheses");
    // proc(5): utime and stime are the fields 14 and 15, and the state, the first one here, is 3.
    let times = fields.split(' ').skip(11).take(2);
    times.map(|time| time.parse::<u64>().expect("ticks")).sum()
}
