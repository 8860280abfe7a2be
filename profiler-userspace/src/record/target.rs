//! The process that is recorded, and what is known of its Python.

use std::time::{Duration, Instant};

use profiler_common::layout::{MappingsRef, PROCESS_WITHOUT_PYTHON, ProcessEntry};
use profiler_common::walk::Frame;

use crate::process::RemoteMemory;
use crate::python::code::{CodeCache, CodeStats, Resolved};
use crate::python::inspect::{self, InspectError, Python};

/// How often a process that just began is looked at.
const RETRY_EVERY: Duration = Duration::from_millis(2);
/// A process that has no Python by then most likely has none: look less often.
const RETRY_SLOWLY_AFTER: Duration = Duration::from_secs(2);
const RETRY_SLOWLY_EVERY: Duration = Duration::from_millis(100);

/// What is known of one generation of the target.
#[derive(Debug)]
struct Program {
    generation: u32,
    python: Python,
    entry: ProcessEntry,
    codes: CodeCache,
}

/// The target.
#[derive(Debug)]
pub struct Target {
    /// The process.
    pub pid: u32,
    generation: u32,
    program: Option<Program>,
    /// When the process executed a program that was not inspected yet.
    unknown_since: Option<Instant>,
    next_try: Instant,
    last_error: Option<InspectError>,
    earlier: CodeStats,
    /// What of the process is code, as the kernel finds it.
    pub mappings: MappingsRef,
    without_python: bool,
}

impl Target {
    /// A process that is about to execute its program.
    #[must_use]
    pub fn before_exec(pid: u32) -> Self {
        Self {
            pid,
            generation: 0,
            program: None,
            unknown_since: None,
            next_try: Instant::now(),
            last_error: None,
            earlier: CodeStats::default(),
            mappings: MappingsRef::default(),
            without_python: false,
        }
    }

    /// A process that runs Python.
    ///
    /// # Errors
    /// See [`InspectError`].
    pub fn running(pid: u32) -> Result<Self, InspectError> {
        let mut target = Self::before_exec(pid);
        target.adopt(inspect::inspect(pid)?);
        Ok(target)
    }

    /// A process that runs no Python, for what else it runs.
    #[must_use]
    pub fn without_python(pid: u32) -> Self {
        Self {
            without_python: true,
            ..Self::before_exec(pid)
        }
    }

    fn adopt(&mut self, python: Python) {
        let entry = ProcessEntry {
            generation: self.generation,
            ..python.entry
        };
        self.program = Some(Program {
            generation: self.generation,
            python,
            entry,
            codes: CodeCache::default(),
        });
        self.unknown_since = None;
        self.last_error = None;
    }

    /// The Python that runs now, if it is known.
    #[must_use]
    pub fn python(&self) -> Option<&Python> {
        self.program.as_ref().map(|program| &program.python)
    }

    /// Why the Python that runs now is not known.
    pub fn take_error(&mut self) -> Option<InspectError> {
        self.last_error.take()
    }

    /// What the kernel gets.
    #[must_use]
    pub fn entry(&self) -> ProcessEntry {
        match &self.program {
            Some(program) => ProcessEntry {
                mappings: self.mappings,
                ..program.entry
            },
            None => ProcessEntry {
                generation: self.generation,
                flags: if self.without_python {
                    PROCESS_WITHOUT_PYTHON
                } else {
                    0
                },
                mappings: self.mappings,
                ..ProcessEntry::EMPTY
            },
        }
    }

    /// The process executed another program.
    pub fn executed(&mut self, generation: u32) {
        self.generation = generation;
        self.without_python = false;
        self.mappings = MappingsRef::default();
        if let Some(program) = self.program.take() {
            self.earlier = sum(self.earlier, program.codes.stats());
        }
        let now = Instant::now();
        self.unknown_since = Some(now);
        self.next_try = now;
    }

    /// When to call [`Target::inspect_again`] next; `None` when there is no need.
    #[must_use]
    pub fn next_try(&self) -> Option<Instant> {
        self.unknown_since.map(|_| self.next_try)
    }

    /// Looks for a Python in the program that the process executed. Returns whether the kernel
    /// must be told.
    pub fn inspect_again(&mut self) -> bool {
        let Some(since) = self.unknown_since else {
            return false;
        };
        let now = Instant::now();
        if now < self.next_try {
            return false;
        }
        match inspect::inspect(self.pid) {
            Ok(python) => {
                self.adopt(python);
                true
            }
            Err(error) => {
                if !error.is_too_early() {
                    self.unknown_since = None;
                }
                self.last_error = Some(error);
                let young = now.duration_since(since) < RETRY_SLOWLY_AFTER;
                self.next_try = now
                    + if young {
                        RETRY_EVERY
                    } else {
                        RETRY_SLOWLY_EVERY
                    };
                false
            }
        }
    }

    /// Name and line of a frame that the kernel saw in `generation`; `None` when that program is
    /// gone.
    pub fn resolve(&mut self, generation: u32, frame: &Frame) -> Option<(Resolved, Option<u32>)> {
        let program = self
            .program
            .as_mut()
            .filter(|program| program.generation == generation)?;
        let mem = RemoteMemory::new(self.pid);
        let layout = &program.python.layout;
        let resolved = program.codes.resolve(&mem, layout, &program.entry, frame);
        let line = match &resolved {
            Resolved::Known(info) => {
                layout
                    .lines
                    .line_at(&info.line_table, info.first_line, frame.lasti)
            }
            Resolved::Gone => None,
        };
        Some((resolved, line))
    }

    /// What was met while names were read.
    #[must_use]
    pub fn code_stats(&self) -> CodeStats {
        let now = self
            .program
            .as_ref()
            .map(|program| program.codes.stats())
            .unwrap_or_default();
        sum(self.earlier, now)
    }
}

fn sum(a: CodeStats, b: CodeStats) -> CodeStats {
    CodeStats {
        read: a.read + b.read,
        gone: a.gone + b.gone,
        unproven: a.unproven + b.unproven,
    }
}
