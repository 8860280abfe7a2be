//! Where the time of all threads went, and that it adds up.

use std::fmt::Write as _;

use super::{percent, seconds, thread};
use crate::record::Recording;
use crate::record::accounts::Account;

/// Threads at most that are listed one by one.
const THREADS: usize = 20;

/// The lines: the sum over all threads, each of them where threads are kept apart, the widest gap,
/// the run queue's reasons.
pub(in crate::cli) fn lines(recording: &Recording, each: bool) -> String {
    let mut text = String::new();
    let accounts: Vec<Account> = recording.collector.accounts.all().copied().collect();
    let sum = |of: fn(&Account) -> u64| accounts.iter().map(of).sum::<u64>();
    let window = sum(Account::window_ns);
    if accounts.is_empty() {
        return text;
    }
    let on = sum(|account| account.on_ns);
    let queued = sum(|account| account.queued_ns);
    let blocked = sum(|account| account.blocked_ns);
    let gap: i64 = accounts.iter().map(Account::gap_ns).sum();
    let untold: i64 = accounts.iter().map(Account::untold_ns).sum();
    let _infallible = write!(
        text,
        "Threads: {}, {} in all = {} on CPUs + {} in run queues + {} blocked",
        sum(|account| 1 + account.others),
        seconds(window),
        seconds(on),
        seconds(queued),
        seconds(blocked),
    );
    let untold_ns = untold.max(0) as u64;
    if untold_ns != 0 {
        let _infallible = write!(text, " + {} left out or lost", seconds(untold_ns));
    }
    let rest = gap - untold;
    let _infallible = writeln!(
        text,
        " + {}{} not accounted for.",
        if rest < 0 { "-" } else { "" },
        seconds(rest.unsigned_abs())
    );
    if each {
        text.push_str(&one_by_one(recording, accounts.clone()));
    }
    if let Some(worst) = worst(&accounts) {
        let _infallible = writeln!(
            text,
            "Gap: of the {} of {}, {} are in none of the parts ({} left out as too short or lost).",
            seconds(worst.window_ns()),
            thread(recording, worst.tid),
            percent(worst.gap_ns().unsigned_abs(), worst.window_ns()),
            seconds(worst.untold_ns().max(0) as u64)
        );
    }
    if let Some(sampling) = recording.mode.sampling() {
        let samples: u64 = sum(|account| account.samples);
        let _infallible = writeln!(
            text,
            "On CPUs by {samples} samples of 1/{} s: {}, {} of it with the GIL.",
            sampling.rate,
            seconds(samples * 1_000_000_000 / u64::from(sampling.rate.max(1))),
            percent(recording.collector.accounts.samples_with_gil(), samples)
        );
    }
    for held in &recording.throttled {
        let _infallible = writeln!(
            text,
            "Run queue: the CPU quota of the control group {} ({} each {}) held threads up {} \
             times, {} in all.",
            held.group,
            seconds(held.quota.time.as_nanos() as u64),
            seconds(held.quota.period.as_nanos() as u64),
            held.times,
            seconds(held.time.as_nanos() as u64),
        );
    }
    text
}

/// A line for each thread, those first that ran or wanted to.
fn one_by_one(recording: &Recording, mut accounts: Vec<Account>) -> String {
    let mut text = String::new();
    let busy = |account: &Account| account.on_ns + account.queued_ns;
    accounts.sort_by_key(|account| (std::cmp::Reverse(busy(account)), account.tid));
    for account in accounts.iter().take(THREADS) {
        let _infallible = writeln!(
            text,
            "  {}: {} = {} on CPUs + {} in run queues + {} blocked",
            thread(recording, account.tid),
            seconds(account.window_ns()),
            seconds(account.on_ns),
            seconds(account.queued_ns),
            seconds(account.blocked_ns),
        );
    }
    if accounts.len() > THREADS {
        let _infallible = writeln!(text, "  and {} more", accounts.len() - THREADS);
    }
    text
}

/// The thread of whose time most is missing, where that is more than a hundredth.
fn worst(accounts: &[Account]) -> Option<&Account> {
    let gap = |account: &Account| account.gap_ns().unsigned_abs();
    accounts
        .iter()
        .filter(|account| gap(account) * 100 > account.window_ns())
        .max_by_key(|account| gap(account))
}
