//! A recording in the order of time, with everything that it names, as formats want it.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use profiler_common::cause::NO_SYSCALL;
use profiler_common::thread::STACK_NOT_SAMPLED;
use syscalls::Sysno;

use super::item::{Process, Waker};
use super::read::{Contents, Event, Thread};
use crate::output::flamegraph::Subject;
use crate::output::view::{About, EventView, FrameKind, FrameView, ProcessView, ThreadView, View};
use crate::record::frame::{FrameText, Naming};
use crate::record::group::{self, Group, Owner};
use crate::record::profile::{STACK_LOST, WOKEN_BY};

/// What of a recording is shown, and how.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Only what threads did while they held the interpreter's lock.
    pub only_gil: bool,
    /// Below each wait, the stack of who ended it.
    pub wakers: bool,
    /// How frames are written.
    pub naming: Naming,
    /// What stands at the root of each stack, outermost first.
    pub roots: Vec<Group>,
}

/// What a stack of the view is made of.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct StackKey {
    /// The thread, where the root says which.
    root: Option<u32>,
    stack: u64,
    cause: Option<u8>,
    waker: Option<(u64, u32, u32)>,
}

/// Things by number, each once.
struct Interner<T> {
    numbers: HashMap<T, u32>,
    all: Vec<T>,
}

impl<T: Clone + Eq + Hash> Interner<T> {
    fn new() -> Self {
        Self {
            numbers: HashMap::new(),
            all: Vec::new(),
        }
    }

    fn number(&mut self, thing: T) -> u32 {
        if let Some(number) = self.numbers.get(&thing) {
            return *number;
        }
        let number = self.all.len() as u32;
        self.numbers.insert(thing.clone(), number);
        self.all.push(thing);
        number
    }
}

struct Making<'a> {
    contents: &'a Contents,
    choice: &'a Choice,
    frames: Interner<FrameView>,
    stacks: HashMap<StackKey, u32>,
    all_stacks: Vec<Vec<u32>>,
    processes: Vec<ProcessView>,
    threads: Vec<ThreadView>,
    /// Threads of the file, as the view numbers them.
    numbers: HashMap<u32, u32>,
    /// Of programs that are no targets: their threads, by stack.
    others: HashMap<u64, u32>,
}

/// Puts a recording in order.
#[must_use]
pub fn view(contents: &Contents, choice: &Choice) -> View {
    let mut making = Making {
        contents,
        choice,
        frames: Interner::new(),
        stacks: HashMap::new(),
        all_stacks: Vec::new(),
        processes: Vec::new(),
        threads: Vec::new(),
        numbers: HashMap::new(),
        others: HashMap::new(),
    };
    making.know_threads();
    let events = making.events();
    let about = &contents.about;
    let last = events.iter().map(|event| event.at_ns + event.ns).max();
    View {
        about: About {
            title: about.title.clone(),
            subtitle: contents
                .end
                .as_ref()
                .map_or_else(String::new, |end| end.subtitle.clone()),
            version: about.version.clone(),
            host: about.host.clone(),
            began_unix_ns: about.began_unix_ns,
            duration_ns: match &contents.end {
                Some(end) => end.duration_ns,
                None => last.unwrap_or(0),
            },
            rate: about.rate.unwrap_or(0),
            subject: subject(contents),
        },
        processes: making.processes,
        threads: making.threads,
        frames: making.frames.all,
        stacks: making.all_stacks,
        events,
    }
}

/// What a recording is of.
#[must_use]
pub fn subject(contents: &Contents) -> Subject {
    match (contents.about.rate, contents.about.waits) {
        (Some(_), true) => Subject::Wall,
        (None, true) => Subject::OffCpu,
        (_, false) => Subject::OnCpu,
    }
}

