//! A thread that runs Python, as each version keeps it.

use profiler_common::layout::{
    EntryKind, FrameKind, GilLayout, MappingsRef, NONE, NameLayout, PROCESS_READY, ProcessEntry,
    TstatePath, WalkLayout, WitnessKind,
};
use profiler_common::mem::Memory;
use profiler_common::walk::{self, Frame, MAX_FRAMES, Walk, WalkCache, WalkStatus, witness};

use super::memory::Space;

/// Frames with an integer that counts bytes, as 3.8 and 3.9 have them.
pub(crate) const OBJECT: WalkLayout = WalkLayout {
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

/// The same with an integer that counts instructions, as 3.10 has them.
pub(crate) const OBJECT_UNITS: WalkLayout = WalkLayout {
    lasti_unit: 2,
    frame_instr: 0x60,
    tstate_cframe: 0x30,
    cframe_previous: 0x8,
    entry_kind: EntryKind::EveryFrame as u8,
    ..OBJECT
};

/// Frames behind a `cframe`, and code objects without a number, as in 3.11.
pub(crate) const CFRAME_CONTENT: WalkLayout = WalkLayout {
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

/// Frames behind a `cframe`, entry frames, and numbered code objects, as in 3.12.
pub(crate) const CFRAME_VERSION: WalkLayout = WalkLayout {
    witness_kind: WitnessKind::Version as u8,
    entry_owner: ENTRY,
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
    ..CFRAME_CONTENT
};

/// The same without a `cframe`, as from 3.13 on.
pub(crate) const DIRECT_VERSION: WalkLayout = WalkLayout {
    tstate_frame: 0x48,
    cframe_frame: NONE,
    tstate_thread_id: 0x98,
    frame_owner: 0x4a,
    ..CFRAME_VERSION
};

/// Where the interpreters of these tests count code objects.
pub(crate) const CODE_COUNT: u64 = 0x1f38;

pub(crate) const LAYOUTS: [(&str, WalkLayout); 5] = [
    ("object frames, bytes", OBJECT),
    ("object frames, units", OBJECT_UNITS),
    ("interpreter frames, cframe, content", CFRAME_CONTENT),
    ("interpreter frames, cframe, version", CFRAME_VERSION),
    ("interpreter frames, direct, version", DIRECT_VERSION),
];

/// `owner` of a frame that a thread owns, a generator, and a frame object.
pub(crate) const THREAD: u8 = 0;
pub(crate) const GENERATOR: u8 = 1;
pub(crate) const FRAME_OBJECT: u8 = 2;
/// `owner` of an entry frame: this and above.
pub(crate) const ENTRY: u8 = 3;
pub(crate) const C_STACK: u8 = 4;

/// Bytes that the interpreter has of each, at least.
pub(crate) const CODE_BYTES: usize = 0xd0;
pub(crate) const FRAME_BYTES: usize = 0x70;
pub(crate) const TSTATE_BYTES: usize = 0xb8;
pub(crate) const CFRAME_BYTES: usize = 0x20;
pub(crate) const STR_BYTES: usize = 48;
pub(crate) const BYTES_BYTES: usize = 64;

/// What a code object says of itself.
#[derive(Clone, Copy)]
pub(crate) struct Code {
    pub(crate) version: u32,
    pub(crate) first_line: u32,
    pub(crate) filename: u64,
    pub(crate) name_length: u64,
    pub(crate) name_hash: u64,
    pub(crate) table: &'static [u8],
}

pub(crate) const CODE: Code = Code {
    version: 7,
    first_line: 40,
    filename: 0x5555_0000_1000,
    name_length: 5,
    name_hash: 0x1234_5678_9abc_def1,
    table: b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12",
};

/// Where a code object's parts are.
#[derive(Clone, Copy)]
pub(crate) struct CodeAt {
    pub(crate) address: u64,
    pub(crate) name: u64,
    pub(crate) table: u64,
}

/// One frame of a stack to be built.
#[derive(Clone, Copy)]
pub(crate) struct Spec {
    pub(crate) code: u64,
    pub(crate) lasti: i32,
    pub(crate) owner: u8,
}

pub(crate) fn python(code: u64, lasti: i32) -> Spec {
    Spec {
        code,
        lasti,
        owner: THREAD,
    }
}

pub(crate) fn entry() -> Spec {
    Spec {
        // The interpreter's trampoline: never looked at.
        code: 0xdead_0000,
        lasti: 0,
        owner: ENTRY,
    }
}

/// A thread of a process that runs Python.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) space: Space,
    pub(crate) process: ProcessEntry,
    pub(crate) fsbase: u64,
    pub(crate) tstate: u64,
    /// The newest `cframe`, where there are any: the thread state's own, which lies inside of it,
    /// as long as no other is linked.
    pub(crate) cframe: u64,
    pub(crate) interp: u64,
}

/// Offset of the thread state's slot from the thread pointer.
pub(crate) const SLOT: u64 = 0x318;

impl Target {
    /// A thread state without frames.
    pub(crate) fn new(layout: WalkLayout) -> Self {
        let mut space = Space::default();
        // Thread-local variables are below it.
        let fsbase = space.alloc(0x800) + 0x400;
        // Its own `cframe` is the end of it.
        let to_cframe = if layout.cframe_frame == NONE {
            layout.tstate_cframe
        } else {
            layout.tstate_frame
        };
        let (tstate, cframe) = if to_cframe == NONE {
            (space.alloc(TSTATE_BYTES), 0)
        } else {
            let tstate = space.alloc(TSTATE_BYTES + CFRAME_BYTES);
            (tstate, tstate + TSTATE_BYTES as u64)
        };
        let code_type = space.alloc(0x20);
        let interp = space.alloc(CODE_COUNT as usize + 8);
        space.put_u64(interp + CODE_COUNT, 1);
        space.put_u64(fsbase + SLOT, tstate);
        space.put_u64(tstate + u64::from(layout.tstate_interp), interp);
        space.put_u64(tstate + u64::from(layout.tstate_thread_id), fsbase);
        let mut target = Self {
            space,
            process: ProcessEntry {
                generation: 1,
                flags: PROCESS_READY,
                code_type,
                code_count: 0,
                tstate: path(&[SLOT as i32]),
                layout,
                names: NameLayout::EMPTY,
                mappings: MappingsRef::default(),
                gil: GilLayout::default(),
            },
            fsbase,
            tstate,
            cframe,
            interp,
        };
        if to_cframe != NONE {
            let at = tstate + u64::from(to_cframe);
            target.space.put_u64(at, cframe);
        }
        target.set_newest(0);
        target
    }

    pub(crate) fn layout(&self) -> WalkLayout {
        self.process.layout
    }

    pub(crate) fn set_newest(&mut self, frame: u64) {
        let layout = self.layout();
        let at = if layout.cframe_frame == NONE {
            self.tstate + u64::from(layout.tstate_frame)
        } else {
            self.cframe + u64::from(layout.cframe_frame)
        };
        self.space.put_u64(at, frame);
    }

    pub(crate) fn code(&mut self, code: &Code) -> CodeAt {
        let at = CodeAt {
            address: self.space.alloc(CODE_BYTES),
            name: self.space.alloc(STR_BYTES),
            table: self.space.alloc(BYTES_BYTES),
        };
        self.write_code(at, code);
        at
    }

    pub(crate) fn write_code(&mut self, at: CodeAt, code: &Code) {
        let layout = self.layout();
        let field = |offset: u16| at.address + u64::from(offset);
        self.space.put_u64(at.address + 8, self.process.code_type);
        let first_line = code.first_line.to_le_bytes();
        self.space.put(field(layout.code_first_line), &first_line);
        self.space
            .put_u64(field(layout.code_filename), code.filename);
        self.space.put_u64(field(layout.code_name), at.name);
        self.space.put_u64(field(layout.code_line_table), at.table);
        if layout.code_version != NONE {
            let version = code.version.to_le_bytes();
            self.space.put(field(layout.code_version), &version);
        }
        self.space.put_u64(at.name + 16, code.name_length);
        self.space.put_u64(at.name + 24, code.name_hash);
        self.space.put_u64(at.table + 16, code.table.len() as u64);
        self.space.put(at.table + 32, code.table);
    }

    /// A code object was made, or freed.
    pub(crate) fn count_a_code(&mut self) {
        let at = self.interp + CODE_COUNT;
        let count = self.space.read_u64(at).unwrap();
        self.space.put_u64(at, count + 1);
    }

    /// Writes a frame into a new block. It has no caller yet.
    pub(crate) fn frame(&mut self, spec: Spec) -> u64 {
        let address = self.space.alloc(FRAME_BYTES);
        self.frame_at(address, spec)
    }

    /// Writes a frame. It has no caller yet.
    pub(crate) fn frame_at(&mut self, address: u64, spec: Spec) -> u64 {
        let layout = self.layout();
        let field = |offset: u16| address + u64::from(offset);
        self.space.put_u64(field(layout.frame_back), 0);
        self.space.put_u64(field(layout.frame_code), spec.code);
        if layout.code_instrs == NONE {
            let instr = spec.lasti / i32::from(layout.lasti_unit);
            let bytes = instr.to_le_bytes();
            self.space.put(field(layout.frame_instr), &bytes);
        } else {
            let first = (spec.code & !3).wrapping_add(u64::from(layout.code_instrs));
            let instr = first.wrapping_add(spec.lasti as u64);
            self.space.put_u64(field(layout.frame_instr), instr);
        }
        if layout.frame_owner != NONE {
            self.space.put(field(layout.frame_owner), &[spec.owner]);
        }
        address
    }

    pub(crate) fn set_back(&mut self, frame: u64, back: u64) {
        let at = frame + u64::from(self.layout().frame_back);
        self.space.put_u64(at, back);
    }

    /// Makes a stack of new frames, leaf first. Returns their addresses.
    pub(crate) fn stack(&mut self, specs: &[Spec]) -> Vec<u64> {
        let frames: Vec<u64> = specs.iter().map(|spec| self.frame(*spec)).collect();
        self.link(&frames);
        frames
    }

    /// Makes a stack of frames that lie together where `gaps` says how many bytes are between a
    /// frame and its caller, which is then below it; where it says none, a new chunk begins.
    pub(crate) fn stack_in_chunks(&mut self, specs: &[Spec], gaps: &[Option<u64>]) {
        let mut frames = Vec::new();
        let mut left: Vec<(Spec, Option<u64>)> =
            specs.iter().copied().zip(gaps.iter().copied()).collect();
        while !left.is_empty() {
            // From the leaf side: the frames up to the first that has its caller elsewhere.
            let ends = left.iter().position(|(_, gap)| gap.is_none());
            let count = ends.map_or(left.len(), |last| last + 1);
            let chunk: Vec<_> = left.drain(..count).collect();
            let sizes = chunk
                .iter()
                .map(|(_, gap)| FRAME_BYTES as u64 + gap.unwrap_or(0));
            let bytes: u64 = sizes.clone().sum();
            let mut top = self.space.alloc(bytes as usize) + bytes;
            for ((spec, _), size) in chunk.iter().zip(sizes) {
                frames.push(self.frame_at(top - FRAME_BYTES as u64, *spec));
                top -= size;
            }
        }
        self.link(&frames);
    }

    pub(crate) fn link(&mut self, frames: &[u64]) {
        for pair in frames.windows(2) {
            self.set_back(pair[0], pair[1]);
        }
        self.set_newest(frames.first().copied().unwrap_or(0));
    }

    pub(crate) fn walk(&self) -> Walked {
        self.walk_with(&mut WalkCache::default())
    }

    pub(crate) fn walk_with(&self, cache: &mut WalkCache) -> Walked {
        walk_over(&self.space, &self.process, self.fsbase, cache)
    }

    pub(crate) fn witness(&self, code: CodeAt) -> u32 {
        witness(&self.space, &self.process, code.address).unwrap()
    }

    /// The frames that a walk must give for a stack.
    pub(crate) fn expected(&self, specs: &[Spec]) -> Vec<Frame> {
        let is_python = |spec: &&Spec| self.layout().frame_owner == NONE || spec.owner < ENTRY;
        let frames = specs.iter().filter(is_python).map(|spec| {
            let code = spec.code & !3;
            Frame {
                code,
                lasti: spec.lasti,
                witness: witness(&self.space, &self.process, code).unwrap(),
            }
        });
        frames.collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Walked {
    pub(crate) status: WalkStatus,
    pub(crate) frames: Vec<Frame>,
    pub(crate) hash: u64,
    pub(crate) unread: u32,
    pub(crate) steps: u32,
}

/// The process that is walked.
const TGID: u32 = 7;

pub(crate) fn walk_over<M: Memory>(
    mem: &M,
    process: &ProcessEntry,
    fsbase: u64,
    cache: &mut WalkCache,
) -> Walked {
    let mut frames = Box::new([Frame::default(); MAX_FRAMES]);
    let mut walk = Walk::NEW;
    let hash = walk::run(
        mem,
        process,
        TGID,
        fsbase,
        &mut walk,
        cache,
        &mut frames,
        None,
    );
    Walked {
        status: WalkStatus::from_u8(walk.status as u8),
        frames: frames[..walk.depth as usize].to_vec(),
        hash,
        unread: walk.unread,
        steps: walk.steps,
    }
}

pub(crate) fn path(offsets: &[i32]) -> TstatePath {
    let mut path = TstatePath::default();
    path.offsets[..offsets.len()].copy_from_slice(offsets);
    path.len = offsets.len() as u32;
    path
}

pub(crate) fn on_each_layout(test: impl Fn(&str, Target)) {
    for (name, layout) in LAYOUTS {
        test(name, Target::new(layout));
    }
}

pub(crate) fn has_entry_frames(target: &Target) -> bool {
    target.layout().frame_owner != NONE
}

/// Some code objects that differ in everything.
pub(crate) fn codes(target: &mut Target, count: u32) -> Vec<CodeAt> {
    (0..count)
        .map(|index| {
            target.code(&Code {
                version: CODE.version + index,
                first_line: CODE.first_line + index,
                name_hash: CODE.name_hash ^ u64::from(index) << 20,
                ..CODE
            })
        })
        .collect()
}
