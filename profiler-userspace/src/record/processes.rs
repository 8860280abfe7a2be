//! The processes of a recording: which process the kernel's number of one means at the moment, and
//! what is known of each that ever was.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Instant;

use profiler_common::event::{EventHeader, OffCpuRecord};
use profiler_common::layout::EntryKind;

use super::names::Unnamed;
use super::target::Target;
use crate::process::identity::Identity;
use crate::python::Version;
use crate::python::code::CodeStats;
use crate::python::inspect::Python;
use crate::python::layout::PythonLayout;

/// The number of a process in a recording, which is another's only when nothing is left of it: a program
/// that a process executes is another process. 0 stands for all that are no targets.
pub type ProcessId = u32;

/// Records that are kept until it is known whether their process is a target, at most.
const MOST_HELD: usize = 4096;
/// How long records of a process may come after that of its end: those of threads that ended on
/// other CPUs at the same time.
const ENDED_FOR_NS: u64 = 1_000_000_000;

/// A record that waits until it is known whether its process is a target.
#[derive(Clone, Copy, Debug)]
pub enum Held {
    /// An on-CPU sample.
    Sample(EventHeader),
    /// A stretch off-CPU.
    OffCpu(OffCpuRecord),
}

/// Why a process is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It was asked for by its number, or launched.
    Asked,
    /// It came from a target.
    Child,
    /// It was found on the host.
    Found,
    /// It executed a program just now, and may be a target.
    Candidate,
    /// It came from a target and is not wanted itself; what comes from it may be.
    Passed,
}

/// A process that is there.
#[derive(Debug)]
pub struct Process {
    /// Its number in the recording.
    pub id: ProcessId,
    /// What is known of its program.
    pub target: Target,
    /// Why it is there.
    pub role: Role,
    /// When it was sampled last, or had waited, `CLOCK_MONOTONIC` nanoseconds.
    pub sampled_ns: u64,
    /// Threads whose names were not looked up yet.
    pub unnamed: Unnamed,
    met: BTreeSet<u32>,
    held: Vec<Held>,
}

impl Process {
    /// A thread of it was seen: its name is wanted.
    pub fn meet(&mut self, tid: u32) {
        if self.met.insert(tid) {
            self.unnamed.insert(tid, 0);
        }
    }

    /// Keeps a record until it is known whether this is a target. Returns whether it was kept; if
    /// not, there are too many.
    pub fn hold(&mut self, record: Held) -> bool {
        let room = self.held.len() < MOST_HELD;
        if room {
            self.held.push(record);
        }
        room
    }

    /// The records that were kept.
    pub fn take_held(&mut self) -> Vec<Held> {
        std::mem::take(&mut self.held)
    }
}

/// What is known of a Python, also when its process is there no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// Its file, as the process sees it.
    pub module: PathBuf,
    /// Activations and frames must be counted: 3.8 and 3.9.
    pub by_count: bool,
}

impl Interpreter {
    fn of(python: &Python) -> Self {
        Self::at(&python.module, &python.layout)
    }

    /// The one in the file that the process sees at `module`.
    #[must_use]
    pub fn at(module: &Path, layout: &PythonLayout) -> Self {
        Self {
            module: module.to_owned(),
            by_count: layout.walk.entry_kind == EntryKind::None as u8,
        }
    }
}

/// What is known of a process, also when it is there no more.
#[derive(Clone, Debug)]
pub struct Known {
    /// Who it is.
    pub identity: Identity,
    /// Its Python's version.
    pub version: Option<Version>,
    /// What tells its Python's frames among native ones.
    pub interpreter: Option<Interpreter>,
    /// It runs.
    pub running: bool,
}

/// All processes of a recording.
#[derive(Debug, Default)]
pub struct Processes {
    live: HashMap<u32, Process>,
    known: Vec<Option<Known>>,
    /// Numbers of processes that left nothing behind: they are used again.
    free: Vec<ProcessId>,
    ended: VecDeque<(u64, u32, ProcessId)>,
    /// Those of which nothing more comes.
    over: Vec<ProcessId>,
    /// Those whose Python is not known, or by comparison only.
    unsure: BTreeSet<u32>,
    codes_of_ended: CodeStats,
    count: u64,
}

