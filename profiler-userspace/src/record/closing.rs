//! How a recording ends: nothing more is followed, what has not ended is counted until now, and all of
//! it is given away.

use std::collections::HashMap;
use std::time::Duration;

use profiler_common::counter::Counter;
use profiler_common::event::{EventHeader, EventKind};
use profiler_common::thread::THREAD_UNSEEN;

use super::accounts::ThreadId;
use super::collector::Collector;
use super::native_target::NativeTargets;
use super::options::Mode;
use super::recording::{RecordError, Recording, Single, Stopped, Watched};
use super::session::{Session, monotonic_ns, nanoseconds};
use super::watch::{Look, Watcher};
use crate::process::proc_file;

/// Whether a record says that a process or thread began or ended, after nothing was followed any more.
/// What is there then is there to the end.
pub(super) fn is_late(header: &EventHeader, stopped_ns: u64) -> bool {
    match EventKind::from_u8(header.kind) {
        Some(
            EventKind::Exec | EventKind::Fork | EventKind::ProcessEnd | EventKind::ThreadStart,
        ) => header.time_ns > stopped_ns,
        // One that was not followed as it ended has no times, and its entry is there still.
        Some(EventKind::ThreadEnd) => header.value == 0 && header.stack == 0,
        _ => false,
    }
}

impl Session {
    /// Ends it for a watcher, which looks a last time.
    pub(super) fn leave(
        mut self,
        stopped: Stopped,
        watcher: &mut impl Watcher,
    ) -> Result<Watched, RecordError> {
        self.programs.stop_sampling();
        if self.options.follows_threads() {
            self.programs.detach_off_cpu()?;
        }
        // Nothing is added any more: this ends.
        while self.drain() {}
        self.refresh_names();
        let _over = watcher.tick(Look::new(&mut self, Some(stopped)));
        let exit_code = self.launched.as_mut();
        let exit_code = exit_code.and_then(|launched| stopped.end(launched));
        Ok(Watched { stopped, exit_code })
    }

    /// Ends it.
    pub(super) fn close(
        mut self,
        stopped: Stopped,
        _watcher: &mut impl Watcher,
    ) -> Result<Recording, RecordError> {
        // Before the switches are no longer seen: a thread that has run more by now than they say
        // was not seen to run.
        let follows = self.options.follows_threads();
        let ran = match follows {
            true => cpu_times(self.processes.live().map(|process| process.target.pid)),
            false => HashMap::new(),
        };
        // First: a process that is made from now on is not known, and has no samples to lose.
        self.programs.stop_sampling();
        // At one moment for all threads. To detach takes as long as the other CPUs let it, and a
        // hypervisor may not let them for a while: threads that are switched meanwhile would be there
        // for longer than those that are not.
        self.stopped_ns = Some(monotonic_ns());
        if follows && self.programs.stop_following().is_err() {
            // The ends of some are less exact: no reason to lose what was recorded.
            self.collector.counters.add(Counter::Internal, 1);
        }
        let elapsed = self.begin.elapsed();
        let end_ns = monotonic_ns();
        if follows {
            self.programs.detach_off_cpu()?;
        }
        // Nothing is added any more: the buffer holds less than its size, and this ends.
        while self.drain() {}
        self.settle_candidates()?;
        if follows {
            self.flush_off_cpu(end_ns, &ran)?;
            self.collector.finish();
        }
        let on_cpu = self.collector.accounts.on_cpu();
        if let (Mode::Wall(_), Some(log)) = (self.options.mode, &mut self.collector.log) {
            log.on_cpu(&on_cpu);
        }
        let single = self.single();
        let recording = self.conclude(stopped, elapsed, on_cpu, single)?;
        Ok(Recording {
            launched: self.launched,
            ..recording
        })
    }

    /// What was recorded until now; the session is left without it.
    pub(super) fn so_far(&mut self) -> Result<Recording, RecordError> {
        let elapsed = self.begin.elapsed();
        while self.drain() {}
        let on_cpu = Look::new(self, None).threads().on_cpu;
        let single = self.asked.first().copied();
        let single = single.filter(|_| !self.options.target.can_be_many());
        let single = single.map(|pid| Single {
            pid,
            version: self
                .processes
                .get(pid)
                .and_then(|process| process.target.python())
                .map(|python| python.version),
            not_ready: None,
            command: self.command.clone(),
        });
        self.conclude(Stopped::NotYet, elapsed, on_cpu, single)
    }

    /// Takes back what [`Session::so_far`] gave.
    pub(super) fn take_back(&mut self, recording: Recording) {
        self.collector = recording.collector;
        self.names = recording.names;
        self.processes = recording.processes;
    }

