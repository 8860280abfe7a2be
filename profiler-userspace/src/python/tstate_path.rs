//! Finds the way from a thread's `fsbase` to its thread state, in the live process.
//!
//! The layout of the C library is not assumed: every thread state names its thread's pointer
//! (`thread_id`), so the value to look for near that pointer is known, and the place where every
//! thread has its own is the slot. It is checked by the interpreter's own key where there is one.
//!
//! Up to 3.14 the slot is that of `autoTSSkey` (`Python/pystate.c`): in `struct pthread` itself
//! (glibc, the first 32 keys), behind a second-level pointer (glibc's further keys, musl). 3.15
//! has the thread-local `_Py_tss_gilstate`: below the thread pointer (the static TLS block), or
//! in a block that the DTV points to (a libpython that was loaded late).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;

use iced_x86::{Decoder, DecoderOptions, Mnemonic, OpKind, Register};
use profiler_common::layout::TstatePath;
use profiler_common::mem::Memory;
use profiler_common::walk::follow_path;

use super::layout::PythonLayout;
use super::locate::Located;
use super::threads::ThreadState;
use crate::elf::{Elf, ElfImage};
use crate::process::RemoteMemory;

/// Bytes above the thread pointer that are searched: glibc's `struct pthread` has 0x900, musl's
/// less. Not beyond: see `record::snapshot`.
const PTHREAD_BYTES: usize = 0x900;
/// Bytes below the thread pointer that are searched: the static TLS block.
const STATIC_TLS_BYTES: usize = 0x2000;
/// Bytes of a second-level table: 32 glibc slots of 16 bytes, 128 musl slots of 8.
const TABLE_BYTES: usize = 1024;

fn path(offsets: &[i32]) -> TstatePath {
    let mut found = TstatePath::default();
    for (to, from) in found.offsets.iter_mut().zip(offsets) {
        *to = *from;
    }
    found.len = offsets.len() as u32;
    found
}

/// The threads that have thread states, and which: one thread can have several
/// (sub-interpreters), one of which is in the slot.
fn by_thread(states: &[ThreadState]) -> BTreeMap<u64, BTreeSet<u64>> {
    let mut threads: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for state in states.iter().filter(|state| state.thread_id != 0) {
        threads
            .entry(state.thread_id)
            .or_default()
            .insert(state.address);
    }
    threads
}

/// Finds the path. `None` when no place holds the thread state of every thread.
#[must_use]
pub fn find(
    mem: &RemoteMemory,
    layout: &PythonLayout,
    located: &Located,
    states: &[ThreadState],
) -> Option<TstatePath> {
    let threads = by_thread(states);
    let candidates = if layout.runtime_tss_key.is_some() {
        key_candidates(mem, layout, located, &threads)
    } else {
        tls_candidates(mem, located, &threads)
    };
    let fits = |path: &TstatePath| {
        threads
            .iter()
            .filter(|(thread, own)| {
                follow_path(mem, path, **thread).is_ok_and(|found| own.contains(&found))
            })
            .count()
    };
    // A thread that just started or is about to end has no slot yet or no more: half will do.
    let enough = |count: usize| count > 0 && count * 2 >= threads.len();
    let counted: Vec<(Candidate, usize)> = candidates
        .into_iter()
        .map(|candidate| (candidate, fits(&candidate.path)))
        .filter(|(_, count)| enough(*count))
        .collect();
    // What only a search found competes by count, and only where nothing is sure: copies of a
    // thread state lie on stacks, too, at the same place in many threads.
    let best = counted.iter().map(|(_, count)| *count).max()?;
    counted
        .iter()
        .find(|(candidate, _)| candidate.sure)
        .or_else(|| counted.iter().find(|(_, count)| *count == best))
        .map(|(candidate, _)| candidate.path)
}

/// A path that may be the one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    path: TstatePath,
    /// The interpreter's own code or key says so.
    sure: bool,
}

