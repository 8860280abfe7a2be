//! Drives a recording from its beginning to its end.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use profiler_common::counter::Counter;
use profiler_common::event::EventHeader;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::arrivals::{self, NotPython};
use super::closing::is_late;
use super::collector::{Collector, Keep};
use super::discovery::{self, Notes};
use super::ended::Ended;
use super::launch::{Launched, Terminal};
use super::name_native::NativeNames;
use super::names::ThreadNames;
use super::native_follow;
use super::native_target::{NativeTargets, Published};
use super::options::{Mode, NativeFrames, RecordOptions, TargetChoice};
use super::processes::Processes;
use super::profile::Unit;
use super::recording::{RecordError, Recording, Stopped, Watched};
use super::snapshot::waiting_threads;
use super::watch::{Go, Look, Watcher};
use crate::bpf::tables::TablesError;
use crate::bpf::{LoadOptions, Programs};
use crate::kernel::stolen::Ticks;
use crate::native::{MapWatch, Mapped};
use crate::process::precedence::Precedence;
use crate::process::quota::Quotas;
use crate::process::{pidfd, proc_file};
use crate::python::catalog::Catalog;

/// How often the ring buffer is read when nothing wakes us.
const DRAIN_SLOWLY: Duration = Duration::from_millis(40);
/// How often it is read while new stacks come: what the kernel could not send of them must be read
/// while the code lives.
const DRAIN_FAST: Duration = Duration::from_millis(5);
/// Records that are read in one go: a flood of them must not keep signals and the clock waiting.
const RECORDS_AT_ONCE: usize = 1 << 16;
/// How often somebody who watches is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

fn system(doing: &'static str) -> impl Fn(io::Error) -> RecordError {
    move |source| RecordError::System { doing, source }
}

/// `CLOCK_MONOTONIC`, nanoseconds: the clock of `bpf_ktime_get_ns`.
pub(super) fn monotonic_ns() -> u64 {
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

/// A recording that goes on.
pub(super) struct Session {
    pub(super) options: RecordOptions,
    pub(super) programs: Programs,
    pub(super) collector: Collector,
    pub(super) processes: Processes,
    pub(super) catalog: Catalog,
    pub(super) notes: Notes,
    pub(super) native: Option<NativeTargets>,
    pub(super) native_notes: Vec<String>,
    /// Stacks whose two sides did not agree, and those of the kernel's own threads.
    pub(super) disagreed: BTreeSet<u64>,
    pub(super) of_the_kernel: BTreeSet<u64>,
    /// Where native frames are named while the recording goes on.
    pub(super) native_names: Option<NativeNames>,
    pub(super) launched: Option<Launched>,
    events: AsyncFd<RingBuf<MapData>>,
    maps: Option<MapWatch>,
    /// Files that are mapped and contain no Python, as the kernel tells of them.
    pub(super) not_python: NotPython,
    pub(super) ended: Ended,
    pub(super) names: ThreadNames,
    /// What was asked for by number, in that order.
    pub(super) asked: Vec<u32>,
    pub(super) command: String,
    pub(super) quotas: Quotas,
    pub(super) ticks: Ticks,
    pub(super) begin_ns: u64,
    pub(super) begin: Instant,
    /// Since when nothing is followed any more.
    pub(super) stopped_ns: Option<u64>,
}

/// Records. `on_start` is called once recording has begun; `watcher` looks at it now and then.
///
/// # Errors
/// See [`RecordError`]. Once recording has begun, what was recorded is returned whatever happens
/// to the targets.
pub fn record(
    options: RecordOptions,
    terminal: &Terminal,
    on_start: impl FnOnce(&Processes),
    watcher: &mut impl Watcher,
) -> Result<Recording, RecordError> {
    drive(options, terminal, on_start, watcher, Session::close)
}

/// Records for `watcher` alone: nothing is kept when it is over. The first tick comes once recording
/// has begun.
///
/// # Errors
/// See [`RecordError`].
pub fn record_for(
    options: RecordOptions,
    terminal: &Terminal,
    watcher: &mut impl Watcher,
) -> Result<Watched, RecordError> {
    drive(options, terminal, |_| (), watcher, Session::leave)
}

fn drive<W: Watcher, T>(
    options: RecordOptions,
    terminal: &Terminal,
    on_start: impl FnOnce(&Processes),
    watcher: &mut W,
    end: impl FnOnce(Session, Stopped, &mut W) -> Result<T, RecordError>,
) -> Result<T, RecordError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("cannot start the event loop"))?;
    // Who comes is to be known before they are gone. Without the right to that, it is tried all the
    // same.
    let many = options.target.can_be_many();
    let mut precedence = many.then(Precedence::take).and_then(Result::ok);
    runtime.block_on(async {
        let mut session = Session::open(options, terminal).await?;
        on_start(&session.processes);
        let stopped = session.run(watcher, &mut precedence).await?;
        drop(precedence);
        end(session, stopped, watcher)
    })
}

