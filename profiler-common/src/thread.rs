//! What the kernel keeps of each target thread while off-CPU time is recorded, and how two events
//! of a thread become a stretch of time off the CPUs.
//!
//! A kernel may leave a switch out: the one at hand when this was written never reports that the
//! threads of its first process are switched out, so the thread that comes after one of them is
//! never seen to be switched in. The scheduler's own accounting says then what was not seen: of
//! the time between two events, what the thread did not run, it was off-CPU.

use crate::event::EVENT_SINCE_BEFORE;

/// No event of this thread was seen yet.
pub const THREAD_UNSEEN: u32 = 0;
/// The thread runs.
pub const THREAD_ON: u32 = 1;
/// The thread was switched out.
pub const THREAD_OFF: u32 = 2;
/// The thread was made while recording and has not run yet.
pub const THREAD_NEW: u32 = 3;

/// In place of a stack's hash: a thread that was made while recording and has not run yet.
pub const STACK_OF_START: u64 = 0;
/// In place of a stack's hash: where the thread was switched out was not seen.
pub const STACK_UNKNOWN: u64 = 1;

/// Slots of the map `TRACKED`, a power of two: a thread's is its tid modulo this.
pub const TRACKED_SLOTS: usize = 1 << 14;

/// The slot of a thread in the map `TRACKED`.
#[inline(always)]
#[must_use]
pub fn tracked_slot(tid: u32) -> u32 {
    tid & (TRACKED_SLOTS as u32 - 1)
}

/// Why a thread is off-CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum OffReason {
    /// It waits for something.
    Blocked = 0,
    /// It could run: preempted, or out of its quota.
    RunQueue = 1,
}

impl OffReason {
    /// From the wire; what is not known counts as blocked.
    #[must_use]
    pub fn from_u32(raw: u32) -> Self {
        if raw == Self::RunQueue as u32 {
            Self::RunQueue
        } else {
            Self::Blocked
        }
    }
}

/// One thread: the value of the map `THREADS`, by tid. Userspace and the fork program insert it;
/// `sched_switch` only changes it in place. A thread is switched on one CPU at a time, under the
/// run queue's lock, so no two writers meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ThreadEntry {
    /// The process.
    pub tgid: u32,
    /// One of `THREAD_*`.
    pub state: u32,
    /// `CLOCK_MONOTONIC` of the last event, in nanoseconds.
    pub since_ns: u64,
    /// What the thread had run by then, in nanoseconds (`task_struct.se.sum_exec_runtime`);
    /// [`RAN_UNKNOWN`] where userspace could not tell.
    pub ran_ns: u64,
    /// Hash of the stack it was switched out at.
    pub stack: u64,
    /// An [`OffReason`].
    pub reason: u32,
    /// Generation of the process at the switch-out.
    pub generation: u32,
}

/// In place of [`ThreadEntry::ran_ns`]: not known, so that no difference to it is ever seen.
pub const RAN_UNKNOWN: u64 = u64::MAX;

const _: () = assert!(size_of::<ThreadEntry>() == 40);

// SAFETY: no padding (the size above), every bit pattern is a value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for ThreadEntry {}

/// A stretch off-CPU that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Its length, in nanoseconds.
    pub length_ns: u64,
    /// Hash of the stack that the thread was switched out at, or a `STACK_*`.
    pub stack: u64,
    /// Generation of the process at the switch-out.
    pub generation: u32,
    /// An [`OffReason`].
    pub reason: u32,
    /// `EVENT_*` bits.
    pub flags: u8,
    /// A switch before this event was not seen.
    pub missed: bool,
}

impl ThreadEntry {
    /// What the thread ran since the last event and nobody saw, in nanoseconds, when it had run
    /// `ran_ns` by now.
    #[inline(always)]
    #[must_use]
    pub fn ran_unseen(&self, ran_ns: u64) -> u64 {
        ran_ns.saturating_sub(self.ran_ns)
    }

    /// The stretch off-CPU from the last event to now, for a thread that was not seen to run.
    #[inline(always)]
    fn stretch(&self, now_ns: u64, ran_ns: u64, missed: bool) -> Stretch {
        let ran = self.ran_unseen(ran_ns);
        let length_ns = now_ns.saturating_sub(self.since_ns).saturating_sub(ran);
        let (stack, reason) = match self.state {
            THREAD_OFF => (self.stack, self.reason),
            THREAD_NEW => (STACK_OF_START, OffReason::RunQueue as u32),
            _ => (STACK_UNKNOWN, OffReason::Blocked as u32),
        };
        let before = self.state == THREAD_UNSEEN;
        Stretch {
            length_ns,
            stack,
            generation: self.generation,
            reason,
            flags: if before { EVENT_SINCE_BEFORE } else { 0 },
            // What ran before the first event was seen by nobody, and nothing is wrong with that.
            missed: missed || (ran != 0 && !before),
        }
    }

    /// The thread is switched in at `now_ns`, having run `ran_ns` in all. Returns the stretch
    /// that ends.
    #[inline(always)]
    pub fn switched_in(&mut self, now_ns: u64, ran_ns: u64) -> Stretch {
        let ended = self.stretch(now_ns, ran_ns, self.state == THREAD_ON);
        self.state = THREAD_ON;
        self.since_ns = now_ns;
        self.ran_ns = ran_ns;
        ended
    }

