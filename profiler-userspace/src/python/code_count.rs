//! Where an interpreter counts the code objects that it makes or frees. As long as the count
//! stays, the kernel need not look at a code object again to know that it is the same.

use profiler_common::layout::{PROCESS_COUNT_OF_INTERPRETER, PROCESS_COUNT_OF_PROCESS};
use profiler_common::mem::Memory;

use super::layout::{CodeCount, PythonLayout};
use super::locate::Located;
use crate::elf::ElfImage;

/// The count's `PROCESS_COUNT_*` flag, and its address or offset. `None` where this build has no
/// count, does not tell where, or has something else there: then the kernel does without.
///
/// `codes` are code objects that run.
pub(super) fn find<M: Memory>(
    mem: &M,
    layout: &PythonLayout,
    located: &Located,
    interp: u64,
    codes: &[u64],
) -> Option<(u32, u64)> {
    match layout.code_count? {
        CodeCount::Freed(offset) => Some((PROCESS_COUNT_OF_INTERPRETER, offset)),
        CodeCount::Made(offset) => {
            let at = interp.wrapping_add(offset);
            numbers(mem, layout, at, codes).then_some((PROCESS_COUNT_OF_INTERPRETER, offset))
        }
        CodeCount::Symbol(name) => {
            let image = ElfImage::open(&located.host_path).ok()?;
            let symbol = image.parse().ok()?.symbol(name)?;
            let at = symbol.address.wrapping_add(located.load_bias);
            numbers(mem, layout, at, codes).then_some((PROCESS_COUNT_OF_PROCESS, at))
        }
    }
}

/// Whether the `u32` at `at` can be the next version of a code object: past those of all that run,
/// some of which have one.
fn numbers<M: Memory>(mem: &M, layout: &PythonLayout, at: u64, codes: &[u64]) -> bool {
    let version_at = |code: &u64| {
        let offset = u64::from(layout.walk.code_version);
        mem.read_u32(code.wrapping_add(offset)).ok()
    };
    let newest = codes.iter().filter_map(version_at).max().unwrap_or(0);
    newest != 0 && mem.read_u32(at).is_ok_and(|next| next > newest)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use profiler_common::mem::Fault;

    use super::*;
    use crate::python::tables;

    /// Numbers by address.
    struct Numbers(BTreeMap<u64, u32>);

    impl Memory for Numbers {
        fn read(&self, addr: u64, dst: &mut [u8]) -> Result<(), Fault> {
            let found = self.0.get(&addr).ok_or(Fault)?;
            dst.copy_from_slice(&found.to_le_bytes());
            Ok(())
        }
    }

    #[test]
    fn what_cannot_be_the_next_version_is_not_taken() {
        let layout = tables::of_minor(12).expect("a layout");
        let version = u64::from(layout.walk.code_version);
        let mem = Numbers(BTreeMap::from([
            (0x1000 + version, 0),
            (0x2000 + version, 70),
            (0x3000 + version, 90),
            (0xa0, 91),
            (0xb0, 90),
            (0xc0, 0),
        ]));
        let all = [0x1000, 0x2000, 0x3000, 0x4000];
        assert!(numbers(&mem, &layout, 0xa0, &all));
        assert!(!numbers(&mem, &layout, 0xb0, &all));
        assert!(numbers(&mem, &layout, 0xb0, &all[..2]));
        assert!(!numbers(&mem, &layout, 0xc0, &all));
        assert!(!numbers(&mem, &layout, 0xd0, &all), "unreadable");
        assert!(!numbers(&mem, &layout, 0xa0, &all[..1]), "no version");
        assert!(!numbers(&mem, &layout, 0xa0, &[]));
    }
}
