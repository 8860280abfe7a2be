//! Who is recorded: the processes that are there at the beginning, and those that come, as the kernel
//! tells of them. A process is looked at when it executes a program and when it maps a file that may
//! contain Python, and never because time has passed; one whose interpreter is still beginning is
//! looked at again until it has begun.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::time::Instant;

use profiler_common::counter::Counter;
use profiler_common::event::{EventHeader, EventKind};
use profiler_common::thread::{RAN_UNKNOWN, THREAD_UNSEEN, ThreadEntry};

use super::collector::Collector;
use super::options::{NativeFrames, RecordOptions};
use super::processes::{ProcessId, Processes, Role};
use super::selection::Selection;
use super::session::{RecordError, Session, monotonic_ns};
use super::target::{Look, Target};
use crate::bpf::Programs;
use crate::native::{Mapped, MappedFile};
use crate::process::identity::Identity;
use crate::process::{proc_file, waiting_on};
use crate::python::catalog::Catalog;
use crate::python::locate::LocateError;
use crate::python::{InspectError, Version};

/// Files that are remembered at most.
const MOST_FILES: usize = 1 << 16;

/// Files that are mapped as code and contain no Python.
#[derive(Debug, Default)]
pub(super) struct NotPython {
    files: HashSet<MappedFile>,
}

impl NotPython {
    fn insert(&mut self, file: MappedFile) {
        if self.files.len() >= MOST_FILES {
            self.files.clear();
        }
        self.files.insert(file);
    }
}

/// What somebody should know of processes that are not recorded.
#[derive(Debug, Default)]
pub(super) struct Notes {
    unsupported: BTreeMap<(u8, u8), u64>,
    failed: Vec<String>,
}

