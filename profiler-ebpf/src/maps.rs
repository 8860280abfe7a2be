//! The maps, but for the scratch. Sizes that depend on the host are set by userspace at load.

use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use profiler_common::counter::COUNTERS as COUNTER_COUNT;
use profiler_common::layout::ProcessEntry;
use profiler_common::thread::{TRACKED_SLOTS, ThreadEntry};

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

/// [`profiler_common::counter::Counter`] values.
#[btf_map]
pub static COUNTERS: PerCpuArray<u64, COUNTER_COUNT> = PerCpuArray::new();

/// The address by which helpers know the ring buffer.
#[inline(always)]
pub fn events() -> *mut core::ffi::c_void {
    (&raw const EVENTS).cast_mut().cast()
}
