//! Layouts of 3.8 to 3.12, which do not describe themselves. A test compares every number with
//! the DWARF of real builds (`tests/tests/layouts.rs`).
//!
//! All fields are the same in every micro version of a minor one: CPython keeps the layout of
//! its internal structures within a minor version, and these were compared with first and late
//! ones where both could be had.

use profiler_common::layout::{EntryKind, FrameKind, GilLayout, NONE, WalkLayout, WitnessKind};
use profiler_common::lines::LineTable;

use super::layout::{CodeCount, GilPlace, PythonLayout};
use super::objects::ObjectLayout;
use super::thread_names;

/// Values of `owner` from which on a frame is an entry frame, 3.12 on: `FRAME_OWNED_BY_CSTACK`
/// in 3.12 and 3.13, `FRAME_OWNED_BY_INTERPRETER` from 3.14
/// (`Include/internal/pycore_frame.h`).
pub const ENTRY_OWNER: u8 = 3;

/// `PyFrameObject` and `PyCodeObject` of 3.8 to 3.10 (`Include/cpython/frameobject.h`,
/// `Include/cpython/code.h`).
const OBJECT_FRAMES: WalkLayout = WalkLayout {
    frame_kind: FrameKind::Object as u8,
    witness_kind: WitnessKind::Content as u8,
    lasti_unit: 1,
    entry_owner: 0,
    tstate_frame: 0x18,
    cframe_frame: NONE,
    tstate_thread_id: 0xb0,
    frame_back: 0x18,
    frame_code: 0x20,
    frame_instr: 0x68,
    frame_owner: NONE,
    code_instrs: NONE,
    code_version: NONE,
    code_first_line: 0x28,
    code_filename: 0x68,
    code_name: 0x70,
    code_line_table: 0x78,
    tstate_interp: 0x10,
    tstate_cframe: NONE,
    cframe_previous: NONE,
    frame_is_entry: NONE,
    entry_kind: EntryKind::None as u8,
    pad: 0,
};

/// `_PyInterpreterFrame` and `PyCodeObject` of 3.11 (`Include/internal/pycore_frame.h`).
const FRAMES_3_11: WalkLayout = WalkLayout {
    frame_kind: FrameKind::Interpreter as u8,
    witness_kind: WitnessKind::Content as u8,
    lasti_unit: 0,
    entry_owner: 0,
    tstate_frame: 0x38,
    cframe_frame: 0x8,
    tstate_thread_id: 0x98,
    frame_back: 0x30,
    frame_code: 0x20,
    frame_instr: 0x38,
    frame_owner: NONE,
    code_instrs: 0xb8,
    code_version: NONE,
    code_first_line: 0x48,
    code_filename: 0x70,
    code_name: 0x78,
    code_line_table: 0x88,
    tstate_interp: 0x10,
    tstate_cframe: 0x38,
    cframe_previous: 0x10,
    frame_is_entry: 0x44,
    entry_kind: EntryKind::Flag as u8,
    pad: 0,
};

/// The same of 3.12.
const FRAMES_3_12: WalkLayout = WalkLayout {
    witness_kind: WitnessKind::Version as u8,
    entry_owner: ENTRY_OWNER,
    cframe_frame: 0x0,
    tstate_thread_id: 0x88,
    frame_back: 0x8,
    frame_code: 0x0,
    frame_owner: 0x46,
    code_instrs: 0xc0,
    code_version: 0x5c,
    code_first_line: 0x44,
    tstate_cframe: NONE,
    cframe_previous: NONE,
    frame_is_entry: NONE,
    entry_kind: EntryKind::EntryFrame as u8,
    ..FRAMES_3_11
};

/// `struct _gil_runtime_state` of 3.8 to 3.12 (`Include/internal/pycore_gil.h`).
pub const GIL_FIELDS: GilLayout = GilLayout {
    at: 0,
    holder: 0x8,
    locked: 0x10,
    waits: 0x20,
    end: 0xd0,
};

/// The layout of a minor version 3.8 to 3.12; `None` for others.
#[must_use]
pub fn of_minor(minor: u8) -> Option<PythonLayout> {
    struct Row {
        walk: WalkLayout,
        interpreters: u64,
        tss_key: u64,
        threads: u64,
        gil: GilPlace,
        qualname: Option<u64>,
    }
    let row = match minor {
        8 => Row {
            walk: OBJECT_FRAMES,
            interpreters: 0x20,
            tss_key: 0x574,
            threads: 0x8,
            gil: GilPlace::Runtime(0x480),
            qualname: None,
        },
        9 => Row {
            walk: OBJECT_FRAMES,
            interpreters: 0x20,
            tss_key: 0x24c,
            threads: 0x8,
            gil: GilPlace::Runtime(0x160),
            qualname: None,
        },
        10 => Row {
            // f_lasti counts code units from 3.10 on.
            walk: WalkLayout {
                frame_instr: 0x60,
                lasti_unit: 2,
                tstate_cframe: 0x30,
                cframe_previous: 0x8,
                entry_kind: EntryKind::EveryFrame as u8,
                ..OBJECT_FRAMES
            },
            interpreters: 0x20,
            tss_key: 0x24c,
            threads: 0x8,
            gil: GilPlace::Runtime(0x160),
            qualname: None,
        },
        11 => Row {
            walk: FRAMES_3_11,
            interpreters: 0x28,
            tss_key: 0x254,
            threads: 0x10,
            gil: GilPlace::Runtime(0x168),
            qualname: Some(0x80),
        },
        12 => Row {
            walk: FRAMES_3_12,
            interpreters: 0x28,
            tss_key: 0x60c,
            threads: 0x48,
            gil: GilPlace::Interpreter(0x180),
            qualname: Some(0x80),
        },
        _ => return None,
    };
    Some(PythonLayout {
        walk: row.walk,
        runtime_interpreters: row.interpreters,
        runtime_tss_key: Some(row.tss_key),
        interp_next: 0,
        interp_threads: row.threads,
        interp_modules: thread_names::modules_offset(minor)?,
        tstate_next: 0x8,
        code_qualname: row.qualname,
        code_count: (minor == 12).then_some(CodeCount::Symbol("_Py_next_func_version")),
        gil: row.gil,
        gil_fields: GIL_FIELDS,
        objects: ObjectLayout::of_minor(minor)?,
        lines: LineTable::of_minor(minor)?,
    })
}