/// What the kernel side is loaded with.
fn load_options(options: &RecordOptions) -> LoadOptions {
    let follows = options.follows_threads();
    let host_wide = options.target.is_host_wide();
    let many = options.target.can_be_many();
    let (processes, threads) = if many { capacity() } else { (1024, 16_384) };
    LoadOptions {
        off_cpu: follows,
        off_cpu_min_ns: nanoseconds(options.waits.min),
        waker_min_ns: nanoseconds(options.wakers_from()),
        native: options.native != NativeFrames::None,
        kernel: options.kernel,
        // Switches come by the ten thousands a second.
        ring_bytes: if follows || many { 8 << 20 } else { 4 << 20 },
        follow_children: host_wide || options.target.selection().subprocesses,
        watch_exec: host_wide,
        others: options.counts_others(),
        processes,
        threads,
    }
}

/// Processes and threads for which there is room in the kernel's maps: as many as this machine can
/// number, within reason. A process takes 170 bytes, a thread 180.
fn capacity() -> (u32, u32) {
    let numbers = std::fs::read_to_string("/proc/sys/kernel/pid_max");
    let numbers: u32 = numbers
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(32_768);
    (numbers.clamp(1024, 32_768), numbers.clamp(16_384, 131_072))
}

impl Session {
    async fn open(options: RecordOptions, terminal: &Terminal) -> Result<Self, RecordError> {
        let many = options.target.can_be_many();
        let mut catalog = Catalog::default();
        let mut processes = Processes::default();
        let mut notes = Notes::default();
        let launched = match &options.target {
            TargetChoice::Running(_) => None,
            TargetChoice::Launch(command, _) => Some(Launched::prepare(command, terminal)?),
        };
        let asked = match (&launched, &options.target) {
            (Some(launched), TargetChoice::Launch(words, _)) => {
                let pid = launched.pid();
                discovery::launched(&mut processes, pid, words);
                vec![pid]
            }
            _ => {
                let selection = options.target.selection();
                for pid in &selection.pids {
                    check_pid(*pid)?;
                }
                selection.pids.clone()
            }
        };
        let follows = options.follows_threads();
        let mut programs = Programs::load(&load_options(&options))?;
        let mut native = match options.native {
            NativeFrames::None => None,
            _ => Some(NativeTargets::open(&asked, &mut programs)?),
        };
        let events = watch(programs.take_events()?, "cannot wait for the ring buffer")?;
        let maps = match many || native.is_some() {
            true => Some(MapWatch::start().map_err(system("cannot watch mappings"))?),
            false => None,
        };
        if many {
            // Before the list of processes is read: none passes between.
            programs.attach_life()?;
        }
        if launched.is_none() {
            discovery::running(&options, &mut catalog, &mut processes, &mut notes)?;
        }
        if let (Some(native), None) = (&mut native, &launched) {
            for (pid, mappings) in native.prepare().await? {
                if let Some(process) = processes.get_mut(pid) {
                    process.target.mappings = mappings;
                    native.code.published(pid, mappings.generation);
                }
            }
        }
        let mut collector = Collector::new(Keep {
            unit: match options.mode {
                Mode::OnCpu(_) => Unit::Samples,
                Mode::OffCpu | Mode::Wall(_) => Unit::Time,
            },
            threads: options.threads(),
            waits: options.mode.has_waits(),
            wakers: options.waits.wakers,
            names: options.threads() || follows || options.log.is_some(),
            follows,
        });
        let mut names = ThreadNames::default();
        if let Some(file) = &options.log {
            let log = file
                .begin(&options)
                .map_err(system("cannot write the recording"))?;
            collector.log = Some(log);
            collector.stacks.note_changes();
            names.note_changes();
        }
        for process in processes.live() {
            // Where the kernel has an entry already, the process executed another program since it was
            // looked at: the record of that is here.
            let (pid, entry) = (process.target.pid, process.target.entry());
            arrivals::enter(&mut programs, &mut collector.counters, pid, &entry);
        }
        discovery::take_out_ended(&mut programs, &mut processes);
        if !many {
            programs.attach_life()?;
        }
        if follows {
            // Before the threads are tracked: from then on no switch of theirs is missed. And
            // before the clock starts: this can take longer than a short recording may be wrong.
            programs.attach_off_cpu()?;
        }
        let quotas = Quotas::of_all(processes.live().map(|process| process.target.pid));
        let command = asked
            .first()
            .and_then(|pid| processes.known(processes.get(*pid)?.id))
            .map_or_else(String::new, |known| known.identity.command.clone());
        let mut session = Self {
            options,
            programs,
            collector,
            processes,
            catalog,
            notes,
            native,
            native_notes: Vec::new(),
            disagreed: BTreeSet::new(),
            of_the_kernel: BTreeSet::new(),
            native_names: None,
            launched,
            events,
            maps,
            not_python: NotPython::default(),
            ended: Ended::default(),
            names,
            asked,
            command,
            quotas,
            ticks: Ticks::now(),
            begin_ns: monotonic_ns(),
            begin: Instant::now(),
            stopped_ns: None,
        };
        if let Some(sampling) = session.options.mode.sampling() {
            if sampling.per_thread_events {
                let asked = session.asked.iter();
                let tids = asked.filter_map(|pid| proc_file::threads(*pid).ok());
                let tids: Vec<u32> = tids.flatten().collect();
                session.programs.sample_threads(&tids, sampling.rate)?;
            } else {
                session.programs.sample_cpus(sampling.rate)?;
            }
        }
        if follows {
            session.track_all();
        }
        if let Some(launched) = &mut session.launched {
            launched.begin()?;
        }
        Ok(session)
    }

