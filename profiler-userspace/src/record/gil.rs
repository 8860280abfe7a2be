//! The interpreters' locks over a recording: how long threads waited for one, and who held it
//! meanwhile.
//!
//! Each thread that is switched out says who held its lock then. One who lets it go wakes a thread
//! that waits, or waits itself until another has it (`drop_gil` in `Python/ceval_gil.c`), one who is
//! woken takes it, and one who waits looks again every 5 ms: while anybody waits, no change passes by
//! for long.

use std::collections::{BTreeMap, HashMap};

use super::accounts::ThreadId;
use super::processes::ProcessId;

/// What was seen of one lock and not counted yet: at most so many waits.
const PENDING: usize = 1 << 16;
/// Waits that began earlier than this before the newest, in nanoseconds, and have not been told, are
/// rare: a wait lasts 5 ms at most if the interpreter gets a CPU.
const SETTLED_AFTER_NS: u64 = 1_000_000_000;

/// One who is woken takes the lock within this time, in nanoseconds: that somebody saw it free
/// meanwhile is no news.
const TAKES_WITHIN_NS: u64 = 100_000;

/// A thread that may hold the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Holder {
    /// Nobody.
    Free,
    /// A thread.
    Thread(u32),
    /// A thread state that belongs to no thread that was seen.
    Unknown,
}

/// Who held a lock at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sight {
    at_ns: u64,
    /// It is taken now, or let go now; else it was looked at only.
    changes: bool,
    holder: Holder,
}

/// One lock over the recording. Times are `CLOCK_MONOTONIC`, in nanoseconds.
#[derive(Debug, Default)]
pub struct Timeline {
    seen: Vec<Sight>,
    /// From when to when somebody waited.
    waits: Vec<(u64, u64)>,
    /// The last of what was counted.
    last: Option<Sight>,
    counted_to: u64,
    newest: u64,
    /// How long anybody waited for it.
    pub wanted_ns: u64,
    /// How long each held it meanwhile.
    pub held_while_wanted: BTreeMap<Holder, u64>,
    /// How long each thread waited for it.
    pub waited: BTreeMap<u32, u64>,
}

impl Timeline {
    /// Somebody saw at `now_ns` who held the lock.
    pub fn see(&mut self, now_ns: u64, holder: Holder) {
        self.push(now_ns, holder, false);
    }

    /// The lock changed hands at `now_ns`.
    pub fn change(&mut self, now_ns: u64, holder: Holder) {
        self.push(now_ns, holder, true);
    }

    fn push(&mut self, at_ns: u64, holder: Holder, changes: bool) {
        self.seen.push(Sight {
            at_ns,
            changes,
            holder,
        });
        self.newest = self.newest.max(at_ns);
        if self.seen.len() >= 4 * PENDING {
            self.count(self.newest.saturating_sub(SETTLED_AFTER_NS));
        }
    }

    /// A thread waited for the lock.
    pub fn wait(&mut self, tid: u32, from_ns: u64, to_ns: u64) {
        *self.waited.entry(tid).or_default() += to_ns.saturating_sub(from_ns);
        self.waits.push((from_ns, to_ns));
        self.newest = self.newest.max(to_ns);
        if self.waits.len() >= PENDING {
            self.count(self.newest.saturating_sub(SETTLED_AFTER_NS));
            // More in one second than that: what is told later is counted late.
            if self.waits.len() >= PENDING {
                self.count(self.newest);
            }
        }
    }

    /// Nothing more will come.
    pub fn finish(&mut self) {
        self.count(u64::MAX);
    }