impl Making<'_> {
    /// Numbers the threads that have events, those of a process one after the other.
    fn know_threads(&mut self) {
        let contents = self.contents;
        let mut of: BTreeMap<u32, Vec<(u32, &Thread)>> = BTreeMap::new();
        for (number, thread) in &contents.threads {
            of.entry(thread.process)
                .or_default()
                .push((*number, thread));
        }
        for (process, mut threads) in of {
            let unknown = Process::default();
            let known = contents.processes.get(&process).unwrap_or(&unknown);
            let index = self.processes.len() as u32;
            self.processes.push(ProcessView {
                pid: known.pid,
                name: known.comm.clone(),
                command: known.command.clone(),
                label: group::process_frame(&owner(known)),
                python: known.python.clone(),
            });
            // The main thread has the process's number, and stands before the others.
            threads.sort_by_key(|(number, thread)| (thread.tid != known.pid, thread.tid, *number));
            for (number, thread) in threads {
                self.numbers.insert(number, self.threads.len() as u32);
                self.threads.push(ThreadView {
                    process: index,
                    tid: thread.tid,
                    name: thread.name.clone(),
                });
            }
        }
    }

    fn events(&mut self) -> Vec<EventView> {
        let contents = self.contents;
        let mut of_threads = on_cpu_times(contents);
        let period = contents
            .about
            .rate
            .map_or(0, |rate| 1_000_000_000 / u64::from(rate.max(1)));
        let mut events: Vec<EventView> = Vec::new();
        // Samples share the time of their thread in their order: the file's is that of each CPU only.
        let mut ordered: Vec<&Event> = contents.events.iter().collect();
        ordered.sort_by_key(|event| event.at_ns);
        for event in ordered {
            let shown = !self.choice.only_gil || event.holds_gil;
            let ns = match (event.wait, event.thread) {
                (Some(wait), _) => wait.ns,
                (None, Some(thread)) => match of_threads.get_mut(&thread) {
                    Some(share) => share.next(),
                    None => period,
                },
                (None, None) => period,
            };
            if !shown {
                continue;
            }
            let thread = match event.thread {
                Some(thread) => match self.numbers.get(&thread) {
                    Some(number) => *number,
                    None => continue,
                },
                None => self.other(event.stack),
            };
            let stack = self.stack(event);
            events.push(EventView {
                at_ns: event.at_ns.saturating_sub(contents.about.began_ns),
                ns,
                thread,
                stack,
                cause: event.wait.map(|wait| wait.cause),
                syscall: event.wait.and_then(|wait| syscall(wait.syscall)),
                holds_gil: event.holds_gil,
            });
        }
        if !self.choice.only_gil {
            self.not_sampled(&of_threads, &mut events);
        }
        events
    }

    /// Time of threads that were on a CPU, and were never sampled.
    fn not_sampled(&mut self, times: &HashMap<u32, Share>, events: &mut Vec<EventView>) {
        let mut left: Vec<(u32, u64)> = times
            .iter()
            .filter(|(_, share)| share.samples == 0 && share.ns != 0)
            .filter_map(|(thread, share)| Some((*self.numbers.get(thread)?, share.ns)))
            .collect();
        left.sort_unstable();
        let by_view: HashMap<u32, u32> = self
            .numbers
            .iter()
            .map(|(file, view)| (*view, *file))
            .collect();
        for (number, ns) in left {
            let stack = self.stack(&Event {
                at_ns: 0,
                thread: by_view.get(&number).copied(),
                stack: STACK_NOT_SAMPLED,
                holds_gil: false,
                wait: None,
            });
            let event = EventView {
                at_ns: 0,
                ns,
                thread: number,
                stack,
                cause: None,
                syscall: None,
                holds_gil: false,
            };
            events.insert(0, event);
        }
    }

    /// The thread that stands for all of a program's that is no target.
    fn other(&mut self, stack: u64) -> u32 {
        if let Some(thread) = self.others.get(&stack) {
            return *thread;
        }
        let name = self.command(stack);
        let label = group::command_of(&name);
        self.processes.push(ProcessView {
            pid: 0,
            name,
            command: String::new(),
            label,
            python: None,
        });
        let thread = self.threads.len() as u32;
        self.threads.push(ThreadView {
            process: self.processes.len() as u32 - 1,
            tid: 0,
            name: None,
        });
        self.others.insert(stack, thread);
        thread
    }

    /// The command that a stack of a program that is no target stands for.
    fn command(&self, stack: u64) -> String {
        let frames = self.contents.stacks.get(&stack);
        let frame = frames.and_then(|frames| self.contents.frames.get(*frames.first()? as usize));
        frame.map_or_else(|| "?".to_owned(), |frame| frame.name().to_string())
    }

    fn stack(&mut self, event: &Event) -> u32 {
        let waker = event.wait.and_then(|wait| wait.waker);
        let waker = waker.filter(|_| self.choice.wakers);
        let key = StackKey {
            root: match self.choice.roots.is_empty() {
                true => None,
                false => event.thread,
            },
            stack: event.stack,
            cause: event.wait.map(|wait| wait.cause as u8),
            waker: waker.map(|waker| (waker.stack, waker.pid, waker.tid)),
        };
        if let Some(number) = self.stacks.get(&key) {
            return *number;
        }
        let mut frames = self.roots(event);
        if event.thread.is_some() {
            frames.extend(self.frames_of(event.stack));
        }
        if let Some(wait) = event.wait {
            frames.push(self.frame_of(FrameKind::Waiting, wait.cause.frame().into()));
            if let Some(waker) = waker {
                frames.push(self.frame_of(FrameKind::Marker, WOKEN_BY.into()));
                frames.extend(self.waker(waker));
            }
        }
        let number = self.all_stacks.len() as u32;
        self.all_stacks.push(frames);
        self.stacks.insert(key, number);
        number
    }

    /// The frames below a stack: those of its process and thread, as far as they are told apart. A
    /// program that is no target has one frame in all, its command.
    fn roots(&mut self, event: &Event) -> Vec<u32> {
        let Some(number) = event.thread else {
            let label = group::command_of(&self.command(event.stack));
            return vec![self.frame_of(FrameKind::Marker, label.into())];
        };
        let contents = self.contents;
        let Some(thread) = contents.threads.get(&number) else {
            return Vec::new();
        };
        let unknown = Process::default();
        let process = contents.processes.get(&thread.process).unwrap_or(&unknown);
        let named = Some((thread.tid, thread.name.as_deref()));
        let texts = group::frames(&self.choice.roots, &owner(process), named);
        texts
            .into_iter()
            .map(|text| self.frame_of(FrameKind::Marker, text.into()))
            .collect()
    }

    /// Who ended a wait, from the leaf to the root: it stands on its head on what it ended.
    fn waker(&mut self, waker: Waker) -> Vec<u32> {
        let contents = self.contents;
        let frames = contents.stacks.get(&waker.stack);
        let first = frames.and_then(|frames| contents.frames.get(*frames.first()? as usize));
        if let Some(FrameText::Process(name)) = first {
            let text = format!("process ({}): {name}", waker.pid);
            return vec![self.frame_of(FrameKind::Marker, text.into())];
        }
        let mut frames = self.frames_of(waker.stack);
        frames.reverse();
        if waker.tid != 0 {
            let named = contents
                .threads
                .values()
                .filter(|thread| thread.tid == waker.tid);
            let name = named
                .filter_map(|thread| thread.name.as_deref())
                .next_back();
            let text = group::thread_frame(waker.tid, name);
            frames.push(self.frame_of(FrameKind::Marker, text.into()));
        }
        frames
    }

    fn frames_of(&mut self, hash: u64) -> Vec<u32> {
        let contents = self.contents;
        let Some(frames) = contents.stacks.get(&hash) else {
            return vec![self.frame_of(FrameKind::Marker, STACK_LOST.into())];
        };
        let frames = frames
            .iter()
            .filter_map(|id| contents.frames.get(*id as usize));
        frames.map(|frame| self.frame(frame)).collect()
    }

    fn frame_of(&mut self, kind: FrameKind, name: Arc<str>) -> u32 {
        self.frames.number(FrameView {
            kind,
            name,
            file: None,
            short_file: None,
            line: None,
        })
    }

    fn frame(&mut self, frame: &FrameText) -> u32 {
        let (shown, line) = frame.place(self.choice.naming);
        let file = match frame {
            FrameText::Python { file, .. } => Some(file),
            _ => shown,
        };
        self.frames.number(FrameView {
            kind: frame.kind(),
            name: Arc::clone(frame.name()),
            file: file.cloned(),
            short_file: shown.cloned(),
            line,
        })
    }
}

