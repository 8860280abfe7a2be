//! The native code of the target while it is recorded.

use std::io;
use std::time::Duration;

use profiler_common::layout::MappingsRef;
use tokio::time::Instant;

use super::session::{RecordError, UnwindTables};
use crate::bpf::Programs;
use crate::bpf::tables::TablesError;
use crate::native::{MapWatch, NativeCode};

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
    /// How long the first tables took.
    ready_in: Option<Duration>,
}

impl NativeTarget {
    pub(super) fn open(pid: u32, programs: &mut Programs) -> Result<Self, RecordError> {
        let tables = programs.take_tables(TABLE_BYTES)?;
        let system = |doing| move |source: io::Error| RecordError::System { doing, source };
        Ok(Self {
            code: NativeCode::new(pid, tables).map_err(system("cannot start threads"))?,
            watch: MapWatch::start().map_err(system("cannot watch mappings"))?,
            pid,
            look_at: None,
            stale: false,
            publish_anyway: false,
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
        self.stale = false;
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
        self.stale = false;
        let mappings = self.code.publish();
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

    /// What the process's entry has to say now, if that changed.
    pub(super) fn publish(&mut self) -> Result<Option<MappingsRef>, TablesError> {
        if !self.stale {
            return Ok(None);
        }
        self.stale = false;
        self.code.publish().map(Some)
    }

    /// Waits until something changed.
    pub(super) async fn changed(&mut self) {
        while !self.stale {
            let look_at = self.look_at;
            tokio::select! {
                mapped = self.watch.next() => {
                    if mapped.is_none_or(|pid| pid == self.pid || pid == 0) {
                        self.look_at.get_or_insert(Instant::now() + SETTLE);
                    }
                    if mapped.is_none() {
                        // Nobody tells any more.
                        std::future::pending::<()>().await;
                    }
                }
                () = sleep_until(look_at) => self.look(),
                () = self.code.built(), if self.code.is_pending() => self.stale = true,
            }
        }
    }
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
