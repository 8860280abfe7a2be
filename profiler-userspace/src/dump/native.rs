//! Native frames, and both kinds of frames in one stack.
//!
//! A thread's registers are known when it is stopped, all of them. Of one that runs on, the kernel tells
//! stack pointer and instruction where it left them to wait (`/proc/PID/task/TID/syscall`), and no
//! other: the frame pointer is known from the first frame on that has saved it. So the unwind of a
//! thread that waits can end early, where code counts from a frame pointer that nobody saved, and of
//! one that runs there is none. `--blocking` has all.

use std::sync::Arc;

use profiler_common::hash;
use profiler_common::mem::Memory;
use profiler_common::unwind::{REG_RSP, Registers, Token, UnwindStatus, in_user_mode};

use super::host_code::{GENERATION, HostCode};
use super::model::Frame;
use super::reader::GONE;
use super::stop::Stopped;
use super::unwinder::Unwinder;
use super::walk::Walked;
use crate::process::identity::Identity;
use crate::python::code::Resolved;
use crate::python::inspect::Described;
use crate::python::locate::Located;
use crate::record::NativeFrames;
use crate::record::frame::{FrameText, Naming};
use crate::record::name_native::{NativeNames, name_native};
use crate::record::processes::{Interpreter, Known, ProcessId, Processes};
use crate::record::stacks::{Named, NativePart, Stacks};

/// The native stack of a thread.
#[derive(Clone, Debug)]
pub struct NativeStack {
    tokens: Vec<Token>,
    status: UnwindStatus,
}

impl NativeStack {
    /// Whether it came to its outer end.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.status == UnwindStatus::Complete
    }
}

/// Where a thread stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(Registers);

impl Place {
    /// Of a thread that is stopped.
    pub(super) fn of_stopped(stopped: &Stopped, tid: u32) -> Option<Self> {
        let words = stopped.registers(tid).filter(in_user_mode)?;
        let mut registers = Registers::NONE;
        registers.set_from_pt_regs(&words);
        Some(Self(registers))
    }

    /// Of a thread that waits: stack pointer and instruction.
    pub(super) fn of_waiting((stack, instruction): (u64, u64)) -> Self {
        let mut registers = Registers {
            pc: instruction,
            known: 1 << REG_RSP,
            exact: 1,
            ..Registers::NONE
        };
        if let Some(register) = registers.general.get_mut(usize::from(REG_RSP)) {
            *register = stack;
        }
        Self(registers)
    }
}

/// The native code of one process.
#[derive(Debug)]
pub(super) struct Native {
    code: HostCode,
    unwinder: Unwinder,
}

impl Native {
    /// Of what a process has mapped now.
    ///
    /// # Errors
    /// As reading its mappings gives them.
    pub(super) fn of_process(pid: u32) -> std::io::Result<Self> {
        Ok(Self {
            code: HostCode::of_process(pid)?,
            unwinder: Unwinder::new(),
        })
    }

    /// Unwinds a thread's stack.
    pub(super) fn unwind<M: Memory>(
        &mut self,
        mem: &M,
        place: Place,
        walked: Option<&Walked>,
    ) -> NativeStack {
        let (tokens, status) = self.unwinder.run(
            mem,
            &self.code,
            self.code.mappings(),
            GENERATION,
            place.0,
            walked.map_or(&[], |walked| &walked.segments),
        );
        NativeStack { tokens, status }
    }
}

/// Brings both kinds of frames of many stacks together.
#[derive(Debug)]
pub(super) struct Merger {
    stacks: Stacks,
    processes: Processes,
    process: ProcessId,
    count: u64,
}

impl Merger {
    /// For process `pid`.
    pub(super) fn new(pid: u32, located: &Located, described: &Described) -> Self {
        let mut processes = Processes::default();
        let process = processes.know(Known {
            identity: Identity::read(pid).unwrap_or_else(|_| Identity::unknown(pid)),
            version: Some(located.version),
            interpreter: Some(Interpreter::at(&located.module, &described.layout)),
            running: true,
        });
        Self {
            stacks: Stacks::default(),
            processes,
            process,
            count: 0,
        }
    }

    /// Adds a stack. Returns what it is asked for by.
    pub(super) fn add(
        &mut self,
        walked: &Walked,
        native: NativeStack,
        mut resolve: impl FnMut(&profiler_common::walk::Frame) -> (Resolved, Option<u32>),
    ) -> u64 {
        self.count += 1;
        let hash = hash::FIRST + self.count;
        let part = NativePart {
            tokens: native.tokens,
            status: native.status,
            mappings: GENERATION,
            process: self.process,
        };
        self.stacks.expect(hash, part);
        let frames = walked.frames.iter().map(|frame| frame.frame);
        self.stacks
            .insert(hash, walked.status, false, frames, |frame| {
                match resolve(frame) {
                    // How files are shown is told by the frames that stand in for these.
                    (Resolved::Known(info), line) => Some(Named {
                        short_file: Arc::clone(&info.file),
                        info,
                        line,
                    }),
                    (Resolved::Gone, _) => None,
                }
            });
        hash
    }

    /// Names all native frames.
    pub(super) fn merge(&mut self, native: &Native) {
        let code = Some(&native.code as &dyn crate::native::MappedCode);
        let show = NativeFrames::Folded;
        let names = &mut NativeNames::new(|_| {});
        name_native(&mut self.stacks, code, &self.processes, false, show, names);
    }

    /// A merged stack, innermost frame first; `python` are its Python frames in the same order.
    pub(super) fn frames(&self, hash: u64, python: Vec<Frame>) -> Vec<Frame> {
        let Some(stack) = self.stacks.get(hash) else {
            return python;
        };
        let mut python = python.into_iter();
        let merged = stack.frames.iter().rev();
        let mut frames: Vec<Frame> = merged
            .filter_map(|id| match self.stacks.frame(*id)? {
                FrameText::Python { .. } => python.next(),
                FrameText::Marker(text) if &**text == GONE => python.next(),
                FrameText::Marker(text) => Some(Frame::Marker(Arc::clone(text))),
                native => Some(Frame::Native(native.text(Naming::default()).into())),
            })
            .collect();
        // All of them stand in the merged stack.
        frames.extend(python);
        frames
    }
}
