//! Where one CPython build keeps what the walk reads, as userspace pushes it into the kernel.
//!
//! From 3.13 userspace fills these from the interpreter's own `_Py_DebugOffsets`; below that from
//! tables per minor version that a test compares with the DWARF of real builds.

/// "This version has no such field."
pub const NONE: u16 = u16::MAX;

/// How the frames of a version are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// `PyFrameObject` on the heap with an integer `f_lasti` (3.8 to 3.10).
    Object = 0,
    /// `_PyInterpreterFrame` with a pointer to the instruction (3.11 on).
    Interpreter = 1,
}

/// How a code object proves, with each frame, that it is the one whose name is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum WitnessKind {
    /// A digest of the object's pointers, its name's hash and the start of its line table (up to
    /// 3.11, which number no code object).
    Content = 0,
    /// `co_version`, which the interpreter gives to one code object only (3.12 on).
    Version = 1,
}

/// What of an activation of the interpreter's loop lies on its C frame, and tells which Python
/// frames it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// Nothing that the walk passes: each activation runs one frame (3.8, 3.9).
    None = 0,
    /// A `CFrame`, and it runs one frame (3.10).
    EveryFrame = 1,
    /// A `_PyCFrame`; the oldest frame that it runs says so (3.11).
    Flag = 2,
    /// The entry frame itself, which ends what it runs (3.12 on).
    EntryFrame = 3,
}

/// Offsets in bytes, each from the start of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct WalkLayout {
    /// A [`FrameKind`].
    pub frame_kind: u8,
    /// A [`WitnessKind`].
    pub witness_kind: u8,
    /// Bytes per unit of an integer `f_lasti`: 1 up to 3.9, 2 in 3.10.
    pub lasti_unit: u8,
    /// `owner` values from this one on mark entry frames, which are not Python frames.
    pub entry_owner: u8,
    /// `PyThreadState`: `frame`, `cframe` or `current_frame`.
    pub tstate_frame: u16,
    /// `_PyCFrame.current_frame` where the thread state holds a `cframe` (3.11, 3.12), or [`NONE`].
    pub cframe_frame: u16,
    /// `PyThreadState.thread_id`, which is `pthread_self()`.
    pub tstate_thread_id: u16,
    /// Frame: the caller's frame.
    pub frame_back: u16,
    /// Frame: its code object.
    pub frame_code: u16,
    /// Frame: `f_lasti`, `prev_instr` or `instr_ptr`.
    pub frame_instr: u16,
    /// Frame: `owner`, or [`NONE`] where no entry frames exist.
    pub frame_owner: u16,
    /// Code: the first instruction, or [`NONE`] where frames hold an integer.
    pub code_instrs: u16,
    /// Code: `co_version`, or [`NONE`].
    pub code_version: u16,
    /// Code: `co_firstlineno`.
    pub code_first_line: u16,
    /// Code: `co_filename`.
    pub code_filename: u16,
    /// Code: `co_name`.
    pub code_name: u16,
    /// Code: `co_lnotab` or `co_linetable`.
    pub code_line_table: u16,
    /// `PyThreadState.interp`.
    pub tstate_interp: u16,
    /// `PyThreadState.cframe`, the newest of the chain (3.10, 3.11), or [`NONE`].
    pub tstate_cframe: u16,
    /// `CFrame.previous`, or [`NONE`].
    pub cframe_previous: u16,
    /// Frame: `is_entry` (3.11), or [`NONE`].
    pub frame_is_entry: u16,
    /// An [`EntryKind`].
    pub entry_kind: u8,
    /// Zero.
    pub pad: u8,
}

const _: () = assert!(size_of::<WalkLayout>() == 40);

impl WalkLayout {
    /// No field is known.
    pub const EMPTY: Self = Self {
        frame_kind: 0,
        witness_kind: 0,
        lasti_unit: 0,
        entry_owner: 0,
        tstate_frame: NONE,
        cframe_frame: NONE,
        tstate_thread_id: NONE,
        frame_back: NONE,
        frame_code: NONE,
        frame_instr: NONE,
        frame_owner: NONE,
        code_instrs: NONE,
        code_version: NONE,
        code_first_line: NONE,
        code_filename: NONE,
        code_name: NONE,
        code_line_table: NONE,
        tstate_interp: NONE,
        tstate_cframe: NONE,
        cframe_previous: NONE,
        frame_is_entry: NONE,
        entry_kind: 0,
        pad: 0,
    };
}

/// Where a code object keeps what names it. Offsets in bytes, each from the start of its object.
///
/// The kernel knows no object: it sends what lies here, and userspace makes sense of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct NameLayout {
    /// Bytes of a code object that are read to name it; 0 when it is not known how to.
    pub code_bytes: u16,
    /// Code: `co_qualname`, or [`NONE`] (3.11 on).
    pub code_qualname: u16,
    /// Any object: its type.
    pub ob_type: u16,
    /// A type: `tp_flags`, by which userspace knows what an object is.
    pub type_flags: u16,
    /// `str`: how many characters it has, of 4 bytes at most.
    pub str_length: u16,
    /// `str`: bytes before its characters at most.
    pub str_head: u16,
    /// `str`: how it is stored.
    pub str_state: u16,
    /// The bits of that which are set where its characters follow. Where they do not, the pointer to
    /// them is the last of what comes before.
    pub str_compact: u16,
    /// `bytes`: how many bytes it has.
    pub bytes_size: u16,
    /// `bytes`: bytes before them.
    pub bytes_head: u16,
    /// Zero.
    pub pad: [u16; 2],
}

