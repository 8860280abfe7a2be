//! Keeps a recording file while a recording goes on: what happens, and what it names.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use super::accounts::ThreadId;
use super::names::ThreadNames;
use super::options::RecordOptions;
use super::processes::{Known, ProcessId, Processes};
use super::profile::{Doing, Key};
use super::session::monotonic_ns;
use super::stacks::Stacks;
use crate::journal::item::{About, End, Item, Process, Waker};
use crate::journal::write::Writer;

/// A process of the recording, as the file numbers it.
#[derive(Debug)]
struct Numbered {
    number: u32,
    /// What the file says of it.
    said: Process,
    threads: HashMap<u32, u32>,
}

/// A file that is empty, for a recording.
#[derive(Clone, Debug)]
pub struct LogFile {
    /// The file.
    pub file: Arc<File>,
    /// The command line of the recording.
    pub title: String,
}

impl LogFile {
    /// Begins a recording.
    pub(super) fn begin(&self, options: &RecordOptions) -> io::Result<Log> {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let about = About {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            title: self.title.clone(),
            host: host(),
            began_unix_ns: since_1970.map_or(0, |time| time.as_nanos() as u64),
            began_ns: monotonic_ns(),
            rate: options.mode.sampling().map(|sampling| sampling.rate),
            waits: options.mode.has_waits(),
            groups: options.groups.clone(),
        };
        Log::new(self.file.try_clone()?, about)
    }
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| String::new(), |name| name.trim().to_owned())
}

/// A recording file that is written.
#[derive(Debug)]
pub struct Log {
    writer: Option<Writer>,
    /// Why it is written no more.
    error: Option<io::Error>,
    processes: HashMap<ProcessId, Numbered>,
    /// Processes of which something happened since they were described.
    touched: HashSet<ProcessId>,
    next_process: u32,
    next_thread: u32,
    /// Frames that the file has.
    frames: usize,
    /// When the last event was, `CLOCK_MONOTONIC` nanoseconds.
    last_ns: u64,
}

