//! Turns the kernel's records into weights of stacks.

use std::collections::HashSet;

use profiler_common::cause::Cause;
use profiler_common::counter::Counter;
use profiler_common::event::{
    EVENT_HANDS_GIL_OVER, EVENT_HOLDS_GIL, EVENT_SINCE_BEFORE, EventHeader, EventKind, OffCpuRecord,
};
use profiler_common::hash;
use profiler_common::thread::STACK_UNKNOWN;
use profiler_common::unwind::UnwindStatus;
use profiler_common::walk::WalkStatus;

use super::accounts::Accounts;
use super::log::Log;
use super::processes::{Held, Process, ProcessId, Processes, Role};
use super::profile::{Doing, Key, Profile, Unit};
use super::snapshot::Snapshot;
use super::stacks::{NativePart, Stacks};
use super::tally::Tally;
use super::target::Target;
use super::waits::{Stretch, Waits};
use crate::bpf::counters::Counters;

/// What of the records is kept.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// What weights count.
    pub unit: Unit,
    /// Threads are told apart.
    pub threads: bool,
    /// Waits have weight.
    pub waits: bool,
    /// Who ends waits is told apart by thread.
    pub wakers: bool,
    /// Threads have names.
    pub names: bool,
    /// The switches of threads are followed.
    pub follows: bool,
}

/// The state of a recording.
#[derive(Debug)]
pub struct Collector {
    /// Weights.
    pub profile: Profile,
    /// Stacks.
    pub stacks: Stacks,
    /// What userspace counts; the kernel's are added at the end.
    pub counters: Counters,
    /// Stacks of threads that were off-CPU when the recording began.
    pub snapshot: Snapshot,
    /// Off-CPU time of threads that held the interpreter's lock, nanoseconds.
    pub off_with_gil_ns: u64,
    /// Where each thread's time went.
    pub accounts: Accounts,
    /// What threads waited for, and who ended that.
    pub waits: Waits,
    /// When the first sample or stretch was seen, `CLOCK_MONOTONIC` nanoseconds.
    pub first_ns: Option<u64>,
    /// The recording file, where one is written.
    pub log: Option<Log>,
    keep: Keep,
}

impl Collector {
    /// An empty one.
    #[must_use]
    pub fn new(keep: Keep) -> Self {
        Self {
            profile: Profile::new(keep.unit),
            stacks: Stacks::default(),
            counters: Counters::default(),
            snapshot: Snapshot::default(),
            off_with_gil_ns: 0,
            accounts: Accounts::default(),
            waits: Waits::new(keep.wakers),
            first_ns: None,
            log: None,
            keep,
        }
    }