    /// Tracks the threads of all targets, and reads the stacks of those that wait.
    fn track_all(&mut self) {
        let pids: Vec<u32> = self
            .processes
            .live()
            .map(|process| process.target.pid)
            .collect();
        let with_registers = self.native.is_some() || self.options.kernel;
        let mut tracked = Vec::new();
        for pid in pids {
            tracked.push((pid, self.track_threads(pid)));
        }
        let waiting = match with_registers {
            true => waiting_threads(&mut self.programs, &mut self.collector.counters),
            false => HashMap::new(),
        };
        for (pid, tids) in tracked {
            let Some(process) = self.processes.get_mut(pid) else {
                continue;
            };
            let native = self.native.as_ref().map(|native| &native.code);
            self.collector.snapshot.read(
                process.id,
                &mut process.target,
                native,
                &waiting,
                &self.programs,
                &tids,
                &mut self.collector.stacks,
                &mut self.collector.counters,
            );
        }
    }

    async fn run(
        &mut self,
        watcher: &mut impl Watcher,
        precedence: &mut Option<Precedence>,
    ) -> Result<Stopped, RecordError> {
        let mut interrupt =
            signal(SignalKind::interrupt()).map_err(system("cannot handle SIGINT"))?;
        let mut terminate =
            signal(SignalKind::terminate()).map_err(system("cannot handle SIGTERM"))?;
        let mut user =
            signal(SignalKind::user_defined1()).map_err(system("cannot handle SIGUSR1"))?;
        let mut exits: Vec<AsyncFd<OwnedFd>> = Vec::new();
        for pid in &self.asked {
            // One that ended already is not waited for.
            if let Ok(fd) = pidfd::open(*pid) {
                exits.push(watch(fd, "cannot wait for the target's end")?);
            }
        }
        let many = self.options.target.can_be_many();
        let waits_for_end = !self.options.target.is_host_wide();
        let deadline = self.options.duration.map(|duration| self.begin + duration);
        let mut pause = DRAIN_FAST;
        let mut next_drain = tokio::time::Instant::now() + pause;
        let mut progress = interval(PROGRESS_EVERY);
        progress.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let next_try = self.processes.next_try();
            let next_try = next_try.map(tokio::time::Instant::from_std);
            tokio::select! {
                biased;
                _ = interrupt.recv() => return Ok(Stopped::Interrupted),
                _ = terminate.recv() => return Ok(Stopped::Terminated),
                () = sleep_until(deadline) => return Ok(Stopped::Duration),
                () = all_ended(&exits), if waits_for_end => return Ok(Stopped::TargetExited),
                () = maybe_sleep_until(next_try) => self.look_at_due()?,
                published = changed(self.native.as_mut()) => {
                    match published {
                        Ok(published) => self.publish_native(published)?,
                        // The kernel keeps what it had: no reason to lose what was recorded.
                        Err(_) => self.collector.counters.add(Counter::UnwindTablesRefused, 1),
                    }
                }
                mapped = mapped(self.maps.as_mut()) => {
                    if let (Some(native), Some(mapped)) = (&mut self.native, &mapped) {
                        native.mapped(mapped);
                    }
                    if many {
                        self.mapped(mapped)?;
                    }
                }
                ready = self.events.readable_mut() => {
                    if let Ok(mut ready) = ready {
                        ready.clear_ready();
                    }
                    let _more = self.drain();
                    self.look_at_due()?;
                }
                () = tokio::time::sleep_until(next_drain) => {
                    let known = self.collector.stacks.count();
                    let _more = self.drain();
                    let new = self.collector.stacks.count() != known;
                    pause = if new { DRAIN_FAST } else { DRAIN_SLOWLY.min(pause * 2) };
                    next_drain = tokio::time::Instant::now() + pause;
                }
                _ = user.recv() => {
                    // Naming and writing can take a while: in line with everybody else.
                    let had_precedence = precedence.take().is_some();
                    let mut so_far = self.so_far()?;
                    watcher.asked(&mut so_far);
                    self.take_back(so_far);
                    *precedence = had_precedence.then(Precedence::take).and_then(Result::ok);
                }
                _ = progress.tick() => {
                    self.refresh_names();
                    self.tick_log();
                    self.tidy();
                    self.tidy_native();
                    if watcher.tick(Look::new(self, None)) == Go::Stop {
                        return Ok(Stopped::Enough);
                    }
                }
            }
        }
    }

    pub(super) fn refresh_names(&mut self) {
        for process in self.processes.live_mut() {
            let target = &process.target;
            self.names.refresh(
                process.id,
                target.pid,
                target.python(),
                &mut process.unnamed,
            );
        }
    }

    /// Writes down what was learned, before anything of it is forgotten.
    fn tick_log(&mut self) {
        let collector = &mut self.collector;
        if let Some(log) = &mut collector.log {
            log.tick(&self.processes, &mut collector.stacks, &mut self.names);
        }
    }

    /// Reads records. Returns whether there are more.
    pub(super) fn drain(&mut self) -> bool {
        let others = self.options.counts_others();
        for _ in 0..RECORDS_AT_ONCE {
            let Some(record) = self.events.get_mut().next() else {
                return false;
            };
            let Some(header) = EventHeader::parse(&record) else {
                self.collector.counters.add(Counter::Internal, 1);
                continue;
            };
            if self
                .stopped_ns
                .is_some_and(|stopped_ns| is_late(&header, stopped_ns))
            {
                continue;
            }
            arrivals::follow(&header, &mut self.processes, &mut self.collector, others);
            if let Some(native) = &mut self.native {
                let (processes, programs) = (&mut self.processes, &mut self.programs);
                native_follow::follow(native, &header, processes, programs);
            }
            self.collector.take(&header, &record, &mut self.processes);
        }
        true
    }
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Waits until the kernel has other tables than before.
async fn changed(native: Option<&mut NativeTargets>) -> Result<Published, TablesError> {
    match native {
        Some(native) => native.changed().await,
        None => std::future::pending().await,
    }
}

/// Waits until a process maps code.
async fn mapped(maps: Option<&mut MapWatch>) -> Option<Mapped> {
    match maps {
        Some(maps) => match maps.next().await {
            Some(mapped) => Some(mapped),
            // Nobody tells of mappings any more.
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

fn watch<T: AsRawFd>(source: T, doing: &'static str) -> Result<AsyncFd<T>, RecordError> {
    // SAFETY: both kinds that come here own their descriptor, and give the same one each time.
    unsafe { AsyncFd::register_with_interest(source, Interest::READABLE) }
        .map_err(io::Error::from)
        .map_err(system(doing))
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

/// Ends when all of them did; at once for those that had ended before they could be watched.
async fn all_ended(exits: &[AsyncFd<OwnedFd>]) {
    for exit in exits {
        let _guard = exit.readable().await;
    }
}