impl Processes {
    /// A process of the kernel's number.
    #[must_use]
    pub fn get(&self, tgid: u32) -> Option<&Process> {
        self.live.get(&tgid)
    }

    /// A process of the kernel's number.
    pub fn get_mut(&mut self, tgid: u32) -> Option<&mut Process> {
        self.live.get_mut(&tgid)
    }

    /// All that are there.
    pub fn live(&self) -> impl Iterator<Item = &Process> {
        self.live.values()
    }

    /// All that are there.
    pub fn live_mut(&mut self) -> impl Iterator<Item = &mut Process> {
        self.live.values_mut()
    }

    /// What is known of a process.
    #[must_use]
    pub fn known(&self, id: ProcessId) -> Option<&Known> {
        self.known.get((id as usize).checked_sub(1)?)?.as_ref()
    }

    fn known_mut(&mut self, id: ProcessId) -> Option<&mut Known> {
        self.known.get_mut((id as usize).checked_sub(1)?)?.as_mut()
    }

    /// Whether a process is one of the kernel's threads.
    #[must_use]
    pub fn is_kernel_thread(&self, id: ProcessId) -> bool {
        let known = self.known(id);
        known.is_some_and(|known| known.identity.kernel_thread)
    }

    /// All that ever were, with their numbers.
    pub fn all(&self) -> impl Iterator<Item = (ProcessId, &Known)> {
        let numbered = (1..).zip(&self.known);
        numbered.filter_map(|(id, known)| Some((id, known.as_ref()?)))
    }

    /// How many processes were targets.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds a process. One of the same number has ended, as nobody was told.
    pub fn add(&mut self, identity: Identity, target: Target, role: Role) -> ProcessId {
        let tgid = target.pid;
        self.replace(tgid);
        let id = self.know(Known {
            identity,
            version: target.python().map(|python| python.version),
            interpreter: target.python().map(Interpreter::of),
            running: true,
        });
        self.count += 1;
        let process = Process {
            id,
            target,
            role,
            sampled_ns: 0,
            unnamed: Unnamed::new(),
            met: BTreeSet::new(),
            held: Vec::new(),
        };
        if process.target.next_try().is_some() {
            self.unsure.insert(tgid);
        }
        self.live.insert(tgid, process);
        id
    }