    /// Takes one record of the ring buffer, with the header that it begins with. What it says of
    /// processes is done first.
    pub fn take(&mut self, header: &EventHeader, record: &[u8], processes: &mut Processes) {
        let Some(kind) = EventKind::from_u8(header.kind) else {
            self.counters.add(Counter::Internal, 1);
            return;
        };
        match kind {
            EventKind::Command => {
                let name = String::from_utf8_lossy(EventHeader::comm(record));
                self.stacks.insert_process(header.stack, &name);
                return;
            }
            EventKind::Other => {
                self.other(header.time_ns, header.stack);
                return;
            }
            _ => {}
        }
        // A target's, or was one when the kernel wrote this.
        let Some(process) = processes.get_mut(header.tgid) else {
            return;
        };
        let weighs = matches!(kind, EventKind::Sample | EventKind::OffCpu);
        if process.role == Role::Passed && weighs {
            return;
        }
        let thread = (process.id, header.tid);
        match kind {
            EventKind::Sample => {
                self.keep_stack(header, record, &mut process.target);
                if process.role == Role::Candidate {
                    if !process.hold(Held::Sample(*header)) {
                        self.counters.add(Counter::SamplesLost, 1);
                    }
                    return;
                }
                self.sample(header, process);
            }
            EventKind::Stack => self.keep_stack(header, record, &mut process.target),
            EventKind::OffCpu => {
                let Some(wait) = EventHeader::wait(record) else {
                    self.counters.add(Counter::Internal, 1);
                    return;
                };
                let record = OffCpuRecord {
                    header: *header,
                    wait,
                };
                if process.role == Role::Candidate {
                    if !process.hold(Held::OffCpu(record)) {
                        self.counters.add(Counter::OffCpuLost, 1);
                        self.counters.add(Counter::OffCpuLostNs, header.value);
                    }
                    return;
                }
                self.off_cpu(record, process);
            }
            EventKind::ThreadStart => {
                self.accounts.begin(thread, header.time_ns);
                self.meet(process, header.tid);
            }
            EventKind::ThreadEnd => {
                let (on_ns, off_ns) = (header.value, header.stack);
                self.accounts.end(header.tid, header.time_ns, on_ns, off_ns);
                self.waits.end(header.tid);
            }
            EventKind::Native => self.stacks.expect(
                header.stack,
                NativePart {
                    tokens: EventHeader::tokens(record).collect(),
                    status: UnwindStatus::from_u8(header.status),
                    mappings: header.value as u32,
                    process: process.id,
                },
            ),
            EventKind::Code => process.target.take_code(header, record),
            // The caller's: they change which processes there are.
            EventKind::Exec | EventKind::Fork | EventKind::ProcessEnd => {}
            EventKind::Command | EventKind::Other => {}
        }
    }

    fn keep_stack(&mut self, header: &EventHeader, record: &[u8], target: &mut Target) {
        if header.with_frames != 0 && !self.stacks.contains(header.stack) {
            self.stacks.insert(
                header.stack,
                WalkStatus::from_u8(header.status),
                header.kind == EventKind::Stack as u8,
                EventHeader::frames(record),
                |frame| target.resolve(header.generation, frame),
            );
        }
    }

    /// A sample of a process that is no target; `stack` stands for its command.
    fn other(&mut self, time_ns: u64, stack: u64) {
        self.first_ns.get_or_insert(time_ns);
        let key = Key {
            process: 0,
            tid: 0,
            stack,
            doing: Doing::OnCpu,
            holds_gil: false,
        };
        self.tally().sample(key, 0, time_ns);
    }

    fn sample(&mut self, header: &EventHeader, process: &mut Process) {
        let id = process.id;
        let holds_gil = header.flags & EVENT_HOLDS_GIL != 0;
        self.first_ns.get_or_insert(header.time_ns);
        if self.keep.follows {
            self.waits.gils.sample(
                in_process(id, header.value),
                (id, header.tid),
                header.time_ns,
                holds_gil,
            );
        }
        self.accounts
            .sample((id, header.tid), header.time_ns, holds_gil);
        let tid = self.apart(process, header.tid);
        let key = Key {
            process: id,
            tid,
            stack: header.stack,
            doing: Doing::OnCpu,
            holds_gil,
        };
        self.tally().sample(key, header.tid, header.time_ns);
    }

