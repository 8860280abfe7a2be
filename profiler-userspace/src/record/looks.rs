//! Waits for the interpreter's lock as their threads mean them: one who waits looks at the lock again
//! every 5 ms (`take_gil` in `Python/ceval_gil.c`), so that a long wait is a train of short ones. All
//! but the last end by a timer; who ends that one, ends all.

use std::collections::HashMap;

use super::profile::Key;

/// What a thread runs between two waits of a train is less, in nanoseconds: two system calls.
const LOOK_NS: u64 = 1_000_000;

/// Some waits of a train, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// What they count for.
    pub(super) key: Key,
    /// When the first began, `CLOCK_MONOTONIC` nanoseconds.
    pub(super) from_ns: u64,
    /// When the thread was on a CPU again behind the last.
    pub(super) until_ns: u64,
    /// How long they were, nanoseconds; without the run queue.
    pub(super) ns: u64,
}

/// The trains that have not ended, by thread.
#[derive(Debug, Default)]
pub(super) struct Looks {
    by_thread: HashMap<u32, Part>,
}

impl Looks {
    /// A wait of a thread, with what came before it; and what was before, if it is none of that.
    pub(super) fn join(&mut self, tid: u32, part: Part) -> (Part, Option<Part>) {
        match self.by_thread.remove(&tid) {
            Some(earlier)
                if earlier.key.stack == part.key.stack
                    && part.from_ns.saturating_sub(earlier.until_ns) < LOOK_NS =>
            {
                let joined = Part {
                    from_ns: earlier.from_ns,
                    ns: earlier.ns + part.ns,
                    ..part
                };
                (joined, None)
            }
            other => (part, other),
        }
    }

    /// A thread looks at the lock.
    pub(super) fn keep(&mut self, tid: u32, part: Part) {
        self.by_thread.insert(tid, part);
    }

    /// A thread that looks at the lock had no CPU from `from_ns` to `to_ns`.
    pub(super) fn preempted(&mut self, tid: u32, from_ns: u64, to_ns: u64) {
        if let Some(part) = self.by_thread.get_mut(&tid)
            && from_ns.saturating_sub(part.until_ns) < LOOK_NS
        {
            part.until_ns = to_ns;
        }
    }

    /// A thread looked at the lock, and has it.
    pub(super) fn took(&mut self, tid: u32) -> Option<Part> {
        self.by_thread.remove(&tid)
    }

    /// Nothing more will come: what is left.
    pub(super) fn finish(&mut self) -> Vec<(u32, Part)> {
        self.by_thread.drain().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::profile::Doing;

    fn part(stack: u64, from_ns: u64, until_ns: u64) -> Part {
        Part {
            key: Key {
                process: 1,
                tid: 0,
                stack,
                doing: Doing::queued(),
                holds_gil: false,
            },
            from_ns,
            until_ns,
            ns: until_ns - from_ns,
        }
    }

    #[test]
    fn one_behind_the_other() {
        let mut looks = Looks::default();
        let (first, other) = looks.join(7, part(1, 0, 5_000_000));
        assert_eq!((first, other), (part(1, 0, 5_000_000), None));
        looks.keep(7, first);
        // Another thread's.
        let (another, other) = looks.join(8, part(1, 5_010_000, 5_020_000));
        assert_eq!((another.ns, other), (10_000, None));
        let (second, other) = looks.join(7, part(1, 5_010_000, 9_010_000));
        assert_eq!((second.from_ns, second.ns, other), (0, 9_000_000, None));
        looks.keep(7, second);
        assert_eq!(looks.finish(), [(7, second)]);
    }

    #[test]
    fn a_look_that_takes_long() {
        let mut looks = Looks::default();
        looks.keep(7, part(1, 0, 5_000_000));
        looks.preempted(7, 5_010_000, 8_000_000);
        looks.preempted(8, 5_010_000, 8_000_000);
        let (joined, _) = looks.join(7, part(1, 8_010_000, 9_010_000));
        assert_eq!(joined.ns, 6_000_000);
        looks.keep(7, joined);
        assert_eq!(looks.took(7), Some(joined));
        assert_eq!(looks.took(7), None);
    }

    #[test]
    fn another_place_or_time_is_another_wait() {
        for next in [part(2, 5_010_000, 6_000_000), part(1, 6_010_000, 7_000_000)] {
            let mut looks = Looks::default();
            looks.keep(7, part(1, 0, 5_000_000));
            let joined = looks.join(7, next);
            assert_eq!(joined, (next, Some(part(1, 0, 5_000_000))));
            assert!(looks.finish().is_empty());
        }
    }
}
