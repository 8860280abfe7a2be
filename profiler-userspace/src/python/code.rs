//! Code objects: from a frame of the kernel's to a name and a line.

use std::collections::HashMap;
use std::sync::Arc;

use profiler_common::layout::ProcessEntry;
use profiler_common::mem::Memory;
use profiler_common::walk::{Frame, WITNESS_UNREAD, witness};

use super::layout::PythonLayout;
use super::objects::{self, ObjectError};

/// Longest name and file name that are read, in characters.
const MAX_NAME: usize = 4096;
/// Longest line table that is read, in bytes.
const MAX_LINE_TABLE: usize = 16 << 20;

/// What a code object says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeInfo {
    /// `co_qualname` where it exists (3.11 on), else `co_name`.
    pub name: Arc<str>,
    /// `co_filename`, as the interpreter has it.
    pub file: Arc<str>,
    /// `co_firstlineno`.
    pub first_line: i32,
    /// `co_lnotab` or `co_linetable`.
    pub line_table: Vec<u8>,
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
    /// Code objects read.
    pub read: u64,
    /// Code objects that were freed before they were read.
    pub gone: u64,
    /// Code objects that the kernel could not read, and that therefore proved nothing.
    pub unproven: u64,
}

/// The code objects of one program in one process, by address and proof of identity.
#[derive(Debug, Default)]
pub struct CodeCache {
    known: HashMap<(u64, u32), Resolved>,
    strings: HashMap<String, Arc<str>>,
    stats: CodeStats,
}

impl CodeCache {
    /// What was met so far.
    #[must_use]
    pub fn stats(&self) -> CodeStats {
        self.stats
    }

    /// The code object of a frame, read on first sight.
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
        let resolved = match self.read(mem, layout, process, frame) {
            Some(info) => {
                self.stats.read += 1;
                Resolved::Known(Arc::new(info))
            }
            None => {
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
        &mut self,
        mem: &M,
        layout: &PythonLayout,
        process: &ProcessEntry,
        frame: &Frame,
    ) -> Option<CodeInfo> {
        let before = witness(mem, process, frame.code).ok()?;
        if before == WITNESS_UNREAD || (frame.witness != WITNESS_UNREAD && before != frame.witness)
        {
            return None;
        }
        let info = self.fields(mem, layout, frame.code).ok()?;
        (witness(mem, process, frame.code).ok()? == before).then_some(info)
    }

    fn fields<M: Memory>(
        &mut self,
        mem: &M,
        layout: &PythonLayout,
        code: u64,
    ) -> Result<CodeInfo, ObjectError> {
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
        Ok(CodeInfo {
            name: self.intern(name),
            file: self.intern(file),
            first_line,
            line_table: objects::read_bytes(mem, &layout.objects, table, MAX_LINE_TABLE)?,
        })
    }

    fn intern(&mut self, text: String) -> Arc<str> {
        if let Some(found) = self.strings.get(&text) {
            return Arc::clone(found);
        }
        let shared: Arc<str> = Arc::from(text.as_str());
        self.strings.insert(text, Arc::clone(&shared));
        shared
    }
}
