//! Everything about the Python of one process that the kernel and the symbolizer need.

use std::path::PathBuf;

use profiler_common::layout::{
    GilLayout, MappingsRef, PROCESS_GIL_OF_INTERPRETER, PROCESS_GIL_OF_PROCESS, PROCESS_READY,
    ProcessEntry, TstatePath,
};
use profiler_common::mem::Memory;

use super::code_count;
use super::debug_offsets::{self, DebugOffsetsError};
use super::layout::{GilPlace, PythonLayout};
use super::locate::{self, LocateError, Located};
use super::tables;
use super::threads::{self, ThreadState};
use super::tstate_path;
use super::version::Version;
use crate::process::{RemoteMemory, Searchable};

/// Why a process cannot be profiled (yet).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// No CPython, or not one that can be profiled.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The interpreter's description of itself does not do.
    #[error("process {pid}: {source}")]
    DebugOffsets {
        /// The process.
        pid: u32,
        /// Why.
        source: DebugOffsetsError,
    },
    /// The interpreter has no thread state yet, or no more.
    #[error("the Python in process {pid} is not running: it has no thread yet, or no more")]
    NotRunning {
        /// The process.
        pid: u32,
    },
    /// Its memory may not be read.
    #[error("cannot read the memory of process {pid}: {source}")]
    Memory {
        /// The process.
        pid: u32,
        /// Why.
        source: std::io::Error,
    },
    /// The slot with the thread state was not found.
    #[error(
        "process {pid}: the thread states of Python {version} were found, but not the slot in \
         which its C library keeps them"
    )]
    NoThreadSlot {
        /// The process.
        pid: u32,
        /// Its version.
        version: Version,
    },
}

impl InspectError {
    /// Whether waiting may help: the process has only just begun.
    #[must_use]
    pub fn is_too_early(&self) -> bool {
        matches!(self, Self::NotRunning { .. } | Self::NoThreadSlot { .. })
            || matches!(
                self,
                Self::Locate(LocateError::NotPython { .. } | LocateError::Maps { .. })
            )
            || matches!(
                self,
                Self::DebugOffsets {
                    source: DebugOffsetsError::Unreadable | DebugOffsetsError::NoCookie,
                    ..
                }
            )
    }
}

/// The Python of one process.
#[derive(Clone, Debug)]
pub struct Python {
    /// The process.
    pub pid: u32,
    /// The version.
    pub version: Version,
    /// The module that holds the interpreter, as /proc/PID/maps names it.
    pub module: PathBuf,
    /// Where it was found.
    pub located: Located,
    /// All offsets.
    pub layout: PythonLayout,
    /// The main interpreter's address.
    pub interp: u64,
    /// What the kernel gets; its generation is 0.
    pub entry: ProcessEntry,
}

/// Inspects process `pid`.
///
/// # Errors
/// See [`InspectError`].
pub fn inspect(pid: u32) -> Result<Python, InspectError> {
    let located = locate::locate(pid)?;
    of_located(pid, located)
}

/// As [`inspect`], for an interpreter that was located.
///
/// # Errors
/// See [`InspectError`].
pub fn of_located(pid: u32, located: Located) -> Result<Python, InspectError> {
    let mem = RemoteMemory::new(pid);
    let described = describe(&mem, pid, &located)?;
    let Described {
        layout,
        states,
        interp,
        entry,
        codes,
    } = described;
    let Some(tstate) = tstate_path::find(&mem, &layout, &located, &states) else {
        return Err(InspectError::NoThreadSlot {
            pid,
            version: located.version,
        });
    };
    let (counted, code_count) =
        code_count::find(&mem, &layout, &located, interp, &codes).unwrap_or_default();
    let entry = ProcessEntry {
        flags: entry.flags | counted,
        code_count,
        tstate,
        ..entry
    };
    Ok(Python {
        pid,
        version: located.version,
        module: located.module.clone(),
        located,
        layout,
        interp,
        entry,
    })
}

