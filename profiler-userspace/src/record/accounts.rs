//! Where each thread's time went: on a CPU, runnable without one, blocked; and that these are all of
//! it.

use std::collections::HashMap;

/// The time of one thread, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
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

/// The accounts of all threads.
#[derive(Debug, Default)]
pub struct Accounts {
    open: HashMap<u32, Account>,
    closed: Vec<Account>,
}

impl Accounts {
    /// A thread is there from `now_ns` on.
    pub fn begin(&mut self, tid: u32, now_ns: u64) {
        // The end of one with the same number was lost.
        if let Some(old) = self.open.remove(&tid) {
            self.closed.push(old);
        }
        let account = Account {
            tid,
            start_ns: now_ns,
            end_ns: now_ns,
            ..Account::default()
        };
        self.open.insert(tid, account);
    }

    /// The account of a thread that is there; one that was not seen to begin gets one with its
    /// first event.
    fn of(&mut self, tid: u32, first_ns: u64) -> &mut Account {
        self.open.entry(tid).or_insert(Account {
            tid,
            start_ns: first_ns,
            end_ns: first_ns,
            ..Account::default()
        })
    }

    /// A sample of a thread on a CPU, which held the interpreter's lock or did not.
    pub fn sample(&mut self, tid: u32, now_ns: u64, holds_gil: bool) {
        let account = self.of(tid, now_ns);
        account.samples += 1;
        account.samples_with_gil += u64::from(holds_gil);
    }

    /// A stretch off-CPU of `length_ns`, of which the last `queued_ns` on a run queue.
    pub fn stretch(&mut self, tid: u32, end_ns: u64, length_ns: u64, queued_ns: u64) {
        let account = self.of(tid, end_ns.saturating_sub(length_ns));
        account.queued_ns += queued_ns;
        account.blocked_ns += length_ns.saturating_sub(queued_ns);
    }

    /// The thread is there no more, having been so long on a CPU and off.
    pub fn end(&mut self, tid: u32, now_ns: u64, on_ns: u64, off_ns: u64) {
        if let Some(mut account) = self.open.remove(&tid) {
            account.end_ns = now_ns;
            account.on_ns = on_ns;
            account.off_ns = off_ns;
            self.closed.push(account);
        }
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

    /// How long threads were on a CPU, nanoseconds by tid.
    #[must_use]
    pub fn on_cpu(&self) -> HashMap<u32, u64> {
        let mut times: HashMap<u32, u64> = HashMap::new();
        for account in self.all() {
            *times.entry(account.tid).or_default() += account.on_ns;
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
        accounts.begin(5, 1000);
        accounts.stretch(5, 1500, 300, 100);
        accounts.sample(5, 1550, false);
        accounts.sample(5, 1600, true);
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
        accounts.begin(5, 1000);
        accounts.end(5, 2000, 600, 400);
        accounts.begin(5, 3000);
        accounts.begin(5, 4000);
        accounts.end(5, 4500, 500, 0);
        assert_eq!(accounts.all().count(), 3);
        assert_eq!(accounts.on_cpu(), HashMap::from([(5, 1100)]));
    }
}
