//! Recordings of more than one process, and what is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Stdio};

use tempfile::TempDir;

use crate::Folded;
use crate::pyscry::{counter, pyscry};

/// A recording that goes on.
#[derive(Debug)]
pub struct HostRecorder {
    child: Child,
    stderr: BufReader<ChildStderr>,
    said: String,
    directory: TempDir,
}

/// A recording that ended.
#[derive(Debug)]
pub struct Recorded {
    /// Exit code.
    pub code: i32,
    /// What it said, the beginning included.
    pub stderr: String,
    /// What it wrote, whatever stands outermost.
    pub raw: Folded,
    /// The same by processes; nothing where stacks are grouped in another way.
    pub host: Host,
}

impl HostRecorder {
    /// Starts recording in the format `raw`, and returns once it has begun.
    ///
    /// # Panics
    /// When it does not begin.
    #[must_use]
    pub fn start(args: &[&str]) -> Self {
        Self::start_with(args, Stdio::inherit())
    }

    /// The same, with a standard output, which a launched program has, too.
    ///
    /// # Panics
    /// As there.
    #[must_use]
    pub fn start_with(args: &[&str], stdout: impl Into<Stdio>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut child = pyscry()
            .args(["record", "--full-filenames", "--format", "raw", "--output"])
            .arg(directory.path().join("out.txt"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .expect("pyscry runs");
        let mut stderr = BufReader::new(child.stderr.take().expect("its messages"));
        let mut said = String::new();
        while !said.lines().any(|line| line.starts_with("Recording ")) {
            let read = stderr.read_line(&mut said).expect("its messages");
            assert_ne!(read, 0, "pyscry did not begin: {said}");
        }
        Self {
            child,
            stderr,
            said,
            directory,
        }
    }

    /// The recorder's own process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the recording, and reads what was written.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn stop(self) -> Recorded {
        // SAFETY: our own child, which was not waited for.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        self.end()
    }

    /// Waits for the end, and reads what was written.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn end(mut self) -> Recorded {
        self.stderr
            .read_to_string(&mut self.said)
            .expect("its messages");
        let status = self.child.wait().expect("its end");
        let code = status.code();
        let code = code.unwrap_or_else(|| panic!("pyscry: {status}: {}", self.said));
        assert_eq!(code, 0, "{}", self.said);
        for word in ["panicked", "RUST_BACKTRACE"] {
            assert!(!self.said.contains(word), "{}", self.said);
        }
        let text = fs::read_to_string(self.directory.path().join("out.txt"));
        let text = text.unwrap_or_else(|error| panic!("nothing was written: {error}"));
        let raw = Folded::parse(&text);
        let is_process = |stack: &Vec<String>| stack[0].starts_with("process ");
        let host = match raw.stacks.keys().any(is_process) {
            true => Host::of(&raw),
            false => Host::default(),
        };
        Recorded {
            code,
            raw,
            host,
            stderr: std::mem::take(&mut self.said),
        }
    }
}

impl Recorded {
    /// A counter of the summary, 0 where that does not name it.
    ///
    /// # Panics
    /// When its value is no number.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        counter(&self.stderr, name)
    }
}

/// A process of a profile: its number, and its command line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// In the namespace of who records.
    pub pid: u32,
    /// As the frame has it.
    pub command: String,
}

/// `process 12:"python app.py"`.
///
/// # Panics
/// When something begins so and goes on in another way.
#[must_use]
pub fn process(frame: &str) -> Option<Process> {
    let rest = frame.strip_prefix("process ")?;
    let parsed = rest.split_once(":\"").and_then(|(pid, command)| {
        Some(Process {
            pid: pid.parse().ok()?,
            command: command.strip_suffix('"')?.to_owned(),
        })
    });
    Some(parsed.unwrap_or_else(|| panic!("no process: {frame:?}")))
}

/// A profile whose outermost frames are processes and commands.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// What is below each process.
    pub processes: BTreeMap<Process, Folded>,
    /// Weight of what is no Python, by command.
    pub commands: BTreeMap<String, u64>,
    /// Weight of all.
    pub total: u64,
}

