//! `_Py_DebugOffsets`, with which CPython describes itself from 3.13 on: the first bytes of
//! `_PyRuntime` (`Include/internal/pycore_runtime.h` in 3.13,
//! `Include/internal/pycore_debug_offsets.h` later).

use profiler_common::gil::CONDITION_AND_MUTEX;
use profiler_common::layout::{EntryKind, FrameKind, GilLayout, NONE, WalkLayout, WitnessKind};
use profiler_common::lines::LineTable;
use profiler_common::mem::Memory;

use super::layout::{CodeCount, GilPlace, PythonLayout};
use super::objects::ObjectLayout;
use super::tables::ENTRY_OWNER;
use super::version::Version;

/// What `_PyRuntime` begins with.
pub const COOKIE: [u8; 8] = *b"xdebugpy";

/// Where the fields lie inside the table, in bytes. The table grew in the middle with each
/// minor version, so each has positions of its own; what stands at them is the interpreter's.
struct Positions {
    runtime_interpreters: u64,
    interp_next: u64,
    interp_threads: u64,
    interp_modules: u64,
    interp_gil: u64,
    gil_state: u64,
    gil_locked: u64,
    gil_holder: u64,
    /// From 3.14 on.
    interp_code_generation: Option<u64>,
    tstate_next: u64,
    tstate_interp: u64,
    tstate_frame: u64,
    tstate_thread_id: u64,
    frame_previous: u64,
    frame_executable: u64,
    frame_instr: u64,
    frame_owner: u64,
    code_filename: u64,
    code_name: u64,
    code_qualname: u64,
    code_line_table: u64,
    code_first_line: u64,
    code_locals: u64,
    code_instrs: u64,
    bytes_size: u64,
    bytes_data: u64,
    str_state: u64,
    str_length: u64,
    str_ascii_size: u64,
}

const V3_13: Positions = Positions {
    runtime_interpreters: 0x28,
    interp_next: 0x40,
    interp_threads: 0x48,
    interp_modules: 0x58,
    interp_gil: 0x70,
    gil_state: 0x78,
    gil_locked: 0x88,
    gil_holder: 0x90,
    interp_code_generation: None,
    tstate_next: 0xa8,
    tstate_interp: 0xb0,
    tstate_frame: 0xb8,
    tstate_thread_id: 0xc0,
    frame_previous: 0xe8,
    frame_executable: 0xf0,
    frame_instr: 0xf8,
    frame_owner: 0x108,
    code_filename: 0x118,
    code_name: 0x120,
    code_qualname: 0x128,
    code_line_table: 0x130,
    code_first_line: 0x138,
    code_locals: 0x148,
    code_instrs: 0x158,
    bytes_size: 0x208,
    bytes_data: 0x210,
    str_state: 0x220,
    str_length: 0x228,
    str_ascii_size: 0x230,
};

const V3_14: Positions = Positions {
    runtime_interpreters: 0x28,
    interp_next: 0x40,
    interp_threads: 0x48,
    interp_modules: 0x60,
    interp_gil: 0x78,
    gil_state: 0x80,
    gil_locked: 0x90,
    gil_holder: 0x98,
    interp_code_generation: Some(0xa0),
    tstate_next: 0xc0,
    tstate_interp: 0xc8,
    tstate_frame: 0xd0,
    tstate_thread_id: 0xd8,
    frame_previous: 0x100,
    frame_executable: 0x108,
    frame_instr: 0x110,
    frame_owner: 0x120,
    code_filename: 0x140,
    code_name: 0x148,
    code_qualname: 0x150,
    code_line_table: 0x158,
    code_first_line: 0x160,
    code_locals: 0x170,
    code_instrs: 0x180,
    bytes_size: 0x258,
    bytes_data: 0x260,
    str_state: 0x270,
    str_length: 0x278,
    str_ascii_size: 0x280,
};

const V3_15: Positions = Positions {
    runtime_interpreters: 0x28,
    interp_next: 0x40,
    interp_threads: 0x48,
    interp_modules: 0x60,
    interp_gil: 0x78,
    gil_state: 0x80,
    gil_locked: 0x90,
    gil_holder: 0x98,
    interp_code_generation: Some(0xa0),
    tstate_next: 0xc0,
    tstate_interp: 0xc8,
    tstate_frame: 0xd0,
    tstate_thread_id: 0xf0,
    frame_previous: 0x140,
    frame_executable: 0x148,
    frame_instr: 0x150,
    frame_owner: 0x160,
    code_filename: 0x180,
    code_name: 0x188,
    code_qualname: 0x190,
    code_line_table: 0x198,
    code_first_line: 0x1a0,
    code_locals: 0x1b0,
    code_instrs: 0x1c0,
    bytes_size: 0x2b8,
    bytes_data: 0x2c0,
    str_state: 0x2d0,
    str_length: 0x2d8,
    str_ascii_size: 0x2e0,
};

/// `_PyRuntimeState.gilstate.autoTSSkey._key`, which the table does not have. Only a check: the
/// way to the thread state is found in the live process.
fn tss_key_offset(minor: u8) -> Option<u64> {
    match minor {
        13 => Some(0x874),
        14 => Some(0x924),
        _ => None,
    }
}

/// `PyInterpreterState.func_state.next_version` of 3.13, which the table does not have. It is used
/// only where the version of a code object agrees with it.
const NEXT_VERSION_3_13: u64 = 0x4268;

