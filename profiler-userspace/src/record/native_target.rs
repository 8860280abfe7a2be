//! The native code of the targets: when it is looked at, and what of it is on its way into the
//! kernel.
//!
//! A process is looked at when it is sampled for the first time, since a thousand that do nothing
//! must cost nothing; those that were asked for by number are at once. From then on it is looked at
//! whenever it maps code.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::time::Duration;

use profiler_common::layout::MappingsRef;
use tokio::task::{JoinHandle, spawn_blocking, yield_now};
use tokio::time::Instant;

use super::recording::{RecordError, UnwindTables};
use super::session::maybe_sleep_until;
use crate::bpf::Programs;
use crate::bpf::tables::TablesError;
use crate::native::{Mapped, NativeCode, allow_many};

/// Memory that unwind tables may take in the kernel, bytes: some hundred times what a program with
/// numpy needs.
const TABLE_BYTES: usize = 256 << 20;
/// A program that starts maps many files one after the other: they are looked at together.
const SETTLE: Duration = Duration::from_millis(2);
/// Processes that are looked at before records are read again.
const LOOKS_AT_ONCE: usize = 4;

/// What the entries of processes have to say of their mappings.
pub(super) type Published = Vec<(u32, MappingsRef)>;

/// When to look at which process.
#[derive(Debug, Default)]
struct Due {
    by_time: BTreeSet<(Instant, u32)>,
    by_pid: HashMap<u32, Instant>,
}

impl Due {
    /// One that is to be looked at already keeps its time.
    fn insert(&mut self, pid: u32, at: Instant) {
        if let Entry::Vacant(vacant) = self.by_pid.entry(pid) {
            vacant.insert(at);
            self.by_time.insert((at, pid));
        }
    }

    fn remove(&mut self, pid: u32) {
        if let Some(at) = self.by_pid.remove(&pid) {
            self.by_time.remove(&(at, pid));
        }
    }

    fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    fn take(&mut self, now: Instant) -> Option<u32> {
        let (_, pid) = self.by_time.first().filter(|(at, _)| *at <= now).copied()?;
        self.remove(pid);
        Some(pid)
    }
}

/// The native code of the targets, and what tells that it changes.
#[derive(Debug)]
pub(super) struct NativeTargets {
    /// The code.
    pub(super) code: NativeCode,
    /// Processes that do not have to be sampled first.
    asked: HashSet<u32>,
    due: Due,
    /// What is on its way into the kernel.
    underway: Option<Underway>,
    /// What nobody needs any more is taken out now.
    takes_out: bool,
    /// How long the first tables took.
    ready_in: Option<Duration>,
}

/// Tables on their way into the kernel.
#[derive(Debug)]
struct Underway {
    published: Published,
    flush: JoinHandle<io::Result<()>>,
}

impl NativeTargets {
    /// Those that were asked for by number, for a start.
    pub(super) fn open(asked: &[u32], programs: &mut Programs) -> Result<Self, RecordError> {
        allow_many();
        let tables = programs.take_tables(TABLE_BYTES)?;
        let system = |doing| move |source: io::Error| RecordError::System { doing, source };
        Ok(Self {
            code: NativeCode::new(tables).map_err(system("cannot start threads"))?,
            asked: asked.iter().copied().collect(),
            due: Due::default(),
            underway: None,
            takes_out: false,
            ready_in: None,
        })
    }

    /// A process was sampled of which the kernel has no mappings.
    pub(super) fn sampled(&mut self, pid: u32) {
        if self.code.is_unknown(pid) {
            self.due.insert(pid, Instant::now());
        }
    }

    /// A process mapped code, or any may have.
    pub(super) fn mapped(&mut self, mapped: &Mapped) {
        let at = Instant::now() + SETTLE;
        match mapped {
            Mapped::By { pid, .. } if self.wants(*pid) => self.due.insert(*pid, at),
            Mapped::By { .. } => {}
            Mapped::Lost => {
                for pid in self.code.followed().chain(self.asked.iter().copied()) {
                    self.due.insert(pid, at);
                }
            }
        }
    }

