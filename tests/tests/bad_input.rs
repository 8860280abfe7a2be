//! What the command line does with input that is wrong, targets that do not stay what they are,
//! and recordings that end early: one clear line, the right exit code, and no recording lost.

#![allow(clippy::expect_used, reason = "what a test starts has to be there")]

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pyscry::bpf::object::IS_STALE;
use pyscry_tests::pyscry::binary;
use pyscry_tests::{Folded, Interpreter, Target, on_one};
use tempfile::TempDir;

/// The version that most of this runs on: what is tested here is not the walk.
const MINOR: u8 = 12;
/// Nothing here takes as long; what does hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Without recording for [`LONG`] seconds, on however slow a machine.
const EARLY: Duration = Duration::from_secs(10);
/// Seconds of a recording that must not take place, or must end early.
const LONG: &str = "20";

/// A program that does not use the CPU.
const SLEEPS: &str = "import time\nprint('ready')\ntime.sleep(600)\n";
/// A program that uses the CPU.
const SPINS: &str = "def spins():\n    while True:\n        pass\nprint('ready')\nspins()\n";

/// What became of a run.
#[derive(Debug)]
struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
    took: Duration,
}

fn pyscry<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(binary());
    command.args(args);
    command
}

/// What a stream said so far, read as it comes.
#[derive(Clone, Default)]
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
struct Ending(Child);

impl Ending {
    fn start(command: &mut Command) -> Self {
        let child = command.spawn();
        Self(child.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}")))
    }