impl Notes {
    /// Why a process is not recorded.
    fn not_recorded(&mut self, error: &InspectError) {
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
fn identity_of(pid: u32) -> Identity {
    Identity::read(pid).unwrap_or_else(|_| Identity::unknown(pid))
}

/// The generation of a program that runs already: see `new_generation` in the kernel's programs.
fn generation_now() -> u32 {
    (monotonic_ns() >> 10) as u32
}

/// Whether a generation is of a program that began after that of another, in the same process. An
/// earlier one in the kernel is our own doing: it was written just as the process executed the later.
fn is_later(generation: u32, than: u32) -> bool {
    generation.wrapping_sub(than) as i32 > 0
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
        let mut target = Target::new(pid, generation_now());
        target.look_soon();
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

/// Does what a record says of which processes there are.
pub(super) fn follow(
    header: &EventHeader,
    processes: &mut Processes,
    collector: &mut Collector,
    others: bool,
) {
    match EventKind::from_u8(header.kind) {
        Some(EventKind::Exec) => {
            settle(header.tgid, processes, collector, others);
            processes.executed(header, identity_of(header.tgid));
        }
        Some(EventKind::Fork) if !processes.forked(header) => {
            // The record of its parent was lost.
            let mut target = Target::new(header.tgid, header.generation);
            target.look_soon();
            processes.add(identity_of(header.tgid), target, Role::Candidate);
        }
        Some(EventKind::ProcessEnd) => processes.ended(header),
        _ => {}
    }
}

/// A process that may have been a target was not found to be one.
fn settle(tgid: u32, processes: &mut Processes, collector: &mut Collector, others: bool) {
    let candidate = processes
        .get(tgid)
        .is_some_and(|found| found.role == Role::Candidate);
    if candidate && let Some(mut process) = processes.forget(tgid) {
        let comm = comm(processes, process.id);
        collector.is_no_target(&mut process, &comm, others);
        processes.was_none(process.id);
    }
}

/// What the kernel calls a process; of one that had ended before anybody could ask, nothing is known.
fn comm(processes: &Processes, id: ProcessId) -> String {
    let known = processes
        .known(id)
        .map(|known| known.identity.comm.as_str());
    match known {
        None | Some("") => "(ended)".to_owned(),
        Some(comm) => comm.to_owned(),
    }
}

impl Session {
    /// Whether processes that are no targets count for their commands.
    pub(super) fn counts_others(&self) -> bool {
        self.options.target.selection().is_everything() && self.options.mode.sampling().is_some()
    }

    /// Looks at all that must be looked at by now.
    pub(super) fn look_at_due(&mut self) -> Result<(), RecordError> {
        for tgid in self.processes.take_due(Instant::now()) {
            self.look(tgid)?;
        }
        Ok(())
    }

    fn look(&mut self, tgid: u32) -> Result<(), RecordError> {
        let Some(process) = self.processes.get(tgid) else {
            return Ok(());
        };
        let role = process.role;
        let selection = self.options.target.selection();
        let wanted = self
            .processes
            .known(process.id)
            .is_some_and(|known| match role {
                Role::Candidate | Role::Found => selection.matches(&known.identity),
                Role::Child | Role::Passed => selection.admits(&known.identity),
                Role::Asked => true,
            });
        let from_target = matches!(role, Role::Child | Role::Passed);
        if !wanted && !from_target {
            self.drop_process(tgid);
            return Ok(());
        }
        let whole_system = self.options.native != NativeFrames::None && selection.is_everything();
        let Some(process) = self.processes.get_mut(tgid) else {
            return Ok(());
        };
        if from_target {
            process.role = if wanted { Role::Child } else { Role::Passed };
        }
        if !wanted {
            process.target.runs_no_python();
            return self.tell(tgid);
        }
        let host_wide = matches!(role, Role::Candidate | Role::Found);
        match process.target.look(&mut self.catalog) {
            Look::Tell => {
                process.target.take_error();
                self.tell(tgid)?;
                self.accept(tgid);
            }
            Look::NotPython if host_wide && !whole_system => self.drop_process(tgid),
            // What comes from a target is followed further: it may execute a Python, or load one.
            Look::NotPython if host_wide || from_target => {
                process.target.runs_no_python();
                self.tell(tgid)?;
                self.accept(tgid);
            }
            Look::NotPython | Look::Nothing => {
                let hopeless = process.target.next_try().is_none();
                if host_wide && hopeless && process.target.python().is_none() {
                    if let Some(error) = process.target.take_error() {
                        self.notes.not_recorded(&error);
                    }
                    self.drop_process(tgid);
                }
            }
        }
        Ok(())
    }

    /// Tells the kernel what is known of a process.
    fn tell(&mut self, tgid: u32) -> Result<(), RecordError> {
        self.processes.set_version(tgid);
        let Some(process) = self.processes.get(tgid) else {
            return Ok(());
        };
        let entry = process.target.entry();
        match self.programs.process_generation(tgid) {
            // The record of what it executed just now is on its way.
            Some(theirs) if is_later(theirs, entry.generation) => Ok(()),
            Some(_) => Ok(self.programs.set_process(tgid, &entry)?),
            None => self.tell_again(tgid),
        }
    }

    /// Tells the kernel of a process that it does not have: it has ended, or its entry was taken out
    /// for what it was before, in the moment in which it executed another program.
    fn tell_again(&mut self, tgid: u32) -> Result<(), RecordError> {
        let Some(process) = self.processes.get(tgid) else {
            return Ok(());
        };
        let start = self
            .processes
            .known(process.id)
            .map(|known| known.identity.start_ticks);
        let is_there =
            || Identity::read(tgid).map(|now| now.start_ticks).ok() == start && start != Some(0);
        if is_there() {
            let entry = process.target.entry();
            let added = self.programs.add_process(tgid, &entry)?;
            if added && !is_there() {
                self.programs.remove_process(tgid);
            }
        }
        Ok(())
    }

    /// A process that may have been a target is one.
    fn accept(&mut self, tgid: u32) {
        if let Some(process) = self.processes.get_mut(tgid)
            && process.role == Role::Candidate
        {
            process.role = Role::Found;
            self.collector.is_target(process);
        }
    }

    /// A process is no target.
    fn drop_process(&mut self, tgid: u32) {
        let others = self.counts_others();
        let Some(mut process) = self.processes.forget(tgid) else {
            return;
        };
        let theirs = self.programs.process_generation(tgid);
        if theirs.is_some_and(|theirs| !is_later(theirs, process.target.generation())) {
            self.programs.remove_process(tgid);
        }
        if self.options.follows_threads() {
            for tid in proc_file::threads(tgid).unwrap_or_default() {
                self.programs.forget_thread(tid);
            }
        }
        let comm = comm(&self.processes, process.id);
        self.collector.is_no_target(&mut process, &comm, others);
        if process.role == Role::Candidate {
            self.processes.was_none(process.id);
        } else {
            self.processes.is_over(process.id);
        }
    }

    /// A process mapped a file as code: it may be the one with its Python.
    pub(super) fn mapped(&mut self, mapped: Option<Mapped>) -> Result<(), RecordError> {
        let Some(mapped) = mapped else {
            return Ok(());
        };
        let Mapped::By { pid, file, name } = mapped else {
            self.collector.counters.add(Counter::LifecycleLost, 1);
            return Ok(());
        };
        if self.not_python.files.contains(&file) {
            return Ok(());
        }
        match self.processes.get(pid) {
            Some(process) if process.target.python().is_none() => {
                self.processes.look_soon(pid);
                self.look(pid)?;
                if self
                    .processes
                    .get(pid)
                    .is_none_or(|p| p.target.python().is_none())
                {
                    self.remember(file, &name);
                }
            }
            // Libraries that come later than the interpreter.
            Some(_) => self.remember(file, &name),
            None if self.options.target.is_host_wide() => self.late(pid, file, &name)?,
            None => {}
        }
        Ok(())
    }

    /// A file in which no interpreter was found. One that is called so may still become one, when
    /// its interpreter begins.
    fn remember(&mut self, file: MappedFile, name: &str) {
        if !name.contains("python") {
            self.not_python.insert(file);
        }
    }

    /// A process that is no target mapped a file that nobody knows.
    fn late(&mut self, pid: u32, file: MappedFile, name: &str) -> Result<(), RecordError> {
        if self.programs.process_generation(pid).is_some() {
            // It executed a program just now, or was made by a target: the record of that is here,
            // and it is looked at for that.
            return Ok(());
        }
        let Ok(identity) = Identity::read(pid) else {
            return Ok(());
        };
        if pid == std::process::id() || !self.options.target.selection().matches(&identity) {
            return Ok(());
        }
        let mut target = Target::new(pid, generation_now());
        target.look_soon();
        match target.look(&mut self.catalog) {
            Look::Tell => {}
            Look::NotPython => {
                self.remember(file, name);
                return Ok(());
            }
            // Of an interpreter that has not begun: looked at again until it has.
            Look::Nothing if target.next_try().is_some() => {}
            Look::Nothing => {
                if let Some(error) = target.take_error() {
                    self.notes.not_recorded(&error);
                }
                return Ok(());
            }
        }
        let start = identity.start_ticks;
        if !self.programs.add_process(pid, &target.entry())? {
            // It executed a program meanwhile: what was looked at may be that, but the kernel has
            // another generation of it.
            return Ok(());
        }
        self.processes.add(identity, target, Role::Found);
        self.processes.set_version(pid);
        // If it ended meanwhile, the kernel has not taken it out: its number may be another's.
        if Identity::read(pid).map(|now| now.start_ticks).ok() != Some(start) {
            self.programs.remove_process(pid);
            self.processes.forget(pid);
            return Ok(());
        }
        if self.options.follows_threads() {
            self.track_threads(pid);
        }
        Ok(())
    }

    /// Tracks every thread of a process: again until no new one appears, since a thread can start
    /// one while the list is read.
    pub(super) fn track_threads(&mut self, pid: u32) -> Vec<u32> {
        let Some(process) = self.processes.get(pid) else {
            return Vec::new();
        };
        let (id, generation) = (process.id, process.target.generation());
        let mut known = std::collections::BTreeSet::new();
        loop {
            let listed = proc_file::threads(pid).unwrap_or_default();
            let new: Vec<u32> = listed
                .into_iter()
                .filter(|tid| known.insert(*tid))
                .collect();
            if new.is_empty() {
                return known.into_iter().collect();
            }
            for tid in new {
                let now_ns = monotonic_ns();
                let ran_ns = proc_file::thread_cpu_ns(pid, tid).unwrap_or(RAN_UNKNOWN);
                let entry = ThreadEntry {
                    earlier: waiting_on::earlier(pid, tid),
                    ..ThreadEntry::new(pid, THREAD_UNSEEN, generation, now_ns, ran_ns)
                };
                self.collector.accounts.begin((id, tid), now_ns);
                if self.programs.track_thread(tid, &entry).is_err() {
                    self.collector.counters.add(Counter::ThreadsUntracked, 1);
                }
            }
        }
    }

    /// Forgets what has ended.
    pub(super) fn tidy(&mut self) {
        let others = self.counts_others();
        for id in self.processes.take_replaced() {
            self.ended.add(
                id,
                &mut self.processes,
                &mut self.collector,
                &mut self.names,
            );
        }
        for tgid in self.processes.ended_by(monotonic_ns()) {
            settle(tgid, &mut self.processes, &mut self.collector, others);
            let Some(process) = self.processes.forget(tgid) else {
                continue;
            };
            self.ended.add(
                process.id,
                &mut self.processes,
                &mut self.collector,
                &mut self.names,
            );
        }
    }

    /// The recording ends: what may still be a target is none.
    pub(super) fn settle_candidates(&mut self) -> Result<(), RecordError> {
        self.look_at_due()?;
        let others = self.counts_others();
        let candidates: Vec<u32> = self
            .processes
            .live()
            .filter(|process| process.role == Role::Candidate)
            .map(|process| process.target.pid)
            .collect();
        for tgid in candidates {
            settle(tgid, &mut self.processes, &mut self.collector, others);
        }
        Ok(())
    }
}