const _: () = assert!(size_of::<NameLayout>() == 24);

impl NameLayout {
    /// Nothing is known.
    pub const EMPTY: Self = Self {
        code_bytes: 0,
        code_qualname: NONE,
        ob_type: 0,
        type_flags: 0,
        str_length: 0,
        str_head: 0,
        str_state: 0,
        str_compact: 0,
        bytes_size: 0,
        bytes_head: 0,
        pad: [0; 2],
    };
}

/// The most pointers that lie between a thread's `fsbase` and its thread state.
pub const TSTATE_PATH_MAX: usize = 3;

/// The way from a thread's `fsbase` to its `PyThreadState`, found in the live process: read the
/// pointer at `base + offset`, and go on from there, `len` times.
///
/// One step is a slot inside `struct pthread` or in the static TLS block; two are glibc's second
/// level of keys or musl's table; three are a TLS block that was allocated late (the DTV).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TstatePath {
    /// Byte offset added before each read.
    pub offsets: [i32; TSTATE_PATH_MAX],
    /// How many of them count; 0 is "not known".
    pub len: u32,
}

/// The executable mappings of a process, as the kernel finds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MappingsRef {
    /// The table that holds them; 0 when they are not known.
    pub table: u32,
    /// How many there are.
    pub count: u32,
    /// Changes whenever they do, and is given to one state of one process only, and to copies of it
    /// (`fork`) while they map the same.
    pub generation: u32,
    /// Zero.
    pub pad: u32,
}

/// The process's Python is known, and the walk may begin.
pub const PROCESS_READY: u32 = 1;
/// [`ProcessEntry::code_count`] is an offset in the thread's interpreter.
pub const PROCESS_COUNT_OF_INTERPRETER: u32 = 2;
/// [`ProcessEntry::code_count`] is an address.
pub const PROCESS_COUNT_OF_PROCESS: u32 = 4;

/// The process runs no Python: none of its threads has a thread state.
pub const PROCESS_WITHOUT_PYTHON: u32 = 8;
/// [`GilLayout::at`] is the lock's address: all interpreters share it (up to 3.11).
pub const PROCESS_GIL_OF_PROCESS: u32 = 16;
/// [`GilLayout::at`] is an offset in the thread's interpreter, where the lock's address is (3.12 on).
pub const PROCESS_GIL_OF_INTERPRETER: u32 = 32;

/// Where the global interpreter lock is, `struct _gil_runtime_state`. Offsets in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct GilLayout {
    /// See the flags `PROCESS_GIL_*`.
    pub at: u64,
    /// `last_holder`, behind which lies `locked`.
    pub holder: u16,
    /// `locked`.
    pub locked: u16,
    /// The first of what threads wait at: `cond`.
    pub waits: u16,
    /// Its size: what threads wait at goes to its end.
    pub end: u16,
}

const _: () = assert!(size_of::<GilLayout>() == 16);

/// The generation of a program that a process begins to run at `now_ns` (`CLOCK_MONOTONIC`), or in which
/// it is first looked at: the microsecond, of some 1,024 ns. No other that a process of the same number
/// runs has it, as long as they are less than 73 minutes apart or do not begin in the same microsecond
/// of those.
#[inline(always)]
#[must_use]
pub const fn generation_at(now_ns: u64) -> u32 {
    (now_ns >> 10) as u32
}

/// What the kernel knows of one target process: the value of the map `PROCESSES`, by tgid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ProcessEntry {
    /// Changes with every program that the process executes: part of each stack's hash.
    pub generation: u32,
    /// `PROCESS_*` bits.
    pub flags: u32,
    /// Address of `PyCode_Type`, which every code object points to; 0 when it is not known.
    pub code_type: u64,
    /// Where the interpreter counts the code objects that it makes or frees, a `u32`, if
    /// `PROCESS_COUNT_*` says so. While it stays, and is not 0, no code object has taken the
    /// address of another.
    pub code_count: u64,
    /// From `fsbase` to the thread state.
    pub tstate: TstatePath,
    /// Where the fields lie.
    pub layout: WalkLayout,
    /// Where names are.
    pub names: NameLayout,
    /// What of the process is code.
    pub mappings: MappingsRef,
    /// Where the interpreter's lock is.
    pub gil: GilLayout,
}

const _: () = assert!(size_of::<ProcessEntry>() == 136);

impl ProcessEntry {
    /// A process of which nothing is known.
    pub const EMPTY: Self = Self {
        generation: 0,
        flags: 0,
        code_type: 0,
        code_count: 0,
        tstate: TstatePath {
            offsets: [0; TSTATE_PATH_MAX],
            len: 0,
        },
        layout: WalkLayout::EMPTY,
        names: NameLayout::EMPTY,
        mappings: MappingsRef {
            table: 0,
            count: 0,
            generation: 0,
            pad: 0,
        },
        gil: GilLayout {
            at: 0,
            holder: 0,
            locked: 0,
            waits: 0,
            end: 0,
        },
    };
}

// SAFETY: no padding (the sizes above), every bit pattern is a value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for ProcessEntry {}