    fn wants(&self, pid: u32) -> bool {
        self.asked.contains(&pid) || self.code.follows(pid)
    }

    /// A process runs another program than was looked at.
    pub(super) fn executed(&mut self, pid: u32) {
        self.forget(pid);
        if self.asked.contains(&pid) {
            self.due.insert(pid, Instant::now() + SETTLE);
        }
    }

    /// A process has ended.
    pub(super) fn ended(&mut self, pid: u32) {
        self.forget(pid);
        self.asked.remove(&pid);
    }

    /// What is known of a process's mappings does not hold any more.
    pub(super) fn forget(&mut self, pid: u32) {
        self.due.remove(pid);
        self.code.release(pid);
    }

    /// Takes out what nobody needs any more. `is_named` tells of which generations there are stacks.
    pub(super) fn tidy(&mut self, is_named: impl Fn(u32) -> bool) {
        self.code.tidy(is_named);
        self.takes_out = true;
    }

    /// Looks at the mappings of those that were asked for, waits for all tables, and loads them.
    pub(super) async fn prepare(&mut self) -> Result<Published, TablesError> {
        let begin = Instant::now();
        for pid in &self.asked {
            self.code.look(*pid);
        }
        while self.code.is_pending() {
            self.code.built().await;
        }
        let mut all = Vec::new();
        while self.code.is_stale() {
            all.extend(self.changed().await?);
        }
        self.ready_in = (!self.asked.is_empty()).then(|| begin.elapsed());
        Ok(all)
    }

    /// What came of the tables.
    pub(super) fn tables(&self) -> UnwindTables {
        let (bytes, rules) = self.code.memory();
        UnwindTables {
            files: self.code.files(),
            bytes,
            rules,
            ready_in: self.ready_in,
        }
    }

    /// Waits until the kernel has other tables than before. Returns what the entries of processes
    /// have to say of them. May be dropped and called again.
    pub(super) async fn changed(&mut self) -> Result<Published, TablesError> {
        loop {
            let publishes = self.code.is_stale() || self.takes_out && self.code.has_waste();
            if publishes && self.underway.is_none() {
                self.takes_out = false;
                let (published, flush) = self.code.publish()?;
                // The kernel takes its time, in which samples must be read.
                self.underway = Some(Underway {
                    published,
                    flush: spawn_blocking(move || flush.run()),
                });
            }
            let look_at = self.due.next();
            tokio::select! {
                done = flushed(self.underway.as_mut()) => {
                    let Some(Underway { published, .. }) = self.underway.take() else {
                        continue;
                    };
                    if done.is_err() {
                        // As if they had not been looked at.
                        for (pid, _) in &published {
                            self.forget(*pid);
                        }
                    }
                    return done.map(|()| published);
                }
                () = maybe_sleep_until(look_at) => {
                    self.look();
                    // There may be many, and samples must be read.
                    yield_now().await;
                }
                () = self.code.built(), if self.code.is_pending() => {}
            }
        }
    }

    fn look(&mut self) {
        let now = Instant::now();
        for _ in 0..LOOKS_AT_ONCE {
            let Some(pid) = self.due.take(now) else {
                return;
            };
            self.code.look(pid);
        }
    }
}

/// Waits for tables that are on their way into the kernel.
async fn flushed(underway: Option<&mut Underway>) -> Result<(), TablesError> {
    match underway {
        Some(underway) => match (&mut underway.flush).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(TablesError::Write(io::Error::other("a thread panicked"))),
        },
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_come_in_their_order_and_once() {
        let now = Instant::now();
        let mut due = Due::default();
        due.insert(3, now + SETTLE);
        due.insert(5, now);
        due.insert(5, now + SETTLE);
        assert_eq!(due.next(), Some(now));
        assert_eq!(due.take(now), Some(5));
        assert_eq!(due.take(now), None);
        due.remove(3);
        assert_eq!(due.next(), None);
    }
}
