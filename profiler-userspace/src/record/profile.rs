//! The result of a recording: weights of stacks.

use std::collections::{BTreeMap, HashMap};

use profiler_common::cause::{Cause, NO_SYSCALL};
use profiler_common::thread::{STACK_NOT_SAMPLED, WAKER_UNKNOWN};

use super::accounts::ThreadId;
use super::frame::Naming;
use super::processes::ProcessId;
use super::stacks::Stacks;
use crate::output::text::clean;

/// What a stack's weight counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Samples.
    Samples,
    /// Time, kept in nanoseconds, shown in microseconds.
    Time,
}

/// Who ended a wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Waker {
    /// Hash of its stack, or a `thread::WAKER_*`.
    pub stack: u64,
    /// Its process.
    pub tgid: u32,
    /// Its thread; 0 where threads are not told apart.
    pub tid: u32,
}

impl Waker {
    /// Whether anything is known of it.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.stack != WAKER_UNKNOWN
    }
}

/// What a thread did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Doing {
    /// It ran.
    OnCpu,
    /// It did not run.
    Waiting {
        /// Why.
        cause: Cause,
        /// The number of the system call that it waited in, or [`NO_SYSCALL`].
        syscall: u16,
        /// Who ended it.
        waker: Waker,
    },
}

impl Doing {
    /// It could run, and had no CPU.
    #[must_use]
    pub fn queued() -> Self {
        Self::Waiting {
            cause: Cause::RunQueue,
            syscall: NO_SYSCALL,
            waker: Waker::default(),
        }
    }
}

/// What weights are kept apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The process; 0 stands for all that are no targets.
    pub process: ProcessId,
    /// The thread; 0 where threads are not kept apart.
    pub tid: u32,
    /// The stack's hash.
    pub stack: u64,
    /// What the thread did.
    pub doing: Doing,
    /// Whether it held the interpreter's lock meanwhile.
    pub holds_gil: bool,
}

impl Key {
    /// The stacks that it names: its own, and that of who ended the wait, if that is known.
    pub fn stacks(&self) -> impl Iterator<Item = u64> + use<> {
        let waker = match self.doing {
            Doing::Waiting { waker, .. } if waker.is_known() => Some(waker.stack),
            _ => None,
        };
        [self.stack].into_iter().chain(waker)
    }
}

/// The weight of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Samples or stretches.
    pub count: u64,
    /// Nanoseconds; of samples, none until [`Profile::give_time_to_samples`].
    pub ns: u64,
    /// The longest stretch, nanoseconds.
    pub longest_ns: u64,
}

impl Weight {
    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.ns += other.ns;
        self.longest_ns = self.longest_ns.max(other.longest_ns);
    }
}

/// Weights of stacks.
#[derive(Debug)]
pub struct Profile {
    unit: Unit,
    by_process: HashMap<ProcessId, HashMap<Key, Weight>>,
}

/// The stack of records whose frames were lost.
pub(crate) const STACK_LOST: &str = "[stack lost]";
/// Between a wait and the stack of who ended it.
pub const WOKEN_BY: &str = "[woken by]";

impl Profile {
    /// An empty one.
    #[must_use]
    pub fn new(unit: Unit) -> Self {
        Self {
            unit,
            by_process: HashMap::new(),
        }
    }

    /// What weights count.
    #[must_use]
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// Adds a sample.
    pub fn sample(&mut self, key: Key) {
        self.weight(key).count += 1;
    }

    fn weight(&mut self, key: Key) -> &mut Weight {
        let process = self.by_process.entry(key.process).or_default();
        process.entry(key).or_default()
    }

    /// Adds a stretch of so many nanoseconds.
    pub fn stretch(&mut self, key: Key, ns: u64) {
        let weight = self.weight(key);
        weight.count += 1;
        weight.ns += ns;
        weight.longest_ns = weight.longest_ns.max(ns);
    }

    /// All weights.
    pub fn weights(&self) -> impl Iterator<Item = (&Key, &Weight)> {
        self.by_process.values().flatten()
    }

