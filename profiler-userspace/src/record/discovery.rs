//! Who is recorded from the beginning: the processes that run and that were asked for, and what is to
//! be said of those that cannot be recorded.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsString;

use profiler_common::layout::generation_at;

use super::options::{NativeFrames, RecordOptions};
use super::processes::{Processes, Role};
use super::recording::RecordError;
use super::selection::Selection;
use super::session::monotonic_ns;
use super::target::{Look, Target};
use crate::bpf::Programs;
use crate::process::identity::Identity;
use crate::process::proc_file;
use crate::python::catalog::Catalog;
use crate::python::locate::LocateError;
use crate::python::{InspectError, Version};

/// What somebody should know of processes that are not recorded.
#[derive(Debug, Default)]
pub(super) struct Notes {
    unsupported: BTreeMap<(u8, u8), u64>,
    failed: Vec<String>,
}

impl Notes {
    /// Why a process is not recorded.
    pub(super) fn not_recorded(&mut self, error: &InspectError) {
        const MOST: usize = 8;
        match error {
            InspectError::Locate(LocateError::NotPython { .. } | LocateError::Maps { .. }) => {}
            InspectError::Locate(LocateError::Unsupported { version, .. }) => {
                let Version { major, minor, .. } = *version;
                *self.unsupported.entry((major, minor)).or_default() += 1;
            }
            error if self.failed.len() < MOST => self.failed.push(error.to_string()),
            _ => {}
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let unsupported = self.unsupported.iter().map(|((major, minor), count)| {
            let processes = if *count == 1 {
                "process runs"
            } else {
                "processes run"
            };
            format!("{count} {processes} Python {major}.{minor}, which pyscry cannot profile")
        });
        unsupported.chain(self.failed.iter().cloned()).collect()
    }
}

/// The program that is about to be launched.
pub(super) fn launched(processes: &mut Processes, pid: u32, words: &[OsString]) {
    let words = words.iter().map(|word| word.to_string_lossy());
    let command = words.collect::<Vec<_>>().join(" ");
    let identity = Identity {
        command,
        ..identity_of(pid)
    };
    processes.add(identity, Target::new(pid, generation_now()), Role::Asked);
}

/// Who a process is; one that is gone already has its number only.
pub(super) fn identity_of(pid: u32) -> Identity {
    Identity::read(pid).unwrap_or_else(|_| Identity::unknown(pid))
}

/// The generation of a program that runs already.
pub(super) fn generation_now() -> u32 {
    generation_at(monotonic_ns())
}

/// Finds the processes that run and are to be recorded.
pub(super) fn running(
    options: &RecordOptions,
    catalog: &mut Catalog,
    processes: &mut Processes,
    notes: &mut Notes,
) -> Result<(), RecordError> {
    let selection = options.target.selection();
    let mut found = Finder {
        without_python: options.native != NativeFrames::None,
        catalog,
        processes,
        notes,
    };
    if selection.is_host_wide() {
        found.on_host(selection);
        return Ok(());
    }
    let mut errors = Vec::new();
    for pid in &selection.pids {
        if let Err(error) = found.take(*pid, identity_of(*pid), Role::Asked) {
            errors.push(error);
        }
    }
    if selection.subprocesses {
        found.descendants(selection);
    }
    match (errors.pop(), processes.live().next()) {
        // One of them or all: nothing can be recorded.
        (Some(error), None) => Err(error.into()),
        (Some(error), Some(_)) => {
            for error in errors.iter().chain([&error]) {
                (options.tell)(&format!("Not recorded: {error}"));
            }
            Ok(())
        }
        (None, _) => Ok(()),
    }
}

struct Finder<'a> {
    /// Processes without Python are recorded, too.
    without_python: bool,
    catalog: &'a mut Catalog,
    processes: &'a mut Processes,
    notes: &'a mut Notes,
}

impl Finder<'_> {
    /// Records a process, if it runs Python or need not.
    fn take(&mut self, pid: u32, identity: Identity, role: Role) -> Result<(), InspectError> {
        let mut target = Target::to_look_at(pid, generation_now());
        let look = target.look(self.catalog);
        let error = target.take_error();
        match (look, error) {
            (Look::NotPython, _) if self.without_python || role == Role::Child => {
                target.runs_no_python();
            }
            (_, Some(error)) if target.python().is_none() => return Err(error),
            _ => {}
        }
        self.processes.add(identity, target, role);
        Ok(())
    }

    fn on_host(&mut self, selection: &Selection) {
        let own = std::process::id();
        self.without_python &= selection.is_everything();
        for pid in proc_file::processes() {
            let Ok(identity) = Identity::read(pid) else {
                continue;
            };
            let skipped = pid == own || (identity.kernel_thread && !self.without_python);
            if skipped || !selection.matches(&identity) {
                continue;
            }
            if let Err(error) = self.take(pid, identity, Role::Found) {
                self.notes.not_recorded(&error);
            }
        }
    }

    /// The processes that come from those that were asked for.
    fn descendants(&mut self, selection: &Selection) {
        let mut children: HashMap<u32, Vec<Identity>> = HashMap::new();
        for pid in proc_file::processes() {
            if let Ok(identity) = Identity::read(pid) {
                children.entry(identity.parent).or_default().push(identity);
            }
        }
        let mut parents: VecDeque<u32> = selection.pids.iter().copied().collect();
        while let Some(parent) = parents.pop_front() {
            for identity in children.remove(&parent).unwrap_or_default() {
                let pid = identity.pid;
                parents.push_back(pid);
                if self.processes.get(pid).is_some() {
                    continue;
                }
                if !selection.admits(&identity) {
                    let mut target = Target::new(pid, generation_now());
                    target.runs_no_python();
                    self.processes.add(identity, target, Role::Passed);
                    continue;
                }
                if let Err(error) = self.take(pid, identity, Role::Child) {
                    self.notes.not_recorded(&error);
                }
            }
        }
    }
}

/// Takes out the processes that ended before the kernel was told of them, since it took nothing out
/// then: the number may be another's soon.
pub(super) fn take_out_ended(programs: &mut Programs, processes: &mut Processes) {
    let found = processes
        .live()
        .filter(|process| process.role == Role::Found);
    let pids: Vec<u32> = found.map(|process| process.target.pid).collect();
    for pid in pids {
        if !proc_file::exists(pid) {
            programs.remove_process(pid);
            if let Some(process) = processes.forget(pid) {
                processes.was_none(process.id);
            }
        }
    }
}
