//! Looks at a recording, and says what changed.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use profiler_common::cause::Cause;
use profiler_common::counter::Counter;
use profiler_common::thread::STACK_NOT_SAMPLED;

use super::reading::{Cell, Counts, ProcessName, Reading, StackId};
use crate::process::proc_file;
use crate::record::accounts::ThreadId;
use crate::record::frame::FrameText;
use crate::record::processes::{ProcessId, Processes, Role};
use crate::record::profile::{Doing, STACK_LOST};
use crate::record::stacks::{FrameId, Stacks};
use crate::record::watch::{Go, Look, ThreadsNow, Watcher};

/// What the view tells the recording.
#[derive(Debug)]
pub struct Control {
    stop: AtomicBool,
    delay_ms: AtomicU64,
}

impl Control {
    /// A recording that goes on, looked at as often as said.
    #[must_use]
    pub fn new(delay: Duration) -> Self {
        let control = Self {
            stop: AtomicBool::new(false),
            delay_ms: AtomicU64::new(0),
        };
        control.set_delay(delay);
        control
    }

    /// It has been seen enough.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// From now on it is looked at as often as this.
    pub fn set_delay(&self, delay: Duration) {
        let ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.delay_ms.store(ms, Ordering::Relaxed);
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms.load(Ordering::Relaxed))
    }
}

/// Values that grow, and what each was when it was last asked for.
#[derive(Debug)]
struct Grown<K>(HashMap<K, u64>);

impl<K> Default for Grown<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Copy + Eq + Hash> Grown<K> {
    /// By how much each has grown. One that is less than before was seen twice at a time, as it was
    /// changing: it counts again when it has more. What is there no more is forgotten.
    fn by(&mut self, mut now: HashMap<K, u64>) -> Vec<(K, u64)> {
        let mut grown = Vec::new();
        for (key, value) in &mut now {
            let before = self.0.get(key).copied().unwrap_or(0);
            match value.checked_sub(before) {
                Some(0) => {}
                Some(more) => grown.push((*key, more)),
                None => *value = before,
            }
        }
        self.0 = now;
        grown
    }

    /// What counted for one counts for another from now on.
    fn is_now(&mut self, old: &K, new: K) {
        if let Some(value) = self.0.remove(old) {
            *self.0.entry(new).or_default() += value;
        }
    }
}

/// Stacks by what they show: the kernel's hash of one changes when its process ends, and tells
/// apart what looks the same.
#[derive(Debug, Default)]
struct StackIds {
    by_frames: HashMap<Arc<[FrameId]>, StackId>,
    by_hash: HashMap<u64, StackId>,
    new: Vec<Arc<[FrameId]>>,
    /// Hashes without frames, and what stands for all of these.
    lost: HashSet<u64>,
    lost_frames: Vec<FrameId>,
}

impl StackIds {
    /// The number of a stack. The second value is the number that it had, where that was another.
    fn of(&mut self, hash: u64, stacks: &Stacks) -> (StackId, Option<StackId>) {
        if let Some(id) = self.by_hash.get(&hash) {
            return (*id, None);
        }
        match stacks.get(hash) {
            Some(stack) => {
                // Moved up by the one that is ours.
                let frames: Vec<FrameId> = stack.frames.iter().map(|id| id + 1).collect();
                let id = self.of_frames(&frames);
                self.by_hash.insert(hash, id);
                let was_lost = self.lost.remove(&hash);
                let lost = self.lost_frames.clone();
                (id, was_lost.then(|| self.of_frames(&lost)))
            }
            None => {
                self.lost.insert(hash);
                let lost = self.lost_frames.clone();
                (self.of_frames(&lost), None)
            }
        }
    }

    fn of_frames(&mut self, frames: &[FrameId]) -> StackId {
        if let Some(id) = self.by_frames.get(frames) {
            return *id;
        }
        let id = self.by_frames.len() as StackId;
        let frames: Arc<[FrameId]> = frames.into();
        self.by_frames.insert(Arc::clone(&frames), id);
        self.new.push(frames);
        id
    }
}

/// Nanoseconds that came to each cell, and how long each thread was on a CPU.
type Changes = (Vec<(Cell, u64)>, Vec<(ThreadId, u64)>);

/// Looks at a recording and sends readings.
#[derive(Debug)]
pub struct Gatherer {
    to: Sender<Reading>,
    control: Arc<Control>,
    last: Option<Duration>,
    stacks: StackIds,
    frames_sent: usize,
    samples: Grown<Cell>,
    waits: Grown<Cell>,
    on_cpu: Grown<ThreadId>,
    /// Time on a CPU of threads that were not sampled since, nanoseconds.
    unsampled: HashMap<ThreadId, u64>,
    thread_names: HashMap<ThreadId, String>,
    process_names: HashMap<ProcessId, ProcessName>,
}

/// The number of the frame [`STACK_LOST`], which the recording does not have: its own come after it.
const LOST_FRAME: FrameId = 0;

