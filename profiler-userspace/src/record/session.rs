//! Drives a recording from its beginning to its end.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use profiler_common::counter::Counter;
use profiler_common::layout::{EntryKind, MappingsRef};
use profiler_common::thread::{RAN_UNKNOWN, THREAD_UNSEEN, ThreadEntry};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::collector::{Collector, Keep};
use super::launch::{LaunchError, Launched};
use super::name_native::{Interpreter, name_native};
use super::names::ThreadNames;
use super::native_target::NativeTarget;
use super::options::{Mode, NativeFrames, RecordOptions, TargetChoice};
use super::profile::Unit;
use super::snapshot::Snapshot;
use super::target::Target;
use crate::bpf::counters::Counters;
use crate::bpf::tables::TablesError;
use crate::bpf::{LoadError, LoadOptions, Programs};
use crate::process::quota::{Quotas, Throttled};
use crate::process::{pidfd, proc_file, waiting_on};
use crate::python::locate::LocateError;
use crate::python::{InspectError, Version};

/// How often the ring buffer is read when nothing wakes us.
const DRAIN_SLOWLY: Duration = Duration::from_millis(20);
/// How often it is read while new stacks come: their names must be read while the code lives, and
/// a program that starts frees the code of its modules as soon as they ran.
const DRAIN_FAST: Duration = Duration::from_millis(2);
/// Records that are read in one go: a flood of them must not keep signals and the clock waiting.
const RECORDS_AT_ONCE: usize = 1 << 16;
/// How often somebody who watches is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// There is no such process.
    #[error("there is no process {0}")]
    NoProcess(u32),
    /// The pid is a thread's.
    #[error("{tid} is a thread of process {pid}: pass --pid {pid}")]
    IsThread {
        /// What was given.
        tid: u32,
        /// The process.
        pid: u32,
    },
    /// The process cannot be profiled.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The program cannot be launched.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The kernel side failed.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The unwind tables could not be loaded.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// The system failed.
    #[error("{doing}: {source}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Why a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The time was up.
    Duration,
    /// The target ended.
    TargetExited,
    /// Control-C.
    Interrupted,
    /// SIGTERM.
    Terminated,
}

/// What is told while recording.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Time since the beginning.
    pub elapsed: Duration,
    /// Samples or stretches so far.
    pub events: u64,
}

/// A finished recording.
#[derive(Debug)]
pub struct Recording {
    /// Stacks and weights.
    pub collector: Collector,
    /// Names of threads.
    pub names: ThreadNames,
    /// The kernel's counters and ours.
    pub counters: Counters,
    /// Why it ended.
    pub stopped: Stopped,
    /// How long it took.
    pub elapsed: Duration,
    /// From the beginning to the first sample or stretch.
    pub first_event: Option<Duration>,
    /// The target.
    pub pid: u32,
    /// Its version, if it had a Python at the end.
    pub version: Option<Version>,
    /// Why its Python was not known at the end.
    pub not_ready: Option<InspectError>,
    launched: Option<Launched>,
    /// The target's command line.
    pub command: String,
    /// What somebody should know of its native frames.
    pub notes: Vec<String>,
    /// The unwind tables, where there are native frames.
    pub tables: Option<UnwindTables>,
    /// What was recorded.
    pub mode: Mode,
    /// What the CPU quotas of its control groups did meanwhile.
    pub throttled: Vec<Throttled>,
}

/// The unwind tables of a recording, at its end.
#[derive(Clone, Copy, Debug)]
pub struct UnwindTables {
    /// Files that have one.
    pub files: usize,
    /// Bytes in the kernel, those of the mappings included.
    pub bytes: usize,
    /// Distinct rules that they name.
    pub rules: usize,
    /// How long the recording waited for them before it began; a program that was launched has
    /// none at its beginning.
    pub ready_in: Option<Duration>,
}

