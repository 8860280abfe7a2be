//! What threads waited for, who ended that, and who held the interpreters' locks meanwhile.

use profiler_common::cause::Cause;
use profiler_common::event::Wait;
use profiler_common::thread::{WAKER_INTERRUPT, WAKER_UNKNOWN};

use super::blame::Blame;
use super::gil::{Gils, Holder};
use super::looks::{Looks, Part};
use super::profile::{Doing, Key, Waker};
use super::tally::Tally;

/// A stretch off-CPU. Times are `CLOCK_MONOTONIC`, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    /// The thread.
    pub(super) tid: u32,
    /// Its process.
    pub(super) tgid: u32,
    /// What the part on the run queue counts for.
    pub(super) key: Key,
    /// Why the thread waited before it could run.
    pub(super) cause: Cause,
    /// The number of the system call that it waited in, or `NO_SYSCALL`.
    pub(super) syscall: u16,
    /// It had let the interpreter's lock go, and waited until another took it.
    pub(super) hands_gil_over: bool,
    /// When it was switched out.
    pub(super) from_ns: u64,
    /// When it was switched in.
    pub(super) until_ns: u64,
    /// How long it could run before that.
    pub(super) queued_ns: u64,
    /// What else the kernel says.
    pub(super) wait: Wait,
}

impl Stretch {
    fn woken_ns(&self) -> u64 {
        self.until_ns.saturating_sub(self.queued_ns)
    }
}

/// The waits of a recording.
#[derive(Debug, Default)]
pub struct Waits {
    /// The interpreters' locks.
    pub gils: Gils,
    /// Who held up whom.
    pub blame: Blame,
    looks: Looks,
    /// Who ends waits is told apart by thread.
    wakers_apart: bool,
}

impl Waits {
    /// None yet.
    #[must_use]
    pub(super) fn new(wakers_apart: bool) -> Self {
        Self {
            wakers_apart,
            ..Self::default()
        }
    }

    /// Takes a stretch, and counts it in a profile.
    pub(super) fn take(&mut self, stretch: &Stretch, tally: Option<Tally<'_>>) {
        let wait = &stretch.wait;
        let thread = (stretch.key.process, stretch.tid);
        self.gils.meet(wait.tstate, thread, wait.gil);
        let holder = self.gils.holder(wait.gil_holder);
        self.gils.see(wait.gil, stretch.from_ns, holder);
        if stretch.cause == Cause::Gil {
            let span = (stretch.from_ns, stretch.woken_ns());
            self.gils.wait(wait.gil, stretch.tid, span.0, span.1);
            self.see_gil_change(stretch);
        }
        let Some(mut tally) = tally else { return };
        let blocked_ns = stretch.woken_ns().saturating_sub(stretch.from_ns);
        if blocked_ns != 0 {
            self.blocked(stretch, blocked_ns, &mut tally);
        }
        if stretch.queued_ns != 0 {
            if stretch.cause == Cause::RunQueue && !stretch.key.holds_gil {
                let (from, until) = (stretch.from_ns, stretch.until_ns);
                self.looks.preempted(stretch.tid, from, until);
            }
            tally.wait(
                stretch.key,
                stretch.tid,
                stretch.woken_ns(),
                stretch.queued_ns,
            );
        }
    }

    /// Counts the part of a stretch in which the thread could not run.
    fn blocked(&mut self, stretch: &Stretch, blocked_ns: u64, tally: &mut Tally<'_>) {
        let Stretch {
            tid, cause, wait, ..
        } = *stretch;
        let waker = self.waker(cause, &wait);
        let doing = Doing::Waiting {
            cause,
            syscall: stretch.syscall,
            waker,
        };
        let mut part = Part {
            key: Key {
                doing,
                ..stretch.key
            },
            from_ns: stretch.from_ns,
            until_ns: stretch.until_ns,
            ns: blocked_ns,
        };
        if stretch.hands_gil_over
            && let Some(taken) = self.looks.took(wait.waker_tid)
        {
            // One that looked at the lock just then has it from this thread.
            let own = Waker {
                stack: stretch.key.stack,
                tgid: stretch.tgid,
                tid: if self.wakers_apart { tid } else { 0 },
            };
            self.ended_by(wait.waker_tid, taken, (own, tid), tally);
        }
        if cause == Cause::Gil {
            let (joined, other) = self.looks.join(tid, part);
            part = joined;
            if let Some(other) = other {
                tally.wait(other.key, tid, other.from_ns, other.ns);
            }
        }
        if cause == Cause::Gil && wait.waker_stack == WAKER_INTERRUPT {
            self.looks.keep(tid, part);
        } else {
            part.until_ns = stretch.woken_ns();
            self.ended_by(tid, part, (waker, wait.waker_tid), tally);
        }
    }

    /// Counts a wait, as ended by a thread.
    fn ended_by(
        &mut self,
        tid: u32,
        mut part: Part,
        (by, waker_tid): (Waker, u32),
        tally: &mut Tally<'_>,
    ) {
        if let Doing::Waiting { cause, waker, .. } = &mut part.key.doing {
            *waker = by;
            let span = (part.from_ns, part.until_ns);
            self.blame
                .wait(tid, *cause, part.key.stack, span, by, waker_tid);
        }
        tally.wait(part.key, tid, part.from_ns, part.ns);
    }

