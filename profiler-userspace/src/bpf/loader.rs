//! Loads the BPF object into the kernel, fills its maps, attaches its programs.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::os::fd::AsFd;

use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::{BtfTracePoint, Iter, PerfEvent, Program, ProgramError};
use aya::util::online_cpus;
use aya::{Ebpf, EbpfError, EbpfLoader, Pod, VerifierLogLevel};
use profiler_common::counter::Counter;
use profiler_common::layout::ProcessEntry;
use profiler_common::thread::{ThreadEntry, tracked_slot};
use profiler_common::waiting::WaitingThread;

use super::counters::Counters;
use super::object::OBJECT;
use super::perf::{Sampler, Scope};
use super::tables::KernelTables;
use crate::kernel::btf::{Btf, BtfError};
use crate::kernel::{KernelOffsets, SwitchForm};

/// Why the programs could not be loaded or attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The kernel's BTF does not do.
    #[error(
        "this kernel does not describe its own types: {0}. pyscry needs Linux 5.10 or later with \
         CONFIG_DEBUG_INFO_BTF=y"
    )]
    Btf(#[from] BtfError),
    /// We may not load BPF programs.
    #[error("loading BPF programs is not permitted")]
    NotPermitted,
    /// The object could not be loaded.
    #[error("cannot load the BPF object: {0}")]
    Object(#[from] EbpfError),
    /// aya could not read the kernel's BTF.
    #[error("cannot read the kernel's BTF: {0}")]
    AyaBtf(#[from] aya::BtfError),
    /// A program was rejected or could not be attached.
    #[error("BPF program {name}: {source}")]
    Program {
        /// Its name.
        name: &'static str,
        /// Why.
        source: ProgramFailure,
    },
    /// A map operation failed.
    #[error("BPF map {name}: {source}")]
    Map {
        /// Its name.
        name: &'static str,
        /// Why.
        source: MapError,
    },
    /// The object has no such program or map: a defect of ours.
    #[error("the BPF object has no {0}")]
    Missing(&'static str),
    /// A perf event could not be opened.
    #[error("cannot sample {scope}: {source}")]
    Perf {
        /// CPU or thread.
        scope: String,
        /// Why.
        source: io::Error,
    },
}

/// The program that samples.
const ON_CPU: &str = "on_cpu";
/// The programs that follow threads and processes, with their tracepoints.
const LIFE: [(&str, &str); 3] = [
    ("thread_fork", "sched_process_fork"),
    ("process_exec", "sched_process_exec"),
    ("thread_exit", "sched_process_exit"),
];

/// The programs that follow the wakeups of threads, with their tracepoints.
const WAKE: [(&str, &str); 2] = [
    ("thread_woken", "sched_wakeup"),
    ("thread_waking", "sched_waking"),
];

/// The program that looks at threads that wait, with what it iterates over.
const WAITING: &str = "waiting_threads";

/// The program that fits this kernel's form of `sched_switch`.
fn off_cpu_program(form: SwitchForm) -> &'static str {
    match form {
        SwitchForm::PrevNext => "off_cpu_prev_next",
        SwitchForm::StatePrevNext => "off_cpu_state_prev_next",
        SwitchForm::PrevNextState => "off_cpu_prev_next_state",
    }
}

/// A program's failure. Of what the verifier wrote, the end, which says what it did not like.
#[derive(Debug)]
pub struct ProgramFailure(pub(super) ProgramError);

impl std::error::Error for ProgramFailure {}

impl std::fmt::Display for ProgramFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const LAST_LINES: usize = 6;
        match &self.0 {
            ProgramError::LoadError {
                io_error,
                verifier_log,
            } => {
                write!(f, "the kernel refused it: {io_error}")?;
                let log = verifier_log.to_string();
                let lines: Vec<_> = log.trim_end().lines().collect();
                for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
                    write!(f, "\n    {line}")?;
                }
                Ok(())
            }
            other => write!(f, "{other}"),
        }
    }
}

