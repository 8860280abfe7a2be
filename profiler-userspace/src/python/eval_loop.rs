//! Where the interpreter's loop is, for the versions whose native and Python frames are matched by
//! counting its activations (3.8, 3.9).
//!
//! Compilers move what is seldom run out of the function, to a part that has no symbol in a file
//! without debug information. The function's own jumps lead there: of all that they lead to outside,
//! the function that call frame information has at that address is the other part.

use std::collections::BTreeSet;
use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, FlowControl};

use crate::elf::Elf;
use crate::unwind::function_ranges;

/// The loop, 3.8 on.
pub const SYMBOL: &str = "_PyEval_EvalFrameDefault";

/// Addresses of jumps out of a range of code, and not to the start of a function: those are calls
/// in disguise.
fn jumps_out(elf: &Elf<'_>, code: &Range<u64>) -> BTreeSet<u64> {
    let length = usize::try_from(code.end - code.start).unwrap_or(0);
    let bytes = elf.bytes_at(code.start, length).unwrap_or_default();
    let decoder = Decoder::with_ip(64, bytes, code.start, DecoderOptions::NONE);
    decoder
        .into_iter()
        .filter(|instruction| {
            matches!(
                instruction.flow_control(),
                FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
            )
        })
        .map(|instruction| instruction.near_branch_target())
        .filter(|target| !code.contains(target))
        .collect()
}

/// The parts of the loop in the interpreter's file; empty when it does not name it.
#[must_use]
pub fn ranges(elf: &Elf<'_>) -> Vec<Range<u64>> {
    let Some(symbol) = elf.symbol(SYMBOL).filter(|symbol| symbol.size != 0) else {
        return Vec::new();
    };
    let main = symbol.address..symbol.address.saturating_add(symbol.size);
    let functions = function_ranges(elf);
    let targets = jumps_out(elf, &main);
    let others = functions.into_iter().filter(|function| {
        // A jump to a function's start is a call at the end of this one.
        !main.contains(&function.start)
            && targets
                .range(function.start + 1..function.end)
                .next()
                .is_some()
    });
    let others: Vec<_> = others.collect();
    std::iter::once(main).chain(others).collect()
}
