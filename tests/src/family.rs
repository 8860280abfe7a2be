//! Processes that say which function they work in.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::crowd::ending_with_us;
use crate::host::works;
use crate::{Folded, Host, Interpreter};

/// The program that most of them run.
const PROGRAM: &str = include_str!("../programs/family.py");

/// A program and those that it starts; all of its group are killed when this is dropped.
#[derive(Debug)]
pub struct Family {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// Processes by the numbers of their functions.
    pub members: BTreeMap<usize, u32>,
}

impl Family {
    /// Starts any program, and waits until as many of its processes are at work.
    ///
    /// # Panics
    /// When it cannot be run, or they do not come.
    #[must_use]
    pub fn start(command: &mut Command, members: usize) -> Self {
        let mut child = ending_with_us(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let stdout = BufReader::new(child.stdout.take().expect("its output"));
        let mut family = Self {
            child,
            stdout,
            members: BTreeMap::new(),
        };
        family.expect(members);
        family
    }

    /// Starts the bundled program in one of its modes.
    ///
    /// # Panics
    /// As [`Family::start`].
    #[must_use]
    pub fn of(python: &Interpreter, args: &[&str], members: usize) -> Self {
        let mut command = python.command();
        command.arg("-S").arg(place(python)).args(args);
        Self::start(&mut command, members)
    }

    /// The process that was started.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until as many more processes are at work.
    ///
    /// # Panics
    /// When they say something else.
    pub fn expect(&mut self, members: usize) {
        for _ in 0..members {
            let mut line = String::new();
            self.stdout.read_line(&mut line).expect("a line");
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, number, pid] = words[..] else {
                panic!("not at work: {line:?}");
            };
            let pair = (
                number.parse().expect("a number"),
                pid.parse().expect("a pid"),
            );
            self.members.insert(pair.0, pair.1);
        }
    }

    /// Writes a line to the program.
    ///
    /// # Panics
    /// When it does not read any more.
    pub fn tell(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("its input");
        stdin
            .write_all(format!("{line}\n").as_bytes())
            .expect("it reads");
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        // SAFETY: a group of our own child, which was not waited for.
        unsafe { libc::kill(-(self.child.id() as libc::pid_t), libc::SIGKILL) };
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Puts the bundled program where an interpreter sees it.
#[must_use]
pub fn place(python: &Interpreter) -> PathBuf {
    python.place("family.py", PROGRAM)
}

/// A command that runs the bundled program's mode `single`, in which one process works.
#[must_use]
pub fn single<S: AsRef<OsStr>>(program: &OsStr, before: &[S], number: usize) -> Command {
    let mut command = Command::new(program);
    command.args(before).args(["single", &number.to_string()]);
    command
}

/// Of these processes, each one's function is in its stacks with the right place and in no other
/// process's.
///
/// # Panics
/// When that is not so.
pub fn are_at_work(host: &Host, members: &BTreeMap<usize, u32>) {
    for (number, pid) in members {
        let folded = host.of_pid(*pid);
        let own = folded.in_function(&format!("work_{number}"));
        assert_ne!(
            own,
            0,
            "work_{number} of process {pid} is not there: {folded:#?}, of {:#?}",
            host.processes.keys().collect::<Vec<_>>()
        );
    }
    for (process, folded) in &host.processes {
        for (stack, weight) in &folded.stacks {
            for number in works(stack) {
                let owner = members.get(&number);
                assert!(
                    owner.is_none_or(|owner| *owner == process.pid),
                    "{process:?}: {weight} x {stack:?}, of {members:?}"
                );
            }
            are_places(stack);
        }
    }
}

/// Name, file and line of each such frame are of one function.
fn are_places(stack: &[String]) {
    for frame in stack.iter().filter(|frame| frame.starts_with("work_")) {
        let (name, _) = frame.split_once(" (").expect("a place");
        let is_line = |line: &u32| *frame == format!("{name} ({name}.py:{line})");
        assert!((1..=3).any(|line| is_line(&line)), "{stack:?}");
    }
}

/// The numbers of functions that are in a profile.
#[must_use]
pub fn at_work(folded: &Folded) -> Vec<usize> {
    let mut found: Vec<usize> = folded
        .stacks
        .keys()
        .flat_map(|stack| works(stack))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}
