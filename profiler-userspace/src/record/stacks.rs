//! The stacks of a recording: frames by the kernel's hash, names by frame.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use profiler_common::cause::Cause;
use profiler_common::hash;
use profiler_common::thread::{STACK_NOT_SAMPLED, STACK_OF_START, STACK_UNKNOWN, WAKER_INTERRUPT};
use profiler_common::unwind::{Token, UnwindStatus};
use profiler_common::walk::{Frame, WalkStatus};

use super::frame::{FrameText, Naming};
use super::processes::ProcessId;
use crate::output::view::FrameKind;
use crate::python::code::CodeInfo;

/// A function whose code object was freed before its name was read.
const GONE: &str = "[freed code]";

/// Index of a frame in a [`Stacks`].
pub type FrameId = u32;

/// A Python frame with its names.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its code object.
    pub info: Arc<CodeInfo>,
    /// The part of its file's path that is shown.
    pub short_file: Arc<str>,
    /// The line; `None` where the instruction has none.
    pub line: Option<u32>,
}

/// The native part of a stack, as the kernel sent it.
#[derive(Clone, Debug)]
pub struct NativePart {
    /// From the leaf to the root.
    pub tokens: Vec<Token>,
    /// How the unwind ended.
    pub status: UnwindStatus,
    /// The generation of the mappings that the addresses are of.
    pub mappings: u32,
    /// The process.
    pub process: ProcessId,
}

/// One stack: frames from the root to the leaf.
#[derive(Clone, Debug, Default)]
pub struct Stack {
    /// From the root to the leaf; of a stack with a native part, those of Python until it is
    /// merged.
    pub frames: Vec<FrameId>,
    /// Those that the walk stored, from the leaf to the root; `None` for one that is not shown.
    pub python: Vec<Option<FrameId>>,
    /// What is wrong with the walk.
    pub marker: Option<FrameId>,
    /// The native part.
    pub native: Option<NativePart>,
    /// The stack of a switch-out.
    pub off_cpu: bool,
}

/// What a stack is merged from.
#[derive(Debug)]
pub struct Unmerged {
    /// The native part.
    pub native: NativePart,
    /// Python frames, from the leaf to the root; `None` for one that is not shown.
    pub python: Vec<Option<FrameId>>,
    /// What is wrong with the walk.
    pub marker: Option<FrameId>,
    /// The stack of a switch-out.
    pub off_cpu: bool,
}

/// What the hash of a stack of processes that ended begins with.
const SETTLED: u64 = 0x656e_6465_6421;

/// All stacks of a recording.
#[derive(Debug)]
pub struct Stacks {
    by_hash: HashMap<u64, Stack>,
    frames: Vec<FrameText>,
    ids: HashMap<FrameText, FrameId>,
    /// Native parts whose frames have not come yet.
    parts: HashMap<u64, NativePart>,
    /// Generations of mappings that native parts name.
    mappings: HashSet<u32>,
    /// Stacks that are new or other than they were, where somebody asks for them.
    changed: Option<Vec<u64>>,
}

/// What the root of a stack says about a walk that did not end as it should, or the whole stack
/// where there is no Python.
pub(crate) fn marker(status: WalkStatus) -> Option<&'static str> {
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
pub(crate) fn is_shim(info: &CodeInfo) -> bool {
    &*info.name == "__init__" && &*info.file == "__init__"
}