impl Host {
    /// Takes a profile apart.
    ///
    /// # Panics
    /// When an outermost frame is neither.
    #[must_use]
    pub fn of(folded: &Folded) -> Self {
        let mut host = Self {
            total: folded.total(),
            ..Self::default()
        };
        for (stack, weight) in &folded.stacks {
            let (first, rest) = stack.split_first().expect("a frame");
            if let Some(process) = process(first) {
                let own = host.processes.entry(process).or_default();
                own.stacks.insert(rest.to_vec(), *weight);
            } else if let Some(command) = first.strip_prefix("command ") {
                assert!(rest.is_empty(), "a command with frames: {stack:?}");
                *host.commands.entry(command.to_owned()).or_default() += weight;
            } else {
                panic!("neither a process nor a command: {stack:?}");
            }
        }
        host
    }

    /// What is of processes with this number, whatever their command line.
    #[must_use]
    pub fn of_pid(&self, pid: u32) -> Folded {
        let mut all = Folded::default();
        for (process, folded) in &self.processes {
            if process.pid == pid {
                for (stack, weight) in &folded.stacks {
                    *all.stacks.entry(stack.clone()).or_default() += weight;
                }
            }
        }
        all
    }

    /// The numbers of all processes in it.
    #[must_use]
    pub fn pids(&self) -> BTreeSet<u32> {
        self.processes.keys().map(|process| process.pid).collect()
    }

    /// The processes in whose stacks a function of this name is.
    #[must_use]
    pub fn with_function(&self, name: &str) -> Vec<&Process> {
        let has = |folded: &&Folded| folded.in_function(name) != 0;
        self.processes
            .iter()
            .filter(|(_, folded)| has(folded))
            .map(|(process, _)| process)
            .collect()
    }

    /// The one process in whose stacks a function of this name is.
    ///
    /// # Panics
    /// When there is none, or another one, too.
    #[must_use]
    pub fn only_with(&self, name: &str) -> &Process {
        match self.with_function(name)[..] {
            [process] => process,
            ref found => panic!(
                "{name} is in {found:?}, of {:#?}",
                self.processes.keys().collect::<Vec<_>>()
            ),
        }
    }
}

/// The numbers N of the functions `work_N` in a stack.
pub fn works(stack: &[String]) -> impl Iterator<Item = usize> {
    stack.iter().filter_map(|frame| {
        let (name, _) = frame.strip_prefix("work_")?.split_once(" (")?;
        name.parse().ok()
    })
}

/// The command line of a process as a frame has it.
///
/// # Panics
/// When it is gone.
#[must_use]
pub fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).expect("its command line");
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_end_matches('\0');
    text.replace(|c: char| c.is_control(), " ")
}

/// Seconds of CPU time of the whole machine, without what nobody used.
///
/// # Panics
/// When the kernel does not tell.
#[must_use]
pub fn busy() -> f64 {
    let text = fs::read_to_string("/proc/stat").expect("the machine's times");
    let line = text.lines().next().expect("all CPUs");
    let times: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .map(|word| word.parse().expect("a number"))
        .collect();
    // proc(5): user, nice, system, idle, iowait, irq, softirq; guests are in user.
    let used = times[0] + times[1] + times[2] + times[5] + times[6];
    // SAFETY: no arguments but a number.
    used / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_and_commands_are_told_apart() {
        let text = "process 12:\"python -c 'a \"b\": 1'\";work_7 (work_7.py:2) 3\n\
                    process 12:\"python -c 'a \"b\": 1'\";[no Python] 2\n\
                    process 13:\"python\";work_7 (work_7.py:2) 1\n\
                    command kworker/0:1 5\n";
        let host = Host::of(&Folded::parse(text));
        assert_eq!(host.total, 11);
        assert_eq!(host.of_pid(12).total(), 5);
        assert_eq!(host.commands["kworker/0:1"], 5);
        assert_eq!(host.with_function("work_7").len(), 2);
        let first = host.processes.keys().next().expect("a process");
        assert_eq!(first.command, "python -c 'a \"b\": 1'");
        let stack = host.of_pid(13).stacks.into_keys().next().expect("a stack");
        assert_eq!(works(&stack).collect::<Vec<_>>(), [7]);
    }

    #[test]
    #[should_panic(expected = "neither a process nor a command")]
    fn a_stack_of_nobody() {
        let _host = Host::of(&Folded::parse("f (a.py:1) 1\n"));
    }

    #[test]
    fn counters_are_read() {
        let recorded = Recorded {
            code: 0,
            stderr: "Missing: samples_lost = 12. On-CPU samples.\n".to_owned(),
            raw: Folded::default(),
            host: Host::default(),
        };
        assert_eq!(recorded.counter("samples_lost"), 12);
        assert_eq!(recorded.counter("lost"), 0);
    }
}
