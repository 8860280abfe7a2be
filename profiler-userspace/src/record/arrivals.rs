//! Who comes and goes while a recording goes on, as the kernel tells. A process is looked at when it
//! executes a program and when it maps a file that may contain Python, and never because time has
//! passed; one whose interpreter is still beginning is looked at again until it has begun.

use std::collections::HashSet;
use std::time::Instant;

use profiler_common::counter::Counter;
use profiler_common::event::{EventHeader, EventKind};
use profiler_common::layout::ProcessEntry;

use super::collector::Collector;
use super::discovery::{generation_now, identity_of};
use super::processes::{ProcessId, Processes, Role};
use super::recording::RecordError;
use super::session::{Session, monotonic_ns};
use super::target::{Look, Target};
use crate::bpf::Programs;
use crate::bpf::counters::Counters;
use crate::native::{Mapped, MappedFile};
use crate::process::identity::{self, Identity};
use crate::process::proc_file;

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

/// Whether a generation is of a program that began after that of another, in the same process. An
/// earlier one in the kernel is our own doing: it was written just as the process executed the later.
fn is_later(generation: u32, than: u32) -> bool {
    generation.wrapping_sub(than) as i32 > 0
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
            let identity = identity_counted(header.tgid, &mut collector.counters);
            processes.executed(header, identity);
        }
        Some(EventKind::Fork) if !processes.forked(header) => {
            // The record of its parent was lost.
            let target = Target::to_look_at(header.tgid, header.generation);
            let identity = identity_counted(header.tgid, &mut collector.counters);
            processes.add(identity, target, Role::Candidate);
        }
        Some(EventKind::ProcessEnd) => processes.ended(header),
        _ => {}
    }
}

/// Who a process is that began just now.
fn identity_counted(tgid: u32, counters: &mut Counters) -> Identity {
    let identity = identity_of(tgid);
    // One that has ended and was not waited for has a name still, but no command line.
    if identity.command.is_empty() && !identity.kernel_thread {
        counters.add(Counter::ProcessesUnnamed, 1);
    }
    identity
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

/// Makes a process a target of the kernel's, which may have found it by itself. Returns whether it had
/// not. One for which there is no room is counted.
pub(super) fn enter(
    programs: &mut Programs,
    counters: &mut Counters,
    tgid: u32,
    entry: &ProcessEntry,
) -> bool {
    programs.add_process(tgid, entry).unwrap_or_else(|_| {
        counters.add(Counter::ProcessesUnknown, 1);
        false
    })
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
        let whole_system = self.options.is_whole_system();
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
            Some(_) => Ok(self.programs.set_process(tgid, &entry).map(drop)?),
            None => {
                self.tell_again(tgid);
                Ok(())
            }
        }
    }

    /// Tells the kernel of a process that it does not have: it has ended, or its entry was taken out
    /// for what it was before, in the moment in which it executed another program.
    fn tell_again(&mut self, tgid: u32) {
        let Some(process) = self.processes.get(tgid) else {
            return;
        };
        let start = self
            .processes
            .known(process.id)
            .map_or(0, |known| known.identity.start_ticks);
        if start != 0 && identity::start_ticks(tgid) == Some(start) {
            let entry = process.target.entry();
            self.enter(tgid, start, &entry);
        }
    }

    /// Makes a process that began at `start` clock ticks a target of the kernel's, which has it not.
    /// Returns whether it is one now.
    fn enter(&mut self, tgid: u32, start: u64, entry: &ProcessEntry) -> bool {
        if !enter(
            &mut self.programs,
            &mut self.collector.counters,
            tgid,
            entry,
        ) {
            return false;
        }
        // If it ended meanwhile, the kernel has not taken it out: its number may be another's.
        let is_there = identity::start_ticks(tgid) == Some(start);
        if !is_there {
            self.programs.remove_process(tgid);
        }
        is_there
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
        let Some(process) = self.processes.get(tgid) else {
            return;
        };
        let generation = process.target.generation();
        let theirs = self.programs.process_generation(tgid);
        if theirs.is_some_and(|theirs| !is_later(theirs, generation)) {
            self.programs.remove_process(tgid);
        }
        // What the kernel wrote of it until then counts; it may say that it is another program by now.
        let _more = self.drain();
        // By its generation: the number that it had in the recording may be the other's by now.
        let now = self.processes.get(tgid);
        if now.is_none_or(|now| now.target.generation() != generation) {
            return;
        }
        let others = self.options.counts_others();
        let Some(mut process) = self.processes.forget(tgid) else {
            return;
        };
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
            // The one with its interpreter, of which this comes late, or a library: not told apart.
            Some(_) => {}
            None if self.options.target.is_host_wide() => self.late(pid, file, &name),
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
    fn late(&mut self, pid: u32, file: MappedFile, name: &str) {
        if self.programs.process_generation(pid).is_some() {
            // It executed a program just now, or was made by a target: the record of that is here,
            // and it is looked at for that.
            return;
        }
        let Ok(identity) = Identity::read(pid) else {
            return;
        };
        if pid == std::process::id() || !self.options.target.selection().matches(&identity) {
            return;
        }
        let mut target = Target::to_look_at(pid, generation_now());
        match target.look(&mut self.catalog) {
            Look::Tell => {}
            Look::NotPython => {
                self.remember(file, name);
                return;
            }
            // Of an interpreter that has not begun: looked at again until it has.
            Look::Nothing if target.next_try().is_some() => {}
            Look::Nothing => {
                if let Some(error) = target.take_error() {
                    self.notes.not_recorded(&error);
                }
                return;
            }
        }
        // Where the kernel has it by now, it executed a program meanwhile: what was looked at may be that,
        // but the kernel has another generation of it.
        if !self.enter(pid, identity.start_ticks, &target.entry()) {
            return;
        }
        self.processes.add(identity, target, Role::Found);
        if self.options.follows_threads() {
            self.track_threads(pid);
        }
    }

    /// Forgets what has ended.
    pub(super) fn tidy(&mut self) {
        let others = self.options.counts_others();
        for tgid in self.processes.ended_by(monotonic_ns()) {
            settle(tgid, &mut self.processes, &mut self.collector, others);
            if let Some(process) = self.processes.forget(tgid) {
                self.processes.is_over(process.id);
            }
        }
        for id in self.processes.take_over() {
            self.ended.add(
                id,
                &mut self.processes,
                &mut self.collector,
                &mut self.names,
            );
        }
    }

    /// The recording ends: what may still be a target is none.
    pub(super) fn settle_candidates(&mut self) -> Result<(), RecordError> {
        self.look_at_due()?;
        let others = self.options.counts_others();
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
