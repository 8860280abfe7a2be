//! Where threads waited: one line for each place and cause, those first that keep threads from work
//! that they have.

use std::collections::HashMap;
use std::fmt::Write as _;

use profiler_common::cause::{Cause, NO_SYSCALL};
use profiler_common::thread::WAKER_INTERRUPT;

use super::{place, seconds};
use crate::record::Recording;
use crate::record::profile::Doing;

/// Lines at most.
const LINES: usize = 8;

/// The waits of one place for one cause.
#[derive(Debug, Default)]
struct Waits {
    ns: u64,
    count: u64,
    longest_ns: u64,
    held_up: HashMap<u64, u64>,
    syscalls: HashMap<u16, u64>,
}

/// Whether a thread that waits so has work that it cannot do. Elsewhere it may just have none.
fn holds_up(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::Gil
            | Cause::Lock
            | Cause::Disk
            | Cause::PageFault
            | Cause::Stopped
            | Cause::RunQueue
    )
}

/// The lines, with a heading; nothing where nobody waited.
pub(in crate::cli) fn lines(recording: &Recording, only_gil: bool) -> String {
    let mut places: HashMap<(Cause, String), Waits> = HashMap::new();
    let mut stacks: HashMap<(Cause, u64), String> = HashMap::new();
    for (key, weight) in recording.collector.profile.weights() {
        let Doing::Waiting { cause, syscall, .. } = key.doing else {
            continue;
        };
        if only_gil && !key.holds_gil {
            continue;
        }
        let place = place(recording, key.stack);
        stacks.insert((cause, key.stack), place.clone());
        let waits = places.entry((cause, place)).or_default();
        waits.ns += weight.ns;
        waits.count += weight.count;
        waits.longest_ns = waits.longest_ns.max(weight.longest_ns);
        *waits.syscalls.entry(syscall).or_default() += weight.ns;
    }
    for ((cause, stack), place) in stacks {
        let (Some(waits), Some(held_up)) = (
            places.get_mut(&(cause, place)),
            recording.collector.waits.blame.of(cause, stack),
        ) else {
            continue;
        };
        for (stack, ns) in held_up {
            *waits.held_up.entry(*stack).or_default() += ns;
        }
    }
    let mut all: Vec<_> = places.into_iter().collect();
    all.sort_by_key(|((cause, place), waits)| {
        (
            !holds_up(*cause),
            std::cmp::Reverse(waits.ns),
            place.clone(),
        )
    });
    let mut text = String::new();
    if all.is_empty() {
        return text;
    }
    let _infallible = writeln!(text, "Where threads waited, what holds them up first:");
    for ((cause, place), waits) in all.iter().take(LINES) {
        let _infallible = write!(
            text,
            "  {:<12} {:>8}  {} times, at most {}: {place}",
            cause.frame(),
            seconds(waits.ns),
            waits.count,
            seconds(waits.longest_ns),
        );
        if *cause == Cause::Other
            && let Some(call) = longest(&waits.syscalls).and_then(|(number, _)| syscall(number))
        {
            let _infallible = write!(text, ", in {call}()");
        }
        if let Some(by) = held_up_by(recording, waits) {
            let _infallible = write!(text, ", held up by {by}");
        }
        text.push('\n');
    }
    text
}

fn longest<K: Copy + Ord>(times: &HashMap<K, u64>) -> Option<(K, u64)> {
    let all = times.iter().map(|(key, ns)| (*key, *ns));
    all.max_by_key(|(key, ns)| (*ns, *key))
}

/// The name of a system call.
fn syscall(number: u16) -> Option<&'static str> {
    if number == NO_SYSCALL {
        return None;
    }
    syscalls::Sysno::new(usize::from(number)).map(|call| call.name())
}

/// Who held up most of a place's waits, where that is known and says something.
fn held_up_by(recording: &Recording, waits: &Waits) -> Option<String> {
    let mut by_place: HashMap<String, u64> = HashMap::new();
    for (stack, ns) in &waits.held_up {
        if *stack != WAKER_INTERRUPT {
            let place = place(recording, *stack);
            *by_place.entry(place).or_default() += ns;
        }
    }
    let (place, ns) = by_place.iter().max_by_key(|(place, ns)| (**ns, *place))?;
    // Others held up more of it: no one to name.
    (ns * 4 >= waits.ns).then(|| place.clone())
}
