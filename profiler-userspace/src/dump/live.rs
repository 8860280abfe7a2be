//! The dump of a process that runs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use profiler_common::cause::Cause;
use profiler_common::gil::{self, Gil};

use super::error::DumpError;
use super::interpreters::{self, Interpreter};
use super::model::{DumpOptions, Frame, ProcessDump, Thread, ThreadState};
use super::native::{Merger, Native, NativeStack, Place};
use super::observe::{Observed, as_stopped, observe};
use super::reader::{Reader, incomplete};
use super::stop::Stopped;
use super::walk::{Walked, walk};
use crate::process::{RemoteMemory, proc_file};
use crate::python::InspectError;
use crate::python::inspect::{self, Described};
use crate::python::locate::{self, LocateError, Located};
use crate::python::short_file::Files;
use crate::python::thread_pointers;
use crate::python::threads::{self, ThreadState as TstateAt};
use crate::python::variables::Variable;

/// How often the stack of a thread is read at most, until two reads agree.
const READS: usize = 64;
/// How often, and how long apart, an interpreter is looked for that has only just begun.
const LOOKS: u32 = 20;
const LOOK_EVERY: Duration = Duration::from_millis(20);

const CHANGED: &str = "the stack changed while it was read, and is not of one moment: \
                       --blocking stops the process";
const NO_REGISTERS: &str = "no native frames: the registers of a thread that runs are known with \
                            --blocking only";
const FEW_REGISTERS: &str = "native frames are missing: with --blocking all registers are known";

/// Reads all threads of a process.
///
/// # Errors
/// [`DumpError`].
pub fn dump(pid: u32, options: &DumpOptions) -> Result<ProcessDump, DumpError> {
    check(pid)?;
    let mem = RemoteMemory::new(pid);
    let (located, mut described) = find(pid, &mem)?;
    let known = proc_file::threads(pid).unwrap_or_default();
    // What a thread waits for is gone once it is stopped.
    let mut before = HashMap::new();
    let stopped = if options.blocking {
        let gils = gils(&mem, &described);
        for tid in &known {
            let is_gil = |address| is_gil_of(&described, &gils, address);
            before.extend(observe(pid, *tid, is_gil).map(|observed| (*tid, observed)));
        }
        Some(Stopped::stop(pid)?)
    } else {
        None
    };
    if let Ok(states) = threads::thread_states(&mem, &described.layout, located.runtime) {
        described.states = states;
    }
    let mut session = Session {
        pid,
        mem: &mem,
        described: &described,
        options,
        stopped,
        before,
        native: match options.native {
            true => Native::of_process(pid).ok(),
            false => None,
        },
    };
    let files = Files::of(pid);
    let mut reader = Reader::new(&mem, &described, files, options);
    let interpreters = interpreters::read(
        &mem,
        &described.layout,
        &described.entry,
        &reader,
        &described.states,
    );
    let tids = proc_file::threads(pid).unwrap_or_default();
    let pointers = thread_pointers::of_states(pid, &described.states, &tids);
    let by_pointer: BTreeMap<u64, u32> = pointers
        .into_iter()
        .map(|(tid, pointer)| (pointer, tid))
        .collect();
    let mut merger = Merger::new(pid, &located, &described);
    let mut threads = Vec::new();
    let mut hashes = Vec::new();
    if options.native && session.stopped.is_none() {
        // Where activations of the interpreter's loop end is learned from the first whose unwind
        // passes one, and tables are made when they are first needed, which takes longer than some
        // threads wait.
        for state in &described.states {
            let tid = by_pointer.get(&state.thread_id).copied();
            session.learn(state, tid, interpreters.get(&state.interp));
        }
    }
    for state in &described.states {
        let tid = by_pointer.get(&state.thread_id).copied();
        let interpreter = interpreters.get(&state.interp);
        let read = session.read(&reader, state, tid, interpreter);
        let frames = reader.frames(&read.walked, read.variables);
        let native = read.native;
        hashes.push(
            native.map(|native| merger.add(&read.walked, native, |frame| reader.resolve(frame))),
        );
        let mut frames: Vec<Frame> = frames.into_iter().flatten().collect();
        if hashes.last() == Some(&None) {
            frames.extend(incomplete(read.walked.status));
        }
        threads.push(Thread {
            id: state.thread_id,
            tid,
            name: interpreter.and_then(|of| of.names.get(&state.thread_id).cloned()),
            state: read.state,
            interpreter: interpreter.and_then(|of| of.id),
            frames,
            consistent: read.consistent,
            notes: read.notes,
        });
    }
    if options.native {
        let with_python: BTreeSet<u32> = by_pointer.into_values().collect();
        let gils = gils_of(&interpreters);
        for tid in tids.iter().rev().filter(|tid| !with_python.contains(tid)) {
            let Some((thread, native)) = session.read_native(*tid, &gils) else {
                continue;
            };
            hashes.push(native.map(|native| {
                let none = Walked::none();
                merger.add(&none, native, |frame| reader.resolve(frame))
            }));
            threads.push(thread);
        }
    }
    // Names of native code take long: nobody has to wait for them.
    drop(session.stopped.take());
    if let Some(native) = &session.native {
        merger.merge(native);
        for (thread, hash) in threads.iter_mut().zip(hashes) {
            if let Some(hash) = hash {
                let python = std::mem::take(&mut thread.frames);
                thread.frames = merger.frames(hash, python);
            }
        }
    }
    let executable = proc_file::executable(pid);
    Ok(ProcessDump {
        pid,
        command: proc_file::command_line(pid).unwrap_or_default(),
        version: located.version,
        executable: executable.map_or_else(
            |_| located.module.display().to_string(),
            |path| path.display().to_string(),
        ),
        core: None,
        interpreters: interpreters.len(),
        threads,
    })
}