impl Gatherer {
    /// One that sends to `to`.
    #[must_use]
    pub fn new(to: Sender<Reading>, control: Arc<Control>) -> Self {
        let stacks = StackIds {
            lost_frames: vec![LOST_FRAME],
            ..StackIds::default()
        };
        Self {
            to,
            control,
            last: None,
            stacks,
            frames_sent: 0,
            samples: Grown::default(),
            waits: Grown::default(),
            on_cpu: Grown::default(),
            unsampled: HashMap::new(),
            thread_names: HashMap::new(),
            process_names: HashMap::new(),
        }
    }

    fn read(&mut self, look: &mut Look<'_>) -> Reading {
        look.catch_up();
        look.name_native();
        let threads = look.threads();
        let elapsed = look.elapsed();
        let interval = elapsed.saturating_sub(self.last.unwrap_or_default());
        self.last = Some(elapsed);
        let (changes, on_cpu) = self.changes(look, &threads);
        Reading {
            interval,
            changes,
            on_cpu,
            frames: self.new_frames(look.stacks()),
            stacks: std::mem::take(&mut self.stacks.new),
            threads: self.new_thread_names(look),
            processes: self.new_process_names(look.processes()),
            counts: counts(look, &threads),
            over: look.over(),
        }
    }

    /// Nanoseconds that came to each cell, and how long each thread was on a CPU.
    fn changes(&mut self, look: &Look<'_>, threads: &ThreadsNow) -> Changes {
        let (samples, waits) = self.sums(look, threads);
        let samples = self.samples.by(samples);
        let (mut changes, on_cpu) = match look.mode().has_waits() {
            true => self.measured(look, threads, &samples),
            false => {
                let rate = look.mode().sampling().map_or(1, |sampling| sampling.rate);
                let period_ns = 1_000_000_000 / u64::from(rate.max(1));
                let times = samples.iter().map(|(cell, n)| (*cell, n * period_ns));
                let changes: Vec<(Cell, u64)> = times.collect();
                let on_cpu = changes.iter().map(|(cell, ns)| (cell.thread, *ns));
                let on_cpu = on_cpu.collect();
                (changes, on_cpu)
            }
        };
        changes.extend(self.waits.by(waits));
        (changes, on_cpu)
    }

    /// Samples and waits since the beginning.
    fn sums(
        &mut self,
        look: &Look<'_>,
        threads: &ThreadsNow,
    ) -> (HashMap<Cell, u64>, HashMap<Cell, u64>) {
        let mut samples: HashMap<Cell, u64> = HashMap::new();
        let mut waits: HashMap<Cell, u64> = HashMap::new();
        for (key, weight) in look.profile().weights() {
            if !counts_apart(look.processes(), key.process) {
                continue;
            }
            let thread = (key.process, key.tid);
            let cause = match key.doing {
                Doing::OnCpu => None,
                Doing::Waiting { cause, .. } => Some(cause),
            };
            let cell = self.cell(look, thread, key.stack, cause, key.holds_gil);
            match cause {
                None => *samples.entry(cell).or_default() += weight.count,
                Some(_) => *waits.entry(cell).or_default() += weight.ns,
            }
        }
        for wait in &threads.waiting {
            let parts = [
                (wait.cause, wait.ns.saturating_sub(wait.queued_ns)),
                (Cause::RunQueue, wait.queued_ns),
            ];
            for (cause, ns) in parts.into_iter().filter(|(_, ns)| *ns != 0) {
                let cell = self.cell(look, wait.thread, wait.stack, Some(cause), wait.holds_gil);
                *waits.entry(cell).or_default() += ns;
            }
        }
        (samples, waits)
    }

    fn cell(
        &mut self,
        look: &Look<'_>,
        thread: ThreadId,
        hash: u64,
        waits: Option<Cause>,
        holds_gil: bool,
    ) -> Cell {
        let (stack, before) = self.stacks.of(hash, look.stacks());
        let cell = Cell {
            thread,
            stack,
            waits,
            holds_gil,
        };
        if let Some(stack) = before {
            // Its frames have come, and it is no news that its time has.
            let old = Cell { stack, ..cell };
            match waits {
                None => self.samples.is_now(&old, cell),
                Some(_) => self.waits.is_now(&old, cell),
            }
        }
        cell
    }