/// What can be chosen at load.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Track threads for off-CPU time.
    pub off_cpu: bool,
    /// Off-CPU stretches shorter than this are only counted.
    pub off_cpu_min_ns: u64,
    /// Who ends a wait is of interest when the wait lasted so long.
    pub waker_min_ns: u64,
    /// Bytes of the ring buffer: a power of two, at least a page.
    pub ring_bytes: u32,
    /// Threads that can be tracked.
    pub threads: u32,
    /// Processes that can be targets.
    pub processes: u32,
    /// Unwind native frames.
    pub native: bool,
    /// Take the kernel's frames.
    pub kernel: bool,
    /// What a target makes is a target, too.
    pub follow_children: bool,
    /// Every process that executes a program may be a target.
    pub watch_exec: bool,
    /// Sample processes that are no targets, too, by their commands.
    pub others: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            off_cpu: false,
            off_cpu_min_ns: 0,
            waker_min_ns: u64::MAX,
            ring_bytes: 4 << 20,
            threads: 16_384,
            processes: 1024,
            native: false,
            kernel: false,
            follow_children: false,
            watch_exec: false,
            others: false,
        }
    }
}

/// The loaded programs. Dropping them detaches everything.
#[derive(Debug)]
pub struct Programs {
    ebpf: Ebpf,
    off_cpu: &'static str,
    loaded: Vec<&'static str>,
    samplers: Vec<Sampler>,
}

/// Of a write into a map: only an entry that is new (`include/uapi/linux/bpf.h`).
const BPF_NOEXIST: u64 = 1;
/// Only one that is there.
const BPF_EXIST: u64 = 2;

fn map_error(name: &'static str) -> impl Fn(MapError) -> LoadError {
    move |source| LoadError::Map { name, source }
}

fn not_permitted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}

