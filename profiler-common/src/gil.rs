//! The global interpreter lock, `struct _gil_runtime_state` (`Include/internal/pycore_gil.h`): where
//! it is, who holds it, and what is waited for by those who want it.

use core::mem::MaybeUninit;

use crate::layout::{GilLayout, PROCESS_GIL_OF_INTERPRETER, PROCESS_GIL_OF_PROCESS, ProcessEntry};
use crate::mem::{Fault, Memory, u32_at, u64_at};

/// The lock of one interpreter, as a thread sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Gil {
    /// Its address; 0 where it is not known.
    pub address: u64,
    /// The thread state that holds it; 0 when it is free, or not known.
    pub holder: u64,
}

/// Bytes of the lock that are read: from the last holder on, `locked` lies behind it.
const HEAD_BYTES: usize = 16;

/// Where the lock is of a thread of `interp`, which may be 0 for one without a thread state. 0 where
/// that is not known.
#[inline(always)]
fn address<M: Memory>(mem: &M, process: &ProcessEntry, interp: u64) -> Result<u64, Fault> {
    if process.flags & PROCESS_GIL_OF_PROCESS != 0 {
        return Ok(process.gil.at);
    }
    if process.flags & PROCESS_GIL_OF_INTERPRETER == 0 || interp == 0 {
        return Ok(0);
    }
    // Each interpreter may have a lock of its own (3.12 on, `PyInterpreterState.ceval.gil`).
    mem.read_u64(interp.wrapping_add(process.gil.at))
}

/// Reads the lock of a thread of `interp` into `gil`. What could not be read is 0 there.
///
/// # Errors
/// [`Fault`] where the lock, or where it is, could not be read.
#[inline(always)]
pub fn read<M: Memory>(
    mem: &M,
    process: &ProcessEntry,
    interp: u64,
    gil: &mut Gil,
) -> Result<(), Fault> {
    *gil = Gil::default();
    gil.address = address(mem, process, interp)?;
    if gil.address == 0 {
        return Ok(());
    }
    let layout = &process.gil;
    let mut block = MaybeUninit::uninit();
    let from = gil.address.wrapping_add(layout.holder as u64);
    let block = mem.read_block::<HEAD_BYTES>(from, &mut block)?;
    // `last_holder` stays when the lock is let go; `locked` is an `int`, -1 before the first use.
    let last_holder = u64_at(block, 0);
    let locked = u32_at(block, layout.locked.wrapping_sub(layout.holder));
    if locked == 1 {
        gil.holder = last_holder;
    }
    Ok(())
}

/// Whether a futex at `address` is one that threads wait at for the lock: its condition, its mutex,
/// or those by which the one who let it go makes sure that another takes it.
#[inline(always)]
#[must_use]
pub fn waits_at(layout: &GilLayout, gil: u64, address: u64) -> bool {
    let offset = address.wrapping_sub(gil);
    gil != 0 && offset >= layout.waits as u64 && offset < layout.end as u64
}

/// Bytes of a condition and a mutex, in both C libraries on x86_64. The lock has two of each.
pub const CONDITION_AND_MUTEX: u16 = 48 + 40;

/// Of a futex that [`waits_at`], whether it is waited at by the one who let the lock go, until
/// another has taken it (`switch_cond` and `switch_mutex`).
#[inline(always)]
#[must_use]
pub fn hands_over(layout: &GilLayout, gil: u64, address: u64) -> bool {
    address.wrapping_sub(gil) >= layout.waits as u64 + CONDITION_AND_MUTEX as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::layout::MappingsRef;

    /// Words by address.
    struct Words(BTreeMap<u64, u64>);

    impl Memory for Words {
        fn read(&self, addr: u64, dst: &mut [u8]) -> Result<(), Fault> {
            for (index, bytes) in dst.chunks_exact_mut(8).enumerate() {
                let word = self.0.get(&(addr + 8 * index as u64)).ok_or(Fault)?;
                bytes.copy_from_slice(&word.to_le_bytes());
            }
            Ok(())
        }
    }

    fn read(mem: &Words, process: &ProcessEntry, interp: u64) -> Result<Gil, Fault> {
        let mut gil = Gil {
            address: 7,
            holder: 7,
        };
        super::read(mem, process, interp, &mut gil).map(|()| gil)
    }

    fn process(flags: u32, at: u64) -> ProcessEntry {
        ProcessEntry {
            flags,
            gil: GilLayout {
                at,
                holder: 8,
                locked: 16,
                waits: 0x20,
                end: 0xd0,
            },
            mappings: MappingsRef::default(),
            ..ProcessEntry::EMPTY
        }
    }

    #[test]
    fn of_the_process() {
        let process = process(PROCESS_GIL_OF_PROCESS, 0x1000);
        let held = Words(BTreeMap::from([(0x1008, 0xabc), (0x1010, 1)]));
        let expected = Gil {
            address: 0x1000,
            holder: 0xabc,
        };
        assert_eq!(read(&held, &process, 0), Ok(expected));
        // What lies behind the number is not part of it.
        let held = Words(BTreeMap::from([(0x1008, 0xabc), (0x1010, 7 << 32 | 1)]));
        assert_eq!(read(&held, &process, 0), Ok(expected));
        for locked in [0, u64::from(u32::MAX), u64::MAX] {
            let free = Words(BTreeMap::from([(0x1008, 0xabc), (0x1010, locked)]));
            assert_eq!(read(&free, &process, 0).map(|gil| gil.holder), Ok(0));
        }
    }

    #[test]
    fn of_the_interpreter() {
        let process = process(PROCESS_GIL_OF_INTERPRETER, 0x180);
        let words = [(0x5180, 0x1000), (0x1008, 0xabc), (0x1010, 1)];
        let mem = Words(BTreeMap::from(words));
        assert_eq!(
            read(&mem, &process, 0x5000).map(|gil| gil.holder),
            Ok(0xabc)
        );
        assert_eq!(
            read(&mem, &process, 0),
            Ok(Gil::default()),
            "no thread state"
        );
        assert_eq!(read(&mem, &process, 0x6000), Err(Fault), "unreadable");
    }

    #[test]
    fn not_known() {
        let mem = Words(BTreeMap::new());
        assert_eq!(read(&mem, &process(0, 0x1000), 0x5000), Ok(Gil::default()));
    }

    #[test]
    fn what_is_waited_at() {
        let layout = process(PROCESS_GIL_OF_PROCESS, 0x1000).gil;
        for (address, expected) in [
            (0x1000, false),
            (0x101c, false),
            (0x1020, true),
            (0x1048, true),
            (0x1050, true),
            (0x10cc, true),
            (0x10d0, false),
            (0xfff, false),
        ] {
            assert_eq!(waits_at(&layout, 0x1000, address), expected, "{address:x}");
        }
        assert!(!waits_at(&layout, 0, 0x30), "not known");
        assert!(!hands_over(&layout, 0x1000, 0x1074));
        assert!(hands_over(&layout, 0x1000, 0x1078));
    }
}