    /// Spreads the time that threads were on a CPU over their samples: time of one that was not
    /// sampled yet goes to its next samples.
    fn measured(
        &mut self,
        look: &Look<'_>,
        threads: &ThreadsNow,
        samples: &[(Cell, u64)],
    ) -> Changes {
        let on_cpu = self.on_cpu.by(threads.on_cpu.clone());
        for (thread, ns) in &on_cpu {
            *self.unsampled.entry(*thread).or_default() += ns;
        }
        let mut of_thread: HashMap<ThreadId, u64> = HashMap::new();
        for (cell, count) in samples {
            *of_thread.entry(cell.thread).or_default() += count;
        }
        let mut changes = Vec::new();
        for (cell, count) in samples {
            let time = self.unsampled.get(&cell.thread).copied().unwrap_or(0);
            let all = of_thread.get(&cell.thread).copied().unwrap_or(0).max(1);
            let ns = u128::from(time) * u128::from(*count) / u128::from(all);
            changes.push((*cell, ns as u64));
        }
        self.unsampled
            .retain(|thread, _| !of_thread.contains_key(thread));
        if look.over().is_some() {
            for (thread, ns) in std::mem::take(&mut self.unsampled) {
                let cell = self.cell(look, thread, STACK_NOT_SAMPLED, None, false);
                changes.push((cell, ns));
            }
        }
        (changes, on_cpu)
    }

    fn new_frames(&mut self, stacks: &Stacks) -> Vec<FrameText> {
        // The recording's numbers, moved up by one of ours.
        let mut new = Vec::new();
        if self.frames_sent == 0 {
            new.push(FrameText::marker(STACK_LOST));
        }
        let known = self.frames_sent.saturating_sub(1) as FrameId;
        new.extend((known..).map_while(|id| stacks.frame(id).cloned()));
        self.frames_sent += new.len();
        new
    }

    fn new_thread_names(&mut self, look: &Look<'_>) -> Vec<(ThreadId, String)> {
        let mut new = Vec::new();
        for (thread, name) in look.names().all() {
            if self.thread_names.get(&thread).map(String::as_str) != Some(name) {
                self.thread_names.insert(thread, name.to_owned());
                new.push((thread, name.to_owned()));
            }
        }
        new
    }

    fn new_process_names(&mut self, processes: &Processes) -> Vec<(ProcessId, ProcessName)> {
        let mut new = Vec::new();
        for (id, known) in processes.all() {
            let name = ProcessName {
                pid: known.identity.pid,
                command: known.identity.command.clone(),
                version: known.version.map(|version| version.to_string()),
            };
            if self.process_names.get(&id) != Some(&name) {
                self.process_names.insert(id, name.clone());
                new.push((id, name));
            }
        }
        new
    }
}

impl Watcher for Gatherer {
    fn tick(&mut self, mut look: Look<'_>) -> Go {
        let is_due = self
            .last
            .is_none_or(|last| look.elapsed().saturating_sub(last) >= self.control.delay());
        if is_due || look.over().is_some() {
            let reading = self.read(&mut look);
            if self.to.send(reading).is_err() {
                // Nobody looks any more.
                return Go::Stop;
            }
        }
        match self.control.stop.load(Ordering::Relaxed) {
            true => Go::Stop,
            false => Go::On,
        }
    }
}

/// Whether the time of a process is told apart from that of others. Of processes that ended long ago
/// it is not any more; it counted before.
fn counts_apart(processes: &Processes, id: ProcessId) -> bool {
    let known = processes.known(id);
    known.is_some_and(|known| known.running || known.identity.pid != 0)
}

fn counts(look: &Look<'_>, threads: &ThreadsNow) -> Counts {
    let counters = look.counters();
    let has_waits = look.mode().has_waits();
    let wanted = |role: Role| !matches!(role, Role::Candidate | Role::Passed);
    let mut counts = Counts {
        samples: counters.get(Counter::Samples),
        waits: has_waits.then(|| counters.get(Counter::OffCpuStretches)),
        lost: counters.get(Counter::SamplesLost) + counters.get(Counter::OffCpuLost),
        threads: threads.count,
        processes: 0,
        locks: 0,
    };
    for process in look.processes().live() {
        let known = look.processes().known(process.id);
        if !wanted(process.role) || !known.is_some_and(|known| known.running) {
            continue;
        }
        counts.processes += 1;
        if !has_waits {
            let threads = proc_file::threads(process.target.pid);
            counts.threads += threads.map_or(0, |threads| threads.len());
        }
    }
    counts.locks = look.locks().max(counts.processes);
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_grown() {
        let mut grown = Grown::default();
        let by = |grown: &mut Grown<u8>, now: &[(u8, u64)]| {
            let mut more = grown.by(now.iter().copied().collect());
            more.sort_unstable();
            more
        };
        assert_eq!(by(&mut grown, &[(1, 5), (2, 0)]), [(1, 5)]);
        assert_eq!(by(&mut grown, &[(1, 7), (2, 3)]), [(1, 2), (2, 3)]);
        // A wait that ends while it is looked at is missing for a moment.
        assert_eq!(by(&mut grown, &[(1, 6), (2, 3)]), []);
        assert_eq!(by(&mut grown, &[(1, 9), (2, 3)]), [(1, 2)]);
        grown.is_now(&2, 3);
        assert_eq!(by(&mut grown, &[(1, 9), (3, 4)]), [(3, 1)]);
    }
}
