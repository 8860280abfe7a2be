//! What a dump says.

use std::sync::Arc;

use profiler_common::cause::Cause;

use crate::python::Version;
use crate::python::variables::Variable;

/// What is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct DumpOptions {
    /// Native frames, too.
    pub native: bool,
    /// Characters of a variable's value at most, where variables are wanted.
    pub locals: Option<usize>,
    /// Whole paths of files.
    pub full_filenames: bool,
    /// Stop the process while it is read.
    pub blocking: bool,
}

/// A process that started another one.
#[derive(Clone, Debug)]
pub struct Parent {
    /// Its pid.
    pub pid: u32,
    /// Its arguments.
    pub command: String,
}

/// One process.
#[derive(Clone, Debug)]
pub struct ProcessDump {
    /// Its pid.
    pub pid: u32,
    /// Its arguments.
    pub command: String,
    /// Its Python's version.
    pub version: Version,
    /// Its executable, as it sees it.
    pub executable: String,
    /// Of a core file: its path, and the signal that ended the process, 0 for none.
    pub core: Option<(String, i32)>,
    /// How many interpreters it has.
    pub interpreters: usize,
    /// All threads of all interpreters, the newest first.
    pub threads: Vec<Thread>,
}

/// One thread in one interpreter.
#[derive(Clone, Debug)]
pub struct Thread {
    /// `pthread_self()`; 0 of a thread without a thread state.
    pub id: u64,
    /// The kernel's number of it, where that is known.
    pub tid: Option<u32>,
    /// Its name in Python's `threading`.
    pub name: Option<String>,
    /// What it is doing.
    pub state: ThreadState,
    /// `id` of the interpreter that this is its stack in; `None` of a thread without one.
    pub interpreter: Option<u64>,
    /// From the innermost on.
    pub frames: Vec<Frame>,
    /// The stack is of one moment.
    pub consistent: bool,
    /// What is to be said of it.
    pub notes: Vec<&'static str>,
}

/// What a thread is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadState {
    /// It runs, or could; `None` where nobody knows, as in a core file.
    pub active: Option<bool>,
    /// It holds its interpreter's lock.
    pub owns_gil: bool,
    /// Why it does not run.
    pub cause: Option<Cause>,
    /// The system call that it waits in.
    pub syscall: Option<u16>,
}

impl ThreadState {
    /// `active`, `active+gil`, `idle`, `idle: lock` and so on; `gil` or nothing where it is not known
    /// whether it runs.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let Some(active) = self.active else {
            return self.owns_gil.then(|| "gil".to_owned());
        };
        let mut words = if active { "active" } else { "idle" }.to_owned();
        if self.owns_gil {
            words.push_str("+gil");
        }
        if let Some(cause) = self.cause_word() {
            words.push_str(": ");
            words.push_str(cause);
        }
        Some(words)
    }

    /// Why it does not run, in a word; `None` where that has no name.
    #[must_use]
    pub fn cause_word(&self) -> Option<&'static str> {
        let cause = self.cause.filter(|cause| *cause != Cause::Other)?;
        Some(cause.frame().trim_matches(['[', ']']))
    }

    /// The name of the system call that it waits in.
    #[must_use]
    pub fn syscall_name(&self) -> Option<&'static str> {
        let number = usize::from(self.syscall?);
        Some(syscalls::Sysno::new(number)?.name())
    }
}

/// One frame.
#[derive(Clone, Debug)]
pub enum Frame {
    /// A Python function.
    Python {
        /// Its qualified name, up to 3.10 its name.
        name: Arc<str>,
        /// Its file, as the interpreter has it.
        file: Arc<str>,
        /// The same as it is shown.
        short: Arc<str>,
        /// The line.
        line: Option<u32>,
        /// It is the oldest frame of an activation of the interpreter's loop: C code called it.
        is_entry: bool,
        /// Its variables, where they are wanted and could be read.
        variables: Option<Vec<Variable>>,
    },
    /// A native function, as it is shown: `name (module)`, `name (file:line)`, `module+0x1a2b`.
    Native(Arc<str>),
    /// Something of ours, in brackets.
    Marker(Arc<str>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_states() {
        let state = |active, owns_gil, cause| ThreadState {
            active,
            owns_gil,
            cause,
            syscall: Some(libc::SYS_futex as u16),
        };
        for (state, words) in [
            (state(Some(true), false, None), Some("active")),
            (state(Some(true), true, None), Some("active+gil")),
            (state(Some(false), false, None), Some("idle")),
            (state(Some(false), false, Some(Cause::Other)), Some("idle")),
            (
                state(Some(false), false, Some(Cause::Lock)),
                Some("idle: lock"),
            ),
            (
                state(Some(false), true, Some(Cause::PageFault)),
                Some("idle+gil: page fault"),
            ),
            (state(None, true, None), Some("gil")),
            (state(None, false, None), None),
        ] {
            assert_eq!(state.words().as_deref(), words);
            assert_eq!(state.syscall_name(), Some("futex"));
        }
    }
}