/// What calls a program.
#[derive(Clone, Copy, Debug)]
pub(super) enum Caller {
    /// A clock.
    PerfEvent,
    /// A tracepoint with BTF.
    Tracepoint(&'static str),
    /// A read of an iterator.
    Iterator(&'static str),
}

/// An object whose maps exist and whose programs are not loaded yet.
pub(super) struct Prepared {
    ebpf: Ebpf,
    btf: aya::Btf,
    off_cpu: &'static str,
}

impl Prepared {
    /// Creates the maps, and sets the constants.
    pub(super) fn new(options: &LoadOptions, log: VerifierLogLevel) -> Result<Self, LoadError> {
        let kernel = KernelOffsets::from_btf(&Btf::of_kernel()?)?;
        let btf = aya::Btf::from_sys_fs()?;
        let wake = u64::from(options.ring_bytes / 4);
        let track = u32::from(options.off_cpu);
        let threads = if options.off_cpu { options.threads } else { 1 };
        // 30 KiB for each CPU: only as many as there are programs that need one.
        let slots = if options.off_cpu { 3 } else { 1 };
        let with_native = options.native || options.kernel;
        let native_slots = if with_native { slots } else { 1 };
        let ebpf = EbpfLoader::new()
            .btf(Some(&btf))
            .verifier_log_level(log)
            .override_global("TASK_FSBASE", &kernel.task_fsbase, true)
            .override_global("TASK_PID", &kernel.task_pid, true)
            .override_global("TASK_TGID", &kernel.task_tgid, true)
            .override_global("TASK_STATE", &kernel.task_state, true)
            .override_global("TASK_RAN", &kernel.task_ran, true)
            .override_global("TASK_STACK", &kernel.task_stack, true)
            .override_global("STACK_USER_REGS", &kernel.stack_user_regs, true)
            .override_global("TASK_JOBCTL", &kernel.task_jobctl, true)
            .override_global("TASK_FILES", &kernel.task_files, true)
            .override_global("FILES_TABLE", &kernel.files_table, true)
            .override_global("TABLE_SIZE", &kernel.table_size, true)
            .override_global("TABLE_FILES", &kernel.table_files, true)
            .override_global("FILE_INODE", &kernel.file_inode, true)
            .override_global("INODE_MODE", &kernel.inode_mode, true)
            .override_global("INODE_SUPER", &kernel.inode_super, true)
            .override_global("SUPER_MAGIC", &kernel.super_magic, true)
            .override_global("TASK_LEADER", &kernel.task_leader, true)
            .override_global("TASK_COMM", &kernel.task_comm, true)
            .override_global("TASK_SIGNAL", &kernel.task_signal, true)
            .override_global("SIGNAL_LIVE", &kernel.signal_live, true)
            .override_global("FOLLOW_CHILDREN", &u32::from(options.follow_children), true)
            .override_global("WATCH_EXEC", &u32::from(options.watch_exec), true)
            .override_global("OTHERS", &u32::from(options.others), true)
            .override_global("STACK_BYTES", &u64::from(kernel.stack_bytes), true)
            .override_global("WAKER_MIN_NS", &options.waker_min_ns, true)
            .override_global("NATIVE", &u32::from(options.native), true)
            .override_global("KERNEL", &u32::from(options.kernel), true)
            .override_global("OFF_CPU_MIN_NS", &options.off_cpu_min_ns, true)
            .override_global("RING_WAKE_BYTES", &wake, true)
            .override_global("TRACK_THREADS", &track, true)
            .map_max_entries("EVENTS", options.ring_bytes)
            .map_max_entries("PROCESSES", options.processes)
            .map_max_entries("THREADS", threads)
            .map_max_entries("SCRATCH", slots)
            .map_max_entries("NATIVE_SCRATCH", native_slots)
            .load(OBJECT)
            .map_err(|error| match &error {
                EbpfError::MapError(MapError::CreateError { io_error, .. })
                    if not_permitted(io_error) =>
                {
                    LoadError::NotPermitted
                }
                _ => LoadError::Object(error),
            })?;
        Ok(Self {
            ebpf,
            btf,
            off_cpu: off_cpu_program(kernel.switch),
        })
    }

    /// The programs that fit this kernel, each with what calls it.
    pub(super) fn names(&self) -> Vec<(&'static str, Caller)> {
        let life = LIFE.map(|(name, tracepoint)| (name, Caller::Tracepoint(tracepoint)));
        let wake = WAKE.map(|(name, tracepoint)| (name, Caller::Tracepoint(tracepoint)));
        [(ON_CPU, Caller::PerfEvent)]
            .into_iter()
            .chain(life)
            .chain(wake)
            .chain([
                (self.off_cpu, Caller::Tracepoint("sched_switch")),
                (WAITING, Caller::Iterator("task")),
            ])
            .collect()
    }

    /// Loads one program.
    pub(super) fn load_one(&mut self, name: &'static str, caller: Caller) -> Result<(), LoadError> {
        let program = self.ebpf.program_mut(name);
        let program = program.ok_or(LoadError::Missing(name))?;
        let loaded = match caller {
            Caller::PerfEvent => {
                <&mut PerfEvent>::try_from(program).and_then(|program| program.load())
            }
            Caller::Tracepoint(tracepoint) => <&mut BtfTracePoint>::try_from(program)
                .and_then(|program| program.load(tracepoint, &self.btf)),
            Caller::Iterator(over) => {
                <&mut Iter>::try_from(program).and_then(|program| program.load(over, &self.btf))
            }
        };
        loaded.map_err(|source| match &source {
            ProgramError::LoadError { io_error, .. }
                if not_permitted(io_error) && !crate::privilege::is_root() =>
            {
                LoadError::NotPermitted
            }
            _ => LoadError::Program {
                name,
                source: ProgramFailure(source),
            },
        })
    }
}

impl Programs {
    /// Creates the maps and loads every program; nothing is attached.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(options: &LoadOptions) -> Result<Self, LoadError> {
        let mut prepared = Prepared::new(options, VerifierLogLevel::default())?;
        let names = prepared.names();
        for (name, caller) in &names {
            prepared.load_one(name, *caller)?;
        }
        Ok(Self {
            ebpf: prepared.ebpf,
            off_cpu: prepared.off_cpu,
            loaded: names.into_iter().map(|(name, _)| name).collect(),
            samplers: Vec::new(),
        })
    }

    fn attach_tracepoint(&mut self, name: &'static str) -> Result<(), LoadError> {
        let program = self
            .ebpf
            .program_mut(name)
            .ok_or(LoadError::Missing(name))?;
        <&mut BtfTracePoint>::try_from(program)
            .and_then(BtfTracePoint::attach)
            .map(drop)
            .map_err(|source| LoadError::Program {
                name,
                source: ProgramFailure(source),
            })
    }

    /// Attaches the programs that follow threads and processes.
    ///
    /// # Errors
    /// [`LoadError::Program`].
    pub fn attach_life(&mut self) -> Result<(), LoadError> {
        for (name, _) in LIFE {
            self.attach_tracepoint(name)?;
        }
        Ok(())
    }

    /// Attaches the programs that see the switches and the wakeups.
    ///
    /// # Errors
    /// [`LoadError::Program`].
    pub fn attach_off_cpu(&mut self) -> Result<(), LoadError> {
        for (name, _) in WAKE {
            self.attach_tracepoint(name)?;
        }
        self.attach_tracepoint(self.off_cpu)
    }

    /// Detaches all programs that follow threads, so that what the maps say stays.
    ///
    /// # Errors
    /// [`LoadError::Program`].
    pub fn detach_off_cpu(&mut self) -> Result<(), LoadError> {
        let life = LIFE.iter().chain(&WAKE).map(|(name, _)| *name);
        for name in [self.off_cpu].into_iter().chain(life) {
            self.detach_tracepoint(name)?;
        }
        Ok(())
    }

    fn detach_tracepoint(&mut self, name: &'static str) -> Result<(), LoadError> {
        let program = self
            .ebpf
            .program_mut(name)
            .ok_or(LoadError::Missing(name))?;
        <&mut BtfTracePoint>::try_from(program)
            .and_then(|program| program.unload())
            .map_err(|source| LoadError::Program {
                name,
                source: ProgramFailure(source),
            })
    }

    /// What the kernel keeps of the target's threads, for those that do not run.
    ///
    /// # Errors
    /// [`LoadError::Program`].
    pub fn waiting_threads(&mut self) -> Result<Vec<WaitingThread>, LoadError> {
        let failed = |source| LoadError::Program {
            name: WAITING,
            source: ProgramFailure(source),
        };
        let program = self.ebpf.program_mut(WAITING);
        let program = program.ok_or(LoadError::Missing(WAITING))?;
        let program = <&mut Iter>::try_from(program).map_err(failed)?;
        let link = program.attach().map_err(failed)?;
        let link = program.take_link(link).map_err(failed)?;
        let mut bytes = Vec::new();
        link.into_file()
            .map_err(io::Error::other)
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .map_err(|error| failed(ProgramError::IOError(error)))?;
        Ok(WaitingThread::parse(&bytes).collect())
    }

    /// Samples every online CPU at `rate` Hz.
    ///
    /// # Errors
    /// [`LoadError::Perf`].
    pub fn sample_cpus(&mut self, rate: u32) -> Result<(), LoadError> {
        let cpus = online_cpus().map_err(|(_, source)| LoadError::Perf {
            scope: "the CPUs, which are not known".to_owned(),
            source,
        })?;
        self.sample(cpus.into_iter().map(Scope::Cpu), rate)
    }

    /// Samples the given threads, and those that they start, at `rate` Hz of their own time.
    ///
    /// # Errors
    /// [`LoadError::Perf`].
    pub fn sample_threads(&mut self, tids: &[u32], rate: u32) -> Result<(), LoadError> {
        self.sample(tids.iter().copied().map(Scope::Thread), rate)
    }

    fn sample(&mut self, scopes: impl Iterator<Item = Scope>, rate: u32) -> Result<(), LoadError> {
        let name = ON_CPU;
        let program = self.ebpf.program(name).ok_or(LoadError::Missing(name))?;
        let fd = program.fd().map_err(|source| LoadError::Program {
            name,
            source: ProgramFailure(source),
        })?;
        for scope in scopes {
            match Sampler::start(scope, rate, fd.as_fd()) {
                Ok(sampler) => self.samplers.push(sampler),
                // A thread that ended since it was listed.
                Err(error)
                    if matches!(scope, Scope::Thread(_))
                        && error.raw_os_error() == Some(libc::ESRCH) => {}
                Err(source) => {
                    return Err(LoadError::Perf {
                        scope: format!("{scope:?}"),
                        source,
                    });
                }
            }
        }
        Ok(())
    }

    /// Ends on-CPU sampling.
    pub fn stop_sampling(&mut self) {
        self.samplers.clear();
    }

    /// Takes the reading end of the ring buffer; there is one.
    ///
    /// # Errors
    /// [`LoadError::Map`], [`LoadError::Missing`] the second time.
    pub fn take_events(&mut self) -> Result<RingBuf<MapData>, LoadError> {
        let map = self
            .ebpf
            .take_map("EVENTS")
            .ok_or(LoadError::Missing("EVENTS"))?;
        RingBuf::try_from(map).map_err(map_error("EVENTS"))
    }

    /// Takes the tables for the unwind, which may take `most_bytes` of memory; there is one set.
    ///
    /// # Errors
    /// [`LoadError::Map`], [`LoadError::Missing`] the second time.
    pub fn take_tables(&mut self, most_bytes: usize) -> Result<KernelTables, LoadError> {
        let tables = self.ebpf.take_map("TABLES");
        let rules = self.ebpf.take_map("RULES");
        KernelTables::new(tables, rules, most_bytes)
    }

    /// Writes into a hash map. Returns whether it was written: false for the error `refusal`, which
    /// `flags` ask for.
    fn write<V: Pod>(
        &mut self,
        name: &'static str,
        (key, value): (u32, &V),
        flags: u64,
        refusal: i32,
    ) -> Result<bool, LoadError> {
        let map = self.ebpf.map_mut(name).ok_or(LoadError::Missing(name))?;
        let mut map: HashMap<_, u32, V> = HashMap::try_from(map).map_err(map_error(name))?;
        match map.insert(key, value, flags) {
            Err(MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(refusal) =>
            {
                Ok(false)
            }
            result => result.map(|()| true).map_err(map_error(name)),
        }
    }

    /// Takes an entry out of a hash map, if it is there.
    fn remove<V: Pod>(&mut self, name: &'static str, key: u32) {
        let map = self.ebpf.map_mut(name);
        if let Some(Ok(mut map)) = map.map(HashMap::<_, u32, V>::try_from) {
            let _gone_already = map.remove(&key);
        }
    }

    /// Changes what the kernel knows of a target. Returns whether it is one still: the kernel takes out
    /// what has ended.
    ///
    /// # Errors
    /// [`LoadError::Map`].
    pub fn set_process(&mut self, tgid: u32, entry: &ProcessEntry) -> Result<bool, LoadError> {
        self.write("PROCESSES", (tgid, entry), BPF_EXIST, libc::ENOENT)
    }

    /// Makes a process a target that is none. Returns whether it was none until then: the kernel may
    /// have found one by itself, at any time.
    ///
    /// # Errors
    /// [`LoadError::Map`], when the map is full.
    pub fn add_process(&mut self, tgid: u32, entry: &ProcessEntry) -> Result<bool, LoadError> {
        self.write("PROCESSES", (tgid, entry), BPF_NOEXIST, libc::EEXIST)
    }

    /// A process is no target any more.
    pub fn remove_process(&mut self, tgid: u32) {
        self.remove::<ProcessEntry>("PROCESSES", tgid);
    }

    /// A thread is tracked no more.
    pub fn forget_thread(&mut self, tid: u32) {
        self.remove::<ThreadEntry>("THREADS", tid);
    }

    /// What the kernel has of a process.
    #[must_use]
    pub fn process(&self, tgid: u32) -> Option<ProcessEntry> {
        let map = self.ebpf.map("PROCESSES")?;
        let map: HashMap<_, u32, ProcessEntry> = HashMap::try_from(map).ok()?;
        map.get(&tgid, 0).ok()
    }

    /// The generation of a process, as the kernel has it.
    #[must_use]
    pub fn process_generation(&self, tgid: u32) -> Option<u32> {
        self.process(tgid).map(|entry| entry.generation)
    }

    fn threads_map(&self) -> Result<HashMap<&MapData, u32, ThreadEntry>, LoadError> {
        let map = self
            .ebpf
            .map("THREADS")
            .ok_or(LoadError::Missing("THREADS"))?;
        HashMap::try_from(map).map_err(map_error("THREADS"))
    }

    /// Tracks a thread that exists; one that is tracked already keeps its entry.
    ///
    /// # Errors
    /// [`LoadError::Map`], when the map is full.
    pub fn track_thread(&mut self, tid: u32, entry: &ThreadEntry) -> Result<(), LoadError> {
        let hints = self
            .ebpf
            .map_mut("TRACKED")
            .ok_or(LoadError::Missing("TRACKED"))?;
        // First, so that no switch of a tracked thread passes by.
        Array::<_, u64>::try_from(hints)
            .and_then(|mut hints| hints.set(tracked_slot(tid), 1, 0))
            .map_err(map_error("TRACKED"))?;
        self.write("THREADS", (tid, entry), BPF_NOEXIST, libc::EEXIST)
            .map(drop)
    }

    /// Follows the threads that are tracked now no more, at once: their entries stay as they are.
    ///
    /// # Errors
    /// [`LoadError::Map`].
    pub fn stop_following(&mut self) -> Result<(), LoadError> {
        let threads = self.threads()?;
        let slots: BTreeSet<u32> = threads.iter().map(|(tid, _)| tracked_slot(*tid)).collect();
        let hints = self
            .ebpf
            .map_mut("TRACKED")
            .ok_or(LoadError::Missing("TRACKED"))?;
        let mut hints = Array::<_, u64>::try_from(hints).map_err(map_error("TRACKED"))?;
        for slot in slots {
            hints.set(slot, 0, 0).map_err(map_error("TRACKED"))?;
        }
        Ok(())
    }

    /// What the kernel says of one tracked thread.
    #[must_use]
    pub fn thread(&self, tid: u32) -> Option<ThreadEntry> {
        self.threads_map().ok()?.get(&tid, 0).ok()
    }

    /// All tracked threads.
    ///
    /// # Errors
    /// [`LoadError::Map`].
    pub fn threads(&self) -> Result<Vec<(u32, ThreadEntry)>, LoadError> {
        self.threads_map()?
            .iter()
            .map(|entry| entry.map_err(map_error("THREADS")))
            .collect()
    }

    /// The kernel's counters, summed over the CPUs.
    ///
    /// # Errors
    /// [`LoadError::Map`].
    pub fn counters(&self) -> Result<Counters, LoadError> {
        let map = self
            .ebpf
            .map("COUNTERS")
            .ok_or(LoadError::Missing("COUNTERS"))?;
        let map: PerCpuArray<_, u64> = PerCpuArray::try_from(map).map_err(map_error("COUNTERS"))?;
        let mut counters = Counters::default();
        for counter in Counter::ALL {
            let values = map
                .get(&(*counter as u32), 0)
                .map_err(map_error("COUNTERS"))?;
            counters.add(*counter, values.iter().sum());
        }
        Ok(counters)
    }

    /// Verified instructions of each program, where the kernel tells (5.16 on).
    #[must_use]
    pub fn verified_instructions(&self) -> Vec<(&'static str, Option<u32>)> {
        self.loaded
            .iter()
            .map(|name| {
                let program = self.ebpf.program(name);
                let info = program.and_then(|program: &Program| program.info().ok());
                (
                    *name,
                    info.and_then(|info| info.verified_instruction_count()),
                )
            })
            .collect()
    }
}