/// What an interpreter's memory says of it, without the way from a thread's pointer to its thread
/// state: enough to walk from thread states.
#[derive(Clone, Debug)]
pub struct Described {
    /// All offsets.
    pub layout: PythonLayout,
    /// All thread states.
    pub states: Vec<ThreadState>,
    /// The main interpreter's address.
    pub interp: u64,
    /// What a walk needs; without the way to the thread state, and the count of code objects.
    pub entry: ProcessEntry,
    /// Code objects that run; some may be none.
    codes: Vec<u64>,
}

/// Reads what the memory of process `pid` says of the interpreter in it.
///
/// # Errors
/// See [`InspectError`].
pub fn describe<M: Searchable>(
    mem: &M,
    pid: u32,
    located: &Located,
) -> Result<Described, InspectError> {
    mem.read_some(located.runtime, 8)
        .map_err(|source| InspectError::Memory { pid, source })?;
    let layout = match tables::of_minor(located.version.minor) {
        Some(layout) => layout,
        None => debug_offsets::layout(mem, located.runtime)
            .map_err(|source| InspectError::DebugOffsets { pid, source })?,
    };
    let not_running = InspectError::NotRunning { pid };
    let Ok(states) = threads::thread_states(mem, &layout, located.runtime) else {
        return Err(not_running);
    };
    let Some(interp) = threads::interpreters(mem, &layout, located.runtime)
        .ok()
        .and_then(|interpreters| interpreters.last().copied())
    else {
        return Err(not_running);
    };
    if !states.iter().any(|state| state.thread_id != 0) {
        return Err(not_running);
    }
    let codes = running_codes(mem, &layout, &states);
    let (gil_flag, gil_at) = match layout.gil {
        GilPlace::Runtime(offset) => (PROCESS_GIL_OF_PROCESS, located.runtime.wrapping_add(offset)),
        GilPlace::Interpreter(offset) => (PROCESS_GIL_OF_INTERPRETER, offset),
    };
    let entry = ProcessEntry {
        generation: 0,
        flags: PROCESS_READY | gil_flag,
        code_type: located
            .code_type
            .or_else(|| code_type(mem, &codes))
            .unwrap_or(0),
        code_count: 0,
        tstate: TstatePath::default(),
        layout: layout.walk,
        names: layout.names(),
        mappings: MappingsRef::default(),
        gil: GilLayout {
            at: gil_at,
            ..layout.gil_fields
        },
    };
    Ok(Described {
        layout,
        states,
        interp,
        entry,
        codes,
    })
}

/// Code objects that run: those of the newest frames of each thread. Some may be none, where a
/// thread went on meanwhile.
fn running_codes<M: Memory>(mem: &M, layout: &PythonLayout, states: &[ThreadState]) -> Vec<u64> {
    const FRAMES: usize = 4;
    let walk = &layout.walk;
    let pointer = |at: u64, offset: u16| mem.read_u64(at.wrapping_add(u64::from(offset))).ok();
    let newest = |state: &ThreadState| {
        let frame = pointer(state.address, walk.tstate_frame)?;
        if walk.cframe_frame == profiler_common::layout::NONE {
            Some(frame)
        } else {
            pointer(frame, walk.cframe_frame)
        }
    };
    let frames = states.iter().filter_map(newest).flat_map(|newest| {
        let back = |frame: &u64| pointer(*frame, walk.frame_back);
        std::iter::successors(Some(newest), back).take(FRAMES)
    });
    frames
        .filter_map(|frame| Some(pointer(frame, walk.frame_code)? & !3))
        .collect()
}

/// `PyCode_Type` where the module exports no symbol: the type of code that runs, if it is named so
/// (`PyTypeObject.tp_name` at 24, the same in every version).
fn code_type<M: Memory>(mem: &M, codes: &[u64]) -> Option<u64> {
    let types = codes
        .iter()
        .filter_map(|code| mem.read_u64(code.wrapping_add(8)).ok());
    types.into_iter().find(|found| is_named_code(mem, *found))
}

fn is_named_code<M: Memory>(mem: &M, object_type: u64) -> bool {
    let named = || {
        let name = mem.read_u64(object_type.wrapping_add(24)).ok()?;
        let mut text = [0u8; 5];
        mem.read(name, &mut text).ok()?;
        (text == *b"code\0").then_some(())
    };
    named().is_some()
}