impl Recording {
    /// Ends a launched program that still runs. Returns the exit code of one that ended by
    /// itself while it was recorded. To be called when the profile is safe on disk.
    pub fn end_launched(&mut self) -> Option<i32> {
        let launched = self.launched.as_mut()?;
        match self.stopped {
            Stopped::TargetExited => launched.wait().ok(),
            // A terminal sends Control-C to the program as well: let it end as it likes.
            Stopped::Interrupted => {
                launched.end(true);
                None
            }
            Stopped::Duration | Stopped::Terminated => {
                launched.end(false);
                None
            }
        }
    }
}

fn system(doing: &'static str) -> impl Fn(io::Error) -> RecordError {
    move |source| RecordError::System { doing, source }
}

/// `CLOCK_MONOTONIC`, nanoseconds: the clock of `bpf_ktime_get_ns`.
fn monotonic_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is valid; the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn check_pid(pid: u32) -> Result<(), RecordError> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .map_err(|_| RecordError::NoProcess(pid))?;
    let tgid = status
        .lines()
        .find_map(|line| line.strip_prefix("Tgid:"))
        .and_then(|value| value.trim().parse().ok());
    match tgid {
        Some(tgid) if tgid != pid => Err(RecordError::IsThread {
            tid: pid,
            pid: tgid,
        }),
        _ => Ok(()),
    }
}

struct Session {
    options: RecordOptions,
    target: Target,
    launched: Option<Launched>,
    programs: Programs,
    events: AsyncFd<RingBuf<MapData>>,
    collector: Collector,
    names: ThreadNames,
    native: Option<NativeTarget>,
    notes: Vec<String>,
    command: String,
    quotas: Quotas,
    begin_ns: u64,
    begin: Instant,
}

/// Records. `on_start` is called once recording has begun, `on_progress` now and then.
///
/// # Errors
/// See [`RecordError`]. Once recording has begun, what was recorded is returned whatever happens
/// to the target.
pub fn record(
    options: RecordOptions,
    on_start: impl FnOnce(&Target),
    on_progress: impl FnMut(Progress),
) -> Result<Recording, RecordError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("cannot start the event loop"))?;
    runtime.block_on(async {
        let mut session = Session::open(options).await?;
        on_start(&session.target);
        let stopped = session.run(on_progress).await?;
        session.close(stopped)
    })
}

impl Session {
    async fn open(options: RecordOptions) -> Result<Self, RecordError> {
        let command = match &options.target {
            TargetChoice::Pid(pid) => proc_file::command_line(*pid).unwrap_or_default(),
            TargetChoice::Launch(words) => words
                .iter()
                .map(|word| word.to_string_lossy())
                .collect::<Vec<_>>()
                .join(" "),
        };
        let (mut target, launched) = match &options.target {
            TargetChoice::Pid(pid) => {
                check_pid(*pid)?;
                (find_python(*pid, options.native)?, None)
            }
            TargetChoice::Launch(command) => {
                let launched = Launched::prepare(command)?;
                (Target::before_exec(launched.pid()), Some(launched))
            }
        };
        let follows = options.follows_threads();
        let load = LoadOptions {
            off_cpu: follows,
            off_cpu_min_ns: nanoseconds(options.waits.min),
            waker_min_ns: nanoseconds(options.wakers_from()),
            native: options.native != NativeFrames::None,
            kernel: options.kernel,
            // Switches come by the ten thousands a second.
            ring_bytes: if follows { 8 << 20 } else { 4 << 20 },
            ..LoadOptions::default()
        };
        let mut programs = Programs::load(&load)?;
        let mut native = None;
        if options.native != NativeFrames::None {
            native = Some(NativeTarget::open(target.pid, &mut programs)?);
        }
        if let (Some(native), None) = (&mut native, &launched) {
            target.mappings = native.prepare().await?;
        }
        let events = watch(programs.take_events()?, "cannot wait for the ring buffer")?;
        programs.set_process(target.pid, &target.entry())?;
        programs.attach_life()?;
        let mut collector = Collector::new(Keep {
            unit: match options.mode {
                Mode::OnCpu(_) => Unit::Samples,
                Mode::OffCpu | Mode::Wall(_) => Unit::Time,
            },
            threads: options.threads,
            waits: options.mode.has_waits(),
            wakers: options.waits.wakers,
            names: options.threads || follows,
        });
        if follows {
            // Before the threads are tracked: from then on no switch of theirs is missed. And
            // before the clock starts: this can take longer than a short recording may be wrong.
            programs.attach_off_cpu()?;
        }
        let quotas = Quotas::of(target.pid);
        let begin = Instant::now();
        let begin_ns = monotonic_ns();
        if let Some(sampling) = options.mode.sampling() {
            if sampling.per_thread_events {
                let tids = proc_file::threads(target.pid).unwrap_or_default();
                programs.sample_threads(&tids, sampling.rate)?;
            } else {
                programs.sample_cpus(sampling.rate)?;
            }
        }
        if follows {
            let tids = track_threads(&mut programs, &target, &mut collector)?;
            collector.snapshot = Snapshot::read(
                &mut target,
                native.as_ref().map(|native| &native.code),
                options.kernel,
                &mut programs,
                &tids,
                &mut collector.stacks,
                &mut collector.counters,
            );
        }
        let mut session = Self {
            options,
            target,
            launched,
            programs,
            events,
            collector,
            names: ThreadNames::default(),
            native,
            notes: Vec::new(),
            command,
            quotas,
            begin_ns,
            begin,
        };
        if let Some(launched) = &mut session.launched {
            launched.begin()?;
        }
        Ok(session)
    }

