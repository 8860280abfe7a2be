//! What the kernel keeps of each target thread while off-CPU time is recorded, and how two events
//! of a thread become a stretch of time off the CPUs.
//!
//! A kernel may leave a switch out: the one at hand when this was written never reports that the
//! threads of its first process are switched out, so the thread that comes after one of them is
//! never seen to be switched in. The scheduler's own accounting says then what was not seen: of
//! the time between two events, what the thread did not run, it was off-CPU.

use crate::cause::{Cause, NO_SYSCALL};
use crate::event::{EVENT_SINCE_BEFORE, EventHeader, EventKind, OffCpuRecord, Wait};

/// No event of this thread was seen yet.
pub const THREAD_UNSEEN: u16 = 0;
/// The thread runs.
pub const THREAD_ON: u16 = 1;
/// The thread was switched out.
pub const THREAD_OFF: u16 = 2;
/// The thread was made while recording and has not run yet.
pub const THREAD_NEW: u16 = 3;

/// In place of a stack's hash: a thread that was made while recording and has not run yet.
pub const STACK_OF_START: u64 = 0;
/// In place of a stack's hash: where the thread was switched out was not seen.
pub const STACK_UNKNOWN: u64 = 1;
/// In place of a stack's hash: time on a CPU in which no sample was taken.
pub const STACK_NOT_SAMPLED: u64 = 2;

/// In place of a waker's stack: not asked for, or not seen.
pub const WAKER_UNKNOWN: u64 = 0;
/// In place of a waker's stack: an interrupt, such as a timer's or a device's.
pub const WAKER_INTERRUPT: u64 = 3;

/// A thread may be woken while its CPU has not finished to switch from it: at most so long before the
/// switch is told, in nanoseconds.
const WAKES_BEFORE_NS: u64 = 50_000;

/// Slots of the map `TRACKED`, a power of two: a thread's is its tid modulo this.
pub const TRACKED_SLOTS: usize = 1 << 14;

/// The slot of a thread in the map `TRACKED`.
#[inline(always)]
#[must_use]
pub fn tracked_slot(tid: u32) -> u32 {
    tid & (TRACKED_SLOTS as u32 - 1)
}

/// One thread: the value of the map `THREADS`, by tid. Userspace and the fork program insert it;
/// the others only change it in place. A thread is switched, and put back on a run queue, under the
/// run queue's lock, so no two of these writers meet; who wakes it writes the three fields that say
/// so, under a lock of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ThreadEntry {
    /// The process.
    pub tgid: u32,
    /// One of `THREAD_*`.
    pub state: u16,
    /// Number of the system call in which it was last switched out, whatever came since, or
    /// [`NO_SYSCALL`]: what it goes on with after a signal.
    pub earlier: u16,
    /// `CLOCK_MONOTONIC` of the last switch, in nanoseconds.
    pub since_ns: u64,
    /// What the thread had run by then, in nanoseconds (`task_struct.se.sum_exec_runtime`);
    /// [`RAN_UNKNOWN`] where userspace could not tell.
    pub ran_ns: u64,
    /// Hash of the stack it was switched out at.
    pub stack: u64,
    /// Generation of the process at the switch-out.
    pub generation: u32,
    /// Number of the system call it was switched out in, or [`NO_SYSCALL`].
    pub syscall: u16,
    /// A [`Cause`].
    pub cause: u8,
    /// `EVENT_*` bits.
    pub flags: u8,
    /// Its Python thread state at the switch-out, or 0.
    pub tstate: u64,
    /// Its interpreter's lock, by address, or 0.
    pub gil: u64,
    /// The thread state that held that lock then, or 0.
    pub gil_holder: u64,
    /// When it could run again, 0 before.
    pub woken_ns: u64,
    /// How long it was on a CPU since it is tracked.
    pub on_ns: u64,
    /// How long it was not.
    pub off_ns: u64,
    /// When it was last switched in.
    pub in_ns: u64,
    /// When somebody last woke it.
    pub waker_ns: u64,
    /// Hash of that one's stack, or a `WAKER_*`.
    pub waker_stack: u64,
    /// That one's process.
    pub waker_tgid: u32,
    /// That one's thread.
    pub waker_tid: u32,
}

