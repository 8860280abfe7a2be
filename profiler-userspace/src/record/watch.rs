//! A recording that somebody looks at while it goes on.
//!
//! The session asks its watcher ten times a second ([`Watcher::tick`]); what the watcher wants to know
//! it takes from the [`Look`], which reads nothing that it is not asked for.

use std::collections::HashMap;
use std::time::Duration;

use profiler_common::cause::Cause;
use profiler_common::counter::Counter;
use profiler_common::event::EVENT_HOLDS_GIL;
use profiler_common::thread::{STACK_UNKNOWN, THREAD_UNSEEN};

use super::accounts::ThreadId;
use super::names::ThreadNames;
use super::options::Mode;
use super::processes::Processes;
use super::profile::Profile;
use super::recording::{Progress, Recording, Stopped};
use super::session::{Session, monotonic_ns};
use super::stacks::Stacks;
use crate::bpf::counters::Counters;

/// Whether a recording goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Go {
    /// It does.
    On,
    /// Its watcher has seen enough.
    Stop,
}

/// Who looks at a recording while it goes on.
pub trait Watcher {
    /// Called ten times a second, and once more when the recording is over.
    fn tick(&mut self, look: Look<'_>) -> Go;

    /// Somebody asked for what was recorded until now (SIGUSR1).
    fn asked(&mut self, _so_far: &mut Recording) {}
}

/// Nobody looks.
impl Watcher for () {
    fn tick(&mut self, _look: Look<'_>) -> Go {
        Go::On
    }
}

/// A thread that does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The thread.
    pub thread: ThreadId,
    /// The hash of its stack.
    pub stack: u64,
    /// Why.
    pub cause: Cause,
    /// Whether it held the interpreter's lock when it ceased to run.
    pub holds_gil: bool,
    /// For how long, nanoseconds.
    pub ns: u64,
    /// How much of that, at its end, it could run and had no CPU.
    pub queued_ns: u64,
}

/// What the kernel has of the threads whose switches are followed.
#[derive(Clone, Debug, Default)]
pub struct ThreadsNow {
    /// Those that do not run now. Their time until now is not in the profile.
    pub waiting: Vec<Waiting>,
    /// How many there are.
    pub count: usize,
    /// How long each was on a CPU since the beginning, nanoseconds; those that ended are in it.
    pub on_cpu: HashMap<ThreadId, u64>,
}

/// What of a recording can be seen while it goes on.
pub struct Look<'a> {
    session: &'a mut Session,
    over: Option<Stopped>,
}

impl std::fmt::Debug for Look<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Look")
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}

impl<'a> Look<'a> {
    pub(super) fn new(session: &'a mut Session, over: Option<Stopped>) -> Self {
        Self { session, over }
    }

    /// Why the recording is over, if it is.
    #[must_use]
    pub fn over(&self) -> Option<Stopped> {
        self.over
    }

    /// Time since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.session.begin.elapsed()
    }

    /// How far the recording is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let counters = self.session.programs.counters().unwrap_or_default();
        let stretches = match self.mode().has_waits() {
            true => counters.get(Counter::OffCpuStretches),
            false => 0,
        };
        Progress {
            elapsed: self.elapsed(),
            events: counters.get(Counter::Samples) + stretches,
        }
    }

    /// Reads what came meanwhile, and is not in the profile yet.
    pub fn catch_up(&mut self) {
        let _more = self.session.drain();
    }

    /// Names native frames that have none yet. Before, stacks show Python's alone; later they do not
    /// change.
    pub fn name_native(&mut self) {
        self.session.name_native_now();
    }

    /// What is recorded.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.session.options.mode
    }

    /// Weights. Of time on a CPU, counts only; of waits, those that have ended.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.session.collector.profile
    }

    /// Stacks. Hashes change when a process ends.
    #[must_use]
    pub fn stacks(&self) -> &Stacks {
        &self.session.collector.stacks
    }

    /// Names of threads.
    #[must_use]
    pub fn names(&self) -> &ThreadNames {
        &self.session.names
    }

    /// How many interpreters' locks were seen; none where threads are not followed.
    #[must_use]
    pub fn locks(&self) -> usize {
        self.session.collector.waits.gils.count()
    }

    /// The processes.
    #[must_use]
    pub fn processes(&self) -> &Processes {
        &self.session.processes
    }

    /// The kernel's counters and ours, so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut counters = self.session.programs.counters().unwrap_or_default();
        for counter in Counter::ALL {
            counters.add(*counter, self.session.collector.counters.get(*counter));
        }
        counters
    }

    /// What threads do at the moment, where their switches are followed.
    #[must_use]
    pub fn threads(&mut self) -> ThreadsNow {
        let session = &mut *self.session;
        if !session.options.follows_threads() {
            return ThreadsNow::default();
        }
        let mut now = ThreadsNow {
            waiting: Vec::new(),
            count: 0,
            // Of those that ended; the others have none yet.
            on_cpu: session.collector.accounts.on_cpu(),
        };
        // A map that cannot be read once can be read the next time.
        let threads = session.programs.threads().unwrap_or_default();
        let now_ns = monotonic_ns();
        for (tid, mut thread) in threads {
            let Some(process) = session.processes.get_mut(thread.tgid) else {
                continue;
            };
            // One that waits all the time has a name as well.
            process.meet(tid);
            let snapshot = &session.collector.snapshot;
            let waited = thread.state == THREAD_UNSEEN && snapshot.waited(tid);
            let found = snapshot.get(tid).filter(|_| waited);
            // As if the recording ended now: of a copy, so that it does not.
            let ended = thread.recording_ends(now_ns.max(thread.since_ns), 0, waited);
            let id = (process.id, tid);
            now.count += 1;
            *now.on_cpu.entry(id).or_default() += thread.on_ns;
            let Some((record, _)) = ended else { continue };
            let header = record.header;
            let queued_ns = record.wait.queued_ns.min(header.value);
            now.waiting.push(match found {
                Some(found) => Waiting {
                    thread: id,
                    stack: found.stack,
                    cause: found.cause,
                    holds_gil: found.holds_gil,
                    ns: header.value,
                    queued_ns,
                },
                None => Waiting {
                    thread: id,
                    stack: match waited {
                        true => STACK_UNKNOWN,
                        false => header.stack,
                    },
                    cause: Cause::from_u8(header.cause as u8),
                    holds_gil: header.flags & EVENT_HOLDS_GIL != 0,
                    ns: header.value,
                    queued_ns,
                },
            });
        }
        now
    }
}