    async fn run(&mut self, mut on_progress: impl FnMut(Progress)) -> Result<Stopped, RecordError> {
        let mut interrupt =
            signal(SignalKind::interrupt()).map_err(system("cannot handle SIGINT"))?;
        let mut terminate =
            signal(SignalKind::terminate()).map_err(system("cannot handle SIGTERM"))?;
        let exit: Option<AsyncFd<OwnedFd>> = match pidfd::open(self.target.pid) {
            Ok(fd) => Some(watch(fd, "cannot wait for the target's end")?),
            // It ended already.
            Err(_) => None,
        };
        let deadline = self.options.duration.map(|duration| self.begin + duration);
        let mut pause = DRAIN_FAST;
        let mut next_drain = tokio::time::Instant::now() + pause;
        let mut progress = interval(PROGRESS_EVERY);
        progress.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let next_try = self.target.next_try().map(tokio::time::Instant::from_std);
            tokio::select! {
                biased;
                _ = interrupt.recv() => return Ok(Stopped::Interrupted),
                _ = terminate.recv() => return Ok(Stopped::Terminated),
                () = sleep_until(deadline) => return Ok(Stopped::Duration),
                () = readable(exit.as_ref()) => return Ok(Stopped::TargetExited),
                () = maybe_sleep_until(next_try) => {
                    if self.target.inspect_again() {
                        self.programs.set_process(self.target.pid, &self.target.entry())?;
                    }
                }
                mappings = changed(self.native.as_mut()) => {
                    match mappings {
                        Ok(mappings) => self.publish_native(mappings)?,
                        // The kernel keeps what it had: no reason to lose what was recorded.
                        Err(_) => self.collector.counters.add(Counter::UnwindTablesRefused, 1),
                    }
                }
                ready = self.events.readable_mut() => {
                    if let Ok(mut ready) = ready {
                        ready.clear_ready();
                    }
                    let _more = self.drain();
                }
                () = tokio::time::sleep_until(next_drain) => {
                    let known = self.collector.stacks.count();
                    let _more = self.drain();
                    let new = self.collector.stacks.count() != known;
                    pause = if new { DRAIN_FAST } else { DRAIN_SLOWLY.min(pause * 2) };
                    next_drain = tokio::time::Instant::now() + pause;
                }
                _ = progress.tick() => {
                    self.names.refresh(
                        self.target.pid,
                        self.target.python(),
                        &mut self.collector.unnamed,
                    );
                    let counters = self.programs.counters().unwrap_or_default();
                    let stretches = match self.options.mode.has_waits() {
                        true => counters.get(Counter::OffCpuStretches),
                        false => 0,
                    };
                    let events = counters.get(Counter::Samples) + stretches;
                    on_progress(Progress { elapsed: self.begin.elapsed(), events });
                }
            }
        }
    }

    /// Reads records. Returns whether there are more.
    fn drain(&mut self) -> bool {
        for _ in 0..RECORDS_AT_ONCE {
            let Some(record) = self.events.get_mut().next() else {
                return false;
            };
            self.collector.take(&record, &mut self.target);
        }
        true
    }

    fn close(mut self, stopped: Stopped) -> Result<Recording, RecordError> {
        // Before the switches are no longer seen: a thread that has run more by now than they say
        // was not seen to run.
        let follows = self.options.follows_threads();
        let ran = match follows {
            true => cpu_times(self.target.pid),
            false => HashMap::new(),
        };
        let elapsed = self.begin.elapsed();
        let end_ns = monotonic_ns();
        self.programs.stop_sampling();
        if follows {
            self.programs.detach_off_cpu()?;
        }
        // Nothing is added any more: the buffer holds less than its size, and this ends.
        while self.drain() {}
        if follows {
            self.flush_off_cpu(end_ns, &ran)?;
            self.collector.finish();
        }
        if matches!(self.options.mode, Mode::Wall(_)) {
            let on_cpu = self.on_cpu_times();
            self.collector.profile.give_time_to_samples(&on_cpu);
        }
        self.names.refresh(
            self.target.pid,
            self.target.python(),
            &mut self.collector.unnamed,
        );
        self.collector.count_missing_stacks();
        let mut counters = self.programs.counters()?;
        for counter in Counter::ALL {
            counters.add(*counter, self.collector.counters.get(*counter));
        }
        self.name_native(&mut counters);
        let codes = self.target.code_stats();
        counters.add(Counter::CodeGone, codes.gone);
        counters.add(Counter::CodeUnproven, codes.unproven);
        let first_event = self
            .collector
            .first_ns
            .map(|first| Duration::from_nanos(first.saturating_sub(self.begin_ns)));
        let version = self.target.python().map(|python| python.version);
        Ok(Recording {
            collector: self.collector,
            names: self.names,
            counters,
            stopped,
            elapsed,
            first_event,
            pid: self.target.pid,
            version,
            not_ready: self.target.take_error(),
            launched: self.launched,
            command: self.command,
            notes: self.notes,
            tables: self.native.as_ref().map(NativeTarget::tables),
            mode: self.options.mode,
            throttled: self.quotas.since(),
        })
    }

    /// Tells the kernel what is mapped now, and which tables there are.
    fn publish_native(&mut self, mappings: MappingsRef) -> Result<(), RecordError> {
        // What it wrote before may say that the process executed another program.
        let _more = self.drain();
        let known = self.programs.process_generation(self.target.pid);
        if known == Some(self.target.entry().generation) {
            self.target.mappings = mappings;
            let entry = self.target.entry();
            self.programs.set_process(self.target.pid, &entry)?;
        } else if let Some(native) = &mut self.native {
            // It did so just now: again when the record of it is here.
            native.look_soon();
        }
        Ok(())
    }

    /// Names native frames and merges the stacks.
    fn name_native(&mut self, counters: &mut Counters) {
        if self.native.is_none() && !self.options.kernel {
            return;
        }
        let code = self.native.as_ref().map(|native| &native.code);
        let python = self.target.python().map(|python| Interpreter {
            module: &python.module,
            by_count: python.layout.walk.entry_kind == EntryKind::None as u8,
        });
        let by_count = python.is_some_and(|python| python.by_count);
        let named = name_native(
            &mut self.collector.stacks,
            code,
            self.target.pid,
            python,
            self.options.native,
            self.options.tell,
        );
        if by_count {
            // The kernel cannot tell, so it was not counted there.
            let disagreed: BTreeSet<u64> = named.disagreed.iter().copied().collect();
            let keys = self.collector.profile.weights().map(|(key, _)| key);
            let samples = keys.filter(|key| disagreed.contains(&key.stack)).count();
            counters.add(Counter::MergeDisagreed, samples as u64);
        }
        self.notes = named.notes;
        if let Some(code) = code {
            let stats = code.stats();
            counters.add(Counter::UnwindTablesRefused, stats.tables_refused);
            counters.add(Counter::UnwindRulesRefused, stats.rules_refused);
            counters.add(Counter::UnwindTablesMissing, stats.tables_missing);
        }
    }

    /// How long threads were on a CPU, nanoseconds by tid; of all of them together by 0, where they
    /// are not kept apart.
    fn on_cpu_times(&self) -> HashMap<u32, u64> {
        let times = self.collector.accounts.on_cpu();
        if self.options.threads {
            return times;
        }
        HashMap::from([(0, times.values().sum())])
    }

    /// The stretches that had not ended when the recording did. `ran` is what threads had run
    /// shortly before.
    fn flush_off_cpu(&mut self, end_ns: u64, ran: &HashMap<u32, u64>) -> Result<(), RecordError> {
        let min_ns = nanoseconds(self.options.waits.min);
        for (tid, mut thread) in self.programs.threads()? {
            let waited = thread.state == THREAD_UNSEEN && self.collector.snapshot.waited(tid);
            let ran_ns = ran.get(&tid).copied().unwrap_or(0);
            // The last switches may be later than the end, by as much as it takes to detach.
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
                    self.collector.off_cpu(record);
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

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The Python of a process; with native frames, a process without one will do.
fn find_python(pid: u32, native: NativeFrames) -> Result<Target, InspectError> {
    match Target::running(pid) {
        Err(InspectError::Locate(LocateError::NotPython { .. }))
            if native != NativeFrames::None =>
        {
            Ok(Target::without_python(pid))
        }
        result => result,
    }
}

/// Waits until the kernel has other tables than before.
async fn changed(native: Option<&mut NativeTarget>) -> Result<MappingsRef, TablesError> {
    match native {
        Some(native) => native.changed().await,
        None => std::future::pending().await,
    }
}

fn watch<T: AsRawFd>(source: T, doing: &'static str) -> Result<AsyncFd<T>, RecordError> {
    // SAFETY: both kinds that come here own their descriptor, and give the same one each time.
    unsafe { AsyncFd::register_with_interest(source, Interest::READABLE) }
        .map_err(io::Error::from)
        .map_err(system(doing))
}

/// Tracks every thread of the target: again until no new one appears, since a thread can start
/// one while the list is read.
fn track_threads(
    programs: &mut Programs,
    target: &Target,
    collector: &mut Collector,
) -> Result<Vec<u32>, RecordError> {
    let mut known = std::collections::BTreeSet::new();
    loop {
        let listed =
            proc_file::threads(target.pid).map_err(|_| RecordError::NoProcess(target.pid))?;
        let new: Vec<u32> = listed
            .into_iter()
            .filter(|tid| known.insert(*tid))
            .collect();
        if new.is_empty() {
            return Ok(known.into_iter().collect());
        }
        for tid in new {
            let now_ns = monotonic_ns();
            let ran_ns = proc_file::thread_cpu_ns(target.pid, tid).unwrap_or(RAN_UNKNOWN);
            let generation = target.entry().generation;
            let entry = ThreadEntry {
                earlier: waiting_on::earlier(target.pid, tid),
                ..ThreadEntry::new(target.pid, THREAD_UNSEEN, generation, now_ns, ran_ns)
            };
            collector.accounts.begin(tid, now_ns);
            if programs.track_thread(tid, &entry).is_err() {
                collector.counters.add(Counter::ThreadsUntracked, 1);
            }
        }
    }
}

/// What each thread of a process has run, nanoseconds, where the kernel keeps that (`SCHED_INFO`).
fn cpu_times(pid: u32) -> HashMap<u32, u64> {
    let tids = proc_file::threads(pid).unwrap_or_default();
    tids.into_iter()
        .filter_map(|tid| Some((tid, proc_file::thread_cpu_ns(pid, tid)?)))
        .collect()
}

async fn sleep_until(deadline: Option<Instant>) {
    maybe_sleep_until(deadline.map(tokio::time::Instant::from_std)).await;
}

pub(super) async fn maybe_sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Ends when the process did; at once when it had ended before it could be watched.
async fn readable(exit: Option<&AsyncFd<OwnedFd>>) {
    if let Some(exit) = exit {
        let _guard = exit.readable().await;
    }
}
