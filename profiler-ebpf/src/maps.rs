//! The maps, but for the scratch. Sizes that depend on the host are set by userspace at load.

use aya_ebpf::btf_maps::{Array, ArrayOfMaps, HashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use profiler_common::counter::COUNTERS as COUNTER_COUNT;
use profiler_common::layout::ProcessEntry;
use profiler_common::thread::{TRACKED_SLOTS, ThreadEntry};
use profiler_common::unwind::{Chunk, Rule};

/// Slots of the gate, a power of two.
pub const GATE_SLOTS: usize = 1 << 16;

/// Target processes by tgid. Userspace inserts; `process_exec` changes in place.
#[btf_map]
pub static PROCESSES: HashMap<u32, ProcessEntry, 1024> = HashMap::new();

/// Threads of the targets by tid, while off-CPU time is recorded. Userspace and `thread_fork`
/// insert, `thread_exit` removes, `off_cpu` changes in place.
#[btf_map]
pub static THREADS: HashMap<u32, ThreadEntry, 16384> = HashMap::new();

/// Whether a thread with such a tid, modulo the size, was ever tracked: 0 is no. An array is looked
/// up without a call, so a switch between threads of others costs two loads. What stays behind by
/// threads that ended costs a lookup in [`THREADS`] and nothing else.
#[btf_map]
pub static TRACKED: Array<u64, TRACKED_SLOTS> = Array::new();

/// The way out.
#[btf_map]
pub static EVENTS: RingBuf<u64, { 8 << 20 }> = RingBuf::new();

/// Hashes of the stacks whose frames the ring buffer took: slot = hash mod size, overwritten on a
/// miss, without a lock. A stale slot costs a second copy of a stack and nothing else.
#[btf_map]
pub static GATE: Array<u64, GATE_SLOTS> = Array::new();

/// Slots of the gate of code objects, a power of two.
pub const CODE_GATE_SLOTS: usize = 1 << 18;

/// The same for code objects: hashes of those whose names the ring buffer took.
#[btf_map]
pub static CODE_GATE: Array<u64, CODE_GATE_SLOTS> = Array::new();

/// [`profiler_common::counter::Counter`] values.
#[btf_map]
pub static COUNTERS: PerCpuArray<u64, COUNTER_COUNT> = PerCpuArray::new();

/// Slots of the cache of rules, a power of two, at most as many as the key's low bits can tell.
pub const RULE_CACHE_SLOTS: usize = 1 << 15;
/// Rules of the table of all rules, at most as many as a row can name.
pub const RULE_SLOTS: usize = 1 << 15;
/// Tables at most: of files, and of processes.
pub const TABLE_SLOTS: usize = 1 << 13;
/// `BPF_F_MMAPABLE`: written through a mapping.
pub const MMAPABLE: usize = 1 << 10;
/// `BPF_F_MMAPABLE | BPF_F_INNER_MAP`: tables are written through a mapping, and differ in size.
pub const TABLE_FLAGS: usize = MMAPABLE | 1 << 12;

/// Tables of rows by file, and of mappings by process (`profiler_common::unwind`). Userspace puts
/// them in and takes them out whole; number 0 stays empty.
#[btf_map]
pub static TABLES: ArrayOfMaps<Array<Chunk, 1, TABLE_FLAGS>, TABLE_SLOTS> = ArrayOfMaps::new();

/// All rules that rows name. Userspace appends; a rule never changes.
#[btf_map]
pub static RULES: Array<Rule, RULE_SLOTS, MMAPABLE> = Array::new();

/// Numbers of rules that were found before: slot = low bits of the key, overwritten on a miss,
/// without a lock. A slot is one word, of the key's high bits and the number.
#[btf_map]
pub static RULE_CACHE: Array<u64, RULE_CACHE_SLOTS> = Array::new();

/// The address by which helpers know the ring buffer.
#[inline(always)]
pub fn events() -> *mut core::ffi::c_void {
    (&raw const EVENTS).cast_mut().cast()
}