/// In place of [`ThreadEntry::ran_ns`]: not known, so that no difference to it is ever seen.
pub const RAN_UNKNOWN: u64 = u64::MAX;

const _: () = assert!(size_of::<ThreadEntry>() == 120);

// SAFETY: no padding (the size above), every bit pattern is a value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for ThreadEntry {}

impl OffCpuRecord {
    /// Nothing yet.
    pub const EMPTY: Self = Self {
        header: EventHeader::new(EventKind::OffCpu, 0, 0),
        wait: Wait {
            queued_ns: 0,
            tstate: 0,
            gil: 0,
            gil_holder: 0,
            waker_stack: WAKER_UNKNOWN,
            waker_tgid: 0,
            waker_tid: 0,
        },
    };
}

impl ThreadEntry {
    /// A thread that is tracked from `now_ns` on, having run `ran_ns` before.
    #[inline(always)]
    #[must_use]
    pub fn new(tgid: u32, state: u16, generation: u32, now_ns: u64, ran_ns: u64) -> Self {
        Self {
            tgid,
            state,
            earlier: NO_SYSCALL,
            since_ns: now_ns,
            ran_ns,
            stack: STACK_UNKNOWN,
            generation,
            syscall: NO_SYSCALL,
            cause: Cause::Other as u8,
            flags: 0,
            tstate: 0,
            gil: 0,
            gil_holder: 0,
            woken_ns: 0,
            on_ns: 0,
            off_ns: 0,
            in_ns: 0,
            waker_ns: 0,
            waker_stack: WAKER_UNKNOWN,
            waker_tgid: 0,
            waker_tid: 0,
        }
    }

    /// What the thread ran since the last event and nobody saw, in nanoseconds, when it had run
    /// `ran_ns` by now.
    #[inline(always)]
    #[must_use]
    pub fn ran_unseen(&self, ran_ns: u64) -> u64 {
        ran_ns.saturating_sub(self.ran_ns)
    }

