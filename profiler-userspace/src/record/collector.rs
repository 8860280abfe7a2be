//! Turns the kernel's records into weights of stacks.

use std::collections::{BTreeSet, HashSet};

use profiler_common::cause::Cause;
use profiler_common::counter::Counter;
use profiler_common::event::{
    EVENT_HANDS_GIL_OVER, EVENT_HOLDS_GIL, EVENT_SINCE_BEFORE, EventHeader, EventKind, OffCpuRecord,
};
use profiler_common::thread::STACK_UNKNOWN;
use profiler_common::unwind::UnwindStatus;
use profiler_common::walk::WalkStatus;

use super::accounts::Accounts;
use super::names::Unnamed;
use super::profile::{Doing, Key, Profile, Unit};
use super::snapshot::Snapshot;
use super::stacks::{NativePart, Stacks};
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
    /// Threads whose names were not looked up yet.
    pub unnamed: Unnamed,
    /// Off-CPU time of threads that held the interpreter's lock, nanoseconds.
    pub off_with_gil_ns: u64,
    /// Where each thread's time went.
    pub accounts: Accounts,
    /// What threads waited for, and who ended that.
    pub waits: Waits,
    /// When the first sample or stretch was seen, `CLOCK_MONOTONIC` nanoseconds.
    pub first_ns: Option<u64>,
    named: BTreeSet<u32>,
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
            unnamed: Unnamed::new(),
            off_with_gil_ns: 0,
            accounts: Accounts::default(),
            waits: Waits::new(keep.wakers),
            first_ns: None,
            named: BTreeSet::new(),
            keep,
        }
    }

    /// Takes one record of the ring buffer.
    pub fn take(&mut self, record: &[u8], target: &mut Target) {
        let Some(header) = EventHeader::parse(record) else {
            self.counters.add(Counter::Internal, 1);
            return;
        };
        let kind = EventKind::from_u8(header.kind);
        if kind == Some(EventKind::Waker) {
            let name = String::from_utf8_lossy(EventHeader::comm(record));
            self.stacks.insert_process(header.stack, &name);
            return;
        }
        if header.tgid != target.pid {
            return;
        }
        match kind {
            Some(EventKind::Sample) => {
                self.keep_stack(&header, record, target);
                self.sample(&header);
            }
            Some(EventKind::Stack) => self.keep_stack(&header, record, target),
            Some(EventKind::OffCpu) => match EventHeader::wait(record) {
                Some(wait) => self.off_cpu(OffCpuRecord { header, wait }),
                None => self.counters.add(Counter::Internal, 1),
            },
            Some(EventKind::Exec) => target.executed(header.generation),
            Some(EventKind::ThreadStart) => {
                self.accounts.begin(header.tid, header.time_ns);
                self.meet(header.tid);
            }
            Some(EventKind::ThreadEnd) => {
                let (on_ns, off_ns) = (header.value, header.stack);
                self.accounts.end(header.tid, header.time_ns, on_ns, off_ns);
                self.waits.end(header.tid);
            }
            Some(EventKind::Native) => self.stacks.expect(
                header.stack,
                NativePart {
                    tokens: EventHeader::tokens(record).collect(),
                    status: UnwindStatus::from_u8(header.status),
                    mappings: header.value as u32,
                },
            ),
            Some(EventKind::Waker) | None => self.counters.add(Counter::Internal, 1),
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

    fn sample(&mut self, header: &EventHeader) {
        let holds_gil = header.flags & EVENT_HOLDS_GIL != 0;
        self.first_ns.get_or_insert(header.time_ns);
        self.waits
            .gils
            .sample(header.value, header.tid, header.time_ns, holds_gil);
        self.accounts.sample(header.tid, header.time_ns, holds_gil);
        let tid = self.apart(header.tid);
        self.profile.sample(Key {
            tid,
            stack: header.stack,
            doing: Doing::OnCpu,
            holds_gil,
        });
    }

    /// Takes a stretch off-CPU.
    pub fn off_cpu(&mut self, record: OffCpuRecord) {
        let OffCpuRecord { header, mut wait } = record;
        let tid = header.tid;
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
        let queued_ns = wait.queued_ns.min(header.value);
        self.accounts
            .stretch(tid, header.time_ns, header.value, queued_ns);
        self.off_with_gil_ns += if holds_gil { header.value } else { 0 };
        let key = Key {
            tid: self.apart(tid),
            stack,
            doing: Doing::queued(),
            holds_gil,
        };
        let profile = self.keep.waits.then_some(&mut self.profile);
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
        self.waits.take(&stretch, profile);
    }

    /// Nothing more will come.
    pub fn finish(&mut self) {
        self.waits.finish(&mut self.profile);
    }

    fn apart(&mut self, tid: u32) -> u32 {
        self.meet(tid);
        if self.keep.threads { tid } else { 0 }
    }

    fn meet(&mut self, tid: u32) {
        if self.keep.names && self.named.insert(tid) {
            self.unnamed.insert(tid, 0);
        }
    }

    /// Counts the stacks that have weight, or ended a wait, and no frames.
    pub fn count_missing_stacks(&mut self) {
        let keys = self.profile.weights().map(|(key, _)| key);
        let stacks: HashSet<u64> = keys.flat_map(Key::stacks).collect();
        let missing = stacks.iter().filter(|stack| !self.stacks.contains(**stack));
        let missing = missing.count() as u64;
        self.counters.add(Counter::StackMissing, missing);
    }
}
