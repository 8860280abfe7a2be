//! Where each thread's time went: on a CPU, runnable without one, blocked; and that these are all of
//! it.

use std::collections::{BTreeMap, HashMap};

use super::processes::ProcessId;

/// The time of one thread, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The process, by its number in the recording.
    pub process: ProcessId,
    /// The thread.
    pub tid: u32,
    /// When it was first seen, `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// When it ended, or the recording did.
    pub end_ns: u64,
    /// On a CPU, by the switches.
    pub on_ns: u64,
    /// Not on a CPU, by the switches.
    pub off_ns: u64,
    /// In stretches that were told, the parts in which it could run.
    pub queued_ns: u64,
    /// In stretches that were told, the parts in which it could not.
    pub blocked_ns: u64,
    /// How many other threads, which have ended, are counted in this.
    pub others: u64,
    /// Samples on a CPU.
    pub samples: u64,
    /// Those of them that held the interpreter's lock.
    pub samples_with_gil: u64,
}

impl Account {
    /// How long the thread was there.
    #[must_use]
    pub fn window_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// Counts another thread's in. What is left of when it was there is how long that was.
    fn add(&mut self, other: &Self) {
        self.end_ns += other.window_ns();
        self.on_ns += other.on_ns;
        self.off_ns += other.off_ns;
        self.queued_ns += other.queued_ns;
        self.blocked_ns += other.blocked_ns;
        self.others += 1 + other.others;
        self.samples += other.samples;
        self.samples_with_gil += other.samples_with_gil;
    }

    /// What of the window is in none of the three parts, less than 0 where they are more.
    #[must_use]
    pub fn gap_ns(&self) -> i64 {
        let parts = self.on_ns + self.queued_ns + self.blocked_ns;
        self.window_ns() as i64 - parts as i64
    }

    /// How long it was on a CPU with the interpreter's lock, by its samples.
    #[must_use]
    pub fn on_with_gil_ns(&self) -> u64 {
        let with = u128::from(self.on_ns) * u128::from(self.samples_with_gil);
        (with / u128::from(self.samples.max(1))) as u64
    }

    /// What of the gap are stretches that were not told: too short, or lost.
    #[must_use]
    pub fn untold_ns(&self) -> i64 {
        self.off_ns as i64 - (self.queued_ns + self.blocked_ns) as i64
    }
}

/// A thread of a process.
pub type ThreadId = (ProcessId, u32);

/// The accounts of all threads.
#[derive(Debug, Default)]
pub struct Accounts {
    open: HashMap<u32, Account>,
    closed: Vec<Account>,
    /// As many were left when they were last added up.
    added_up: usize,
}

/// Threads that ended and are kept apart at most, or twice as many as cannot be less.
const MOST_APART: usize = 1 << 15;

impl Accounts {
    /// A thread is there from `now_ns` on.
    pub fn begin(&mut self, (process, tid): ThreadId, now_ns: u64) {
        // The end of one with the same number was lost.
        if let Some(old) = self.open.remove(&tid) {
            self.close(old);
        }
        let account = Account {
            process,
            tid,
            start_ns: now_ns,
            end_ns: now_ns,
            ..Account::default()
        };
        self.open.insert(tid, account);
    }

    /// The account of a thread that is there; one that was not seen to begin gets one with its
    /// first event.
    fn of(&mut self, thread: ThreadId, first_ns: u64) -> &mut Account {
        let (process, tid) = thread;
        if self
            .open
            .get(&tid)
            .is_some_and(|account| account.process != process)
        {
            // Its end was lost, and the number was used again.
            self.begin(thread, first_ns);
        }
        self.open.entry(tid).or_insert(Account {
            process,
            tid,
            start_ns: first_ns,
            end_ns: first_ns,
            ..Account::default()
        })
    }

    /// A sample of a thread on a CPU, which held the interpreter's lock or did not.
    pub fn sample(&mut self, thread: ThreadId, now_ns: u64, holds_gil: bool) {
        let account = self.of(thread, now_ns);
        account.samples += 1;
        account.samples_with_gil += u64::from(holds_gil);
    }

