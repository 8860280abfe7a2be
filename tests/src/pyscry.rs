//! The binary under test.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::Folded;
use crate::native::run_for;

/// A run of the binary that came to its end.
#[derive(Debug)]
pub struct Ended {
    /// Exit code.
    pub code: i32,
    /// What it said.
    pub stderr: String,
    /// What it wrote.
    pub folded: Folded,
}

impl Ended {
    /// The value of a counter that its summary shows, 0 where it does not.
    ///
    /// # Panics
    /// When its value is no number.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        counter(&self.stderr, name)
    }
}

/// The value of a counter in a summary, 0 where it is not shown.
///
/// # Panics
/// When its value is no number.
#[must_use]
pub fn counter(summary: &str, name: &str) -> u64 {
    let start = format!(" {name} = ");
    let lines = summary.lines().map(|line| format!(" {line}"));
    let found = lines
        .filter_map(|line| Some(line.split_once(&start)?.1.to_owned()))
        .next();
    found.map_or(0, |rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("a number")
    })
}

/// The binary of the profile that the tests are of.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let found = test
        .ancestors()
        .skip(1)
        .map(|dir| dir.join("pyscry"))
        .find(|path| path.is_file());
    found.expect("pyscry is not built: run the tests with `cargo xtask test`")
}

/// A command that runs it.
#[must_use]
pub fn pyscry() -> Command {
    Command::new(binary())
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("pyscry was killed by a signal")
}

/// A recording that goes on.
#[derive(Debug)]
pub struct Recorder {
    child: Child,
    stderr: BufReader<ChildStderr>,
    directory: TempDir,
}

impl Recorder {
    /// Starts recording in the format `raw`, and returns once it has begun.
    ///
    /// # Panics
    /// When it does not begin.
    #[must_use]
    pub fn start(args: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut child = pyscry()
            .args(["record", "--full-filenames", "--format", "raw", "--output"])
            .arg(directory.path().join("out.txt"))
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .expect("pyscry runs");
        let mut stderr = BufReader::new(child.stderr.take().expect("its messages"));
        let mut said = String::new();
        while !said.contains("Recording ") {
            let read = stderr.read_line(&mut said).expect("its messages");
            assert_ne!(read, 0, "pyscry did not begin: {said}");
        }
        Self {
            child,
            stderr,
            directory,
        }
    }

    /// The process that records.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        // SAFETY: our own child, which was not waited for.
        unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
    }

    /// Waits for the end, and reads what was written.
    ///
    /// # Panics
    /// When it was killed, or wrote nothing that can be read.
    #[must_use]
    pub fn end(mut self) -> Ended {
        let mut stderr = String::new();
        self.stderr
            .read_to_string(&mut stderr)
            .expect("its messages");
        let status = self.child.wait().expect("its end");
        let code = status.code().expect("pyscry was killed by a signal");
        let text = std::fs::read_to_string(self.directory.path().join("out.txt"));
        Ended {
            code,
            stderr,
            folded: Folded::parse(&text.unwrap_or_default()),
        }
    }
}

/// Records a process on-CPU until it has used the CPU for so long, whenever that is.
///
/// # Panics
/// When it does not use the CPU, or the recording fails or has no sample.
#[must_use]
pub fn sampled(pid: u32, time: Duration, args: &[&str]) -> Folded {
    let process = pid.to_string();
    let recorder = Recorder::start(&[&["--pid", &process, "--rate", "999"], args].concat());
    run_for(pid, time);
    recorder.signal(libc::SIGTERM);
    let ended = recorder.end();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_ne!(ended.folded.total(), 0, "no sample: {}", ended.stderr);
    ended.folded
}

/// Records with the given arguments in the format `raw`, and reads what was written.
///
/// # Panics
/// When the binary cannot be run, was killed, or wrote nothing that can be read.
#[must_use]
pub fn record(args: &[&str]) -> Ended {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("out.txt");
    let output = pyscry()
        .args(["record", "--full-filenames", "--format", "raw", "--output"])
        .arg(&file)
        .args(args)
        .output()
        .expect("pyscry runs");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    Ended {
        code: code(&output),
        stderr,
        folded: Folded::parse(&text),
    }
}
