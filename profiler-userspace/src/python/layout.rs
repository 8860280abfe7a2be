//! What userspace knows of one CPython build, beyond what the walk in the kernel needs.

use profiler_common::layout::{GilLayout, NONE, NameLayout, WalkLayout};
use profiler_common::lines::LineTable;

use super::objects::{ObjectLayout, STR_COMPACT};

/// All offsets of one build, in bytes from the start of their structure.
#[derive(Clone, Debug)]
pub struct PythonLayout {
    /// What the kernel gets.
    pub walk: WalkLayout,
    /// `_PyRuntimeState.interpreters.head`.
    pub runtime_interpreters: u64,
    /// `_PyRuntimeState.gilstate.autoTSSkey._key`; `None` where there is no key (3.15).
    pub runtime_tss_key: Option<u64>,
    /// `PyInterpreterState.next`.
    pub interp_next: u64,
    /// `PyInterpreterState.tstate_head`, `threads.head` from 3.11 on.
    pub interp_threads: u64,
    /// `PyInterpreterState.modules`, `imports.modules` from 3.12 on.
    pub interp_modules: u64,
    /// `PyThreadState.next`.
    pub tstate_next: u64,
    /// `PyCodeObject.co_qualname`, from 3.11 on.
    pub code_qualname: Option<u64>,
    /// Where code objects are counted, from 3.12 on.
    pub code_count: Option<CodeCount>,
    /// Where the interpreter's lock is.
    pub gil: GilPlace,
    /// The lock's own fields; its `at` is 0.
    pub gil_fields: GilLayout,
    /// Strings, bytes, dicts.
    pub objects: ObjectLayout,
    /// How lines are stored.
    pub lines: LineTable,
}

impl PythonLayout {
    /// What the kernel sends of code objects; nothing where an offset is too large for that.
    #[must_use]
    pub fn names(&self) -> NameLayout {
        self.checked_names().unwrap_or(NameLayout::EMPTY)
    }

    fn checked_names(&self) -> Option<NameLayout> {
        let small = |offset: u64| u16::try_from(offset).ok().filter(|offset| *offset != NONE);
        let code_qualname = match self.code_qualname {
            Some(offset) => small(offset)?,
            None => NONE,
        };
        let walk = &self.walk;
        let pointers = [
            walk.code_filename,
            walk.code_name,
            walk.code_line_table,
            walk.code_first_line,
            code_qualname,
        ];
        let last = pointers
            .into_iter()
            .filter(|offset| *offset != NONE)
            .max()?;
        let code_bytes = last
            .checked_add(8)
            .filter(|bytes| *bytes <= CODE_BYTES_MAX)?;
        let objects = &self.objects;
        Some(NameLayout {
            code_bytes,
            code_qualname,
            ob_type: small(objects.ob_type)?,
            type_flags: small(objects.type_flags)?,
            str_length: small(objects.str_length)?,
            str_head: small(objects.str_compact_size.max(objects.str_ascii_size))?
                .checked_add(8)?,
            str_state: small(objects.str_state)?,
            str_compact: STR_COMPACT,
            bytes_size: small(objects.bytes_size)?,
            bytes_head: small(objects.bytes_data)?,
            pad: [0; 2],
        })
    }
}

/// Bytes of a code object that are sent at most.
const CODE_BYTES_MAX: u16 = 1024;

/// Where an interpreter counts its code objects, see
/// [`code_count`](profiler_common::layout::ProcessEntry::code_count).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeCount {
    /// The next `co_version`, in a variable of the process; a stripped module does not tell where.
    Symbol(&'static str),
    /// The next `co_version`, at this offset in `PyInterpreterState`.
    Made(u64),
    /// The number of those that were freed, at this offset in `PyInterpreterState`.
    Freed(u64),
}

/// Where the global interpreter lock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GilPlace {
    /// At this offset in `_PyRuntimeState`: `ceval.gil`, up to 3.11.
    Runtime(u64),
    /// At this offset in `PyInterpreterState` is a pointer to it: `ceval.gil`, from 3.12 on.
    Interpreter(u64),
}
