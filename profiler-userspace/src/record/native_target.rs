//! The native code of the target while it is recorded.

use std::io;
use std::time::Duration;

use profiler_common::layout::MappingsRef;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

use super::session::{RecordError, UnwindTables, maybe_sleep_until};
use crate::bpf::Programs;
use crate::bpf::tables::TablesError;
use crate::native::{MapWatch, NativeCode, allow_many};

/// Memory that unwind tables may take in the kernel, bytes: some hundred times what a program with
/// numpy needs.
const TABLE_BYTES: usize = 256 << 20;
/// A program that starts maps many files one after the other: they are looked at together.
const SETTLE: Duration = Duration::from_millis(2);

/// The native code of the target, and what tells that it changes.
#[derive(Debug)]
pub(super) struct NativeTarget {
    /// The code.
    pub(super) code: NativeCode,
    watch: MapWatch,
    pid: u32,
    /// When to look at the mappings again.
    look_at: Option<Instant>,
    /// What the kernel knows is old.
    stale: bool,
    publish_anyway: bool,
    /// What is on its way into the kernel.
    underway: Option<Underway>,
    /// Nobody tells of mappings any more.
    deaf: bool,
    /// How long the first tables took.
    ready_in: Option<Duration>,
}

/// Tables on their way into the kernel.
#[derive(Debug)]
struct Underway {
    mappings: MappingsRef,
    flush: JoinHandle<io::Result<()>>,
}

impl NativeTarget {
    pub(super) fn open(pid: u32, programs: &mut Programs) -> Result<Self, RecordError> {
        allow_many();
        let tables = programs.take_tables(TABLE_BYTES)?;
        let system = |doing| move |source: io::Error| RecordError::System { doing, source };
        Ok(Self {
            code: NativeCode::new(pid, tables).map_err(system("cannot start threads"))?,
            watch: MapWatch::start().map_err(system("cannot watch mappings"))?,
            pid,
            look_at: None,
            stale: false,
            publish_anyway: false,
            underway: None,
            deaf: false,
            ready_in: None,
        })
    }

    /// Looks at the mappings.
    pub(super) fn look(&mut self) {
        self.look_at = None;
        self.stale |= self.code.refresh() | std::mem::take(&mut self.publish_anyway);
    }

    /// Looks at the mappings again, and then publishes whatever there is.
    pub(super) fn look_soon(&mut self) {
        self.publish_anyway = true;
        self.look_at = Some(Instant::now() + SETTLE);
    }

    /// Looks at the mappings, waits for all tables, and loads them.
    pub(super) async fn prepare(&mut self) -> Result<MappingsRef, TablesError> {
        let begin = Instant::now();
        self.look();
        while self.code.is_pending() {
            self.code.built().await;
        }
        self.stale = true;
        let mappings = self.changed().await;
        self.ready_in = Some(begin.elapsed());
        mappings
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

    /// Waits until the kernel has other tables than before. Returns what the process's entry has to
    /// say of them. May be dropped and called again.
    pub(super) async fn changed(&mut self) -> Result<MappingsRef, TablesError> {
        loop {
            if self.stale && self.underway.is_none() {
                self.stale = false;
                let (mappings, flush) = self.code.publish()?;
                // The kernel takes its time, in which samples must be read.
                self.underway = Some(Underway {
                    mappings,
                    flush: spawn_blocking(move || flush.run()),
                });
            }
            let look_at = self.look_at;
            tokio::select! {
                done = flushed(self.underway.as_mut()) => {
                    let underway = self.underway.take();
                    done?;
                    if let Some(underway) = underway {
                        return Ok(underway.mappings);
                    }
                }
                mapped = self.watch.next(), if !self.deaf => {
                    self.deaf = mapped.is_none();
                    if mapped.is_none_or(|pid| pid == self.pid || pid == 0) {
                        self.look_at.get_or_insert(Instant::now() + SETTLE);
                    }
                }
                () = maybe_sleep_until(look_at) => self.look(),
                () = self.code.built(), if self.code.is_pending() => self.stale = true,
            }
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
