//! Who held the interpreter's lock, and who waited for it.

use std::fmt::Write as _;

use super::{percent, seconds, thread};
use crate::record::Recording;
use crate::record::accounts::Account;
use crate::record::gil::{Holder, Timeline};

/// Locks at most that are told of.
const LOCKS: usize = 5;
/// Holders and waiters at most.
const THREADS: usize = 5;

/// The lines; nothing where no lock was seen.
pub(in crate::cli) fn lines(recording: &Recording) -> String {
    let mut text = String::new();
    let collector = &recording.collector;
    if collector.waits.gils.count() == 0 {
        return text;
    }
    let window = recording.elapsed.as_nanos() as u64;
    let wanted = collector.waits.gils.wanted();
    let many = collector.waits.gils.count() > 1;
    if !many {
        let wanted = wanted.first().map_or(0, |(_, timeline)| timeline.wanted_ns);
        let wanted = percent(wanted, window);
        let _infallible = match held_ns(recording) {
            Some(held) => {
                let held = held.min(window);
                writeln!(
                    text,
                    "GIL: held {}, wanted {wanted}, free {} of the time.",
                    percent(held, window),
                    percent(window - held, window)
                )
            }
            None => writeln!(text, "GIL: wanted {wanted} of the time."),
        };
    }
    for (index, (process, timeline)) in wanted.iter().take(LOCKS).enumerate() {
        if many {
            let known = process.and_then(|process| recording.processes.known(process));
            let whose = known
                .filter(|_| recording.single.is_none())
                .map_or_else(String::new, |known| {
                    format!(", of process {}", known.identity.pid)
                });
            let _infallible = writeln!(
                text,
                "GIL {} of {}{whose}: wanted {} of the time.",
                index + 1,
                collector.waits.gils.count(),
                percent(timeline.wanted_ns, window)
            );
        }
        let _infallible = writeln!(
            text,
            "  held while others waited: {}",
            holders(recording, timeline)
        );
        let _infallible = writeln!(
            text,
            "  lost by waiting for it: {}",
            waiters(recording, timeline)
        );
    }
    text
}

/// How long some thread held the lock, by samples on the CPUs and by the switches off them;
/// nanoseconds.
fn held_ns(recording: &Recording) -> Option<u64> {
    let collector = &recording.collector;
    recording.mode.sampling()?;
    // Thread by thread: samples of one say nothing of another's time.
    let on_cpu = collector.accounts.all().map(Account::on_with_gil_ns);
    Some(on_cpu.sum::<u64>() + collector.off_with_gil_ns)
}

fn holders(recording: &Recording, timeline: &Timeline) -> String {
    let held = timeline.held_while_wanted.iter();
    list(held.map(|(holder, ns)| {
        let who = match holder {
            Holder::Free => "nobody, as it changed hands".to_owned(),
            Holder::Thread(tid) => thread(recording, *tid),
            Holder::Unknown => "a thread that was not seen".to_owned(),
        };
        (who, *ns)
    }))
}

fn waiters(recording: &Recording, timeline: &Timeline) -> String {
    let waited = timeline.waited.iter();
    list(waited.map(|(tid, ns)| (thread(recording, *tid), *ns)))
}

/// Those with the most time, and how many others.
fn list(all: impl Iterator<Item = (String, u64)>) -> String {
    let mut all: Vec<_> = all.filter(|(_, ns)| *ns != 0).collect();
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let shown = all.iter().take(THREADS);
    let mut parts: Vec<String> = shown
        .map(|(who, ns)| format!("{who} {}", seconds(*ns)))
        .collect();
    let rest = all.get(THREADS..).unwrap_or_default();
    if !rest.is_empty() {
        let ns = rest.iter().map(|(_, ns)| ns).sum();
        let others = if rest.len() == 1 { "other" } else { "others" };
        parts.push(format!("{} {others} {}", rest.len(), seconds(ns)));
    }
    parts.join(", ")
}