    /// Whether it waits for somebody to wake it, as far as was seen.
    #[inline(always)]
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.state == THREAD_UNSEEN
            || (self.state == THREAD_OFF && self.cause != Cause::RunQueue as u8)
    }

    /// Writes the stretch off-CPU from the last event to now, for a thread that was not seen to
    /// run, into `record`, all but its thread and CPU. Returns whether a switch was missed.
    #[inline(always)]
    fn stretch(
        &mut self,
        now_ns: u64,
        ran_ns: u64,
        missed: bool,
        record: &mut OffCpuRecord,
    ) -> bool {
        let ran = self.ran_unseen(ran_ns);
        let length_ns = now_ns.saturating_sub(self.since_ns).saturating_sub(ran);
        let off = self.state == THREAD_OFF;
        let new = self.state == THREAD_NEW;
        let before = self.state == THREAD_UNSEEN;
        let cause = if off {
            self.cause
        } else if new {
            Cause::RunQueue as u8
        } else {
            Cause::Other as u8
        };
        let queued_ns = if cause == Cause::RunQueue as u8 {
            length_ns
        } else if self.woken_ns > self.since_ns {
            length_ns.saturating_sub(self.woken_ns - self.since_ns)
        } else {
            0
        };
        self.off_ns += length_ns;
        self.on_ns += now_ns
            .saturating_sub(self.since_ns)
            .saturating_sub(length_ns);
        let header = &mut record.header;
        header.kind = EventKind::OffCpu as u8;
        header.frames = if off { self.syscall } else { NO_SYSCALL };
        header.flags = if before {
            EVENT_SINCE_BEFORE
        } else if off {
            self.flags
        } else {
            0
        };
        header.cause = cause as u16;
        header.tgid = self.tgid;
        header.generation = self.generation;
        header.time_ns = now_ns;
        header.value = length_ns;
        header.stack = if off {
            self.stack
        } else if new {
            STACK_OF_START
        } else {
            STACK_UNKNOWN
        };
        let wait = &mut record.wait;
        wait.queued_ns = queued_ns;
        wait.tstate = if off { self.tstate } else { 0 };
        wait.gil = if off { self.gil } else { 0 };
        wait.gil_holder = if off { self.gil_holder } else { 0 };
        // One who woke it before it was last switched in woke it from another wait, and one who did
        // long before it was switched out woke one that ran.
        let woken = cause != Cause::RunQueue as u8
            && self.waker_ns > self.in_ns
            && self.waker_ns + WAKES_BEFORE_NS > self.since_ns;
        wait.waker_stack = if woken {
            self.waker_stack
        } else {
            WAKER_UNKNOWN
        };
        wait.waker_tgid = if woken { self.waker_tgid } else { 0 };
        wait.waker_tid = if woken { self.waker_tid } else { 0 };
        // What ran before the first event was seen by nobody, and nothing is wrong with that.
        missed || (ran != 0 && !before)
    }

    /// The thread is switched in at `now_ns`, having run `ran_ns` in all. Writes the stretch that
    /// ends into `record`, and returns whether a switch was missed.
    #[inline(always)]
    pub fn switched_in(&mut self, now_ns: u64, ran_ns: u64, record: &mut OffCpuRecord) -> bool {
        let missed = self.stretch(now_ns, ran_ns, self.state == THREAD_ON, record);
        self.state = THREAD_ON;
        self.since_ns = now_ns;
        self.ran_ns = ran_ns;
        self.woken_ns = 0;
        self.in_ns = now_ns;
        missed
    }

    /// The thread is switched out at `now_ns`, having run `ran_ns` in all; the caller fills in
    /// where and why. Returns true with the stretch before that in `record`, when its end was not
    /// seen.
    ///
    /// The first event of a thread is taken for the end of a run that began before the recording.
    #[inline(always)]
    pub fn switched_out(&mut self, now_ns: u64, ran_ns: u64, record: &mut OffCpuRecord) -> bool {
        let ended = !self.seen_to_run();
        if ended {
            self.stretch(now_ns, ran_ns, true, record);
            self.in_ns = now_ns;
        } else {
            self.on_ns += now_ns.saturating_sub(self.since_ns);
        }
        self.state = THREAD_OFF;
        self.since_ns = now_ns;
        self.ran_ns = ran_ns;
        self.woken_ns = 0;
        ended
    }

    /// The thread can run, from `now_ns` on.
    #[inline(always)]
    pub fn woken(&mut self, now_ns: u64) {
        if self.is_blocked() && self.woken_ns == 0 {
            self.woken_ns = now_ns;
        }
    }

    /// The recording ends at `now_ns`, when the thread had run `ran_ns` at least; `waited` says of
    /// one of which no event was seen whether it waited at the beginning. Returns the stretch that
    /// has not ended, and whether a switch was missed.
    pub fn recording_ends(
        &mut self,
        now_ns: u64,
        ran_ns: u64,
        waited: bool,
    ) -> Option<(OffCpuRecord, bool)> {
        let runs = match self.state {
            THREAD_ON => true,
            THREAD_UNSEEN => !waited,
            _ => false,
        };
        if runs {
            self.on_ns += now_ns.saturating_sub(self.since_ns);
            self.since_ns = now_ns;
            return None;
        }
        let mut record = OffCpuRecord::EMPTY;
        let missed = self.stretch(now_ns, ran_ns, false, &mut record);
        self.since_ns = now_ns;
        let unseen_ran = self.ran_unseen(ran_ns) != 0;
        Some((record, missed || unseen_ran))
    }

    #[inline(always)]
    fn seen_to_run(&self) -> bool {
        self.state == THREAD_ON || self.state == THREAD_UNSEEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const STACK: u64 = 0xabcd;

    /// A thread whose last event was at 1000, when it had run 70.
    fn entry(state: u16) -> ThreadEntry {
        ThreadEntry {
            stack: STACK,
            cause: Cause::Lock as u8,
            syscall: 202,
            ..ThreadEntry::new(1, state, 3, 1000, 70)
        }
    }

    /// A stretch: its parts, and whether a switch was missed.
    #[derive(Debug, PartialEq, Eq)]
    struct Told {
        length: u64,
        queued: u64,
        stack: u64,
        cause: Cause,
        missed: bool,
    }

    fn told(record: &OffCpuRecord, missed: bool) -> Told {
        Told {
            length: record.header.value,
            queued: record.wait.queued_ns,
            stack: record.header.stack,
            cause: Cause::from_u8(record.header.cause as u8),
            missed,
        }
    }

    fn switched_in(thread: &mut ThreadEntry, now: u64, ran: u64) -> (Told, OffCpuRecord) {
        let mut record = OffCpuRecord::EMPTY;
        let missed = thread.switched_in(now, ran, &mut record);
        (told(&record, missed), record)
    }

    #[test]
    fn a_wait_lasts_from_switch_to_switch() {
        let mut thread = entry(THREAD_ON);
        let mut record = OffCpuRecord::EMPTY;
        assert!(!thread.switched_out(2000, 770, &mut record));
        let (ended, record) = switched_in(&mut thread, 2500, 770);
        assert_eq!(
            ended,
            Told {
                length: 500,
                queued: 0,
                stack: STACK,
                cause: Cause::Lock,
                missed: false
            }
        );
        assert_eq!((record.header.frames, record.header.tgid), (202, 1));
        assert_eq!((thread.on_ns, thread.off_ns), (1000, 500));
        assert_eq!(thread.state, THREAD_ON);
    }

    #[test]
    fn behind_a_wakeup_it_is_the_run_queue() {
        let mut thread = entry(THREAD_OFF);
        thread.woken(1200);
        thread.woken(1900);
        let (ended, _) = switched_in(&mut thread, 2000, 70);
        assert_eq!((ended.length, ended.queued), (1000, 800));
        // Who runs cannot be woken.
        thread.woken(2100);
        assert_eq!(thread.woken_ns, 0);
        let mut preempted = ThreadEntry {
            cause: Cause::RunQueue as u8,
            ..entry(THREAD_OFF)
        };
        preempted.woken(1200);
        let (ended, _) = switched_in(&mut preempted, 2000, 70);
        assert_eq!((ended.length, ended.queued), (1000, 1000));
    }

    #[test]
    fn a_waker_is_of_this_wait() {
        let mut thread = ThreadEntry {
            in_ns: 900,
            waker_ns: 1500,
            waker_stack: 77,
            waker_tid: 8,
            waker_tgid: 7,
            ..entry(THREAD_OFF)
        };
        let (_, record) = switched_in(&mut thread, 2000, 70);
        assert_eq!((record.wait.waker_stack, record.wait.waker_tid), (77, 8));
        let mut record = OffCpuRecord::EMPTY;
        thread.switched_out(3000, 1070, &mut record);
        let (_, mut record) = switched_in(&mut thread, 4000, 1070);
        let stale = (record.wait.waker_stack, record.wait.waker_tid);
        assert_eq!(stale, (WAKER_UNKNOWN, 0));
        // Woken while it ran, it waited for something else later.
        thread.waker_ns = 4100;
        thread.switched_out(4200 + WAKES_BEFORE_NS, 1070, &mut record);
        let (_, record) = switched_in(&mut thread, 4300 + WAKES_BEFORE_NS, 1070);
        assert_eq!(record.wait.waker_stack, WAKER_UNKNOWN);
    }

    #[test]
    fn a_switch_in_that_was_not_seen_costs_no_time() {
        let mut thread = entry(THREAD_OFF);
        let mut record = OffCpuRecord::EMPTY;
        assert!(thread.switched_out(2000, 470, &mut record));
        let ended = told(&record, true);
        assert_eq!((ended.length, ended.stack), (600, STACK));
        assert_eq!((thread.on_ns, thread.off_ns), (400, 600));
        assert_eq!(thread.state, THREAD_OFF);
        assert!(!switched_in(&mut thread, 2100, 470).0.missed);
    }

    #[test]
    fn a_switch_out_that_was_not_seen_costs_the_stack_only() {
        let (ended, _) = switched_in(&mut entry(THREAD_ON), 2000, 370);
        assert_eq!((ended.length, ended.stack), (700, STACK_UNKNOWN));
        assert!(ended.missed);
    }

    #[test]
    fn a_run_that_was_not_seen_is_not_off_the_cpu() {
        let (ended, _) = switched_in(&mut entry(THREAD_OFF), 2000, 170);
        assert_eq!((ended.length, ended.stack), (900, STACK));
        assert!(ended.missed);
    }

    #[test]
    fn the_first_event_of_a_thread() {
        // Off since before the recording.
        let (ended, record) = switched_in(&mut entry(THREAD_UNSEEN), 2000, 70);
        assert_eq!((ended.length, ended.stack), (1000, STACK_UNKNOWN));
        assert_eq!(record.header.flags, EVENT_SINCE_BEFORE);
        assert!(!ended.missed);
        // And woken before it was seen.
        let mut woken = entry(THREAD_UNSEEN);
        woken.woken(1700);
        assert_eq!(switched_in(&mut woken, 2000, 70).0.queued, 300);
        // On since before the recording.
        let mut on = entry(THREAD_UNSEEN);
        let mut record = OffCpuRecord::EMPTY;
        assert!(!on.switched_out(2000, 900, &mut record));
        assert_eq!((on.on_ns, on.off_ns), (1000, 0));
        // Made while recording.
        let mut new = ThreadEntry {
            ran_ns: 0,
            ..entry(THREAD_NEW)
        };
        let (ended, _) = switched_in(&mut new, 1300, 0);
        assert_eq!(
            ended,
            Told {
                length: 300,
                queued: 300,
                stack: STACK_OF_START,
                cause: Cause::RunQueue,
                missed: false
            }
        );
    }

    #[test]
    fn what_is_not_known_is_not_subtracted() {
        let mut thread = ThreadEntry {
            ran_ns: RAN_UNKNOWN,
            ..entry(THREAD_UNSEEN)
        };
        assert_eq!(switched_in(&mut thread, 2000, 5_000_000).0.length, 1000);
        assert_eq!(thread.ran_ns, 5_000_000);
    }

    #[test]
    fn the_end_of_a_recording() {
        let mut on = entry(THREAD_ON);
        assert_eq!(on.recording_ends(1500, 570, false), None);
        assert_eq!(on.on_ns, 500);
        assert_eq!(entry(THREAD_UNSEEN).recording_ends(1500, 570, false), None);
        let mut off = entry(THREAD_OFF);
        let (record, missed) = off.recording_ends(1500, 70, false).expect("a stretch");
        assert_eq!((told(&record, missed).length, missed), (500, false));
        let mut unseen = entry(THREAD_UNSEEN);
        let (record, missed) = unseen.recording_ends(1500, 70, true).expect("a stretch");
        assert_eq!(record.header.flags, EVENT_SINCE_BEFORE);
        assert_eq!((told(&record, missed).length, missed), (500, false));
        let (_, missed) = entry(THREAD_OFF)
            .recording_ends(1500, 90, false)
            .expect("a stretch");
        assert!(missed);
    }

    proptest! {
        /// Runs and waits by turns, of which the kernel does not report some ends. As long as it
        /// reports one end of each wait, no time is lost and none is made.
        #[test]
        fn time_adds_up(
            turns in proptest::collection::vec((1..1000u64, 1..1000u64, 0..3u8, 0..1200u64), 1..50),
        ) {
            let mut thread = ThreadEntry { since_ns: 0, ran_ns: 0, ..entry(THREAD_ON) };
            let (mut now, mut ran, mut off, mut hidden) = (0, 0, 0, 0);
            let mut stretches = Vec::new();
            let mut record = OffCpuRecord::EMPTY;
            for (run, wait, miss, woken) in &turns {
                now += run;
                ran += run;
                if *miss == 1 {
                    hidden += 1;
                } else if thread.switched_out(now, ran, &mut record) {
                    stretches.push(told(&record, true));
                }
                if woken < wait {
                    thread.woken(now + woken);
                }
                now += wait;
                off += wait;
                if *miss == 2 {
                    hidden += 1;
                } else {
                    stretches.push(switched_in(&mut thread, now, ran).0);
                }
            }
            if thread.state == THREAD_OFF {
                stretches.push(switched_in(&mut thread, now, ran).0);
            }
            let sum: u64 = stretches.iter().map(|stretch| stretch.length).sum();
            prop_assert_eq!(sum, off);
            prop_assert_eq!(thread.off_ns, off);
            prop_assert_eq!(thread.on_ns + thread.off_ns, now);
            prop_assert!(stretches.iter().all(|stretch| stretch.queued <= stretch.length));
            let missed = stretches.iter().filter(|stretch| stretch.missed).count();
            prop_assert!(missed <= hidden);
        }
    }
}