    /// Names what has no name yet, counts, and gives all of it away.
    fn conclude(
        &mut self,
        stopped: Stopped,
        elapsed: Duration,
        on_cpu: HashMap<ThreadId, u64>,
        single: Option<Single>,
    ) -> Result<Recording, RecordError> {
        if let Mode::Wall(sampling) = self.options.mode {
            let on_cpu = self.as_kept_apart(on_cpu);
            let period_ns = 1_000_000_000 / u64::from(sampling.rate.max(1));
            self.collector
                .profile
                .give_time_to_samples(&on_cpu, period_ns);
        }
        self.refresh_names();
        let mut counters = self.programs.counters()?;
        let own = &self.collector.counters;
        for counter in Counter::ALL {
            counters.add(*counter, own.get(*counter));
        }
        counters.add(Counter::StackMissing, self.collector.missing_stacks());
        self.name_native(&mut counters);
        let codes = self.processes.code_stats();
        counters.add(Counter::CodesRead, codes.read);
        counters.add(Counter::CodeLinesGone, codes.lines_gone);
        counters.add(Counter::CodeGone, codes.gone);
        counters.add(Counter::CodeUnproven, codes.unproven);
        let first_event = self
            .collector
            .first_ns
            .map(|first| Duration::from_nanos(first.saturating_sub(self.begin_ns)));
        self.processes.refresh_inner_pids();
        let collector = &mut self.collector;
        if let Some(log) = &mut collector.log {
            log.complete(&self.processes, &mut collector.stacks, &mut self.names);
        }
        let mut notes = self.notes.lines();
        notes.extend(self.native_notes.iter().cloned());
        let nothing = Collector::new(self.collector.keep());
        Ok(Recording {
            collector: std::mem::replace(&mut self.collector, nothing),
            names: std::mem::take(&mut self.names),
            counters,
            stopped,
            elapsed,
            first_event,
            processes: std::mem::take(&mut self.processes),
            single,
            launched: None,
            notes,
            tables: self.native.as_ref().map(NativeTargets::tables),
            mode: self.options.mode,
            groups: self.options.groups.clone(),
            throttled: self.quotas.since(),
            stolen: self.ticks.taken_since(),
        })
    }

    /// The process that was asked for, where it can be no other.
    fn single(&mut self) -> Option<Single> {
        if self.options.target.can_be_many() {
            return None;
        }
        let pid = *self.asked.first()?;
        let target = self
            .processes
            .get_mut(pid)
            .map(|process| &mut process.target);
        let (version, not_ready) = match target {
            Some(target) => (
                target.python().map(|python| python.version),
                target.take_error(),
            ),
            None => (None, None),
        };
        Some(Single {
            pid,
            version,
            not_ready,
            command: std::mem::take(&mut self.command),
        })
    }

    /// Times of threads; of all threads of a process together by 0, where they are not kept apart.
    fn as_kept_apart(&self, times: HashMap<ThreadId, u64>) -> HashMap<ThreadId, u64> {
        if self.options.threads() {
            return times;
        }
        let mut together: HashMap<ThreadId, u64> = HashMap::new();
        for ((process, _), time) in times {
            *together.entry((process, 0)).or_default() += time;
        }
        together
    }

    /// The stretches that had not ended when the recording did. `ran` is what threads had run
    /// shortly before.
    fn flush_off_cpu(&mut self, end_ns: u64, ran: &HashMap<u32, u64>) -> Result<(), RecordError> {
        let min_ns = nanoseconds(self.options.waits.min);
        for (tid, mut thread) in self.programs.threads()? {
            let Some(process) = self.processes.get_mut(thread.tgid) else {
                continue;
            };
            let waited = thread.state == THREAD_UNSEEN && self.collector.snapshot.waited(tid);
            let ran_ns = ran.get(&tid).copied().unwrap_or(0);
            // That of a thread that began since then is later.
            let end_ns = end_ns.max(thread.since_ns);
            if let Some((mut record, missed)) = thread.recording_ends(end_ns, ran_ns, waited) {
                let length = record.header.value;
                let counters = &mut self.collector.counters;
                if missed {
                    counters.add(Counter::SwitchesMissed, 1);
                }
                counters.add(Counter::OffCpuStretches, 1);
                if length < min_ns {
                    counters.add(Counter::OffCpuShort, 1);
                    counters.add(Counter::OffCpuShortNs, length);
                } else {
                    record.header.tid = tid;
                    self.collector.off_cpu(record, process);
                }
            }
            let accounts = &mut self.collector.accounts;
            accounts.end(tid, end_ns, thread.on_ns, thread.off_ns);
        }
        // These were blocked at the beginning, have run since, and were not seen to begin.
        let missed = self.collector.snapshot.left_blocked().count() as u64;
        self.collector.counters.add(Counter::SwitchesMissed, missed);
        Ok(())
    }
}

/// What each thread of some processes has run, nanoseconds, where the kernel keeps that
/// (`SCHED_INFO`).
fn cpu_times(pids: impl Iterator<Item = u32>) -> HashMap<u32, u64> {
    let threads = |pid| {
        let tids = proc_file::threads(pid).unwrap_or_default();
        tids.into_iter()
            .filter_map(move |tid| Some((tid, proc_file::thread_cpu_ns(pid, tid)?)))
    };
    pids.flat_map(threads).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_and_goes_behind_the_end_is_late() {
        let record = |kind, time_ns, value| EventHeader {
            time_ns,
            value,
            ..EventHeader::new(kind, 1, 2)
        };
        for kind in [
            EventKind::Exec,
            EventKind::Fork,
            EventKind::ProcessEnd,
            EventKind::ThreadStart,
        ] {
            assert!(is_late(&record(kind, 101, 0), 100), "{kind:?}");
            assert!(!is_late(&record(kind, 100, 0), 100), "{kind:?}");
        }
        // It was followed to its end, whenever that was.
        assert!(!is_late(&record(EventKind::ThreadEnd, 101, 7), 100));
        assert!(is_late(&record(EventKind::ThreadEnd, 101, 0), 100));
        // What threads did is theirs.
        assert!(!is_late(&record(EventKind::Sample, 101, 0), 100));
        assert!(!is_late(&record(EventKind::OffCpu, 101, 0), 100));
    }
}