fn words(bytes: &[u8]) -> impl Iterator<Item = (usize, u64)> + '_ {
    bytes.chunks_exact(8).enumerate().map(|(index, word)| {
        (
            8 * index,
            word.iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        )
    })
}

/// Slots of the pthread key, those of the most threads first.
fn key_candidates(
    mem: &RemoteMemory,
    layout: &PythonLayout,
    located: &Located,
    threads: &BTreeMap<u64, BTreeSet<u64>>,
) -> Vec<Candidate> {
    let mut votes: HashMap<TstatePathKey, usize> = HashMap::new();
    for (thread, own) in threads.iter().take(16) {
        let Ok(block) = mem.read_some(*thread, PTHREAD_BYTES) else {
            continue;
        };
        let mut tables = BTreeSet::new();
        for (offset, word) in words(&block) {
            if own.contains(&word) {
                *votes.entry(TstatePathKey(vec![offset as i32])).or_default() += 1;
            }
            let plausible = word % 8 == 0 && (0x1_0000..1 << 47).contains(&word);
            if !plausible || word == *thread || !tables.insert(word) {
                continue;
            }
            let Ok(table) = mem.read_some(word, TABLE_BYTES) else {
                continue;
            };
            for (inner, found) in words(&table) {
                if own.contains(&found) {
                    let key = TstatePathKey(vec![offset as i32, inner as i32]);
                    *votes.entry(key).or_default() += 1;
                }
            }
        }
    }
    let key = layout
        .runtime_tss_key
        .and_then(|offset| mem.read_u32(located.runtime.wrapping_add(offset)).ok());
    let mut ranked: Vec<_> = votes.into_iter().collect();
    ranked.sort_by_key(|(path, votes)| (usize::MAX - votes, path.0.len(), path.0.clone()));
    ranked
        .into_iter()
        .map(|(offsets, _)| Candidate {
            path: path(&offsets.0),
            sure: key.is_some_and(|key| offsets.agrees_with_key(key)),
        })
        .collect()
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct TstatePathKey(Vec<i32>);

impl TstatePathKey {
    /// Slots are an array indexed by key: of 16 bytes with the value behind a sequence number
    /// (glibc, two levels of 32), or of 8 (musl). Only the second number is known here: the
    /// array's own place is what was searched for.
    fn agrees_with_key(&self, key: u32) -> bool {
        let key = key as i32;
        match self.0[..] {
            // `specific_1stblock` is aligned to 16 bytes and the value is the second word.
            [offset] => key < 32 && offset % 16 == 8,
            [_, inner] => inner == (key % 32) * 16 + 8 || inner == key * 8,
            _ => false,
        }
    }
}

/// Places of the thread-local `_Py_tss_gilstate`: as the code that reads it says, as the symbol
/// table says, as a search finds.
fn tls_candidates(
    mem: &RemoteMemory,
    located: &Located,
    threads: &BTreeMap<u64, BTreeSet<u64>>,
) -> Vec<Candidate> {
    let mut sure = Vec::new();
    if let Ok(image) = ElfImage::open(&located.host_path)
        && let Ok(elf) = image.parse()
    {
        match read_by_code(&elf, located.load_bias) {
            Some(TlsAccess::ThreadPointer(offset)) => sure.push(path(&[offset])),
            Some(TlsAccess::Index {
                address,
                displacement,
            }) => {
                sure.extend(dynamic_tls(mem, threads, address, displacement));
            }
            None => {}
        }
    }
    let mut candidates: Vec<Candidate> = sure
        .into_iter()
        .map(|path| Candidate { path, sure: true })
        .collect();
    // A variable that is set also in threads that wait fits more of them than one that is set
    // only while a thread is attached (`_Py_tss_tstate`).
    for (thread, own) in threads.iter().take(16) {
        let from = thread.wrapping_sub(STATIC_TLS_BYTES as u64);
        let Ok(block) = mem.read_some(from, STATIC_TLS_BYTES) else {
            continue;
        };
        for (offset, word) in words(&block) {
            let below = path(&[offset as i32 - STATIC_TLS_BYTES as i32]);
            let known = candidates.iter().any(|candidate| candidate.path == below);
            if own.contains(&word) && !known {
                candidates.push(Candidate {
                    path: below,
                    sure: false,
                });
            }
        }
    }
    candidates
}

enum TlsAccess {
    /// `mov %fs:offset, %reg`: the static TLS block of the executable.
    ThreadPointer(i32),
    /// `lea address(%rip), %rdi; call __tls_get_addr; mov displacement(%rax), %reg`: a
    /// `tls_index` in the module's GOT.
    Index { address: u64, displacement: i32 },
}

/// How `PyGILState_GetThisThreadState` (3.15) gets at the variable that it returns.
fn read_by_code(elf: &Elf<'_>, bias: u64) -> Option<TlsAccess> {
    let function = elf.symbol("PyGILState_GetThisThreadState")?;
    let code = elf.bytes_at(function.address, 96)?;
    let mut decoder = Decoder::with_ip(
        64,
        code,
        function.address.wrapping_add(bias),
        DecoderOptions::NONE,
    );
    let mut index = None;
    while decoder.can_decode() {
        let instruction = decoder.decode();
        let memory = instruction.op_count() == 2 && instruction.op1_kind() == OpKind::Memory;
        match instruction.mnemonic() {
            Mnemonic::Mov if memory && instruction.segment_prefix() == Register::FS => {
                let offset = instruction.memory_displacement64() as i64;
                if offset < 0 {
                    return i32::try_from(offset).ok().map(TlsAccess::ThreadPointer);
                }
            }
            Mnemonic::Lea if instruction.is_ip_rel_memory_operand() => {
                index = Some(instruction.ip_rel_memory_address());
            }
            Mnemonic::Mov if memory && instruction.memory_base() == Register::RAX => {
                if let Some(address) = index {
                    let displacement = instruction.memory_displacement64() as i64 as i32;
                    return Some(TlsAccess::Index {
                        address,
                        displacement,
                    });
                }
            }
            Mnemonic::Ret => return None,
            _ => {}
        }
    }
    None
}

/// The variable of a `tls_index {module, offset}` at `address`: found through the DTV of each
/// thread; where the block is static, as an offset from the thread pointer, which is cheaper.
fn dynamic_tls(
    mem: &RemoteMemory,
    threads: &BTreeMap<u64, BTreeSet<u64>>,
    address: u64,
    displacement: i32,
) -> Vec<TstatePath> {
    let read = || {
        let module = mem.read_u64(address).ok()?;
        let offset = mem.read_u64(address.wrapping_add(8)).ok()? as i64 as i32;
        let variable = offset.wrapping_add(displacement);
        // glibc: `tcbhead_t.dtv` at 8, 16 bytes per module; musl: the same place, 8 bytes.
        let mut found = Vec::new();
        for entry in [16, 8] {
            let slot = i32::try_from(module).ok()?.checked_mul(entry)?;
            let through_dtv = path(&[8, slot, variable]);
            let places: Option<BTreeSet<i64>> = threads
                .keys()
                .map(|thread| {
                    let dtv = mem.read_u64(thread.wrapping_add(8)).ok()?;
                    let block = mem.read_u64(dtv.wrapping_add(slot as u64)).ok()?;
                    let at = block.wrapping_add(variable as i64 as u64);
                    Some(at.wrapping_sub(*thread) as i64)
                })
                .collect();
            if let Some(places) = places
                && let (Some(place), 1) = (places.first(), places.len())
                && let Ok(place) = i32::try_from(*place)
                && threads.len() > 1
            {
                found.push(path(&[place]));
            }
            found.push(through_dtv);
        }
        Some(found)
    };
    read().unwrap_or_default()
}