    /// A stretch off-CPU of `length_ns`, of which the last `queued_ns` on a run queue.
    pub fn stretch(&mut self, thread: ThreadId, end_ns: u64, length_ns: u64, queued_ns: u64) {
        let account = self.of(thread, end_ns.saturating_sub(length_ns));
        account.queued_ns += queued_ns;
        account.blocked_ns += length_ns.saturating_sub(queued_ns);
    }

    /// The thread is there no more, having been so long on a CPU and off.
    pub fn end(&mut self, tid: u32, now_ns: u64, on_ns: u64, off_ns: u64) {
        if let Some(mut account) = self.open.remove(&tid) {
            account.end_ns = now_ns;
            account.on_ns = on_ns;
            account.off_ns = off_ns;
            self.close(account);
        }
    }

    /// The accounts of some processes are those of others.
    pub fn put_together(&mut self, moves: &BTreeMap<ProcessId, ProcessId>) {
        for account in &mut self.closed {
            if let Some(to) = moves.get(&account.process) {
                account.process = *to;
            }
        }
        self.add_up();
    }

    /// Adds up the accounts of threads that ended, of each process.
    fn add_up(&mut self) {
        let mut sums: HashMap<ProcessId, Account> = HashMap::new();
        for account in self.closed.drain(..) {
            match sums.get_mut(&account.process) {
                Some(sum) => sum.add(&account),
                None => {
                    sums.insert(account.process, account);
                }
            }
        }
        self.closed.extend(sums.into_values());
    }

    fn close(&mut self, account: Account) {
        self.closed.push(account);
        if self.closed.len() >= MOST_APART.max(2 * self.added_up) {
            self.add_up();
            self.added_up = self.closed.len();
        }
    }

    /// A process is of no interest.
    pub fn forget(&mut self, process: ProcessId) {
        // It is young: none of its threads has ended.
        self.open.retain(|_, account| account.process != process);
    }

    /// All of them, those of threads that ended first.
    pub fn all(&self) -> impl Iterator<Item = &Account> {
        self.closed.iter().chain(self.open.values())
    }

    /// Samples of threads that held the interpreter's lock.
    #[must_use]
    pub fn samples_with_gil(&self) -> u64 {
        self.all().map(|account| account.samples_with_gil).sum()
    }

    /// How long threads were on a CPU, nanoseconds.
    #[must_use]
    pub fn on_cpu(&self) -> HashMap<ThreadId, u64> {
        let mut times: HashMap<ThreadId, u64> = HashMap::new();
        for account in self.all() {
            let thread = (account.process, account.tid);
            *times.entry(thread).or_default() += account.on_ns;
        }
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_gaps() {
        let mut accounts = Accounts::default();
        accounts.begin((1, 5), 1000);
        accounts.stretch((1, 5), 1500, 300, 100);
        accounts.sample((1, 5), 1550, false);
        accounts.sample((1, 5), 1600, true);
        accounts.end(5, 2000, 600, 400);
        let account = accounts.all().next().copied().expect("an account");
        assert_eq!(account.window_ns(), 1000);
        assert_eq!((account.blocked_ns, account.queued_ns), (200, 100));
        assert_eq!((account.gap_ns(), account.untold_ns()), (100, 100));
        assert_eq!(account.on_with_gil_ns(), 300);
        assert_eq!(accounts.samples_with_gil(), 1);
    }

    #[test]
    fn a_number_that_is_used_again_is_another_thread() {
        let mut accounts = Accounts::default();
        accounts.begin((1, 5), 1000);
        accounts.end(5, 2000, 600, 400);
        accounts.begin((1, 5), 3000);
        accounts.begin((1, 5), 4000);
        accounts.end(5, 4500, 500, 0);
        assert_eq!(accounts.all().count(), 3);
        assert_eq!(accounts.on_cpu(), HashMap::from([((1, 5), 1100)]));
    }
}