fn owner(process: &Process) -> Owner<'_> {
    Owner {
        pid: process.pid,
        comm: &process.comm,
        command: &process.command,
        user: &process.user,
        cgroup: &process.cgroup,
        container: process.container.as_deref(),
        kernel_thread: process.kernel_thread,
        runs_python: process.python.is_some(),
    }
}

fn syscall(number: u16) -> Option<&'static str> {
    if number == NO_SYSCALL {
        return None;
    }
    Sysno::new(usize::from(number)).map(|number| number.name())
}

/// The time that a thread's samples share.
struct Share {
    ns: u64,
    samples: u64,
    taken: u64,
}

impl Share {
    /// The part of the next sample: all parts together are the whole, to the nanosecond.
    fn next(&mut self) -> u64 {
        let until = |taken: u64| {
            let all = u128::from(self.ns) * u128::from(taken);
            (all / u128::from(self.samples.max(1))) as u64
        };
        let part = until(self.taken + 1) - until(self.taken);
        self.taken += 1;
        part
    }
}

fn on_cpu_times(contents: &Contents) -> HashMap<u32, Share> {
    let mut times: HashMap<u32, Share> = contents
        .threads
        .iter()
        .filter_map(|(number, thread)| {
            let share = Share {
                ns: thread.on_cpu_ns?,
                samples: 0,
                taken: 0,
            };
            Some((*number, share))
        })
        .collect();
    for event in &contents.events {
        if let (None, Some(thread)) = (event.wait, event.thread)
            && let Some(share) = times.get_mut(&thread)
        {
            share.samples += 1;
        }
    }
    times
}