    fn tally(&mut self) -> Tally<'_> {
        Tally {
            profile: &mut self.profile,
            log: self.log.as_mut(),
        }
    }

    /// Takes a stretch off-CPU of a process.
    pub fn off_cpu(&mut self, record: OffCpuRecord, process: &mut Process) {
        let OffCpuRecord { header, mut wait } = record;
        let (id, tid) = (process.id, header.tid);
        self.first_ns.get_or_insert(header.time_ns);
        let mut stack = header.stack;
        let mut cause = Cause::from_u8(header.cause as u8);
        let mut syscall = header.frames;
        let mut holds_gil = header.flags & EVENT_HOLDS_GIL != 0;
        if header.flags & EVENT_SINCE_BEFORE != 0 {
            match self.snapshot.take(tid) {
                Some(found) => {
                    stack = found.stack;
                    cause = found.cause;
                    syscall = found.syscall;
                    holds_gil = found.holds_gil;
                    wait.tstate = found.tstate;
                    wait.gil = found.gil.address;
                    wait.gil_holder = found.gil.holder;
                    if cause == Cause::RunQueue {
                        wait.queued_ns = header.value;
                    }
                }
                None => {
                    stack = STACK_UNKNOWN;
                    self.counters.add(Counter::SnapshotMissing, 1);
                }
            }
        }
        for address in [&mut wait.tstate, &mut wait.gil, &mut wait.gil_holder] {
            *address = in_process(id, *address);
        }
        let queued_ns = wait.queued_ns.min(header.value);
        self.accounts
            .stretch((id, tid), header.time_ns, header.value, queued_ns);
        self.off_with_gil_ns += if holds_gil { header.value } else { 0 };
        let key = Key {
            process: id,
            tid: self.apart(process, tid),
            stack,
            doing: Doing::queued(),
            holds_gil,
        };
        let stretch = Stretch {
            tid,
            tgid: header.tgid,
            key,
            cause,
            syscall,
            hands_gil_over: header.flags & EVENT_HANDS_GIL_OVER != 0,
            from_ns: header.time_ns.saturating_sub(header.value),
            until_ns: header.time_ns,
            queued_ns,
            wait,
        };
        let tally = self.keep.waits.then_some(Tally {
            profile: &mut self.profile,
            log: self.log.as_mut(),
        });
        self.waits.take(&stretch, tally);
    }

    /// A process that may have been a target is one: takes what was kept of it.
    pub fn is_target(&mut self, process: &mut Process) {
        for record in process.take_held() {
            match record {
                Held::Sample(header) => self.sample(&header, process),
                Held::OffCpu(record) => self.off_cpu(record, process),
            }
        }
    }

    /// A process that may have been a target is none: its samples count for its command, where
    /// `others` are wanted, and its waits are nobody's.
    pub fn is_no_target(&mut self, process: &mut Process, comm: &str, others: bool) {
        self.accounts.forget(process.id);
        let held = process.take_held();
        if !others {
            return;
        }
        let stack = hash::of_command(comm.as_bytes());
        self.stacks.insert_process(stack, comm);
        for record in held {
            if let Held::Sample(header) = record {
                self.other(header.time_ns, stack);
            }
        }
    }

    /// A process has ended. Returns whether anything is to be shown of it.
    pub fn settle(&mut self, process: ProcessId) -> bool {
        self.waits.gils.forget(process);
        // Other processes' waits may have been ended by one of its stacks.
        if !self.keep.follows {
            let stacks = &mut self.stacks;
            self.profile
                .rename_stacks(process, |hash| stacks.settle(hash));
        }
        self.keep.follows || self.profile.has(process)
    }

    /// The number of a process is used for another from now on.
    pub(super) fn forget(&mut self, process: ProcessId) {
        if let Some(log) = &mut self.log {
            log.forget(process);
        }
    }

    /// Nothing more will come.
    pub fn finish(&mut self) {
        self.waits.finish(Tally {
            profile: &mut self.profile,
            log: self.log.as_mut(),
        });
    }

    fn apart(&mut self, process: &mut Process, tid: u32) -> u32 {
        self.meet(process, tid);
        if self.keep.threads { tid } else { 0 }
    }

    fn meet(&mut self, process: &mut Process, tid: u32) {
        if self.keep.names {
            process.meet(tid);
        }
    }

    /// How many stacks have weight, or ended a wait, and no frames.
    #[must_use]
    pub fn missing_stacks(&self) -> u64 {
        let keys = self.profile.weights().map(|(key, _)| key);
        let stacks: HashSet<u64> = keys.flat_map(Key::stacks).collect();
        let missing = stacks.iter().filter(|stack| !self.stacks.contains(**stack));
        missing.count() as u64
    }

    /// What is kept.
    #[must_use]
    pub(super) fn keep(&self) -> Keep {
        self.keep
    }
}

/// An address of a process, told from the same address of others; 0 stays what it is.
fn in_process(process: ProcessId, address: u64) -> u64 {
    match address {
        0 => 0,
        address => hash::fold(u64::from(process), address),
    }
}