impl Log {
    /// Begins a file.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(file: File, about: About) -> io::Result<Self> {
        let mut writer = Writer::new(file)?;
        let last_ns = about.began_ns;
        writer.add(&Item::About(Box::new(about)))?;
        Ok(Self {
            writer: Some(writer),
            error: None,
            processes: HashMap::new(),
            touched: HashSet::new(),
            next_process: 0,
            next_thread: 0,
            frames: 0,
            last_ns,
        })
    }

    /// A thread was on a CPU at `time_ns`.
    pub(super) fn sample(&mut self, key: &Key, tid: u32, time_ns: u64) {
        let after_ns = self.after(time_ns);
        let stack = key.stack;
        let item = match key.process {
            0 => Item::Other { after_ns, stack },
            process => Item::Sample {
                after_ns,
                thread: self.thread((process, tid)),
                stack,
                holds_gil: key.holds_gil,
            },
        };
        self.add(&item);
    }

    /// A thread did not run for `ns` from `from_ns` on.
    pub(super) fn wait(&mut self, key: &Key, tid: u32, from_ns: u64, ns: u64) {
        let Doing::Waiting {
            cause,
            syscall,
            waker,
        } = key.doing
        else {
            return;
        };
        let thread = self.thread((key.process, tid));
        let item = Item::Wait {
            after_ns: self.after(from_ns),
            ns,
            thread,
            stack: key.stack,
            holds_gil: key.holds_gil,
            cause: cause as u8,
            syscall,
            waker: waker.is_known().then_some(Waker {
                stack: waker.stack,
                pid: waker.tgid,
                tid: waker.tid,
            }),
        };
        self.add(&item);
    }

    fn after(&mut self, time_ns: u64) -> i64 {
        let after = time_ns.wrapping_sub(self.last_ns) as i64;
        self.last_ns = time_ns;
        after
    }

    fn thread(&mut self, (process, tid): ThreadId) -> u32 {
        self.touched.insert(process);
        let next = &mut self.next_process;
        let numbered = self.processes.entry(process).or_insert_with(|| {
            let number = *next;
            *next += 1;
            Numbered {
                number,
                said: Process::default(),
                threads: HashMap::new(),
            }
        });
        if let Some(thread) = numbered.threads.get(&tid) {
            return *thread;
        }
        let thread = self.next_thread;
        self.next_thread += 1;
        numbered.threads.insert(tid, thread);
        let process = numbered.number;
        self.add(&Item::Thread {
            thread,
            process,
            tid,
        });
        thread
    }

    /// Writes down what was learned since this was called last, and what has waited long enough. To be
    /// called before anything is forgotten.
    pub(super) fn tick(
        &mut self,
        processes: &Processes,
        stacks: &mut Stacks,
        names: &mut ThreadNames,
    ) {
        self.define(processes, stacks, names);
        if let Some(Err(error)) = self.writer.as_mut().map(Writer::tick) {
            self.fail(error);
        }
    }

    fn define(&mut self, processes: &Processes, stacks: &mut Stacks, names: &mut ThreadNames) {
        while let Some(frame) = stacks.frame(self.frames as u32) {
            self.frames += 1;
            self.add(&Item::Frame(frame.into()));
        }
        for hash in stacks.take_changed() {
            if let Some(stack) = stacks.get(hash) {
                self.add(&Item::Stack(hash, stack.frames.clone()));
            }
        }
        for id in std::mem::take(&mut self.touched) {
            let Some(known) = processes.known(id) else {
                continue;
            };
            let Some(numbered) = self.processes.get_mut(&id) else {
                continue;
            };
            let said = described(numbered.number, known);
            if numbered.said != said {
                numbered.said = said.clone();
                self.add(&Item::Process(Box::new(said)));
            }
        }
        for thread in names.take_changed() {
            if let Some(name) = names.of(thread).map(str::to_owned) {
                let thread = self.thread(thread);
                self.add(&Item::ThreadName { thread, name });
            }
        }
    }

    /// The number of a process is used for another from now on.
    pub(super) fn forget(&mut self, process: ProcessId) {
        self.processes.remove(&process);
        self.touched.remove(&process);
    }

    /// How long threads were on a CPU in all, nanoseconds.
    pub(super) fn on_cpu(&mut self, times: &HashMap<ThreadId, u64>) {
        let sorted: BTreeMap<_, _> = times.iter().collect();
        for (thread, ns) in sorted {
            let thread = self.thread(*thread);
            self.add(&Item::OnCpu { thread, ns: *ns });
        }
    }

    /// Writes down all that was learned.
    pub(super) fn complete(
        &mut self,
        processes: &Processes,
        stacks: &mut Stacks,
        names: &mut ThreadNames,
    ) {
        self.touched.extend(self.processes.keys().copied());
        self.define(processes, stacks, names);
        if let Some(Err(error)) = self.writer.as_mut().map(Writer::end_block) {
            self.fail(error);
        }
    }

    /// Ends the file. Returns it, and how many bytes it has.
    ///
    /// # Errors
    /// What the system said when the file could be written no more.
    pub fn finish(mut self, end: End) -> io::Result<(File, u64)> {
        self.add(&Item::End(Box::new(end)));
        if let Some(error) = self.error {
            return Err(error);
        }
        let Some(mut writer) = self.writer else {
            return Err(io::Error::other("it was not begun"));
        };
        writer.end_block()?;
        let bytes = writer.written();
        Ok((writer.finish()?, bytes))
    }

    fn add(&mut self, item: &Item) {
        if let Some(Err(error)) = self.writer.as_mut().map(|writer| writer.add(item)) {
            self.fail(error);
        }
    }

    /// Nothing more is written: what is whole stays readable.
    fn fail(&mut self, error: io::Error) {
        self.writer = None;
        self.error.get_or_insert(error);
    }
}

fn described(number: u32, known: &Known) -> Process {
    let identity = &known.identity;
    Process {
        process: number,
        pid: identity.pid,
        comm: identity.comm.clone(),
        command: identity.command.clone(),
        user: identity.user.to_string(),
        cgroup: identity.cgroup.clone(),
        container: identity.container.as_ref().map(|id| id.short().to_owned()),
        python: known.version.map(|version| version.to_string()),
        kernel_thread: identity.kernel_thread,
    }
}
