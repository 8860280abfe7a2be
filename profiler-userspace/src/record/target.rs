//! One process that is recorded, and what is known of its Python.

use std::time::{Duration, Instant};

use profiler_common::event::EventHeader;
use profiler_common::layout::{MappingsRef, PROCESS_WITHOUT_PYTHON, ProcessEntry};
use profiler_common::walk::Frame;

use super::stacks::Named;
use crate::process::RemoteMemory;
use crate::python::catalog::{Catalog, Inspected};
use crate::python::code::{CodeCache, CodeStats, Resolved};
use crate::python::code_pool::CodePool;
use crate::python::inspect::{InspectError, Python};
use crate::python::locate::LocateError;
use crate::python::short_file::Files;

/// How often a process that just began is looked at.
const RETRY_EVERY: Duration = Duration::from_millis(2);
/// A process that has no Python by then most likely has none: look less often.
const RETRY_SLOWLY_AFTER: Duration = Duration::from_secs(2);
const RETRY_SLOWLY_EVERY: Duration = Duration::from_millis(100);
/// A Python that is known by comparison is looked at for itself, less and less often.
const PROVE_AFTER: Duration = Duration::from_millis(10);
const PROVE_AT_MOST_EVERY: Duration = Duration::from_secs(5);

/// What is known of the target's program.
#[derive(Debug)]
struct Program {
    python: Python,
    entry: ProcessEntry,
    codes: CodeCache,
}

/// What came of a look at a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing that is new.
    Nothing,
    /// Something that the kernel must be told.
    Tell,
    /// It runs no Python, as far as can be seen now.
    NotPython,
}

/// The target.
#[derive(Debug)]
pub struct Target {
    /// The process.
    pub pid: u32,
    generation: u32,
    program: Option<Program>,
    /// When the process executed a program that was not inspected yet, or whose Python is known by
    /// comparison only.
    unknown_since: Option<Instant>,
    next_try: Instant,
    pause: Duration,
    last_error: Option<InspectError>,
    pool: CodePool,
    /// Where its files are, once a name was asked for.
    files: Option<Files>,
    /// What of the process is code, as the kernel finds it.
    pub mappings: MappingsRef,
    without_python: bool,
}

impl Target {
    /// A process of which nothing is known yet.
    #[must_use]
    pub fn new(pid: u32, generation: u32) -> Self {
        Self {
            pid,
            generation,
            program: None,
            unknown_since: None,
            next_try: Instant::now(),
            pause: RETRY_EVERY,
            last_error: None,
            pool: CodePool::default(),
            files: None,
            mappings: MappingsRef::default(),
            without_python: false,
        }
    }

    /// A process whose Python is to be looked for.
    #[must_use]
    pub fn to_look_at(pid: u32, generation: u32) -> Self {
        let mut target = Self::new(pid, generation);
        target.look_soon();
        target
    }

    /// A process that was made as a copy of this one.
    #[must_use]
    pub fn copied(&self, pid: u32, generation: u32) -> Self {
        let mut copy = Self::new(pid, generation);
        copy.pool = self.pool.clone();
        copy.without_python = self.without_python;
        copy.mappings = self.mappings;
        if let Some(program) = &self.program {
            let python = Python {
                pid,
                ..program.python.clone()
            };
            copy.program = Some(Program {
                entry: ProcessEntry {
                    generation,
                    ..program.entry
                },
                python,
                codes: CodeCache::new(self.pool.clone()),
            });
        }
        if self.unknown_since.is_some() {
            copy.look_soon();
        }
        copy
    }

    /// The process runs no Python, and is recorded for what else it runs.
    pub fn runs_no_python(&mut self) {
        self.without_python = true;
        self.unknown_since = None;
    }

