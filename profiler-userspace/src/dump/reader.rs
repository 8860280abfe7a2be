//! What the frames of a walk are called, and what their variables hold.

use std::sync::Arc;

use profiler_common::layout::ProcessEntry;
use profiler_common::mem::Memory;
use profiler_common::walk::{self, WalkStatus};

use super::model::{DumpOptions, Frame};
use super::walk::{Walked, WalkedFrame};
use crate::python::code::{CodeCache, Resolved};
use crate::python::inspect::Described;
use crate::python::layout::PythonLayout;
use crate::python::short_file::{Files, ShortFiles};
use crate::python::variable_layout::VariableLayout;
use crate::python::variables::{self, Variable};
use crate::record::stacks::{is_shim, marker};

/// In place of a function whose code was freed before its name was read.
pub(super) const GONE: &str = "[freed code]";

/// Reads one process.
#[derive(Debug)]
pub struct Reader<'a, M> {
    mem: &'a M,
    layout: &'a PythonLayout,
    entry: &'a ProcessEntry,
    variables: Option<VariableLayout>,
    codes: CodeCache,
    /// `None` where whole paths are wanted.
    short: Option<(Files, ShortFiles)>,
    locals: Option<usize>,
}

impl<'a, M: Memory> Reader<'a, M> {
    /// Of a process whose files are found by `files`.
    pub fn new(mem: &'a M, described: &'a Described, files: Files, options: &DumpOptions) -> Self {
        Self {
            mem,
            layout: &described.layout,
            entry: &described.entry,
            variables: VariableLayout::of(&described.layout),
            codes: CodeCache::default(),
            short: (!options.full_filenames).then(|| (files, ShortFiles::default())),
            locals: options.locals,
        }
    }

    /// `id` of an interpreter.
    pub fn interpreter_id(&self, interp: u64) -> Option<u64> {
        let offset = self.variables?.interp_id;
        self.mem.read_u64(interp.wrapping_add(offset)).ok()
    }

    /// The variables of each frame of a stack, innermost first; nothing where they are not wanted.
    pub fn variables(&self, walked: &Walked) -> Vec<Option<Vec<Variable>>> {
        let (Some(max), Some(layout)) = (self.locals, &self.variables) else {
            return Vec::new();
        };
        let of_frame = |WalkedFrame { address, frame }: &WalkedFrame| {
            variables::of_frame(self.mem, self.layout, layout, *address, frame.code, max).ok()
        };
        walked.frames.iter().map(of_frame).collect()
    }

    /// The code of a frame, and its line. What was asked for once needs no look at the process.
    pub fn resolve(&mut self, frame: &walk::Frame) -> (Resolved, Option<u32>) {
        let (mem, layout) = (self.mem, self.layout);
        let resolved = self.codes.resolve(mem, layout, self.entry, frame);
        let line = match &resolved {
            Resolved::Known(info) => info.line_at(layout.lines, frame.lasti),
            Resolved::Gone => None,
        };
        (resolved, line)
    }

    /// The frames of a stack as they are shown, innermost first. One that is not the program's is
    /// `None`.
    pub fn frames(
        &mut self,
        walked: &Walked,
        variables: Vec<Option<Vec<Variable>>>,
    ) -> Vec<Option<Frame>> {
        let variables = variables.into_iter().chain(std::iter::repeat(None));
        let mut frames = Vec::with_capacity(walked.frames.len());
        for (index, (walked_frame, variables)) in walked.frames.iter().zip(variables).enumerate() {
            let (resolved, line) = self.resolve(&walked_frame.frame);
            frames.push(match resolved {
                Resolved::Gone => Some(Frame::Marker(GONE.into())),
                Resolved::Known(info) if is_shim(&info) => None,
                Resolved::Known(info) => Some(Frame::Python {
                    name: Arc::clone(&info.name),
                    file: Arc::clone(&info.file),
                    short: match &mut self.short {
                        Some((files, short)) => short.of(files, &info.file),
                        None => Arc::clone(&info.file),
                    },
                    line,
                    is_entry: walked.is_entry(self.entry, index),
                    variables,
                }),
            });
        }
        frames
    }
}

/// The frame that says what is missing of a stack, at its outer end.
pub(super) fn incomplete(status: WalkStatus) -> Option<Frame> {
    marker(status).map(|marker| Frame::Marker(marker.into()))
}