/// Why the interpreter's description of itself could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DebugOffsetsError {
    /// Memory could not be read.
    #[error("the interpreter's debug offsets cannot be read")]
    Unreadable,
    /// `_PyRuntime` does not begin with the cookie.
    #[error("the interpreter's debug offsets do not begin with their cookie")]
    NoCookie,
    /// A build without the GIL.
    #[error("this is a free-threaded build of Python {0}, which pyscry cannot profile yet")]
    FreeThreaded(Version),
    /// A version whose table is not known.
    #[error("the debug offsets of Python {0} are not known")]
    Unknown(Version),
    /// A value that cannot be.
    #[error("the interpreter's debug offsets hold an impossible value ({value:#x} at {at:#x})")]
    Impossible {
        /// Position in the table.
        at: u64,
        /// What stands there.
        value: u64,
    },
}

/// The version in a table of debug offsets at `runtime`.
///
/// # Errors
/// [`DebugOffsetsError::Unreadable`], [`DebugOffsetsError::NoCookie`].
pub fn version<M: Memory>(mem: &M, runtime: u64) -> Result<Version, DebugOffsetsError> {
    let mut head = [0u8; 16];
    mem.read(runtime, &mut head)
        .map_err(|_| DebugOffsetsError::Unreadable)?;
    if head[..8] != COOKIE {
        return Err(DebugOffsetsError::NoCookie);
    }
    let hex = head[8..]
        .iter()
        .rev()
        .fold(0, |hex, byte| hex << 8 | u64::from(*byte));
    Ok(Version::from_hex(hex))
}

/// The layout that the interpreter at `runtime` describes.
///
/// # Errors
/// See [`DebugOffsetsError`].
pub fn layout<M: Memory>(mem: &M, runtime: u64) -> Result<PythonLayout, DebugOffsetsError> {
    let version = version(mem, runtime)?;
    let unknown = || DebugOffsetsError::Unknown(version);
    let p = match version.minor {
        13 => V3_13,
        14 => V3_14,
        15 => V3_15,
        _ => return Err(unknown()),
    };
    let at = |position: u64| {
        mem.read_u64(runtime + position)
            .map_err(|_| DebugOffsetsError::Unreadable)
    };
    if at(16)? != 0 {
        return Err(DebugOffsetsError::FreeThreaded(version));
    }
    // What the kernel gets has 16 bits and lies inside the blocks that the walk reads.
    let near = |position: u64| {
        let value = at(position)?;
        u16::try_from(value)
            .ok()
            .filter(|value| *value < 0x400)
            .ok_or(DebugOffsetsError::Impossible {
                at: position,
                value,
            })
    };
    let mut objects = ObjectLayout::of_minor(version.minor).ok_or_else(unknown)?;
    objects.bytes_size = at(p.bytes_size)?;
    objects.bytes_data = at(p.bytes_data)?;
    objects.str_state = at(p.str_state)?;
    objects.str_length = at(p.str_length)?;
    objects.str_ascii_size = at(p.str_ascii_size)?;
    let locals = near(p.code_locals)?;
    // The table has the fields of an interpreter's own lock, by their place in the interpreter.
    let gil_state = at(p.gil_state)?;
    let of_gil = |position: u64| {
        let value = at(position)?;
        let within = value.checked_sub(gil_state).filter(|offset| *offset < 0x40);
        within
            .map(|offset| offset as u16)
            .ok_or(DebugOffsetsError::Impossible {
                at: position,
                value,
            })
    };
    let locked = of_gil(p.gil_locked)?;
    Ok(PythonLayout {
        walk: WalkLayout {
            frame_kind: FrameKind::Interpreter as u8,
            witness_kind: WitnessKind::Version as u8,
            lasti_unit: 0,
            entry_owner: ENTRY_OWNER,
            tstate_frame: near(p.tstate_frame)?,
            cframe_frame: NONE,
            tstate_thread_id: near(p.tstate_thread_id)?,
            frame_back: near(p.frame_previous)?,
            frame_code: near(p.frame_executable)?,
            frame_instr: near(p.frame_instr)?,
            frame_owner: near(p.frame_owner)?,
            code_instrs: near(p.code_instrs)?,
            // `uint32_t co_version` is the last number before `co_localsplusnames`
            // (_PyCode_DEF in Include/cpython/code.h, 3.12 to 3.15).
            code_version: locals.checked_sub(4).ok_or(DebugOffsetsError::Impossible {
                at: p.code_locals,
                value: 0,
            })?,
            code_first_line: near(p.code_first_line)?,
            code_filename: near(p.code_filename)?,
            code_name: near(p.code_name)?,
            code_line_table: near(p.code_line_table)?,
            tstate_interp: near(p.tstate_interp)?,
            tstate_cframe: NONE,
            cframe_previous: NONE,
            frame_is_entry: NONE,
            entry_kind: EntryKind::EntryFrame as u8,
            pad: 0,
        },
        runtime_interpreters: at(p.runtime_interpreters)?,
        runtime_tss_key: tss_key_offset(version.minor),
        interp_next: at(p.interp_next)?,
        interp_threads: at(p.interp_threads)?,
        interp_modules: at(p.interp_modules)?,
        tstate_next: at(p.tstate_next)?,
        code_qualname: Some(at(p.code_qualname)?),
        code_count: Some(match p.interp_code_generation {
            Some(position) => CodeCount::Freed(at(position)?),
            None => CodeCount::Made(NEXT_VERSION_3_13),
        }),
        gil: GilPlace::Interpreter(at(p.interp_gil)?),
        gil_fields: GilLayout {
            at: 0,
            holder: of_gil(p.gil_holder)?,
            locked,
            // `locked` and `switch_number` come before `cond`, the first of two conditions and
            // their mutexes (`Include/internal/pycore_gil.h`, 3.13 to 3.15).
            waits: locked + 0x10,
            end: locked + 0x10 + 2 * CONDITION_AND_MUTEX,
        },
        objects,
        lines: LineTable::of_minor(version.minor).ok_or_else(unknown)?,
    })
}