    fn adopt(&mut self, found: Inspected, pool: &CodePool) -> Look {
        let Inspected { python, proven } = found;
        self.pool = pool.clone();
        let entry = ProcessEntry {
            generation: self.generation,
            ..python.entry
        };
        let now = Instant::now();
        self.last_error = None;
        self.without_python = false;
        if proven {
            self.unknown_since = None;
        } else {
            self.pause = match self.program {
                Some(_) => PROVE_AT_MOST_EVERY.min(self.pause * 2),
                None => PROVE_AFTER,
            };
            self.unknown_since.get_or_insert(now);
            self.next_try = now + self.pause;
        }
        match &mut self.program {
            // What its code objects are called still holds.
            Some(program) => {
                let changed = program.entry != entry;
                program.python = python;
                program.entry = entry;
                if changed { Look::Tell } else { Look::Nothing }
            }
            None => {
                self.program = Some(Program {
                    python,
                    entry,
                    codes: CodeCache::new(self.pool.clone()),
                });
                Look::Tell
            }
        }
    }

    /// The Python that runs now, if it is known.
    #[must_use]
    pub fn python(&self) -> Option<&Python> {
        self.program.as_ref().map(|program| &program.python)
    }

    /// Which of its programs the process runs.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
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

    /// The process may run a Python that is not known.
    pub fn look_soon(&mut self) {
        let now = Instant::now();
        self.unknown_since = Some(now);
        self.next_try = now;
    }

    /// When to call [`Target::look`] next; `None` when there is no need.
    #[must_use]
    pub fn next_try(&self) -> Option<Instant> {
        self.unknown_since.map(|_| self.next_try)
    }

    /// Looks for the Python of the program that the process runs. To be called when
    /// [`Target::next_try`] says so.
    pub fn look(&mut self, catalog: &mut Catalog) -> Look {
        match catalog.inspect(self.pid) {
            Ok(found) => self.adopt(found, catalog.code_pool()),
            Err(error) => {
                let not_python =
                    matches!(error, InspectError::Locate(LocateError::NotPython { .. }));
                let now = Instant::now();
                if !error.is_too_early() {
                    self.unknown_since = None;
                }
                self.last_error = Some(error);
                let young = self
                    .unknown_since
                    .is_some_and(|since| now.duration_since(since) < RETRY_SLOWLY_AFTER);
                self.next_try = now
                    + if young {
                        RETRY_EVERY
                    } else {
                        RETRY_SLOWLY_EVERY
                    };
                if not_python {
                    Look::NotPython
                } else {
                    Look::Nothing
                }
            }
        }
    }

    /// What is known of the program, if it is the one of that generation.
    fn program_of(&mut self, generation: u32) -> Option<&mut Program> {
        let own = generation == self.generation;
        self.program.as_mut().filter(|_| own)
    }

    /// Takes a record with memory that names a code object.
    pub fn take_code(&mut self, header: &EventHeader, record: &[u8]) {
        if let Some(program) = self.program_of(header.generation) {
            program.codes.take(&program.python.layout, header, record);
        }
    }

    /// Name and line of a frame that the kernel saw in `generation`; `None` when its code object or
    /// that program is gone.
    pub fn resolve(&mut self, generation: u32, frame: &Frame) -> Option<Named> {
        let mem = RemoteMemory::new(self.pid);
        let program = self.program_of(generation)?;
        let layout = &program.python.layout;
        let resolved = program.codes.resolve(&mem, layout, &program.entry, frame);
        let Resolved::Known(info) = resolved else {
            return None;
        };
        let line = info.line_at(layout.lines, frame.lasti);
        let files = self.files.get_or_insert_with(|| Files::of(self.pid));
        let short_file = self.pool.short_file(files, &info.file);
        Some(Named {
            info,
            short_file,
            line,
        })
    }

    /// What was met while names were read.
    #[must_use]
    pub fn code_stats(&self) -> CodeStats {
        let program = self.program.as_ref();
        program
            .map(|program| program.codes.stats())
            .unwrap_or_default()
    }
}