    fn pid(&self) -> u32 {
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
struct Running {
    child: Ending,
    begin: Instant,
    stdout: Text,
    stderr: Text,
    readers: [JoinHandle<()>; 2],
}

impl Running {
    fn start(command: &mut Command) -> Self {
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
    fn has_begun(self) -> Self {
        while !self.stderr.get().contains("Recording process") {
            let young = self.begin.elapsed() < PATIENCE;
            assert!(young, "it does not begin: {}", self.stderr.get());
            thread::sleep(Duration::from_millis(5));
        }
        self
    }

    fn signal(&self, signal: i32) {
        send(self.child.pid(), signal);
    }

    fn end(mut self) -> Outcome {
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

fn send(pid: u32, signal: i32) {
    let pid = libc::pid_t::try_from(pid).expect("a process id");
    // SAFETY: a system call with scalar arguments; the process is ours and was not waited for.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "no process {pid}");
}

fn run(command: &mut Command) -> Outcome {
    Running::start(command).end()
}

impl Outcome {
    /// Its messages, without what a build says whose BPF object has to be made anew.
    fn said(&self) -> &str {
        match self.stderr.split_once('\n') {
            Some((first, rest)) if IS_STALE && first.contains("older than its sources") => rest,
            _ => &self.stderr,
        }
    }

    fn is_tidy(&self) {
        let all = format!("{}{}", self.stdout, self.stderr).to_lowercase();
        for word in ["panicked", "backtrace", "unwrap", "thread '"] {
            assert!(!all.contains(word), "{word}: {self:?}");
        }
    }

    /// One message of ours, of a few lines at most, that holds all of `words`.
    fn is_error(&self, words: &[&str]) {
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
    fn is_usage_error(&self, words: &[&str]) {
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
    fn is_good(&self) {
        self.is_tidy();
        assert_eq!(self.code, 0, "{self:?}");
        assert!(!self.said().contains("pyscry: "), "{self:?}");
    }
}

/// A place for a recording.
struct Output {
    directory: TempDir,
}

impl Output {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().expect("a directory"),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("out.txt")
    }

    /// Arguments of a recording into it.
    fn record(&self, args: &[&str]) -> Command {
        let mut command = pyscry(&["record", "--format", "raw", "--output"]);
        command.arg(self.path()).args(args);
        command
    }

    fn folded(&self) -> Folded {
        let text = fs::read_to_string(self.path());
        Folded::parse(&text.unwrap_or_else(|error| panic!("nothing was written: {error}")))
    }
}

/// Runs that must fail without leaving a file behind.
fn fails(args: &[&str], words: &[&str]) {
    let output = Output::new();
    let outcome = run(&mut output.record(args));
    outcome.is_error(words);
    assert!(outcome.took < EARLY, "{outcome:?}");
    assert!(!output.path().exists(), "a file of {outcome:?}");
}

#[test]
fn no_such_process() {
    let pid = i32::MAX.to_string();
    for more in [&[][..], &["--off-cpu"]] {
        fails(
            &[&["--pid", &pid, "-d", LONG], more].concat(),
            &["no process", &pid],
        );
    }
}

/// A process that ended and that nobody waited for.
#[test]
fn a_process_that_ended() {
    let child = Ending::start(&mut Command::new("true"));
    let pid = child.pid().to_string();
    let is_zombie = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its state");
        stat.contains(") Z ")
    };
    let begin = Instant::now();
    while !is_zombie() {
        assert!(begin.elapsed() < PATIENCE, "true does not end");
        thread::sleep(Duration::from_millis(5));
    }
    fails(&["--pid", &pid, "-d", LONG], &[&pid]);
}

#[test]
fn a_kernel_thread() {
    // kthreadd.
    fails(&["--pid", "2", "-d", LONG], &["process 2", "not a Python"]);
}

#[test]
fn a_thread_of_a_process() {
    const PROGRAM: &str = "\
import threading
import time
def work():
    print('ready')
    print(threading.get_native_id())
    time.sleep(600)
threading.Thread(target=work).start()
";
    on_one("pid of a thread", MINOR, |python| {
        let mut target = Target::start(python, "thread_id.py", PROGRAM);
        let tid = target.line();
        let pid = target.pid().to_string();
        assert_ne!(tid, pid);
        fails(
            &["--pid", &tid, "-d", LONG],
            &[&tid, "thread", &format!("--pid {pid}")],
        );
    });
}

#[test]
fn something_else_than_python() {
    let sleep = Ending::start(Command::new("sleep").arg("600"));
    let pid = sleep.pid().to_string();
    for more in [&[][..], &["--off-cpu"]] {
        let args = [&["--pid", &pid, "-d", LONG], more].concat();
        fails(&args, &[&pid, "sleep", "not a Python"]);
    }
}

/// pyenv's directory of versions.
fn pyenv_versions() -> PathBuf {
    let root = Command::new("pyenv").arg("root").output().ok();
    let root = root
        .map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
        .filter(|root| root.is_dir())
        .or_else(|| std::env::var_os("PYENV_ROOT").map(PathBuf::from))
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv")));
    root.expect("a place for pyenv").join("versions")
}

/// pyenv's interpreters that are too old.
fn old_pythons() -> Vec<Interpreter> {
    let versions = pyenv_versions();
    let entries = fs::read_dir(&versions);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", versions.display()));
    let old = entries.filter_map(|entry| {
        let entry = entry.expect("a version");
        let version = entry.file_name().into_string().ok()?;
        let (minor, exe) = ["2.7", "3.6", "3.7"].into_iter().find_map(|minor| {
            let exe = entry.path().join(format!("bin/python{minor}"));
            (version.starts_with(&format!("{minor}.")) && exe.is_file()).then_some((minor, exe))
        })?;
        Some(Interpreter {
            version: minor.to_owned(),
            exe,
            root: None,
        })
    });
    old.collect()
}

#[test]
fn a_python_that_is_too_old() {
    let pythons = old_pythons();
    assert!(
        !pythons.is_empty(),
        "this test needs a Python 2.7, 3.6 or 3.7: `pyenv install 3.7` installs one"
    );
    for python in pythons {
        let target = Target::start(&python, "old.py", SLEEPS);
        let pid = target.pid().to_string();
        let words = [&pid, &format!("Python {}", python.version), "3.8 to 3.15"];
        fails(
            &["--pid", &pid, "-d", LONG],
            &words.map(|word| word as &str),
        );
    }
}

#[test]
fn output_that_cannot_be_written() {
    on_one("output that cannot be written", MINOR, |python| {
        let target = Target::start(python, "output.py", SLEEPS);
        let pid = target.pid().to_string();
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("file");
        fs::write(&file, "").expect("a file");
        for path in [
            directory.path().join("missing/out.svg"),
            directory.path().to_owned(),
            file.join("out.svg"),
        ] {
            let path = path.to_str().expect("a path");
            for more in [&[][..], &["--off-cpu"]] {
                let args = ["record", "--pid", &pid, "-d", LONG, "-o", path];
                let outcome = run(pyscry(&args).args(more));
                outcome.is_error(&[path]);
                assert!(outcome.took < EARLY, "{outcome:?}");
            }
        }
        // A program that is not going to be recorded is not launched either.
        let launched = directory.path().join("launched");
        let outcome = run(pyscry(&["record", "-o"])
            .arg(file.join("out.svg"))
            .args(["--", "touch"])
            .arg(&launched));
        outcome.is_error(&["out.svg"]);
        assert!(!launched.exists(), "it was launched");
    });
}

#[test]
fn a_file_that_was_there_survives_an_error() {
    let output = Output::new();
    fs::write(output.path(), "precious").expect("a file");
    let outcome = run(&mut output.record(&["--pid", &i32::MAX.to_string()]));
    outcome.is_error(&["no process"]);
    assert_eq!(
        fs::read_to_string(output.path()).expect("the file"),
        "precious"
    );
}

#[test]
fn options_that_make_no_sense() {
    let own = std::process::id().to_string();
    for (option, value) in [
        ("--rate", "0"),
        ("--rate", "-5"),
        ("--rate", "1000000"),
        ("--rate", "99999999999999999999"),
        ("--rate", "fast"),
        ("--rate", "1.5"),
        ("--duration", "foo"),
        ("--duration", "0"),
        ("--duration", "-1"),
        ("--duration", "nan"),
        ("--duration", "inf"),
        ("--duration", "1e300"),
        ("--duration", ""),
        ("--format", "gif"),
        ("--off-cpu-min", "soon"),
    ] {
        let args = [
            "record",
            "--pid",
            &own,
            "--off-cpu",
            &format!("{option}={value}"),
        ];
        run(&mut pyscry(&args)).is_usage_error(&[option, value]);
    }
    for pid in ["0", "-1", "me", "99999999999", "1.5", ""] {
        run(&mut pyscry(&["record", &format!("--pid={pid}")])).is_usage_error(&["--pid", pid]);
    }
}

#[test]
fn options_that_do_not_go_together() {
    let own = std::process::id().to_string();
    let both = ["record", "--pid", &own, "--", "python3"];
    run(&mut pyscry(&both)).is_usage_error(&["--pid", "PROGRAM"]);
    let short = ["record", "--pid", &own, "--off-cpu-min", "1ms"];
    run(&mut pyscry(&short)).is_usage_error(&["--off-cpu"]);
    run(&mut pyscry(&["record", "--frobnicate"])).is_usage_error(&["--frobnicate"]);
    run(&mut pyscry(&["frobnicate"])).is_usage_error(&["frobnicate"]);
}

#[test]
fn no_target() {
    for more in [&[][..], &["-d", "1"], &["--off-cpu"], &["--"]] {
        let output = Output::new();
        let outcome = run(&mut output.record(more));
        outcome.is_tidy();
        assert!(matches!(outcome.code, 1 | 2), "{outcome:?}");
        assert!(outcome.stderr.contains("--pid"), "{outcome:?}");
        assert!(outcome.stderr.contains("PROGRAM"), "{outcome:?}");
        assert!(!output.path().exists(), "{outcome:?}");
    }
    let outcome = run(&mut pyscry::<&str>(&[]));
    outcome.is_tidy();
    assert_eq!(outcome.code, 2);
    assert!(outcome.stderr.contains("Usage: pyscry"), "{outcome:?}");
}

#[test]
fn a_program_that_cannot_be_launched() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = directory.path().join("text");
    fs::write(&text, "no program\n").expect("a file");
    for program in [
        Path::new("no-such-program-anywhere"),
        Path::new("/no/such/program"),
        directory.path(),
        &text,
    ] {
        let program = program.to_str().expect("a path");
        fails(&["-d", LONG, "--", program, "argument"], &[program]);
        fails(&["--off-cpu", "--", program], &[program]);
    }
}

/// A copy of the binary that everybody may run.
fn public_copy(directory: &Path) -> PathBuf {
    let everybody = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our own file");
    };
    everybody(directory);
    let copy = directory.join("pyscry");
    fs::copy(binary(), &copy).expect("a copy");
    everybody(&copy);
    copy
}

/// Runs a program as a user who may do nothing.
fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.args(["--inh-caps=-all", "--bounding-set=-all", "--"]);
    command.arg(program);
    command
}

#[test]
fn without_privileges_the_command_that_would_work() {
    on_one("without privileges", MINOR, |python| {
        let target = Target::start(python, "privileges.py", SPINS);
        let pid = target.pid().to_string();
        let directory = tempfile::tempdir().expect("a directory");
        let copy = public_copy(directory.path());
        let output = Output::new();
        let file = output.directory.path().join("it's mine.svg");
        let outcome = run(as_nobody(&copy)
            .args(["record", "--pid", &pid, "-d", "0.3", "-o"])
            .arg(&file));
        let command = format!(
            "sudo {} record --pid {pid} -d 0.3 -o '{}'",
            copy.display(),
            file.to_str().expect("a path").replace('\'', r"'\''")
        );
        outcome.is_error(&[&command]);
        assert!(outcome.took < EARLY, "{outcome:?}");

        // That is what works, here without sudo.
        let said = outcome.said();
        let line = said
            .lines()
            .find_map(|line| line.trim().strip_prefix("sudo "));
        let outcome = run(Command::new("sh").arg("-c").arg(line.expect("a command")));
        outcome.is_good();
        assert!(
            fs::read_to_string(&file)
                .expect("a picture")
                .contains("spins")
        );

        let launched = output.directory.path().join("launched");
        let outcome = run(as_nobody(&copy)
            .args(["record", "--", "touch"])
            .arg(&launched));
        outcome.is_error(&["sudo", "touch"]);
        assert!(!launched.exists(), "it was launched");

        let outcome = run(as_nobody(&copy).arg("doctor"));
        outcome.is_tidy();
        assert_eq!(outcome.code, 1, "{outcome:?}");
        let command = format!("sudo {} doctor", copy.display());
        assert!(outcome.stdout.contains(&command), "{outcome:?}");
    });
}

#[test]
fn a_file_made_through_sudo_is_of_the_user_behind_it() {
    on_one("output through sudo", MINOR, |python| {
        const USER: u32 = 65534;
        let target = Target::start(python, "sudo.py", SPINS);
        let pid = target.pid().to_string();
        let output = Output::new();
        let behind_sudo = |output: &Output| {
            let mut command = output.record(&["--pid", &pid, "-d", "0.3"]);
            command.env("SUDO_UID", USER.to_string());
            command.env("SUDO_GID", USER.to_string());
            run(&mut command).is_good();
            fs::metadata(output.path()).expect("a file").uid()
        };
        assert_eq!(behind_sudo(&output), USER);
        // What was there keeps its owner.
        let theirs = Output::new();
        fs::write(theirs.path(), "").expect("a file");
        assert_eq!(behind_sudo(&theirs), 0);
    });
}

/// A path that is no UTF-8, and a command line of several lines.
#[test]
fn words_that_are_no_text() {
    on_one("words that are no text", MINOR, |python| {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join(OsStr::from_bytes(b"\xff\x01\n.svg"));
        let outcome = run(pyscry(&["record", "-o"])
            .arg(&file)
            .arg("--")
            .arg(&python.exe)
            .args(["-c", "x = 1\nprint(x)\n"]));
        outcome.is_good();
        let recorded = |line: &&str| line.starts_with("Recorded process");
        let line = outcome.stderr.lines().find(recorded).expect("a summary");
        assert!(line.contains("x = 1 print(x)"), "{outcome:?}");
        assert!(is_xml(python, &file), "{outcome:?}");
    });
}

/// Runs `pyscry` after `preparation`, in namespaces of its own.
fn unshared(namespaces: &[&str], preparation: &str, args: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(namespaces).args(["--", "sh", "-c"]);
    command.arg(format!("{preparation} exec \"$0\" \"$@\""));
    command.arg(binary()).args(args);
    command
}

#[test]
fn a_kernel_that_does_not_describe_its_types() {
    on_one("without BTF", MINOR, |python| {
        let target = Target::start(python, "btf.py", SLEEPS);
        let pid = target.pid().to_string();
        let hide = "mount -t tmpfs none /sys/kernel/btf &&";
        let output = Output::new();
        let file = output.path();
        let file = file.to_str().expect("a path");
        for more in [&[][..], &["--off-cpu"]] {
            let args = [&["record", "--pid", &pid, "-d", LONG, "-o", file], more].concat();
            let outcome = run(&mut unshared(&["--mount"], hide, &args));
            outcome.is_error(&["BTF"]);
            assert!(!output.path().exists(), "{outcome:?}");
        }
        let outcome = run(&mut unshared(&["--mount"], hide, &["doctor"]));
        outcome.is_tidy();
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert!(outcome.stdout.contains("FAIL  BTF: "), "{outcome:?}");
    });
}

#[test]
fn a_container_with_process_ids_of_its_own() {
    let output = Output::new();
    let file = output.path();
    let file = file.to_str().expect("a path");
    let namespaces = ["--pid", "--fork", "--mount-proc"];
    let args = ["record", "-d", LONG, "-o", file, "--", "sleep", "600"];
    let outcome = run(&mut unshared(&namespaces, "", &args));
    outcome.is_error(&["container"]);
    assert!(!output.path().exists(), "{outcome:?}");
    let outcome = run(&mut unshared(&namespaces, "", &["doctor"]));
    outcome.is_tidy();
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(
        outcome.stdout.contains("FAIL  process ids: "),
        "{outcome:?}"
    );
}

#[test]
fn the_least_and_the_most_that_can_be_asked_for() {
    on_one("extreme options", MINOR, |python| {
        let target = Target::start(python, "extreme.py", SPINS);
        let pid = target.pid().to_string();
        for options in [
            ["--rate", "10000", "--duration", "0.5"],
            ["--rate", "1", "--duration", "0.001"],
            ["--rate", "99", "--duration", "0.000001"],
        ] {
            let output = Output::new();
            let outcome = run(output.record(&["--pid", &pid]).args(options));
            outcome.is_good();
            let samples = output.folded().in_function("spins");
            // As many as a tenth of the time would give, on a machine that others use, too.
            assert!(
                options[1] != "10000" || samples > 500,
                "{samples}: {outcome:?}"
            );
        }
    });
}

/// A disk can be full whatever was found out before.
#[test]
fn output_that_cannot_be_written_at_the_end() {
    on_one("full disk", MINOR, |python| {
        let target = Target::start(python, "full.py", SPINS);
        let pid = target.pid().to_string();
        let args = ["record", "--pid", &pid, "-d", "0.5", "-o", "/dev/full"];
        let outcome = run(&mut pyscry(&args));
        outcome.is_tidy();
        assert_eq!(outcome.code, 1, "{outcome:?}");
        let errors = outcome
            .said()
            .lines()
            .filter(|line| line.starts_with("pyscry: "));
        let errors: Vec<_> = errors.collect();
        assert_eq!(errors.len(), 1, "{outcome:?}");
        assert!(errors[0].contains("/dev/full"), "{outcome:?}");
    });
}

/// Whoever read the messages has gone: `pyscry record ... 2>&1 | head -1`.
#[test]
fn messages_that_nobody_reads() {
    on_one("closed pipe", MINOR, |python| {
        for (way, options) in WAYS {
            let target = Target::start_with(python, "closed.py", &until_told(""), &[way]);
            let pid = target.pid().to_string();
            let output = Output::new();
            let (reader, writer) = std::io::pipe().expect("a pipe");
            drop(reader);
            let status = output
                .record(&["--pid", &pid, "--duration", "0.5"])
                .args(options)
                .stderr(writer)
                .status()
                .expect("pyscry runs");
            assert_eq!(status.code(), Some(0), "{way}: {status}");
            assert_ne!(output.folded().in_function("before"), 0, "{way}");
        }
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let status = pyscry(&["doctor"])
            .stdout(writer)
            .status()
            .expect("pyscry runs");
        assert_ne!(status.code(), Some(101), "a panic");
    });
}

/// What is recorded, and how a program spends that time.
const WAYS: [(&str, &[&str]); 2] = [("run", &[]), ("wait", &["--off-cpu"])];

/// A program that runs or waits in `before` until it is told to go on with `then`.
fn until_told(then: &str) -> String {
    format!(
        "\
import os
import select
import sys
import time
def is_told(seconds):
    return bool(select.select([sys.stdin], [], [], seconds)[0])
def before():
    while not is_told(0 if sys.argv[1] == 'run' else 0.01):
        pass
print('ready')
before()
sys.stdin.readline()
{then}
"
    )
}

/// Records such a program for at most [`LONG`] seconds, and tells it to go on.
fn record_until_told(python: &Interpreter, name: &str, then: &str, seconds: &str) -> Vec<Told> {
    let ways = WAYS.iter().map(|(way, options)| {
        let mut target = Target::start_with(python, name, &until_told(then), &[way]);
        let output = Output::new();
        let pid = target.pid().to_string();
        let args = [&["--pid", &pid, "--duration", seconds], *options].concat();
        let running = Running::start(&mut output.record(&args)).has_begun();
        thread::sleep(Duration::from_millis(500));
        target.tell("go on");
        let outcome = running.end();
        outcome.is_good();
        let folded = output.folded();
        let before = folded.in_function("before");
        assert_ne!(before, 0, "{way}: {outcome:?} {folded:?}");
        Told {
            way,
            outcome,
            folded,
        }
    });
    ways.collect()
}

/// What came of it.
struct Told {
    way: &'static str,
    outcome: Outcome,
    folded: Folded,
}

#[test]
fn a_target_that_ends_is_recorded_until_then() {
    on_one("target that ends", MINOR, |python| {
        for then in ["", "sys.exit(3)", "os._exit(0)", "os.kill(os.getpid(), 9)"] {
            for told in record_until_told(python, "ends.py", then, LONG) {
                let outcome = &told.outcome;
                assert!(outcome.took < EARLY, "{then:?}: {outcome:?}");
            }
        }
    });
}

/// The program that comes after another.
const AFTER: &str = "\
import sys
import time
def after():
    until = time.monotonic() + 1
    while time.monotonic() < until:
        if sys.argv[1] == 'wait':
            time.sleep(0.05)
after()
";

/// A process keeps its number whichever of its threads executes a program.
const DIRECTLY: &str = "goes_on()";
const FROM_A_THREAD: &str = "\
import threading
threading.Thread(target=goes_on).start()
time.sleep(60)
";

fn exec_into(python: &Interpreter, next: &Interpreter, how: &str) {
    let file = next.place("after.py", AFTER);
    let then = format!(
        "def goes_on():\n    os.execv({:?}, ['python', {file:?}, sys.argv[1]])\n{how}",
        next.exe
    );
    let name = format!("before-{}.py", next.version);
    for told in record_until_told(python, &name, &then, LONG) {
        let Told {
            way,
            outcome,
            folded,
        } = &told;
        let after = folded.in_function("after");
        assert_ne!(after, 0, "{way} {}: {outcome:?} {folded:?}", next.version);
        // Frames of one program are not taken for frames of the other.
        let mixed = folded.weight(|stack| {
            let has = |name: &str| stack.iter().any(|frame| frame.starts_with(name));
            has("before (") && has("after (")
        });
        assert_eq!(mixed, 0, "{way}: {folded:?}");
        assert!(
            outcome
                .stderr
                .contains(&format!("Python 3.{}", next.minor())),
            "{outcome:?}"
        );
        assert!(outcome.took < EARLY, "{outcome:?}");
    }
}

#[test]
fn a_target_that_becomes_another_python() {
    on_one("exec of another Python", MINOR, |python| {
        // The same program again, an older one, and a newer one.
        exec_into(python, python, DIRECTLY);
        on_one("exec of another Python", 8, |next| {
            exec_into(python, next, DIRECTLY)
        });
        on_one("exec of another Python", 13, |next| {
            exec_into(python, next, DIRECTLY)
        });
        exec_into(python, python, FROM_A_THREAD);
    });
}

#[test]
fn a_target_that_becomes_something_else() {
    on_one("exec of no Python", MINOR, |python| {
        let then = "os.execvp('sleep', ['sleep', '600'])";
        for told in record_until_told(python, "becomes_sleep.py", then, "2") {
            let outcome = &told.outcome;
            assert!(outcome.took >= Duration::from_secs(2), "{outcome:?}");
            assert!(outcome.stderr.contains("No Python names"), "{outcome:?}");
            assert!(outcome.stderr.contains("not a Python"), "{outcome:?}");
        }
    });
}

#[test]
fn the_exit_code_of_a_launched_program_is_ours() {
    on_one("exit code of a launched program", MINOR, |python| {
        let exe = python.exe.to_str().expect("a path");
        for (program, code) in [
            ("pass", 0),
            ("import sys; sys.exit(3)", 3),
            ("import sys; sys.exit(255)", 255),
            ("1 / 0", 1),
            ("import os; os.kill(os.getpid(), 9)", 137),
            ("import os; os.kill(os.getpid(), 15)", 143),
        ] {
            for (_, options) in WAYS {
                let output = Output::new();
                let args = [options, &["--", exe, "-c", program]].concat();
                let outcome = run(&mut output.record(&args));
                // The program may say of itself what it likes.
                assert!(!outcome.said().contains("pyscry: "), "{outcome:?}");
                assert_eq!(outcome.code, code, "{program}: {outcome:?}");
                assert!(output.path().exists(), "{program}: {outcome:?}");
            }
        }
    });
}

#[test]
fn a_launched_program_that_is_no_python() {
    for (program, code) in [("true", 0), ("false", 1)] {
        let output = Output::new();
        let outcome = run(&mut output.record(&["--", program]));
        outcome.is_tidy();
        assert_eq!(outcome.code, code, "{outcome:?}");
        assert!(output.path().exists(), "{outcome:?}");
    }
}

/// What a launched program must not do.
fn is_gone(pid_file: &Path) {
    let pid = fs::read_to_string(pid_file).expect("the launched program's pid");
    let left = fs::read_to_string(format!("/proc/{}/cmdline", pid.trim()));
    let is_ours = left.is_ok_and(|line| line.contains("launched.py"));
    assert!(!is_ours, "process {pid} was left behind");
}

/// A program that runs until somebody ends it, and one that does not want to end.
const ENDLESS: [&str; 2] = [
    "",
    "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n",
];

fn endless(python: &Interpreter, start: &str) -> PathBuf {
    // Not longer than a minute all the same, should nobody end it.
    let program = format!(
        "{start}import os, sys, time\n\
         def spins():\n    while time.monotonic() < until:\n        pass\n\
         open(sys.argv[1], 'w').write(str(os.getpid()))\n\
         until = time.monotonic() + 60\nspins()\n"
    );
    python.place(&format!("{}launched.py", start.len()), &program)
}

#[test]
fn a_launched_program_ends_with_the_recording() {
    on_one("launched program with a duration", MINOR, |python| {
        for start in ENDLESS {
            let output = Output::new();
            let pid_file = output.directory.path().join("pid");
            let outcome = run(output
                .record(&["--duration", "1", "--"])
                .arg(&python.exe)
                .arg(endless(python, start))
                .arg(&pid_file));
            outcome.is_good();
            assert!(outcome.took >= Duration::from_secs(1), "{outcome:?}");
            assert_ne!(output.folded().in_function("spins"), 0, "{outcome:?}");
            is_gone(&pid_file);
        }
    });
}

#[test]
fn a_signal_ends_a_recording_and_nothing_is_lost() {
    on_one("signals while attached", MINOR, |python| {
        for (name, signal) in [("Control-C", libc::SIGINT), ("SIGTERM", libc::SIGTERM)] {
            for (way, options) in WAYS {
                let target = Target::start_with(python, "until_signal.py", &until_told(""), &[way]);
                let output = Output::new();
                let pid = target.pid().to_string();
                let args = [&["--pid", &pid], options].concat();
                let running = Running::start(&mut output.record(&args)).has_begun();
                thread::sleep(Duration::from_millis(500));
                running.signal(signal);
                let outcome = running.end();
                outcome.is_good();
                assert!(outcome.stderr.contains(name), "{outcome:?}");
                let folded = output.folded();
                assert_ne!(folded.in_function("before"), 0, "{outcome:?} {folded:?}");
                // The target has not noticed.
                send(target.pid(), 0);
            }
        }
    });
}

#[test]
fn a_signal_ends_a_launched_program_too() {
    on_one("signals to a launched program", MINOR, |python| {
        for signal in [libc::SIGINT, libc::SIGTERM] {
            for start in ENDLESS {
                let output = Output::new();
                let pid_file = output.directory.path().join("pid");
                let running = Running::start(
                    output
                        .record(&["--"])
                        .arg(&python.exe)
                        .arg(endless(python, start))
                        .arg(&pid_file),
                )
                .has_begun();
                thread::sleep(Duration::from_millis(700));
                running.signal(signal);
                let outcome = running.end();
                outcome.is_good();
                assert_ne!(output.folded().in_function("spins"), 0, "{outcome:?}");
                is_gone(&pid_file);
            }
        }
    });
}

/// Whether a file is XML, as Python sees it.
fn is_xml(python: &Interpreter, file: &Path) -> bool {
    let program = "import sys, xml.dom.minidom as x\n\
        assert x.parse(sys.argv[1]).documentElement.tagName == 'svg'";
    let status = python
        .command()
        .args(["-I", "-c", program])
        .arg(file)
        .status();
    status.expect("Python runs").success()
}

#[test]
fn a_recording_without_samples_is_explained() {
    on_one("recording without samples", MINOR, |python| {
        let target = Target::start(python, "sleeps.py", SLEEPS);
        let pid = target.pid().to_string();
        let output = Output::new();
        let outcome = run(&mut output.record(&["--pid", &pid, "-d", "0.3"]));
        outcome.is_good();
        assert!(
            outcome.stderr.contains("Nothing was recorded"),
            "{outcome:?}"
        );
        assert!(outcome.stderr.contains("--off-cpu"), "{outcome:?}");
        assert_eq!(output.folded().total(), 0);

        let picture = output.directory.path().join("out.svg");
        let outcome = run(pyscry(&["record", "--pid", &pid, "-d", "0.3", "-o"]).arg(&picture));
        outcome.is_good();
        assert!(
            outcome.stderr.contains("Nothing was recorded"),
            "{outcome:?}"
        );
        let svg = fs::read_to_string(&picture).expect("a picture");
        assert!(svg.contains("Nothing was recorded"), "{svg}");
        assert!(is_xml(python, &picture), "{svg}");
    });
}

/// Names and arguments with what XML and file names do not like.
#[test]
fn a_picture_is_xml_whatever_the_names() {
    on_one("picture of odd names", MINOR, |python| {
        let program = "\
exec(compile('def spins():\\n while True: pass', '<a & \"b\"; c\\n>', 'exec'))
spins.__code__ = spins.__code__.replace(co_name='<&>', co_qualname='<a>&\\x01\\u5de5;\"')
print('ready')
spins()
";
        let target = Target::start(python, "odd <&> names.py", program);
        let pid = target.pid().to_string();
        let output = Output::new();
        let picture = output.directory.path().join("odd <&> name.svg");
        let outcome = run(pyscry(&["record", "--pid", &pid, "-d", "0.5", "-o"]).arg(&picture));
        outcome.is_good();
        let svg = fs::read_to_string(&picture).expect("a picture");
        assert!(is_xml(python, &picture), "{svg}");
        assert!(svg.contains('工'), "{svg}");
    });
}
