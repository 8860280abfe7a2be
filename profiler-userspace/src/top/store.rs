//! All that the view knows of a recording.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use profiler_common::cause::Cause;

use super::reading::{Cell, Counts, ProcessName, Reading, StackId};
use crate::output::text::one_line;
use crate::record::Stopped;
use crate::record::accounts::ThreadId;
use crate::record::frame::FrameText;
use crate::record::processes::ProcessId;
use crate::record::stacks::FrameId;

/// Nanoseconds of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// In the last interval.
    pub last: u64,
    /// Since the beginning, or since somebody began anew.
    pub all: u64,
}

/// How the threads did in the last interval, as shares of it: 1.0 is one thread all of the time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// The interpreter's lock was held.
    pub gil: f64,
    /// Threads waited for it.
    pub gil_wanted: f64,
    /// Threads were on a CPU.
    pub active: f64,
}

/// What is known of a recording.
#[derive(Clone, Debug, Default)]
pub struct Store {
    frames: Vec<FrameText>,
    stacks: Vec<Arc<[FrameId]>>,
    cells: HashMap<Cell, Time>,
    on_cpu: HashMap<ThreadId, Time>,
    threads: HashMap<ThreadId, String>,
    processes: BTreeMap<ProcessId, ProcessName>,
    /// How long the last interval was.
    pub interval: Duration,
    /// What it has come to.
    pub counts: Counts,
    /// Why it is over, if it is.
    pub over: Option<Stopped>,
}

impl Store {
    /// Adds what changed.
    pub fn take(&mut self, reading: Reading) {
        self.frames.extend(reading.frames);
        self.stacks.extend(reading.stacks);
        self.threads.extend(reading.threads);
        self.processes.extend(reading.processes);
        self.counts = reading.counts;
        self.over = reading.over;
        if reading.over.is_some() {
            // However short it was: the end goes with what was before.
            self.interval += reading.interval;
        } else {
            self.interval = reading.interval;
            let times = self.cells.values_mut().chain(self.on_cpu.values_mut());
            for time in times {
                time.last = 0;
            }
        }
        for (cell, ns) in reading.changes {
            let time = self.cells.entry(cell).or_default();
            time.last += ns;
            time.all += ns;
        }
        for (thread, ns) in reading.on_cpu {
            let time = self.on_cpu.entry(thread).or_default();
            time.last += ns;
            time.all += ns;
        }
    }

    /// Begins anew.
    pub fn reset(&mut self) {
        self.cells.clear();
        self.on_cpu.clear();
    }

    /// The time of all cells.
    pub fn cells(&self) -> impl Iterator<Item = (&Cell, &Time)> {
        self.cells.iter()
    }

    /// How long threads were on a CPU: the same as their cells say, and at once.
    pub fn on_cpu(&self) -> impl Iterator<Item = (&ThreadId, &Time)> {
        self.on_cpu.iter()
    }

    /// A frame.
    #[must_use]
    pub fn frame(&self, id: FrameId) -> Option<&FrameText> {
        self.frames.get(id as usize)
    }

    /// All frames, by their numbers.
    #[must_use]
    pub fn frames(&self) -> &[FrameText] {
        &self.frames
    }

    /// A stack, from the root to the leaf.
    #[must_use]
    pub fn stack(&self, id: StackId) -> &[FrameId] {
        self.stacks.get(id as usize).map_or(&[], |frames| frames)
    }

    /// A process.
    #[must_use]
    pub fn process(&self, id: ProcessId) -> Option<&ProcessName> {
        self.processes.get(&id)
    }

    /// The process that there is, where it is one. What it was before it executed another program is
    /// no other.
    #[must_use]
    pub fn only_process(&self) -> Option<&ProcessName> {
        let last = self.processes.values().next_back()?;
        let is_same = |process: &ProcessName| process.pid == last.pid;
        self.processes.values().all(is_same).then_some(last)
    }

    /// A thread, to a person.
    #[must_use]
    pub fn thread_name(&self, thread: ThreadId) -> String {
        let (_, tid) = thread;
        match self.threads.get(&thread) {
            Some(name) => format!("{tid} {}", one_line(name)),
            None => tid.to_string(),
        }
    }

    /// A process, to a person.
    #[must_use]
    pub fn process_name(&self, id: ProcessId) -> String {
        match self.process(id) {
            Some(process) => format!("{} {}", process.pid, one_line(&process.command)),
            None => "?".to_owned(),
        }
    }

    /// A part of the last interval.
    #[must_use]
    pub fn share(&self, ns: u64) -> f64 {
        match self.interval.as_nanos() {
            0 => 0.0,
            interval => ns as f64 / interval as f64,
        }
    }

    /// How the threads did.
    #[must_use]
    pub fn load(&self) -> Load {
        let sum = |wanted: fn(&Cell) -> bool| {
            let cells = self.cells.iter().filter(|(cell, _)| wanted(cell));
            self.share(cells.map(|(_, time)| time.last).sum())
        };
        let gil = sum(|cell| cell.holds_gil);
        Load {
            // Samples do not tell exactly.
            gil: gil.min(self.counts.locks.max(1) as f64),
            gil_wanted: sum(|cell| cell.waits == Some(Cause::Gil)),
            active: self.share(self.on_cpu.values().map(|time| time.last).sum()),
        }
    }
}
