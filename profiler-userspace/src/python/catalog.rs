//! What is known of builds of Python: each is taken apart once, and every other process that runs it
//! is known by comparison.
//!
//! Where the fields of a build lie is the same in each of its processes; addresses differ by the load
//! bias only. The way to the thread state is the same, too, for as long as the program loads the same
//! libraries: it is tried first, and checked in each process as soon as that has threads.

use std::collections::HashMap;
use std::path::Path;

use profiler_common::layout::{PROCESS_COUNT_OF_PROCESS, PROCESS_GIL_OF_PROCESS, ProcessEntry};
use profiler_common::walk::follow_path;

use super::code_pool::CodePool;
use super::inspect::{self, InspectError, Python};
use super::locate::{self, KnownFiles, Located};
use super::threads;
use crate::process::RemoteMemory;
use crate::process::file_key::FileKey;

/// Builds that are remembered at most.
const MOST_BUILDS: usize = 4096;

/// A program's executable, and the file that holds its interpreter.
type Build = (FileKey, FileKey);

/// What is known.
#[derive(Debug, Default)]
pub struct Catalog {
    files: KnownFiles,
    builds: HashMap<Build, Python>,
    codes: CodePool,
}

/// A process's Python as the catalog gives it.
#[derive(Debug)]
pub struct Inspected {
    /// The Python.
    pub python: Python,
    /// It was looked at in this process; else it is what other processes of this build have, and
    /// this one has no threads yet that would tell.
    pub proven: bool,
}

impl Catalog {
    /// What the code objects of all processes say.
    #[must_use]
    pub fn code_pool(&self) -> &CodePool {
        &self.codes
    }

    /// Inspects process `pid`.
    ///
    /// # Errors
    /// See [`InspectError`].
    pub fn inspect(&mut self, pid: u32) -> Result<Inspected, InspectError> {
        let located = locate::locate_among(pid, &mut self.files)?;
        let build = build_of(pid, &located);
        let known = build.and_then(|build| self.builds.get(&build));
        let guess = known.map(|python| moved(python, pid, &located));
        if let Some(python) = &guess
            && fits(python)
        {
            let python = python.clone();
            return Ok(Inspected {
                python,
                proven: true,
            });
        }
        match inspect::of_located(pid, located) {
            Ok(python) => {
                if let Some(build) = build {
                    if self.builds.len() >= MOST_BUILDS {
                        self.builds.clear();
                    }
                    self.builds.insert(build, python.clone());
                }
                Ok(Inspected {
                    python,
                    proven: true,
                })
            }
            Err(error) => match guess {
                Some(python) if error.is_too_early() => Ok(Inspected {
                    python,
                    proven: false,
                }),
                _ => Err(error),
            },
        }
    }
}

fn build_of(pid: u32, located: &Located) -> Option<Build> {
    let executable = FileKey::of(Path::new(&format!("/proc/{pid}/exe"))).ok()?;
    Some((executable, located.key?))
}

/// The Python of one process as it is in another of the same build.
fn moved(python: &Python, pid: u32, located: &Located) -> Python {
    let by = located.runtime.wrapping_sub(python.located.runtime);
    let moved_if = |moves: bool, address: u64| {
        if moves && address != 0 {
            address.wrapping_add(by)
        } else {
            address
        }
    };
    let entry = python.entry;
    let of_process = |flag: u32| entry.flags & flag != 0;
    let mem = RemoteMemory::new(pid);
    let interp = threads::interpreters(&mem, &python.layout, located.runtime);
    Python {
        pid,
        version: located.version,
        module: located.module.clone(),
        located: located.clone(),
        layout: python.layout.clone(),
        interp: interp.ok().and_then(|all| all.last().copied()).unwrap_or(0),
        entry: ProcessEntry {
            code_type: moved_if(true, entry.code_type),
            code_count: moved_if(of_process(PROCESS_COUNT_OF_PROCESS), entry.code_count),
            gil: profiler_common::layout::GilLayout {
                at: moved_if(of_process(PROCESS_GIL_OF_PROCESS), entry.gil.at),
                ..entry.gil
            },
            ..entry
        },
    }
}

/// Whether the way to the thread state leads there in most of a process's threads; false while it
/// has none.
fn fits(python: &Python) -> bool {
    let mem = RemoteMemory::new(python.pid);
    let states = threads::thread_states(&mem, &python.layout, python.located.runtime);
    let mut all = 0usize;
    let mut own = 0usize;
    for state in states.unwrap_or_default() {
        if state.thread_id != 0 {
            let found = follow_path(&mem, &python.entry.tstate, state.thread_id);
            all += 1;
            own += usize::from(found == Ok(state.address));
        }
    }
    own != 0 && own * 2 >= all
}
