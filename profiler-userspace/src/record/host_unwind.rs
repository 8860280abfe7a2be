//! The unwind of a thread that waits, from outside: the same steps, over `process_vm_readv`.

use profiler_common::hash;
use profiler_common::layout::MappingsRef;
use profiler_common::mem::Memory;
use profiler_common::unwind::{
    self, MAX_TOKENS, Segments, StackBlock, Token, Tokens, Unwind, UnwindStatus, in_user_mode,
};
use profiler_common::waiting::WaitingThread;

use super::processes::ProcessId;
use super::stacks::NativePart;
use crate::bpf::tables::HostTables;
use crate::native::NativeCode;

/// What an unwind works with.
#[derive(Debug)]
pub(super) struct HostUnwind<'a> {
    tables: HostTables<'a>,
    process: ProcessId,
    mappings: MappingsRef,
    state: Unwind,
    block: StackBlock,
    tokens: Box<Tokens>,
}

fn kernel_tokens(thread: &WaitingThread) -> impl Iterator<Item = Token> + '_ {
    let count = thread.kernel_frames as usize;
    let kernel = thread.kernel.iter().take(count);
    kernel.map(|address| Token(*address))
}

/// The kernel's frames alone.
pub(super) fn kernel_part(process: ProcessId, thread: &WaitingThread) -> NativePart {
    NativePart {
        tokens: kernel_tokens(thread).collect(),
        status: UnwindStatus::Complete,
        mappings: 0,
        process,
    }
}

impl<'a> HostUnwind<'a> {
    pub(super) fn new(native: &'a NativeCode, process: ProcessId, mappings: MappingsRef) -> Self {
        Self {
            tables: native.on_host(),
            process,
            mappings,
            state: Unwind::NEW,
            block: StackBlock::EMPTY,
            tokens: Box::new([Token::default(); MAX_TOKENS]),
        }
    }

    /// The native part of a thread's stack. It counts when the thread did not run meanwhile.
    pub(super) fn run<M: Memory>(
        &mut self,
        mem: &M,
        thread: &WaitingThread,
        segments: &mut Segments,
    ) -> NativePart {
        unwind::begin(&mut self.state, &mut self.block, self.mappings.generation);
        for (place, token) in self.tokens.iter_mut().zip(kernel_tokens(thread)) {
            *place = token;
            self.state.count += 1;
        }
        if !in_user_mode(&thread.regs) {
            self.state.status = UnwindStatus::NoRegisters as u32;
        } else if self.mappings.table == 0 {
            self.state.status = UnwindStatus::NotReady as u32;
        } else {
            self.state.registers.set_from_pt_regs(&thread.regs);
            unwind::run(
                mem,
                &self.tables,
                (self.mappings.table, self.mappings.count),
                &mut self.state,
                &mut self.block,
                segments,
                &mut self.tokens,
            );
        }
        NativePart {
            tokens: self
                .tokens
                .iter()
                .take(self.state.count as usize)
                .copied()
                .collect(),
            status: UnwindStatus::from_u8(self.state.status as u8),
            mappings: self.mappings.generation,
            process: self.process,
        }
    }
}

impl NativePart {
    /// The hash of a stack whose walk has the hash `walk`.
    pub(super) fn mix(&self, walk: u64) -> u64 {
        let state = self.status as u64 | u64::from(self.mappings) << 32;
        let mixed = self
            .tokens
            .iter()
            .fold(walk, |mixed, token| hash::fold(mixed, token.0));
        hash::finish(hash::fold(mixed, state))
    }
}
