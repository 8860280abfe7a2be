//! Per-CPU scratch: what a program writes while it works, too large for its 512-byte stack.
//!
//! Each program has its own slot, because a sample can interrupt a switch on the same CPU. The
//! record lies in it as it goes out: header, then frames.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use aya_ebpf::macros::btf_map;
use profiler_common::event::{EventHeader, OffCpuRecord, PIECE_BYTES};
use profiler_common::gil::Gil;
use profiler_common::layout::ProcessEntry;
use profiler_common::unwind::{Segments, StackBlock, Tokens, USER_REGS_WORDS, Unwind};
use profiler_common::waiting::WaitingThread;
use profiler_common::walk::{Frame, MAX_FRAMES, Walk, WalkCache};

/// One area for each program that walks.
#[btf_map]
pub static SCRATCH: PerCpuArray<Scratch, 3> = PerCpuArray::new();

/// The same for native stacks, which need as much again. The record lies in it as it goes out:
/// header, then tokens.
#[btf_map]
pub static NATIVE_SCRATCH: PerCpuArray<Native, 3> = PerCpuArray::new();

/// The same for the memory that names code objects. The record lies in it as it goes out: header,
/// then pieces.
#[btf_map]
pub static CODE_SCRATCH: PerCpuArray<Codes, 3> = PerCpuArray::new();

/// What `waiting_threads` writes out.
#[btf_map]
pub static WAITING_SCRATCH: PerCpuArray<WaitingThread, 1> = PerCpuArray::new();

/// What `off_cpu` says of a wait.
#[btf_map]
pub static WAIT_SCRATCH: PerCpuArray<OffCpuRecord, 1> = PerCpuArray::new();

/// The slot of `on_cpu`.
pub const SLOT_ON_CPU: u32 = 0;
/// The slot of `off_cpu`.
pub const SLOT_OFF_CPU: u32 = 1;
/// The slot of `thread_waking`.
pub const SLOT_WAKING: u32 = 2;

/// At most 32 KiB: the kernel gives no more to a CPU in one piece (`PCPU_MIN_UNIT_SIZE`).
#[repr(C)]
pub struct Scratch {
    pub process: ProcessEntry,
    pub walk: Walk,
    pub cache: WalkCache,
    pub gil: Gil,
    pub header: EventHeader,
    pub frames: [Frame; MAX_FRAMES],
}

const _: () = assert!(size_of::<Scratch>() <= 32 << 10);

/// At most 32 KiB, too.
#[repr(C)]
pub struct Native {
    pub unwind: Unwind,
    pub block: StackBlock,
    pub segments: Segments,
    /// What the kernel keeps of the interrupted thread.
    pub regs: [u64; USER_REGS_WORDS],
    pub header: EventHeader,
    pub tokens: Tokens,
}

const _: () = assert!(size_of::<Native>() <= 32 << 10);

/// Bytes of pieces after which a record goes out, a power of two.
pub const CODE_BYTES: usize = 4096;

/// What is sent of a sample's code objects.
#[repr(C)]
pub struct Codes {
    /// Hash of the last code object looked at.
    pub last: u64,
    /// Code objects of this sample that were sent.
    pub sent: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// The last object's type.
    pub last_type: u64,
    /// Something was longer than what is sent of it.
    pub truncated: u64,
    /// The ring buffer did not take a piece.
    pub lost: u64,
    /// Bytes in the body.
    pub used: u64,
    pub header: EventHeader,
    /// A piece of a page may begin at its last multiple of 8 below [`CODE_BYTES`].
    pub body: [u8; 2 * CODE_BYTES + PIECE_BYTES],
}

const _: () = assert!(size_of::<Codes>() <= 32 << 10);

impl Scratch {
    /// Begins a record of a thread of a target: with what is known of its process, and of now.
    ///
    /// # Safety
    /// `process` must be valid for reads. Userspace may replace the map's value meanwhile: a torn
    /// entry has a torn generation at worst, and its frames do not prove their identity.
    #[inline(always)]
    pub unsafe fn begin(&mut self, process: *const ProcessEntry, header: EventHeader, now: u64) {
        // SAFETY: by contract.
        unsafe { copy_words(&mut self.process, process) };
        self.header = EventHeader {
            generation: self.process.generation,
            // SAFETY: a helper without arguments.
            cpu: unsafe { bpf_get_smp_processor_id() },
            time_ns: now,
            ..header
        };
    }
}

/// This CPU's scratch. Two live references to one slot would be wrong: a program takes its slot
/// once and hands the number, not the reference, to the functions that it calls.
#[inline(always)]
pub fn scratch(slot: u32) -> Option<&'static mut Scratch> {
    // SAFETY: the value lives as long as the map, and one program at a time uses a CPU's slot.
    SCRATCH.get_ptr_mut(slot).map(|ptr| unsafe { &mut *ptr })
}

/// This CPU's scratch for native stacks, under the same condition.
#[inline(always)]
pub fn native(slot: u32) -> Option<&'static mut Native> {
    // SAFETY: as above.
    NATIVE_SCRATCH
        .get_ptr_mut(slot)
        .map(|ptr| unsafe { &mut *ptr })
}

/// This CPU's scratch for code objects, under the same condition.
#[inline(always)]
pub fn codes(slot: u32) -> Option<&'static mut Codes> {
    // SAFETY: as above.
    CODE_SCRATCH
        .get_ptr_mut(slot)
        .map(|ptr| unsafe { &mut *ptr })
}

/// This CPU's record of a wait, under the same condition.
#[inline(always)]
pub fn wait_record() -> Option<&'static mut OffCpuRecord> {
    // SAFETY: as above.
    WAIT_SCRATCH.get_ptr_mut(0).map(|ptr| unsafe { &mut *ptr })
}

/// This CPU's scratch of `waiting_threads`. A second iterator on one CPU would need another; there
/// is one, and it is not read twice at a time.
#[inline(always)]
pub fn waiting() -> Option<&'static mut WaitingThread> {
    // SAFETY: as above.
    WAITING_SCRATCH
        .get_ptr_mut(0)
        .map(|ptr| unsafe { &mut *ptr })
}

/// Copies a map's value, a word at a time. A plain assignment becomes a call of `memmove`, which
/// goes byte by byte here; volatile accesses stay what they are.
///
/// # Safety
/// `from` must be valid for reads.
#[inline(always)]
unsafe fn copy_words<T: Copy>(to: &mut T, from: *const T) {
    const { assert!(size_of::<T>() % 8 == 0 && align_of::<T>() == 8) };
    let to = core::ptr::from_mut(to).cast::<u64>();
    let from = from.cast::<u64>();
    for index in 0..size_of::<T>() / 8 {
        // SAFETY: inside both, by the loop's bound; words are aligned, as checked.
        unsafe {
            to.add(index)
                .write_volatile(from.add(index).read_volatile())
        };
    }
}