    /// Counts all up to `to`.
    fn count(&mut self, to: u64) {
        // At one time: what was seen, then what changes, as where one who let it go is switched out
        // for the one who takes it.
        self.seen.sort_unstable();
        self.waits.sort_unstable();
        let mut later = Vec::new();
        let mut covered = self.counted_to;
        let mut seen = self.seen.iter().copied().peekable();
        let mut last = self.last;
        for (from, until) in self.waits.drain(..) {
            if until > to {
                later.push((from.max(to), until));
            }
            // What was counted already is not counted again: neither of this lock's waits at one
            // time, nor of one that is told late.
            let mut at = from.max(covered);
            let end = until.min(to);
            while at < end {
                while let Some(next) = seen.next_if(|sight| sight.at_ns <= at) {
                    last = follow(last, next);
                }
                let change = seen.peek().map_or(end, |sight| sight.at_ns.min(end));
                let length = change - at;
                self.wanted_ns += length;
                let who = last.map_or(Holder::Unknown, |sight| sight.holder);
                *self.held_while_wanted.entry(who).or_default() += length;
                at = change;
            }
            covered = covered.max(end);
        }
        self.waits = later;
        let settled = self.seen.partition_point(|sight| sight.at_ns <= to);
        for sight in self.seen.drain(..settled) {
            self.last = follow(self.last, sight);
        }
        self.counted_to = self.counted_to.max(covered);
    }
}

/// What holds after `next`, when `last` held before.
fn follow(last: Option<Sight>, next: Sight) -> Option<Sight> {
    let taking = last.filter(|last| {
        last.changes
            && last.holder != Holder::Free
            && next.at_ns.saturating_sub(last.at_ns) < TAKES_WITHIN_NS
    });
    match taking {
        Some(last) if !next.changes && next.holder == Holder::Free => Some(last),
        _ => Some(next),
    }
}

/// All locks of a recording, and whose thread states are whose.
#[derive(Debug, Default)]
pub struct Gils {
    by_address: HashMap<u64, Timeline>,
    threads: HashMap<u64, Owner>,
}

/// Whose a thread state is.
#[derive(Clone, Copy, Debug)]
struct Owner {
    process: ProcessId,
    tid: u32,
    /// Its interpreter's lock; 0 where it was not seen.
    gil: u64,
}

impl Gils {
    /// A thread state is a thread's, and its lock is the one at `gil`.
    pub fn meet(&mut self, tstate: u64, (process, tid): ThreadId, gil: u64) {
        if tstate != 0 {
            self.threads.insert(tstate, Owner { process, tid, gil });
        }
    }

    /// A thread ran at `now_ns`, and held its lock or did not.
    pub fn sample(&mut self, tstate: u64, thread: ThreadId, now_ns: u64, holds: bool) {
        if tstate == 0 {
            return;
        }
        let (process, tid) = thread;
        let new = Owner {
            process,
            tid,
            gil: 0,
        };
        let owner = self.threads.entry(tstate).or_insert(new);
        owner.tid = tid;
        let gil = owner.gil;
        if holds {
            self.see(gil, now_ns, Holder::Thread(tid));
        }
    }

    /// A process has ended: its thread states are nobody's.
    pub fn forget(&mut self, process: ProcessId) {
        self.threads.retain(|_, owner| owner.process != process);
    }

    /// Whose a thread state is; 0 is nobody's.
    #[must_use]
    pub fn holder(&self, tstate: u64) -> Holder {
        match (tstate, self.threads.get(&tstate)) {
            (0, _) => Holder::Free,
            (_, Some(owner)) => Holder::Thread(owner.tid),
            (_, None) => Holder::Unknown,
        }
    }

    /// The lock at `gil` was held so at `now_ns`.
    pub fn see(&mut self, gil: u64, now_ns: u64, holder: Holder) {
        if gil != 0 {
            self.by_address.entry(gil).or_default().see(now_ns, holder);
        }
    }

    /// The lock at `gil` changed hands at `now_ns`.
    pub fn change(&mut self, gil: u64, now_ns: u64, holder: Holder) {
        let timeline = self.by_address.entry(gil).or_default();
        timeline.change(now_ns, holder);
    }

    /// A thread waited for the lock at `gil`.
    pub fn wait(&mut self, gil: u64, tid: u32, from_ns: u64, to_ns: u64) {
        self.by_address
            .entry(gil)
            .or_default()
            .wait(tid, from_ns, to_ns);
    }

    /// Nothing more will come.
    pub fn finish(&mut self) {
        for timeline in self.by_address.values_mut() {
            timeline.finish();
        }
    }