    /// What the end of a wait for the interpreter's lock says of who has it: somebody let it go, and
    /// the thread takes it when it runs. If another is faster, the thread waits again at once, and
    /// sees that.
    fn see_gil_change(&mut self, stretch: &Stretch) {
        let wait = &stretch.wait;
        // By a timer, or not at all: nothing changed.
        if wait.waker_tid == 0 {
            return;
        }
        let woken_ns = stretch.woken_ns();
        if stretch.hands_gil_over {
            let taker = Holder::Thread(wait.waker_tid);
            self.gils.change(wait.gil, woken_ns, taker);
            return;
        }
        self.gils.change(wait.gil, woken_ns, Holder::Free);
        let own = Holder::Thread(stretch.tid);
        self.gils.change(wait.gil, stretch.until_ns, own);
    }

    /// The thread is there no more.
    pub(super) fn end(&mut self, tid: u32) {
        self.blame.end(tid);
    }

    /// Nothing more will come.
    pub(super) fn finish(&mut self, mut tally: Tally<'_>) {
        for (tid, part) in self.looks.finish() {
            tally.wait(part.key, tid, part.from_ns, part.ns);
        }
        self.gils.finish();
    }

    /// Who ended a wait, as far as it is told apart.
    fn waker(&self, cause: Cause, wait: &Wait) -> Waker {
        match wait.waker_stack {
            WAKER_UNKNOWN => Waker::default(),
            // One who waits for the interpreter's lock looks again now and then: a timer's doing.
            WAKER_INTERRUPT if cause == Cause::Gil => Waker::default(),
            // Whom it interrupted has nothing to do with it.
            WAKER_INTERRUPT => Waker {
                stack: WAKER_INTERRUPT,
                ..Waker::default()
            },
            stack => Waker {
                stack,
                tgid: wait.waker_tgid,
                tid: if self.wakers_apart { wait.waker_tid } else { 0 },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::profile::{Profile, Unit};

    const STACK: u64 = 100;

    fn stretch(tid: u32, cause: Cause, (from_ns, woken_ns, until_ns): (u64, u64, u64)) -> Stretch {
        Stretch {
            tid,
            tgid: 1,
            key: Key {
                process: 1,
                tid: 0,
                stack: STACK + u64::from(tid),
                doing: Doing::queued(),
                holds_gil: false,
            },
            cause,
            syscall: 202,
            hands_gil_over: false,
            from_ns,
            until_ns,
            queued_ns: until_ns - woken_ns,
            wait: Wait::default(),
        }
    }

    fn weights(profile: &Profile, cause: Cause) -> (u64, u64) {
        let fits =
            |doing: Doing| matches!(doing, Doing::Waiting { cause: found, .. } if found == cause);
        let all = profile.weights().filter(|(key, _)| fits(key.doing));
        all.fold((0, 0), |sum, (_, weight)| {
            (sum.0 + weight.ns, sum.1 + weight.count)
        })
    }

    #[test]
    fn a_wait_and_the_run_queue_behind_it() {
        let mut waits = Waits::new(false);
        let mut profile = Profile::new(Unit::Time);
        waits.take(
            &stretch(7, Cause::Lock, (100, 180, 200)),
            Some(Tally::of(&mut profile)),
        );
        assert_eq!(weights(&profile, Cause::Lock), (80, 1));
        assert_eq!(weights(&profile, Cause::RunQueue), (20, 1));
        waits.take(&stretch(7, Cause::Lock, (300, 380, 400)), None);
        assert_eq!(profile.total(), 100);
    }

    #[test]
    fn looks_at_the_gil_are_one_wait_ended_by_the_last_waker() {
        let mut waits = Waits::new(true);
        let mut profile = Profile::new(Unit::Time);
        let timer = Wait {
            gil: 1,
            waker_stack: WAKER_INTERRUPT,
            ..Wait::default()
        };
        let first = Stretch {
            wait: timer,
            ..stretch(7, Cause::Gil, (0, 5_000_000, 5_000_000))
        };
        waits.take(&first, Some(Tally::of(&mut profile)));
        assert_eq!(weights(&profile, Cause::Gil), (0, 0));
        let last = Stretch {
            wait: Wait {
                waker_stack: 99,
                waker_tid: 8,
                ..timer
            },
            ..stretch(7, Cause::Gil, (5_010_000, 6_000_000, 6_000_000))
        };
        waits.take(&last, Some(Tally::of(&mut profile)));
        waits.finish(Tally::of(&mut profile));
        assert_eq!(weights(&profile, Cause::Gil), (5_990_000, 1));
        let of = waits.blame.of(Cause::Gil, STACK + 7).expect("known");
        assert_eq!(of.get(&99), Some(&6_000_000));
        assert_eq!(waits.gils.wanted()[0].1.wanted_ns, 5_990_000);
    }
}