impl Default for Stacks {
    fn default() -> Self {
        let mut stacks = Self {
            by_hash: HashMap::new(),
            frames: Vec::new(),
            ids: HashMap::new(),
            parts: HashMap::new(),
            mappings: HashSet::new(),
            changed: None,
        };
        for (hash, marker) in [
            (STACK_OF_START, "[thread start]"),
            // Off-CPU when the recording began, and ran before its stack was read; or the kernel
            // did not report the switch.
            (STACK_UNKNOWN, "[stack not known]"),
            (STACK_NOT_SAMPLED, "[not sampled]"),
            (WAKER_INTERRUPT, "[interrupt]"),
        ] {
            let frames = vec![stacks.intern(FrameText::marker(marker))];
            let stack = Stack {
                frames,
                ..Stack::default()
            };
            stacks.by_hash.insert(hash, stack);
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

    /// How many stacks are known, some of ours among them.
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

    /// What each frame is, by how it is written; causes of waits among them.
    #[must_use]
    pub fn kinds(&self, naming: Naming) -> BTreeMap<String, FrameKind> {
        let own = self.frames.iter();
        let own = own.map(|frame| (frame.text(naming), frame.kind()));
        let causes = Cause::ALL.iter();
        let causes = causes.map(|cause| (cause.frame().to_owned(), FrameKind::Waiting));
        own.chain(causes).collect()
    }

    /// Notes from now on which stacks are new or change; those that are there are new.
    pub fn note_changes(&mut self) {
        self.changed = Some(self.by_hash.keys().copied().collect());
    }

    /// Stacks that are new or other than they were when this was called last.
    pub fn take_changed(&mut self) -> Vec<u64> {
        self.changed
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    fn note(&mut self, hash: u64) {
        if let Some(changed) = &mut self.changed {
            changed.push(hash);
        }
    }

    /// The number of a frame.
    pub fn intern(&mut self, text: FrameText) -> FrameId {
        if let Some(id) = self.ids.get(&text) {
            return *id;
        }
        let id = self.frames.len() as FrameId;
        self.frames.push(text.clone());
        self.ids.insert(text, id);
        id
    }

    /// Keeps the native part of a stack whose frames come next.
    pub fn expect(&mut self, hash: u64, part: NativePart) {
        if !self.contains(hash) {
            self.mappings.insert(part.mappings);
            self.parts.insert(hash, part);
        }
    }

    /// Whether a native part names that generation of mappings.
    #[must_use]
    pub fn names_mappings(&self, generation: u32) -> bool {
        self.mappings.contains(&generation)
    }

    /// Stacks that have a native part which is not merged yet.
    #[must_use]
    pub fn with_native_part(&self) -> Vec<u64> {
        let all = self.by_hash.iter();
        all.filter(|(_, stack)| stack.native.is_some())
            .map(|(hash, _)| *hash)
            .collect()
    }

    /// Takes out what a stack is merged from.
    pub fn take_native(&mut self, hash: u64) -> Option<Unmerged> {
        let stack = self.by_hash.get_mut(&hash)?;
        Some(Unmerged {
            native: stack.native.take()?,
            python: std::mem::take(&mut stack.python),
            marker: stack.marker,
            off_cpu: stack.off_cpu,
        })
    }

    /// Puts the merged frames in, from the root to the leaf.
    pub fn set_frames(&mut self, hash: u64, frames: Vec<FrameId>) {
        if let Some(stack) = self.by_hash.get_mut(&hash) {
            stack.frames = frames;
            self.note(hash);
        }
    }

    /// Keeps what stands for a process that is no target.
    pub fn insert_process(&mut self, hash: u64, name: &str) {
        if !self.contains(hash) {
            let frames = vec![self.intern(FrameText::Process(name.into()))];
            let stack = Stack {
                frames,
                ..Stack::default()
            };
            self.by_hash.insert(hash, stack);
            self.note(hash);
        }
    }

    /// The name of the process that a hash stands for.
    #[must_use]
    pub fn process(&self, hash: u64) -> Option<&str> {
        let frame = *self.get(hash)?.frames.first()?;
        match self.frame(frame)? {
            FrameText::Process(name) => Some(name),
            _ => None,
        }
    }

    /// Stacks of some processes are those of others, which run the same.
    pub fn put_together(&mut self, moves: &BTreeMap<ProcessId, ProcessId>) {
        let parts = self.by_hash.values_mut();
        for part in parts.filter_map(|stack| stack.native.as_mut()) {
            if let Some(to) = moves.get(&part.process) {
                part.process = *to;
            }
        }
    }

    /// The process of a stack has ended: it is kept by what it shows, as the same of others is. Returns
    /// the hash by which it is known from now on.
    pub fn settle(&mut self, hash: u64) -> u64 {
        let known = self.by_hash.get(&hash);
        let Some(stack) = known.filter(|stack| stack.native.is_none() && hash >= hash::FIRST)
        else {
            return hash;
        };
        let content = stack
            .frames
            .iter()
            .fold(SETTLED, |state, frame| hash::fold(state, u64::from(*frame)));
        let content = hash::finish(hash::fold(content, stack.frames.len() as u64));
        if let Some(stack) = self.by_hash.remove(&hash) {
            self.by_hash.entry(content).or_insert(Stack {
                python: Vec::new(),
                ..stack
            });
        }
        content
    }

    /// Keeps a stack: frames leaf first, as the kernel sends them, named by `resolve`.
    pub fn insert(
        &mut self,
        hash: u64,
        status: WalkStatus,
        off_cpu: bool,
        frames: impl Iterator<Item = Frame>,
        mut resolve: impl FnMut(&Frame) -> Option<Named>,
    ) {
        let mut python = Vec::new();
        for frame in frames {
            python.push(match resolve(&frame) {
                Some(Named { info, .. }) if is_shim(&info) => None,
                Some(named) => {
                    let info = named.info;
                    let text = FrameText::Python {
                        name: Arc::clone(&info.name),
                        file: Arc::clone(&info.file),
                        short_file: named.short_file,
                        line: named.line,
                        first_line: u32::try_from(info.first_line).unwrap_or(0),
                    };
                    Some(self.intern(text))
                }
                None => Some(self.intern(FrameText::marker(GONE))),
            });
        }
        let marker = marker(status).map(|marker| self.intern(FrameText::marker(marker)));
        let shown = python.iter().rev().copied().flatten();
        let stack = Stack {
            frames: marker.into_iter().chain(shown).collect(),
            native: self.parts.remove(&hash),
            python,
            marker,
            off_cpu,
        };
        self.by_hash.insert(hash, stack);
        self.note(hash);
    }
}
