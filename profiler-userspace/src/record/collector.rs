//! Turns the kernel's records into weights of stacks.

use std::collections::{BTreeSet, HashMap};

use profiler_common::counter::Counter;
use profiler_common::event::{EVENT_SINCE_BEFORE, EventHeader, EventKind};
use profiler_common::thread::{OffReason, STACK_UNKNOWN};
use profiler_common::unwind::UnwindStatus;
use profiler_common::walk::WalkStatus;

use super::names::Unnamed;
use super::profile::{Key, Leaf, Profile, Unit};
use super::snapshot::Snapshot;
use super::stacks::{NativePart, Stacks};
use super::target::Target;
use crate::bpf::counters::Counters;

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
    /// On-CPU samples by thread.
    pub samples: HashMap<u32, u64>,
    /// When the first sample or stretch was seen, `CLOCK_MONOTONIC` nanoseconds.
    pub first_ns: Option<u64>,
    named: BTreeSet<u32>,
    threads_apart: bool,
}

impl Collector {
    /// An empty one.
    #[must_use]
    pub fn new(unit: Unit, threads_apart: bool) -> Self {
        Self {
            profile: Profile::new(unit),
            stacks: Stacks::default(),
            counters: Counters::default(),
            snapshot: Snapshot::default(),
            unnamed: Unnamed::new(),
            samples: HashMap::new(),
            first_ns: None,
            named: BTreeSet::new(),
            threads_apart,
        }
    }

    /// Takes one record of the ring buffer.
    pub fn take(&mut self, record: &[u8], target: &mut Target) {
        let Some(header) = EventHeader::parse(record) else {
            self.counters.add(Counter::Internal, 1);
            return;
        };
        if header.tgid != target.pid {
            return;
        }
        match EventKind::from_u8(header.kind) {
            Some(EventKind::Sample) => {
                self.keep_stack(&header, record, target);
                *self.samples.entry(header.tid).or_default() += 1;
                self.weigh(&header, header.stack, Leaf::None);
            }
            Some(EventKind::Stack) => self.keep_stack(&header, record, target),
            Some(EventKind::OffCpu) => self.off_cpu(&header),
            Some(EventKind::Exec) => target.executed(header.generation),
            Some(EventKind::ThreadStart) => self.meet(header.tid),
            Some(EventKind::ThreadEnd) => {}
            Some(EventKind::Native) => self.stacks.expect(
                header.stack,
                NativePart {
                    tokens: EventHeader::tokens(record).collect(),
                    status: UnwindStatus::from_u8(header.status),
                    mappings: header.value as u32,
                },
            ),
            None => self.counters.add(Counter::Internal, 1),
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

    fn off_cpu(&mut self, header: &EventHeader) {
        let mut stack = header.stack;
        let mut reason = OffReason::from_u32(u32::from(header.reason));
        if header.flags & EVENT_SINCE_BEFORE != 0 {
            match self.snapshot.take(header.tid) {
                Some(found) => {
                    stack = found.stack;
                    reason = found.reason;
                }
                None => {
                    stack = STACK_UNKNOWN;
                    self.counters.add(Counter::SnapshotMissing, 1);
                }
            }
        }
        self.weigh(header, stack, leaf(reason));
    }

    fn weigh(&mut self, header: &EventHeader, stack: u64, leaf: Leaf) {
        self.first_ns.get_or_insert(header.time_ns);
        self.add(header.tid, stack, leaf, header.value);
    }

    /// Adds a weight to a thread's stack.
    pub fn add(&mut self, tid: u32, stack: u64, leaf: Leaf, weight: u64) {
        self.meet(tid);
        let tid = if self.threads_apart { tid } else { 0 };
        self.profile.add(Key { tid, stack, leaf }, weight);
    }

    fn meet(&mut self, tid: u32) {
        if self.threads_apart && self.named.insert(tid) {
            self.unnamed.insert(tid, 0);
        }
    }

    /// Counts the stacks that have weight and no frames.
    pub fn count_missing_stacks(&mut self) {
        let missing = self
            .profile
            .keys()
            .filter(|key| !self.stacks.contains(key.stack))
            .count() as u64;
        self.counters.add(Counter::StackMissing, missing);
    }
}

/// The frame of ours that a reason shows as.
#[must_use]
pub fn leaf(reason: OffReason) -> Leaf {
    match reason {
        OffReason::Blocked => Leaf::None,
        OffReason::RunQueue => Leaf::RunQueue,
    }
}
