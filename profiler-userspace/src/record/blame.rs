//! Who held up a thread that waited for a lock: not always the one who ended the wait. Of several
//! threads that wait, the one that gets the lock first ends the wait of the next, having waited
//! itself all the time: what held both up is who ended *its* wait.

use std::collections::HashMap;

use profiler_common::cause::Cause;

use super::profile::Waker;

/// Parts of a wait that are told apart at most.
const PARTS: usize = 16;

/// A part of a wait, until a time (`CLOCK_MONOTONIC`, nanoseconds), and the stack of who held it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    until_ns: u64,
    stack: u64,
}

/// The last wait of a thread.
#[derive(Clone, Debug)]
struct Last {
    from_ns: u64,
    parts: Vec<Part>,
}

/// Who held up whom.
#[derive(Debug, Default)]
pub struct Blame {
    /// The last wait of each thread for each kind of lock: who has one may wait for the other.
    last: HashMap<(u32, Cause), Last>,
    held_up: HashMap<(Cause, u64), HashMap<u64, u64>>,
}

impl Blame {
    /// A thread waited at a stack until somebody ended it.
    pub fn wait(
        &mut self,
        tid: u32,
        cause: Cause,
        stack: u64,
        (from_ns, until_ns): (u64, u64),
        waker: Waker,
        waker_tid: u32,
    ) {
        if !waker.is_known() {
            return;
        }
        let own = Part {
            until_ns,
            stack: waker.stack,
        };
        let mut parts: Vec<Part> = Vec::new();
        // Only a thread that holds something lets others wait longer by waiting for that kind.
        if matches!(cause, Cause::Lock | Cause::Gil)
            && let Some(last) = self.last.get(&(waker_tid, cause))
            && last.from_ns < until_ns
        {
            let before = last.parts.iter().copied();
            parts.extend(before.filter(|part| part.until_ns > from_ns && part.until_ns < until_ns));
        }
        parts.push(own);
        if parts.len() > PARTS {
            parts.drain(..parts.len() - PARTS);
        }
        let place = self.held_up.entry((cause, stack)).or_default();
        let mut at = from_ns;
        for part in &parts {
            *place.entry(part.stack).or_default() += part.until_ns.saturating_sub(at);
            at = at.max(part.until_ns);
        }
        if matches!(cause, Cause::Lock | Cause::Gil) {
            self.last.insert((tid, cause), Last { from_ns, parts });
        }
    }

    /// The thread is there no more.
    pub fn end(&mut self, tid: u32) {
        for cause in [Cause::Lock, Cause::Gil] {
            self.last.remove(&(tid, cause));
        }
    }

    /// Who held up the threads that waited at a stack: nanoseconds by stack.
    #[must_use]
    pub fn of(&self, cause: Cause, stack: u64) -> Option<&HashMap<u64, u64>> {
        self.held_up.get(&(cause, stack))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waker(stack: u64) -> Waker {
        Waker {
            stack,
            ..Waker::default()
        }
    }

    const PLACE: u64 = 500;

    #[test]
    fn a_convoy_is_held_up_by_who_was_first() {
        let mut blame = Blame::default();
        // 9 holds the lock until 1080; 1 gets it, and passes it on at 1081 to 2, and so on.
        blame.wait(1, Cause::Lock, PLACE, (1000, 1080), waker(99), 9);
        blame.wait(2, Cause::Lock, PLACE, (1010, 1081), waker(98), 1);
        blame.wait(3, Cause::Lock, PLACE, (1020, 1082), waker(98), 2);
        let held_up = blame.of(Cause::Lock, PLACE).expect("known");
        assert_eq!(held_up.get(&99), Some(&(80 + 70 + 60)));
        assert_eq!(held_up.get(&98), Some(&(1 + 2)));
    }

    /// One who gets the lock, and waits for the interpreter's before it lets the lock go.
    #[test]
    fn waits_of_another_kind_do_not_hide_who_was_first() {
        let mut blame = Blame::default();
        blame.wait(1, Cause::Lock, PLACE, (1000, 1080), waker(99), 9);
        blame.wait(1, Cause::Gil, PLACE, (1081, 1086), waker(97), 8);
        blame.wait(1, Cause::Sleep, PLACE, (1087, 1088), waker(96), 0);
        blame.wait(2, Cause::Lock, PLACE, (1010, 1090), waker(98), 1);
        let held_up = blame.of(Cause::Lock, PLACE).expect("known");
        assert_eq!(held_up.get(&99), Some(&(80 + 70)));
        assert_eq!(held_up.get(&98), Some(&10));
        blame.end(1);
        assert_eq!(blame.last.len(), 1);
    }

    #[test]
    fn what_was_over_or_is_of_another_kind_has_no_part() {
        let mut blame = Blame::default();
        blame.wait(1, Cause::Lock, PLACE, (1000, 1080), waker(99), 9);
        blame.wait(2, Cause::Lock, PLACE, (1100, 1200), waker(98), 1);
        blame.wait(3, Cause::Gil, PLACE, (1000, 1100), waker(97), 1);
        let locks = blame.of(Cause::Lock, PLACE).expect("known");
        assert_eq!(locks, &HashMap::from([(99, 80), (98, 100)]));
        let gil = blame.of(Cause::Gil, PLACE).expect("known");
        assert_eq!(gil, &HashMap::from([(97, 100)]));
        blame.wait(4, Cause::Lock, PLACE, (0, 9), Waker::default(), 0);
        assert_eq!(blame.of(Cause::Lock, PLACE).map(HashMap::len), Some(2));
    }

    #[test]
    fn the_parts_of_a_long_convoy_are_bounded() {
        let mut blame = Blame::default();
        for tid in 1..100 {
            let until = 1000 + u64::from(tid);
            blame.wait(
                tid,
                Cause::Lock,
                PLACE,
                (0, until),
                waker(u64::from(tid)),
                tid - 1,
            );
        }
        assert!(blame.last.values().all(|last| last.parts.len() <= PARTS));
    }
}
