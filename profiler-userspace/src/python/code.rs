//! Code objects: from a frame of the kernel's to a name and a line.

use std::collections::HashMap;
use std::sync::Arc;

use profiler_common::event::{EVENT_CODE_GOES_ON, EventHeader};
use profiler_common::layout::ProcessEntry;
use profiler_common::lines::LineTable;
use profiler_common::mem::Memory;
use profiler_common::walk::{Frame, WITNESS_UNREAD, witness};

use super::code_pool::CodePool;
use super::layout::PythonLayout;
use super::objects::{self, ObjectError};
use super::sent_code::{Pending, SentMemory};

/// Longest name and file name that are read, in characters.
const MAX_NAME: usize = 4096;
/// Longest line table that is read, in bytes.
pub(super) const MAX_LINE_TABLE: usize = 16 << 20;

/// What a code object says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CodeInfo {
    /// `co_qualname` where it exists (3.11 on), else `co_name`.
    pub name: Arc<str>,
    /// `co_filename`, as the interpreter has it.
    pub file: Arc<str>,
    /// `co_firstlineno`.
    pub first_line: i32,
    /// `co_lnotab` or `co_linetable`.
    pub line_table: Vec<u8>,
    /// The line table is whole; else it is the beginning of one.
    pub whole: bool,
}

impl CodeInfo {
    /// The line of an instruction.
    #[must_use]
    pub fn line_at(&self, lines: LineTable, lasti: i32) -> Option<u32> {
        if self.whole {
            lines.line_at(&self.line_table, self.first_line, lasti)
        } else {
            lines.line_at_beginning(&self.line_table, self.first_line, lasti)
        }
    }
}

/// What became of a frame's code object.
#[derive(Clone, Debug)]
pub enum Resolved {
    /// It was read, and is the one that the kernel saw.
    Known(Arc<CodeInfo>),
    /// It was freed before it was read; its address holds something else, or nothing.
    Gone,
}

/// Counts of what [`CodeCache`] met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeStats {
    /// Code objects that were looked for in the process, because the kernel had not sent them.
    pub read: u64,
    /// Code objects that were freed before they were read.
    pub gone: u64,
    /// Code objects that the kernel could not read, and that therefore proved nothing.
    pub unproven: u64,
    /// Code objects of which names were sent, and that were freed before the rest was read.
    pub lines_gone: u64,
}

impl CodeStats {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            read: self.read + other.read,
            gone: self.gone + other.gone,
            unproven: self.unproven + other.unproven,
            lines_gone: self.lines_gone + other.lines_gone,
        }
    }
}

/// The code objects of one program in one process, by address and proof of identity.
#[derive(Debug, Default)]
pub struct CodeCache {
    known: HashMap<(u64, u32), Resolved>,
    pending: Pending,
    /// Of what the kernel sent the names, and the beginning of the line table.
    beginnings: HashMap<(u64, u32), Arc<CodeInfo>>,
    pool: CodePool,
    stats: CodeStats,
}

impl CodeCache {
    /// One that shares what it knows in a pool.
    #[must_use]
    pub fn new(pool: CodePool) -> Self {
        Self {
            pool,
            ..Self::default()
        }
    }

    /// What was met so far.
    #[must_use]
    pub fn stats(&self) -> CodeStats {
        self.stats
    }

    /// Takes a record with memory that names a code object. What does not suffice is no loss: its
    /// names are read from the process.
    pub fn take(&mut self, layout: &PythonLayout, header: &EventHeader, record: &[u8]) {
        let code = header.value;
        let key = (code, header.stack as u32);
        if let Some(Resolved::Known(_)) = self.known.get(&key) {
            // The gate forgot it.
            return;
        }
        if header.flags & EVENT_CODE_GOES_ON != 0 {
            self.pending.keep(key, record);
            return;
        }
        let earlier = self.pending.take(key);
        let records = earlier.iter().map(Vec::as_slice);
        let mem = SentMemory::of(records.chain([record]));
        match self.fields(&mem, layout, code, |table| {
            mem.beginning_of_bytes(layout, table)
        }) {
            Ok(info) if info.whole => {
                self.known.insert(key, Resolved::Known(info));
            }
            Ok(info) => {
                self.beginnings.insert(key, info);
            }
            Err(_) => (),
        }
    }

    /// The code object of a frame: what the kernel sent of it, or read from the process on first
    /// sight.
    pub fn resolve<M: Memory>(
        &mut self,
        mem: &M,
        layout: &PythonLayout,
        process: &ProcessEntry,
        frame: &Frame,
    ) -> Resolved {
        let key = (frame.code, frame.witness);
        if let Some(found) = self.known.get(&key) {
            return found.clone();
        }
        self.stats.read += 1;
        let beginning = self.beginnings.remove(&key);
        let resolved = match (self.read(mem, layout, process, frame), beginning) {
            (Some(info), _) => Resolved::Known(info),
            (None, Some(info)) => {
                self.stats.lines_gone += 1;
                Resolved::Known(info)
            }
            (None, None) => {
                self.stats.gone += 1;
                Resolved::Gone
            }
        };
        if frame.witness == WITNESS_UNREAD {
            self.stats.unproven += 1;
        }
        self.known.insert(key, resolved.clone());
        resolved
    }

    /// Reads it between two looks at its witness: what changed meanwhile is not it.
    fn read<M: Memory>(
        &self,
        mem: &M,
        layout: &PythonLayout,
        process: &ProcessEntry,
        frame: &Frame,
    ) -> Option<Arc<CodeInfo>> {
        let before = witness(mem, process, frame.code).ok()?;
        if before == WITNESS_UNREAD || (frame.witness != WITNESS_UNREAD && before != frame.witness)
        {
            return None;
        }
        let table = |table| {
            objects::read_bytes(mem, &layout.objects, table, MAX_LINE_TABLE)
                .map(|table| (table, true))
        };
        let info = self.fields(mem, layout, frame.code, table).ok()?;
        (witness(mem, process, frame.code).ok()? == before).then_some(info)
    }

    /// Name, file and first line, and with `line_table` what there is of that, and whether it is all.
    fn fields<M: Memory>(
        &self,
        mem: &M,
        layout: &PythonLayout,
        code: u64,
        line_table: impl FnOnce(u64) -> Result<(Vec<u8>, bool), ObjectError>,
    ) -> Result<Arc<CodeInfo>, ObjectError> {
        let walk = &layout.walk;
        let pointer = |offset: u64| {
            mem.read_u64(code.wrapping_add(offset))
                .map_err(|_| ObjectError::Fault)
        };
        let qualname = match layout.code_qualname {
            Some(offset) => pointer(offset)?,
            None => 0,
        };
        // The interpreter's own shims have no qualified name.
        let name = if qualname == 0 {
            pointer(u64::from(walk.code_name))?
        } else {
            qualname
        };
        let name = objects::read_str(mem, &layout.objects, name, MAX_NAME)?;
        let file = pointer(u64::from(walk.code_filename))?;
        let file = objects::read_str(mem, &layout.objects, file, MAX_NAME)?;
        let table = pointer(u64::from(walk.code_line_table))?;
        let first_line = mem
            .read_u32(code.wrapping_add(u64::from(walk.code_first_line)))
            .map_err(|_| ObjectError::Fault)? as i32;
        let (line_table, whole) = line_table(table)?;
        Ok(self.pool.code(name, file, first_line, line_table, whole))
    }
}