    /// The thread is switched out at `now_ns`, having run `ran_ns` in all; the caller fills in
    /// where and why. Returns the stretch before that, when its end was not seen.
    ///
    /// The first event of a thread is taken for the end of a run that began before the recording.
    #[inline(always)]
    pub fn switched_out(&mut self, now_ns: u64, ran_ns: u64) -> Option<Stretch> {
        let seen_to_run = self.state == THREAD_ON || self.state == THREAD_UNSEEN;
        let ended = (!seen_to_run).then(|| self.stretch(now_ns, ran_ns, true));
        self.state = THREAD_OFF;
        self.since_ns = now_ns;
        self.ran_ns = ran_ns;
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const STACK: u64 = 0xabcd;

    fn entry(state: u32) -> ThreadEntry {
        ThreadEntry {
            tgid: 1,
            state,
            since_ns: 1000,
            ran_ns: 70,
            stack: STACK,
            reason: OffReason::Blocked as u32,
            generation: 3,
        }
    }

    #[test]
    fn from_switch_out_to_switch_in() {
        let mut thread = entry(THREAD_ON);
        assert_eq!(thread.switched_out(2000, 1070), None);
        let ended = thread.switched_in(2500, 1070);
        let expected = Stretch {
            length_ns: 500,
            stack: STACK,
            generation: 3,
            reason: OffReason::Blocked as u32,
            flags: 0,
            missed: false,
        };
        assert_eq!(ended, expected);
        assert_eq!(thread.state, THREAD_ON);
    }

    #[test]
    fn a_switch_in_that_was_not_seen_costs_no_time() {
        // Off from 1000 to 1600, on from then to 2000.
        let mut thread = entry(THREAD_OFF);
        let ended = thread.switched_out(2000, 470).expect("a stretch");
        assert_eq!((ended.length_ns, ended.stack), (600, STACK));
        assert!(ended.missed);
        assert_eq!(thread.state, THREAD_OFF);
        assert!(!thread.switched_in(2100, 470).missed);
    }

    #[test]
    fn a_switch_out_that_was_not_seen_costs_the_stack_only() {
        let mut thread = entry(THREAD_ON);
        let ended = thread.switched_in(2000, 370);
        assert_eq!((ended.length_ns, ended.stack), (700, STACK_UNKNOWN));
        assert!(ended.missed);
    }

    #[test]
    fn a_run_that_was_not_seen_is_not_off_the_cpu() {
        let mut thread = entry(THREAD_OFF);
        let ended = thread.switched_in(2000, 170);
        assert_eq!((ended.length_ns, ended.stack), (900, STACK));
        assert!(ended.missed);
    }

    #[test]
    fn the_first_event_of_a_thread() {
        // Off since before the recording.
        let ended = entry(THREAD_UNSEEN).switched_in(2000, 70);
        assert_eq!((ended.length_ns, ended.stack), (1000, STACK_UNKNOWN));
        assert_eq!(ended.flags, EVENT_SINCE_BEFORE);
        assert!(!ended.missed);
        // On since before the recording.
        assert_eq!(entry(THREAD_UNSEEN).switched_out(2000, 900), None);
        // Made while recording.
        let mut new = ThreadEntry {
            ran_ns: 0,
            ..entry(THREAD_NEW)
        };
        let ended = new.switched_in(1300, 0);
        assert_eq!((ended.length_ns, ended.stack), (300, STACK_OF_START));
        assert_eq!(ended.reason, OffReason::RunQueue as u32);
        assert!(!ended.missed);
    }

    #[test]
    fn what_is_not_known_is_not_subtracted() {
        let mut thread = ThreadEntry {
            ran_ns: RAN_UNKNOWN,
            ..entry(THREAD_UNSEEN)
        };
        assert_eq!(thread.switched_in(2000, 5_000_000).length_ns, 1000);
        assert_eq!(thread.ran_ns, 5_000_000);
    }

    proptest! {
        /// Runs and waits by turns, of which the kernel does not report some ends. As long as it
        /// reports one end of each wait, no time is lost and none is made.
        #[test]
        fn time_off_the_cpu_adds_up(
            turns in proptest::collection::vec((1..1000u64, 1..1000u64, 0..3u8), 1..50),
        ) {
            let mut thread = ThreadEntry { ran_ns: 0, since_ns: 0, ..entry(THREAD_ON) };
            let (mut now, mut ran, mut off, mut hidden) = (0, 0, 0, 0);
            let mut stretches = Vec::new();
            for (run, wait, miss) in &turns {
                now += run;
                ran += run;
                if *miss == 1 {
                    hidden += 1;
                } else {
                    stretches.extend(thread.switched_out(now, ran));
                }
                now += wait;
                off += wait;
                if *miss == 2 {
                    hidden += 1;
                } else {
                    stretches.push(thread.switched_in(now, ran));
                }
            }
            if thread.state == THREAD_OFF {
                stretches.push(thread.switched_in(now, ran));
            }
            let told: u64 = stretches.iter().map(|stretch| stretch.length_ns).sum();
            prop_assert_eq!(told, off);
            let missed = stretches.iter().filter(|stretch| stretch.missed).count();
            prop_assert!(missed <= hidden);
        }
    }
}