/// Whether there is a process whose memory can be looked at.
fn check(pid: u32) -> Result<(), DumpError> {
    let Some(process) = proc_file::process_of(pid) else {
        return Err(DumpError::NoProcess { pid });
    };
    if process != pid {
        return Err(DumpError::ThreadOf {
            tid: pid,
            pid: process,
        });
    }
    // Its first thread may have ended while others go on.
    let ended = proc_file::thread_state(pid, pid).is_some_and(|state| matches!(state, 'Z' | 'X'));
    if ended && proc_file::threads(pid).is_ok_and(|threads| threads.len() <= 1) {
        return Err(DumpError::Ended { pid });
    }
    Ok(())
}

/// Finds the interpreter; one that has only just begun, as soon as it is there.
fn find(pid: u32, mem: &RemoteMemory) -> Result<(Located, Described), DumpError> {
    let look = || -> Result<_, InspectError> {
        let located = locate::locate(pid)?;
        let described = inspect::describe(mem, pid, &located)?;
        Ok((located, described))
    };
    for _ in 1..LOOKS {
        match look() {
            Err(InspectError::Locate(LocateError::Maps { .. } | LocateError::NotPython { .. })) => {
                break;
            }
            Err(error) if error.is_too_early() => std::thread::sleep(LOOK_EVERY),
            other => return Ok(other?),
        }
    }
    Ok(look()?)
}

/// The locks of all interpreters.
fn gils(mem: &RemoteMemory, described: &Described) -> BTreeSet<u64> {
    let interps: BTreeSet<u64> = described.states.iter().map(|state| state.interp).collect();
    let read = |interp: u64| {
        let mut gil = Gil::default();
        gil::read(mem, &described.entry, interp, &mut gil).ok()?;
        Some(gil.address)
    };
    interps.into_iter().filter_map(read).collect()
}

fn gils_of(interpreters: &HashMap<u64, Interpreter>) -> BTreeSet<u64> {
    interpreters.values().map(|of| of.gil.address).collect()
}

fn is_gil_of(described: &Described, gils: &BTreeSet<u64>, address: u64) -> bool {
    let layout = &described.entry.gil;
    gils.iter().any(|gil| gil::waits_at(layout, *gil, address))
}

/// What the threads of one process are read with.
struct Session<'a> {
    pid: u32,
    mem: &'a RemoteMemory,
    described: &'a Described,
    options: &'a DumpOptions,
    /// While the process is stopped.
    stopped: Option<Stopped>,
    /// What its threads did before.
    before: HashMap<u32, Observed>,
    native: Option<Native>,
}

/// One thread.
struct Read {
    walked: Walked,
    variables: Vec<Option<Vec<Variable>>>,
    state: ThreadState,
    consistent: bool,
    native: Option<NativeStack>,
    notes: Vec<&'static str>,
}

