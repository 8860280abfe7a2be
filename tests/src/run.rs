//! Runs of the binary under test, from its start to its end, and what is expected of every one.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pyscry::bpf::object::IS_STALE;
use tempfile::TempDir;

use crate::Folded;
use crate::pyscry::binary;

/// The version of the tests in which the walk is not what matters.
pub const MINOR: u8 = 12;
/// Nothing takes as long; what does hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Without recording for [`LONG`] seconds, on however slow a machine.
pub const EARLY: Duration = Duration::from_secs(10);
/// Seconds of a recording that must not take place, or must end early.
pub const LONG: &str = "20";

/// A program that does not use the CPU.
pub const SLEEPS: &str = "import time\nprint('ready')\ntime.sleep(600)\n";
/// A program that uses the CPU.
pub const SPINS: &str = "def spins():\n    while True:\n        pass\nprint('ready')\nspins()\n";

/// What became of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error output.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

/// A command of the binary under test.
pub fn command<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(binary());
    command.args(args);
    command
}

/// What a stream said so far, read as it comes.
#[derive(Clone, Debug, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Text {
    fn of(stream: Option<impl Read + Send + 'static>) -> (Self, JoinHandle<()>) {
        let mut stream = stream.expect("a pipe");
        let text = Self::default();
        let own = text.clone();
        let reader = thread::spawn(move || {
            let mut piece = [0; 4096];
            loop {
                match stream.read(&mut piece).expect("its output") {
                    0 => return,
                    count => own.0.lock().expect("the text").extend(&piece[..count]),
                }
            }
        });
        (text, reader)
    }

    fn get(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("the text")).into_owned()
    }
}

/// A process that is ended when a test is.
#[derive(Debug)]
pub struct Ending(Child);

impl Ending {
    /// Starts a program.
    pub fn start(command: &mut Command) -> Self {
        let child = command.spawn();
        Self(child.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}")))
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A run that goes on.
#[derive(Debug)]
pub struct Running {
    child: Ending,
    begin: Instant,
    stdout: Text,
    stderr: Text,
    readers: [JoinHandle<()>; 2],
}

impl Running {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        // A backtrace would be shown if there were one.
        let command = command.env("RUST_BACKTRACE", "1").stdin(Stdio::null());
        let begin = Instant::now();
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Ending::start(command);
        let (stdout, stdout_reader) = Text::of(child.0.stdout.take());
        let (stderr, stderr_reader) = Text::of(child.0.stderr.take());
        Self {
            child,
            begin,
            stdout,
            stderr,
            readers: [stdout_reader, stderr_reader],
        }
    }

    /// Waits until the recording has begun.
    pub fn has_begun(self) -> Self {
        while !self.stderr.get().contains("Recording process") {
            let young = self.begin.elapsed() < PATIENCE;
            assert!(young, "it does not begin: {}", self.stderr.get());
            thread::sleep(Duration::from_millis(5));
        }
        self
    }

    /// Waits until it has said something so often.
    pub fn hears(&self, what: &str, times: usize) {
        while self.stderr.get().matches(what).count() < times {
            let young = self.begin.elapsed() < PATIENCE;
            assert!(young, "it does not say {what}: {}", self.stderr.get());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        send(self.child.pid(), signal);
    }

    /// Waits for its end.
    pub fn end(mut self) -> Outcome {
        let status = loop {
            if let Some(status) = self.child.0.try_wait().expect("our own child") {
                break status;
            }
            if self.begin.elapsed() > PATIENCE {
                panic!("it hangs: {}", self.stderr.get());
            }
            thread::sleep(Duration::from_millis(5));
        };
        let took = self.begin.elapsed();
        for reader in self.readers {
            reader.join().expect("its output");
        }
        Outcome {
            code: status
                .code()
                .unwrap_or_else(|| panic!("ended with {status}")),
            stdout: self.stdout.get(),
            stderr: self.stderr.get(),
            took,
        }
    }
}

/// Sends a signal to a process that exists.
pub fn send(pid: u32, signal: i32) {
    let pid = libc::pid_t::try_from(pid).expect("a process id");
    // SAFETY: a system call with scalar arguments; the process is ours and was not waited for.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "no process {pid}");
}

/// Runs it to its end.
pub fn run(command: &mut Command) -> Outcome {
    Running::start(command).end()
}

impl Outcome {
    /// Its messages, without what a build says whose BPF object has to be made anew.
    pub fn said(&self) -> &str {
        match self.stderr.split_once('\n') {
            Some((first, rest)) if IS_STALE && first.contains("older than its sources") => rest,
            _ => &self.stderr,
        }
    }

    /// No panic, and nothing that looks like one.
    pub fn is_tidy(&self) {
        let all = format!("{}{}", self.stdout, self.stderr).to_lowercase();
        for word in ["panicked", "backtrace", "unwrap", "thread '"] {
            assert!(!all.contains(word), "{word}: {self:?}");
        }
    }

    /// One message of ours, of a few lines at most, that holds all of `words`.
    pub fn is_error(&self, words: &[&str]) {
        self.is_tidy();
        assert_eq!(self.code, 1, "{self:?}");
        let said = self.said();
        assert!(said.starts_with("pyscry: "), "{self:?}");
        let messages = said.lines().filter(|line| line.starts_with("pyscry: "));
        assert_eq!(messages.count(), 1, "{self:?}");
        assert!(said.lines().count() <= 3, "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        for word in words {
            assert!(said.contains(word), "{word:?} is not in {self:?}");
        }
    }

    /// What clap says of words that it cannot make sense of.
    pub fn is_usage_error(&self, words: &[&str]) {
        self.is_tidy();
        assert_eq!(self.code, 2, "{self:?}");
        assert!(self.stderr.starts_with("error: "), "{self:?}");
        assert!(self.stderr.contains("--help"), "{self:?}");
        assert!(!self.stderr.contains("pyscry: "), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in {self:?}");
        }
    }

    /// A recording.
    pub fn is_good(&self) {
        self.is_tidy();
        assert_eq!(self.code, 0, "{self:?}");
        assert!(!self.said().contains("pyscry: "), "{self:?}");
    }
}

/// A place for a recording.
#[derive(Debug)]
pub struct Output {
    /// Where it is.
    pub directory: TempDir,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            directory: tempfile::tempdir().expect("a directory"),
        }
    }
}

impl Output {
    /// The file.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("out.txt")
    }

    /// Arguments of a recording into it.
    pub fn record(&self, args: &[&str]) -> Command {
        let mut command = command(&["record", "--full-filenames", "--format", "raw", "--output"]);
        command.arg(self.path()).args(args);
        command
    }

    /// What was written.
    pub fn folded(&self) -> Folded {
        let text = fs::read_to_string(self.path());
        Folded::parse(&text.unwrap_or_else(|error| panic!("nothing was written: {error}")))
    }
}

/// Runs that must fail without leaving a file behind.
pub fn fails(args: &[&str], words: &[&str]) {
    let output = Output::default();
    let outcome = run(&mut output.record(args));
    outcome.is_error(words);
    assert!(outcome.took < EARLY, "{outcome:?}");
    assert!(!output.path().exists(), "a file of {outcome:?}");
}