    /// Keeps what is known of a process that is not followed.
    pub fn know(&mut self, known: Known) -> ProcessId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.known.push(None);
            self.known.len() as ProcessId
        });
        if let Some(slot) = self.known.get_mut(id as usize - 1) {
            *slot = Some(known);
        }
        id
    }

    /// A process left nothing behind: its number may be another's.
    pub fn free(&mut self, id: ProcessId) {
        if let Some(slot) = self.known.get_mut((id as usize).wrapping_sub(1))
            && slot.take().is_some()
        {
            self.free.push(id);
        }
    }

    /// A place for processes that ended, of which `one` is an example.
    pub(super) fn put_together(&mut self, one: Known) -> ProcessId {
        self.know(one.together())
    }

    /// A process was no target: as if it had not been there.
    pub fn was_none(&mut self, id: ProcessId) {
        self.count -= 1;
        self.free(id);
    }

    /// A target made a process. Returns whether the parent is known.
    pub fn forked(&mut self, header: &EventHeader) -> bool {
        let parent = self.live.get(&(header.value as u32));
        let known = parent.and_then(|parent| Some((parent, self.known(parent.id)?)));
        let Some((parent, known)) = known else {
            return false;
        };
        let identity = Identity {
            pid: header.tgid,
            parent: header.value as u32,
            start_ticks: 0,
            inner_pid: None,
            ..known.identity.clone()
        };
        let target = parent.target.copied(header.tgid, header.generation);
        let role = match parent.role {
            Role::Asked => Role::Child,
            role => role,
        };
        self.add(identity, target, role);
        true
    }

    /// A process executed another program, and is who `identity` says now.
    pub fn executed(&mut self, header: &EventHeader, identity: Identity) -> ProcessId {
        let old = self.replace(header.tgid);
        let role = match old.as_ref().map(|old| old.role) {
            // That its last program was a Python says nothing of this one.
            None | Some(Role::Found) => Role::Candidate,
            Some(role) => role,
        };
        let target = Target::to_look_at(header.tgid, header.generation);
        let id = self.add(identity, target, role);
        let main_thread_met = old.is_some_and(|old| old.met.contains(&header.tgid));
        if main_thread_met && let Some(process) = self.live.get_mut(&header.tgid) {
            process.meet(header.tgid);
        }
        id
    }

    /// Another program comes in the place of a process.
    fn replace(&mut self, tgid: u32) -> Option<Process> {
        let old = self.forget(tgid)?;
        self.over.push(old.id);
        Some(old)
    }

    /// Nothing more comes of a process; what it did is kept.
    pub fn is_over(&mut self, id: ProcessId) {
        self.over.push(id);
    }

    /// Those of which nothing more comes, since this was asked last.
    pub fn take_over(&mut self) -> Vec<ProcessId> {
        std::mem::take(&mut self.over)
    }

    /// The last thread of a process ended.
    pub fn ended(&mut self, header: &EventHeader) {
        if let Some(process) = self.live.get(&header.tgid) {
            let id = process.id;
            self.ended.push_back((header.time_ns, header.tgid, id));
            if let Some(known) = self.known_mut(id) {
                known.running = false;
            }
        }
    }

    /// The kernel's numbers of processes that ended, and of which nothing more can come.
    pub fn ended_by(&mut self, now_ns: u64) -> Vec<u32> {
        let mut gone = Vec::new();
        while let Some((ended_ns, tgid, id)) = self.ended.front().copied() {
            if now_ns.saturating_sub(ended_ns) < ENDED_FOR_NS {
                break;
            }
            self.ended.pop_front();
            // The number may be another process's by now.
            if self.live.get(&tgid).is_some_and(|process| process.id == id) {
                gone.push(tgid);
            }
        }
        gone
    }

    /// A process is there no more, or is of no interest.
    pub fn forget(&mut self, tgid: u32) -> Option<Process> {
        let process = self.live.remove(&tgid)?;
        self.unsure.remove(&tgid);
        let codes = process.target.code_stats();
        self.codes_of_ended = self.codes_of_ended.plus(codes);
        if let Some(known) = self.known_mut(process.id) {
            known.running = false;
        }
        Some(process)
    }

    /// Looks up the numbers in their containers of those processes that were made there meanwhile.
    pub fn refresh_inner_pids(&mut self) {
        let made = self.live.values().map(|process| process.id);
        for id in made.collect::<Vec<_>>() {
            if let Some(known) = self.known_mut(id)
                && known.running
                && known.identity.start_ticks == 0
                && let Ok(identity) = Identity::read(known.identity.pid)
            {
                known.identity.inner_pid = identity.inner_pid;
            }
        }
    }

    /// What is known of the Python of a process changed.
    pub fn set_version(&mut self, tgid: u32) {
        if let Some(process) = self.live.get(&tgid) {
            let python = process.target.python();
            let Some((version, interpreter)) =
                python.map(|python| (python.version, Interpreter::of(python)))
            else {
                return;
            };
            let id = process.id;
            if let Some(known) = self.known_mut(id) {
                known.version = Some(version);
                known.interpreter = Some(interpreter);
            }
        }
    }

    /// A process may run a Python that is not known.
    pub fn look_soon(&mut self, tgid: u32) {
        if let Some(process) = self.live.get_mut(&tgid) {
            process.target.look_soon();
            self.unsure.insert(tgid);
        }
    }

    /// The kernel's numbers of those that must be looked at by now.
    pub fn take_due(&mut self, now: Instant) -> Vec<u32> {
        let live = &self.live;
        let next = |tgid: &u32| live.get(tgid)?.target.next_try();
        self.unsure.retain(|tgid| next(tgid).is_some());
        let unsure = self.unsure.iter().copied();
        unsure
            .filter(|tgid| next(tgid).is_some_and(|at| at <= now))
            .collect()
    }

    /// When one must be looked at next.
    #[must_use]
    pub fn next_try(&self) -> Option<Instant> {
        let next = |tgid: &u32| self.live.get(tgid)?.target.next_try();
        self.unsure.iter().filter_map(next).min()
    }

    /// What was met while names were read.
    #[must_use]
    pub fn code_stats(&self) -> CodeStats {
        let live = self
            .live
            .values()
            .map(|process| process.target.code_stats());
        live.fold(self.codes_of_ended, CodeStats::plus)
    }
}