impl Session<'_> {
    /// Looks at a thread, or says what it did before it was stopped.
    fn observe(&self, tid: Option<u32>, gil: u64) -> Option<Observed> {
        let tid = tid?;
        let layout = &self.described.entry.gil;
        let is_gil = |address| gil::waits_at(layout, gil, address);
        match &self.stopped {
            Some(stopped) => {
                let before = self.before.get(&tid).copied();
                match stopped.registers(tid) {
                    Some(words) => as_stopped(self.pid, before, &words, is_gil),
                    None => before,
                }
            }
            None => observe(self.pid, tid, is_gil),
        }
    }

    fn walk(&self, state: &TstateAt) -> Walked {
        walk(self.mem, &self.described.entry, self.pid, state)
    }

    fn read(
        &mut self,
        reader: &Reader<'_, RemoteMemory>,
        state: &TstateAt,
        tid: Option<u32>,
        interpreter: Option<&Interpreter>,
    ) -> Read {
        let gil = interpreter.map(|of| of.gil).unwrap_or_default();
        let mut last = None;
        for _ in 0..READS {
            let observed = self.observe(tid, gil.address);
            let walked = self.walk(state);
            let variables = reader.variables(&walked);
            let native = self.unwind(tid, observed, &walked);
            let holds =
                |observed: Observed| tid.is_some_and(|tid| observed.still_holds(self.pid, tid));
            let still = self.stopped.is_some() || observed.is_some_and(holds);
            // Of one that runs, another read right behind it.
            let consistent = still || walked.agrees(&self.walk(state));
            let read = Read {
                walked,
                variables,
                state: thread_state(observed, &gil, state),
                consistent,
                native: native.filter(|_| still),
                notes: Vec::new(),
            };
            if consistent {
                last = Some(read);
                break;
            }
            last = Some(read);
        }
        let mut read = last.unwrap_or_else(|| Read {
            walked: Walked::none(),
            variables: Vec::new(),
            state: ThreadState::default(),
            consistent: false,
            native: None,
            notes: Vec::new(),
        });
        if !read.consistent {
            read.notes.push(CHANGED);
        }
        self.note_native(read.native.as_ref(), &mut read.notes);
        read
    }

    /// Says where native frames are missing that could be there.
    fn note_native(&self, native: Option<&NativeStack>, notes: &mut Vec<&'static str>) {
        if !self.options.native || self.stopped.is_some() {
            return;
        }
        match native {
            None => notes.push(NO_REGISTERS),
            Some(native) if !native.is_whole() => notes.push(FEW_REGISTERS),
            Some(_) => {}
        }
    }

    /// Unwinds a thread for what there is to learn from it.
    fn learn(&mut self, state: &TstateAt, tid: Option<u32>, interpreter: Option<&Interpreter>) {
        let gil = interpreter.map_or(0, |of| of.gil.address);
        let observed = self.observe(tid, gil);
        let walked = self.walk(state);
        self.unwind(tid, observed, &walked);
    }

    fn unwind(
        &mut self,
        tid: Option<u32>,
        observed: Option<Observed>,
        walked: &Walked,
    ) -> Option<NativeStack> {
        let native = self.native.as_mut()?;
        let place = match &self.stopped {
            Some(stopped) => Place::of_stopped(stopped, tid?)?,
            None => Place::of_waiting(observed?.left_at?),
        };
        Some(native.unwind(self.mem, place, Some(walked)))
    }

    /// A thread that has no thread state.
    fn read_native(
        &mut self,
        tid: u32,
        gils: &BTreeSet<u64>,
    ) -> Option<(Thread, Option<NativeStack>)> {
        let none = Walked::none();
        let mut found = None;
        for _ in 0..READS {
            let observed = match self.stopped {
                Some(_) => self.before.get(&tid).copied(),
                None => observe(self.pid, tid, |address| {
                    is_gil_of(self.described, gils, address)
                }),
            }?;
            let native = self.unwind(Some(tid), Some(observed), &none);
            let still = self.stopped.is_some() || observed.still_holds(self.pid, tid);
            found = Some((observed, native.filter(|_| still)));
            // One that runs does not tell its registers.
            if still || observed.left_at.is_none() {
                break;
            }
        }
        let (observed, native) = found?;
        let mut notes = Vec::new();
        self.note_native(native.as_ref(), &mut notes);
        let thread = Thread {
            id: 0,
            tid: Some(tid),
            name: proc_file::thread_comm(self.pid, tid),
            state: observed.state,
            interpreter: None,
            frames: Vec::new(),
            consistent: true,
            notes,
        };
        Some((thread, native))
    }
}

/// What a thread is doing, with the lock.
fn thread_state(observed: Option<Observed>, gil: &Gil, state: &TstateAt) -> ThreadState {
    let owns_gil = gil.holder != 0 && gil.holder == state.address;
    let mut found = observed.map(|observed| observed.state).unwrap_or_default();
    found.owns_gil = owns_gil;
    if owns_gil && found.cause == Some(Cause::Gil) {
        // It got the lock between the two looks.
        found.active = Some(true);
        found.cause = None;
        found.syscall = None;
    }
    found
}