    /// The sum of a process's weights: samples, or nanoseconds.
    #[must_use]
    pub fn total_of(&self, process: ProcessId) -> u64 {
        let weights = self.by_process.get(&process).into_iter().flatten();
        weights.map(|(_, weight)| self.of(weight)).sum()
    }

    /// The sum of all weights: samples, or nanoseconds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.weights().map(|(_, weight)| self.of(weight)).sum()
    }

    fn of(&self, weight: &Weight) -> u64 {
        match self.unit {
            Unit::Samples => weight.count,
            Unit::Time => weight.ns,
        }
    }

    /// Whether a process has any weight.
    #[must_use]
    pub fn has(&self, process: ProcessId) -> bool {
        self.by_process.contains_key(&process)
    }

    /// Gives the stacks of a process other hashes. Stacks that become one have the sum of their
    /// weights.
    pub fn rename_stacks(&mut self, process: ProcessId, mut rename: impl FnMut(u64) -> u64) {
        let Some(weights) = self.by_process.remove(&process) else {
            return;
        };
        let mut renamed: HashMap<u64, u64> = HashMap::new();
        for (key, weight) in weights {
            let stack = *renamed
                .entry(key.stack)
                .or_insert_with(|| rename(key.stack));
            self.weight(Key { stack, ..key }).add(weight);
        }
    }

    /// Adds the weights of some processes to those of others, whose threads are not told apart.
    pub fn put_together(&mut self, moves: &BTreeMap<ProcessId, ProcessId>) {
        for (from, to) in moves {
            for (key, weight) in self.by_process.remove(from).into_iter().flatten() {
                let key = Key {
                    process: *to,
                    tid: 0,
                    ..key
                };
                self.weight(key).add(weight);
            }
        }
    }

    /// Spreads the time that threads were on a CPU over their samples: `on_cpu` nanoseconds by
    /// thread, by process and 0 where threads are not kept apart. Time of a thread without a sample
    /// gets a stack that says so. A sample of a process that is no target stands for `period_ns`.
    pub fn give_time_to_samples(&mut self, on_cpu: &HashMap<ThreadId, u64>, period_ns: u64) {
        // They have it from when this was done before.
        for weights in self.by_process.values_mut() {
            weights.retain(|key, _| key.stack != STACK_NOT_SAMPLED || key.doing != Doing::OnCpu);
        }
        let mut samples: HashMap<ThreadId, u64> = HashMap::new();
        for (key, weight) in self.weights() {
            if key.doing == Doing::OnCpu {
                *samples.entry((key.process, key.tid)).or_default() += weight.count;
            }
        }
        for (key, weight) in self.by_process.values_mut().flatten() {
            if key.doing != Doing::OnCpu {
                continue;
            }
            if key.process == 0 {
                weight.ns = weight.count * period_ns;
                continue;
            }
            let thread = (key.process, key.tid);
            let time = on_cpu.get(&thread).copied().unwrap_or(0);
            let all = samples.get(&thread).copied().unwrap_or(0).max(1);
            weight.ns = (u128::from(time) * u128::from(weight.count) / u128::from(all)) as u64;
        }
        for (thread, time) in on_cpu {
            if *time != 0 && !samples.contains_key(thread) {
                let (process, tid) = *thread;
                let key = Key {
                    process,
                    tid,
                    stack: STACK_NOT_SAMPLED,
                    doing: Doing::OnCpu,
                    holds_gil: false,
                };
                self.weight(key).ns += time;
            }
        }
    }

    /// Folded lines, sorted: frames from the root to the leaf and a weight, samples or
    /// nanoseconds. `roots` says which frames stand below those of the stack, `thread_name` names
    /// the threads that woke others.
    #[must_use]
    pub fn folded(
        &self,
        stacks: &Stacks,
        show: Show,
        roots: impl Fn(&Key) -> Root,
        thread_name: impl Fn(u32) -> Option<String>,
    ) -> BTreeMap<String, u64> {
        let mut lines: BTreeMap<String, u64> = BTreeMap::new();
        for (key, weight) in self.weights() {
            if show.only_gil && !key.holds_gil {
                continue;
            }
            let root = roots(key);
            let mut parts = root.frames;
            if root.with_stack {
                parts.extend(frames_of(stacks, key.stack, show.naming));
            }
            if let Doing::Waiting { cause, waker, .. } = key.doing {
                parts.push(cause.frame().to_owned());
                if show.wakers && waker.is_known() {
                    parts.push(WOKEN_BY.to_owned());
                    parts.extend(waker_frames(stacks, waker, show.naming, &thread_name));
                }
            }
            *lines.entry(parts.join(";")).or_default() += self.of(weight);
        }
        lines
    }
}

