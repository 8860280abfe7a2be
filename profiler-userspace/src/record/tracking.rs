//! Threads of a process whose switches are followed, from outside: those that began before.

use std::collections::BTreeSet;

use profiler_common::counter::Counter;
use profiler_common::thread::{RAN_UNKNOWN, THREAD_UNSEEN, ThreadEntry};

use super::session::{Session, monotonic_ns};
use crate::process::{proc_file, waiting_on};

impl Session {
    /// Tracks every thread of a process: again until no new one appears, since a thread can start
    /// one while the list is read.
    pub(super) fn track_threads(&mut self, pid: u32) -> Vec<u32> {
        let Some(process) = self.processes.get(pid) else {
            return Vec::new();
        };
        let (id, generation) = (process.id, process.target.generation());
        let mut known = BTreeSet::new();
        loop {
            let listed = proc_file::threads(pid).unwrap_or_default();
            let new: Vec<u32> = listed
                .into_iter()
                .filter(|tid| known.insert(*tid))
                .collect();
            if new.is_empty() {
                return known.into_iter().collect();
            }
            for tid in new {
                let now_ns = monotonic_ns();
                let ran_ns = proc_file::thread_cpu_ns(pid, tid).unwrap_or(RAN_UNKNOWN);
                let entry = ThreadEntry {
                    earlier: waiting_on::earlier(pid, tid),
                    ..ThreadEntry::new(pid, THREAD_UNSEEN, generation, now_ns, ran_ns)
                };
                self.collector.accounts.begin((id, tid), now_ns);
                if self.programs.track_thread(tid, &entry).is_err() {
                    self.collector.counters.add(Counter::ThreadsUntracked, 1);
                }
            }
        }
    }
}