    /// The locks that somebody waited for, the one with the most waiting first, each with its process,
    /// if that is still there.
    #[must_use]
    pub fn wanted(&self) -> Vec<(Option<ProcessId>, &Timeline)> {
        let wanted = self.by_address.iter();
        let mut all: Vec<_> = wanted
            .filter(|(_, timeline)| timeline.wanted_ns != 0)
            .collect();
        all.sort_by_key(|(_, timeline)| std::cmp::Reverse(timeline.wanted_ns));
        let owners = || self.threads.values();
        all.into_iter()
            .map(|(gil, timeline)| {
                let owner = owners().find(|owner| owner.gil == *gil);
                (owner.map(|owner| owner.process), timeline)
            })
            .collect()
    }

    /// How many locks were seen.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_address.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_held_it_while_others_waited() {
        let mut gil = Timeline::default();
        // Told out of order, as threads are switched in.
        gil.see(150, Holder::Thread(2));
        gil.see(100, Holder::Thread(1));
        gil.wait(2, 100, 150);
        gil.wait(1, 150, 200);
        gil.wait(3, 110, 180);
        gil.see(180, Holder::Free);
        gil.see(300, Holder::Thread(1));
        gil.finish();
        assert_eq!(gil.wanted_ns, 100);
        assert_eq!(
            gil.held_while_wanted,
            BTreeMap::from([
                (Holder::Thread(1), 50),
                (Holder::Thread(2), 30),
                (Holder::Free, 20)
            ])
        );
        assert_eq!(gil.waited, BTreeMap::from([(1, 50), (2, 50), (3, 70)]));
    }

    #[test]
    fn one_who_is_woken_takes_it() {
        let mut gil = Timeline::default();
        gil.see(0, Holder::Thread(1));
        gil.wait(3, 0, 5_000_000);
        // 1 lets it go and is switched out for 2, which takes it; 4 looks before it did.
        gil.change(1_000_000, Holder::Free);
        gil.change(1_010_000, Holder::Thread(2));
        gil.see(1_010_000, Holder::Free);
        gil.see(1_012_000, Holder::Free);
        // And much later it is free.
        gil.see(3_000_000, Holder::Free);
        gil.finish();
        assert_eq!(
            gil.held_while_wanted,
            BTreeMap::from([
                (Holder::Thread(1), 1_000_000),
                (Holder::Free, 10_000 + 2_000_000),
                (Holder::Thread(2), 1_990_000)
            ])
        );
    }

    #[test]
    fn thread_states_are_of_threads() {
        let mut gils = Gils::default();
        gils.meet(0x100, (1, 7), 1);
        gils.see(1, 10, gils.holder(0x100));
        gils.wait(1, 8, 10, 30);
        gils.see(1, 20, gils.holder(0x200));
        gils.see(0, 20, Holder::Free);
        assert_eq!(gils.holder(0), Holder::Free);
        gils.finish();
        let wanted = gils.wanted();
        assert_eq!(wanted.len(), 1);
        assert_eq!(wanted[0].0, Some(1));
        assert_eq!(
            wanted[0].1.held_while_wanted,
            BTreeMap::from([(Holder::Thread(7), 10), (Holder::Unknown, 10)])
        );
    }

    proptest! {
        /// Counted in pieces is the same as counted at once.
        #[test]
        fn pieces(
            waits in proptest::collection::vec((0..1000u64, 1..50u64, 1..5u32), 0..60),
            seen in proptest::collection::vec((0..1000u64, 0..4u32), 0..60),
            cut in 0..1000u64,
        ) {
            let whole = |cut: Option<u64>| {
                let mut gil = Timeline::default();
                for (at, tid) in &seen {
                    gil.see(*at, if *tid == 0 { Holder::Free } else { Holder::Thread(*tid) });
                }
                for (from, length, tid) in &waits {
                    gil.wait(*tid, *from, from + length);
                }
                if let Some(cut) = cut {
                    gil.count(cut);
                }
                gil.finish();
                (gil.wanted_ns, gil.held_while_wanted, gil.waited)
            };
            let (wanted, held, waited) = whole(None);
            prop_assert_eq!(held.values().sum::<u64>(), wanted);
            let mut covered = std::collections::BTreeSet::new();
            for (from, length, _) in &waits {
                covered.extend(*from..from + length);
            }
            prop_assert_eq!(covered.len() as u64, wanted);
            prop_assert_eq!(whole(Some(cut)), (wanted, held, waited));
        }
    }
}