/// What stands below a stack.
#[derive(Clone, Debug, Default)]
pub struct Root {
    /// Frames, the outermost first.
    pub frames: Vec<String>,
    /// The stack itself is shown, too.
    pub with_stack: bool,
}

/// What of a profile is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Show {
    /// Only what threads did while they held the interpreter's lock.
    pub only_gil: bool,
    /// Who ended waits.
    pub wakers: bool,
    /// How frames are written.
    pub naming: Naming,
}

fn thread_frame(tid: u32, thread_name: impl Fn(u32) -> Option<String>) -> String {
    match thread_name(tid) {
        Some(name) => format!("thread ({tid}): {}", clean(&name)),
        None => format!("thread ({tid})"),
    }
}

/// Who ended a wait, from the leaf to the root: it stands on its head on what it ended.
fn waker_frames(
    stacks: &Stacks,
    waker: Waker,
    naming: Naming,
    thread_name: impl Fn(u32) -> Option<String>,
) -> Vec<String> {
    if let Some(name) = stacks.process(waker.stack) {
        return vec![format!("process ({}): {}", waker.tgid, clean(name))];
    }
    let mut frames = frames_of(stacks, waker.stack, naming);
    frames.reverse();
    if waker.tid != 0 {
        frames.push(thread_frame(waker.tid, thread_name));
    }
    frames
}

/// The frames of a stack as text, from the root to the leaf.
fn frames_of(stacks: &Stacks, hash: u64, naming: Naming) -> Vec<String> {
    match stacks.get(hash) {
        Some(stack) => {
            let frames = stack.frames.iter().filter_map(|id| stacks.frame(*id));
            frames.map(|frame| frame.text(naming)).collect()
        }
        None => vec![STACK_LOST.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_cpu(tid: u32, stack: u64) -> Key {
        Key {
            process: 1,
            tid,
            stack,
            doing: Doing::OnCpu,
            holds_gil: false,
        }
    }

    #[test]
    fn the_time_of_a_thread_is_spread_over_its_samples() {
        let mut profile = Profile::new(Unit::Time);
        for stack in [100, 100, 100, 101] {
            profile.sample(on_cpu(1, stack));
        }
        profile.sample(on_cpu(2, 100));
        let waits = Key {
            doing: Doing::queued(),
            ..on_cpu(1, 100)
        };
        profile.stretch(waits, 7);
        profile.stretch(waits, 5);
        let other = Key {
            process: 0,
            ..on_cpu(0, 100)
        };
        profile.sample(other);
        let times = [(1, 4000), (2, 50), (3, 9), (4, 0)];
        let times = times.map(|(tid, time)| ((1, tid), time));
        profile.give_time_to_samples(&HashMap::from(times), 10);
        let of = |key: Key| {
            let found = profile.weights().find(|(other, _)| **other == key);
            found.map(|(_, weight)| *weight).unwrap_or_default()
        };
        assert_eq!(of(on_cpu(1, 100)).ns, 3000);
        assert_eq!(of(on_cpu(1, 101)).ns, 1000);
        assert_eq!(of(on_cpu(2, 100)).ns, 50);
        assert_eq!(of(on_cpu(3, STACK_NOT_SAMPLED)).ns, 9);
        assert_eq!(of(waits).ns, 12);
        assert_eq!((of(waits).count, of(waits).longest_ns), (2, 7));
        assert_eq!(of(other).ns, 10);
        assert_eq!(profile.total(), 3000 + 1000 + 50 + 9 + 12 + 10);
        assert_eq!(profile.total_of(0), 10);
    }
}
