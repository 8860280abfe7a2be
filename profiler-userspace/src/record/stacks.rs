//! The stacks of a recording: frames by the kernel's hash, names by frame.

use std::collections::HashMap;
use std::sync::Arc;

use profiler_common::thread::{STACK_OF_START, STACK_UNKNOWN};
use profiler_common::walk::{Frame, WalkStatus};

use crate::python::code::{CodeInfo, Resolved};

/// One frame as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FrameText {
    /// A Python function.
    Python {
        /// Its qualified name.
        name: Arc<str>,
        /// Its file, as the interpreter has it.
        file: Arc<str>,
        /// The line; `None` where the instruction has none.
        line: Option<u32>,
    },
    /// Something of ours, in brackets.
    Marker(&'static str),
}

/// A function whose code object was freed before its name was read.
pub const GONE: FrameText = FrameText::Marker("[freed code]");

/// Index of a frame in a [`Stacks`].
pub type FrameId = u32;

/// One stack: frames from the root to the leaf.
#[derive(Clone, Debug)]
pub struct Stack {
    /// From the root to the leaf.
    pub frames: Vec<FrameId>,
}

/// All stacks of a recording.
#[derive(Debug)]
pub struct Stacks {
    by_hash: HashMap<u64, Stack>,
    frames: Vec<FrameText>,
    ids: HashMap<FrameText, FrameId>,
}

/// What the root of a stack says about a walk that did not end as it should, or the whole stack
/// where there is no Python.
fn marker(status: WalkStatus) -> Option<&'static str> {
    match status {
        WalkStatus::Complete => None,
        WalkStatus::NoThreadState => Some("[no Python]"),
        WalkStatus::Truncated => Some("[truncated]"),
        WalkStatus::NotReady => Some("[Python not ready]"),
        WalkStatus::ThreadStateUnreadable => Some("[incomplete: thread state unreadable]"),
        WalkStatus::ThreadStateForeign => Some("[incomplete: foreign thread state]"),
        WalkStatus::FrameUnreadable => Some("[incomplete: frame unreadable]"),
        WalkStatus::CodeInvalid => Some("[incomplete: code invalid]"),
        WalkStatus::Cycle => Some("[incomplete: frame cycle]"),
        WalkStatus::Running | WalkStatus::Internal => Some("[incomplete: internal]"),
    }
}

/// The `__init__` shim that 3.13 and later put below a constructor is a frame of the
/// interpreter's own (`_Py_InitCleanup` in `Python/specialize.c`), not of the program.
fn is_shim(info: &CodeInfo) -> bool {
    &*info.name == "__init__" && &*info.file == "__init__"
}

impl Default for Stacks {
    fn default() -> Self {
        let mut stacks = Self {
            by_hash: HashMap::new(),
            frames: Vec::new(),
            ids: HashMap::new(),
        };
        for (hash, marker) in [
            (STACK_OF_START, "[thread start]"),
            // Off-CPU when the recording began, and ran before its stack was read; or the kernel
            // did not report the switch.
            (STACK_UNKNOWN, "[stack not known]"),
        ] {
            let frames = vec![stacks.intern(FrameText::Marker(marker))];
            stacks.by_hash.insert(hash, Stack { frames });
        }
        stacks
    }
}

impl Stacks {
    /// Whether a stack's frames are known.
    #[must_use]
    pub fn contains(&self, hash: u64) -> bool {
        self.by_hash.contains_key(&hash)
    }

    /// How many stacks are known, two of ours among them.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_hash.len()
    }

    /// A stack.
    #[must_use]
    pub fn get(&self, hash: u64) -> Option<&Stack> {
        self.by_hash.get(&hash)
    }

    /// A frame.
    #[must_use]
    pub fn frame(&self, id: FrameId) -> Option<&FrameText> {
        self.frames.get(id as usize)
    }

    fn intern(&mut self, text: FrameText) -> FrameId {
        if let Some(id) = self.ids.get(&text) {
            return *id;
        }
        let id = self.frames.len() as FrameId;
        self.frames.push(text.clone());
        self.ids.insert(text, id);
        id
    }

    /// Keeps a stack: frames leaf first, as the kernel sends them, named by `resolve`.
    pub fn insert(
        &mut self,
        hash: u64,
        status: WalkStatus,
        frames: impl Iterator<Item = Frame>,
        mut resolve: impl FnMut(&Frame) -> Option<(Resolved, Option<u32>)>,
    ) {
        let mut ids = Vec::new();
        for frame in frames {
            match resolve(&frame) {
                Some((Resolved::Known(info), _)) if is_shim(&info) => {}
                Some((Resolved::Known(info), line)) => {
                    let text = FrameText::Python {
                        name: Arc::clone(&info.name),
                        file: Arc::clone(&info.file),
                        line,
                    };
                    ids.push(self.intern(text));
                }
                Some((Resolved::Gone, _)) | None => ids.push(self.intern(GONE)),
            }
        }
        if let Some(marker) = marker(status) {
            ids.push(self.intern(FrameText::Marker(marker)));
        }
        ids.reverse();
        self.by_hash.insert(hash, Stack { frames: ids });
    }
}
