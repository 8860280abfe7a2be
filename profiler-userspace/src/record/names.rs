//! Names of threads, for `--threads`: what the program called them, else what the kernel has.

use std::collections::{BTreeMap, HashMap};

use profiler_common::mem::Memory;

use super::accounts::ThreadId;
use super::processes::ProcessId;
use super::snapshot::thread_pointers;
use crate::process::{RemoteMemory, proc_file};
use crate::python::Python;
use crate::python::thread_names::thread_names;

/// How often a thread's name is asked for: one that is no Python thread never gets one.
const MAX_TRIES: u8 = 10;

/// Threads whose names are wanted, and how often they were asked for.
pub type Unnamed = BTreeMap<u32, u8>;

/// Names by thread.
#[derive(Debug, Default)]
pub struct ThreadNames {
    names: HashMap<ThreadId, String>,
    /// The process that last had a thread of a number.
    latest: HashMap<u32, ProcessId>,
    /// Threads with a new name, where somebody asks for them.
    changed: Option<Vec<ThreadId>>,
}

impl ThreadNames {
    /// A thread's name.
    #[must_use]
    pub fn of(&self, thread: ThreadId) -> Option<&str> {
        self.names.get(&thread).map(String::as_str)
    }

    /// Notes from now on which threads have a new name.
    pub fn note_changes(&mut self) {
        self.changed = Some(self.names.keys().copied().collect());
    }

    /// Threads with a name that is new since this was called last.
    pub fn take_changed(&mut self) -> Vec<ThreadId> {
        self.changed
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// All names.
    pub fn all(&self) -> impl Iterator<Item = (ThreadId, &str)> {
        let all = self.names.iter();
        all.map(|(thread, name)| (*thread, name.as_str()))
    }

    /// The name of the thread that had a number last.
    #[must_use]
    pub fn get(&self, tid: u32) -> Option<&str> {
        self.of((*self.latest.get(&tid)?, tid))
    }

    /// Looks up the names of `wanted`, and removes from it those that were found. A thread that
    /// has just begun may have no name yet: the kernel's is kept for it until it has.
    pub fn refresh(
        &mut self,
        process: ProcessId,
        pid: u32,
        python: Option<&Python>,
        wanted: &mut Unnamed,
    ) {
        if wanted.is_empty() {
            return;
        }
        let by_python = python.map(python_names).unwrap_or_default();
        wanted.retain(|tid, tries| {
            if let Some(name) = by_python.get(tid) {
                self.insert((process, *tid), name.clone());
                return false;
            }
            if let Some(comm) = proc_file::thread_comm(pid, *tid) {
                if self.of((process, *tid)).is_none() {
                    self.insert((process, *tid), comm);
                }
                *tries += 1;
                return *tries < MAX_TRIES;
            }
            // The thread is gone: nothing more will be known.
            false
        });
    }
}

impl ThreadNames {
    /// Forgets the names of threads of some processes.
    pub fn forget(&mut self, of: impl Fn(ProcessId) -> bool) {
        self.names.retain(|(process, _), _| !of(*process));
        self.latest.retain(|_, process| !of(*process));
    }

    fn insert(&mut self, thread: ThreadId, name: String) {
        self.latest.insert(thread.1, thread.0);
        if let Some(changed) = &mut self.changed {
            changed.push(thread);
        }
        self.names.insert(thread, name);
    }
}

fn python_names(python: &Python) -> HashMap<u32, String> {
    let mem = RemoteMemory::new(python.pid);
    let read = || {
        let tids = proc_file::threads(python.pid).ok()?;
        let modules = mem
            .read_u64(python.interp.wrapping_add(python.layout.interp_modules))
            .ok()?;
        // Torn while a thread starts or ends: the next look will do.
        let names = thread_names(&mem, &python.layout.objects, modules).ok()?;
        let by_tid = thread_pointers(python, &tids)
            .into_iter()
            .filter_map(|(tid, pointer)| Some((tid, names.get(&pointer)?.clone())))
            .collect();
        Some(by_tid)
    };
    read().unwrap_or_default()
}
