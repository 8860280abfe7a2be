//! Turns the kernel's records into weights of stacks.

use std::collections::{BTreeSet, HashMap};

use profiler_common::cause::Cause;
use profiler_common::counter::Counter;
use profiler_common::event::{
    EVENT_HANDS_GIL_OVER, EVENT_HOLDS_GIL, EVENT_SINCE_BEFORE, EventHeader, EventKind,
    OffCpuRecord, Wait,
};
use profiler_common::thread::{STACK_UNKNOWN, WAKER_INTERRUPT, WAKER_UNKNOWN};
use profiler_common::unwind::UnwindStatus;
use profiler_common::walk::WalkStatus;

use super::accounts::Accounts;
use super::blame::Blame;
use super::gil::{Gils, Holder};
use super::looks::{Looks, Part};
use super::names::Unnamed;
use super::profile::{Doing, Key, Profile, Unit, Waker};
use super::snapshot::Snapshot;
use super::stacks::{NativePart, Stacks};
use super::target::Target;
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
    /// On-CPU samples by thread.
    pub samples: HashMap<u32, u64>,
    /// Those of them that held the interpreter's lock.
    pub samples_with_gil: HashMap<u32, u64>,
    /// Off-CPU time of threads that held the interpreter's lock, nanoseconds.
    pub off_with_gil_ns: u64,
    /// Where each thread's time went.
    pub accounts: Accounts,
    /// The interpreters' locks.
    pub gils: Gils,
    looks: Looks,
    /// Who held up whom.
    pub blame: Blame,
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
            samples: HashMap::new(),
            samples_with_gil: HashMap::new(),
            off_with_gil_ns: 0,
            accounts: Accounts::default(),
            gils: Gils::default(),
            looks: Looks::default(),
            blame: Blame::default(),
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
                self.blame.end(header.tid);
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
        *self.samples.entry(header.tid).or_default() += 1;
        self.gils
            .sample(header.value, header.tid, header.time_ns, holds_gil);
        self.accounts.sample(header.tid, header.time_ns);
        if holds_gil {
            *self.samples_with_gil.entry(header.tid).or_default() += 1;
        }
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
        let length = header.value;
        let queued = wait.queued_ns.min(length);
        let blocked = length - queued;
        self.accounts.stretch(tid, header.time_ns, length, queued);
        self.off_with_gil_ns += if holds_gil { length } else { 0 };
        let begin = header.time_ns.saturating_sub(length);
        self.gils.meet(wait.tstate, tid, wait.gil);
        let holder = self.gils.holder(wait.gil_holder);
        self.gils.see(wait.gil, begin, holder);
        if cause == Cause::Gil {
            self.gils.wait(wait.gil, tid, begin, begin + blocked);
            self.see_gil_change(&header, &wait, begin + blocked);
        }
        if !self.keep.waits {
            return;
        }
        let key = Key {
            tid: self.apart(tid),
            stack,
            doing: Doing::queued(),
            holds_gil,
        };
        if blocked != 0 {
            let waker = self.waker(cause, &wait);
            let doing = Doing::Waiting {
                cause,
                syscall,
                waker,
            };
            let mut part = Part {
                key: Key { doing, ..key },
                from_ns: begin,
                until_ns: header.time_ns,
                ns: blocked,
            };
            if header.flags & EVENT_HANDS_GIL_OVER != 0
                && let Some(taken) = self.looks.took(wait.waker_tid)
            {
                // One that looked at the lock just then has it from this thread.
                let own = Waker {
                    stack,
                    tgid: header.tgid,
                    tid: if self.keep.wakers { tid } else { 0 },
                };
                self.ended_by(wait.waker_tid, taken, own, tid);
            }
            if cause == Cause::Gil {
                let (joined, other) = self.looks.join(tid, part);
                part = joined;
                if let Some(other) = other {
                    self.profile.stretch(other.key, other.ns);
                }
            }
            if cause == Cause::Gil && wait.waker_stack == WAKER_INTERRUPT {
                self.looks.keep(tid, part);
            } else {
                part.until_ns = begin + blocked;
                self.ended_by(tid, part, waker, wait.waker_tid);
            }
        }
        if queued != 0 {
            if cause == Cause::RunQueue && !holds_gil {
                self.looks.preempted(tid, begin, header.time_ns);
            }
            self.profile.stretch(key, queued);
        }
    }

    /// Counts a wait, as ended by `waker`, whose thread is `waker_tid`.
    fn ended_by(&mut self, tid: u32, mut part: Part, by: Waker, waker_tid: u32) {
        if let Doing::Waiting { cause, waker, .. } = &mut part.key.doing {
            *waker = by;
            let span = (part.from_ns, part.until_ns);
            self.blame
                .wait(tid, *cause, part.key.stack, span, by, waker_tid);
        }
        self.profile.stretch(part.key, part.ns);
    }

    /// What the end of a wait for the interpreter's lock says of who has it: at `woken_ns` somebody
    /// let it go, and the thread takes it when it runs. If another is faster, the thread waits again
    /// at once, and sees that.
    fn see_gil_change(&mut self, header: &EventHeader, wait: &Wait, woken_ns: u64) {
        // By a timer, or not at all: nothing changed.
        if wait.waker_tid == 0 {
            return;
        }
        if header.flags & EVENT_HANDS_GIL_OVER != 0 {
            let taker = Holder::Thread(wait.waker_tid);
            self.gils.change(wait.gil, woken_ns, taker);
            return;
        }
        self.gils.change(wait.gil, woken_ns, Holder::Free);
        let own = Holder::Thread(header.tid);
        self.gils.change(wait.gil, header.time_ns, own);
    }

    /// Nothing more will come.
    pub fn finish(&mut self) {
        for part in self.looks.finish() {
            self.profile.stretch(part.key, part.ns);
        }
        self.gils.finish();
    }

    /// Who ended a wait, as far as it is told apart.
    fn waker(&self, cause: Cause, wait: &Wait) -> Waker {
        // One who waits for the interpreter's lock looks again now and then: a timer's doing.
        if cause == Cause::Gil && wait.waker_stack == WAKER_INTERRUPT {
            return Waker::default();
        }
        if wait.waker_stack == WAKER_INTERRUPT {
            // Whom it interrupted has nothing to do with it.
            return Waker {
                stack: WAKER_INTERRUPT,
                ..Waker::default()
            };
        }
        if wait.waker_stack == WAKER_UNKNOWN {
            return Waker::default();
        }
        Waker {
            stack: wait.waker_stack,
            tgid: wait.waker_tgid,
            tid: if self.keep.wakers { wait.waker_tid } else { 0 },
        }
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

    /// Counts the stacks that have weight and no frames.
    pub fn count_missing_stacks(&mut self) {
        let missing = self
            .profile
            .weights()
            .filter(|(key, _)| !self.stacks.contains(key.stack))
            .count() as u64;
        self.counters.add(Counter::StackMissing, missing);
    }
}
