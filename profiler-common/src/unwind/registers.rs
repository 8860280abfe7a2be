//! The registers of a frame, as far as they are known.

use super::rule::{REG_RBP, REG_RSP, REGISTERS};

/// All of them are known.
pub const ALL_REGISTERS: u32 = (1 << REGISTERS) - 1;

/// Bytes of what the kernel keeps of an interrupted thread, `struct pt_regs`, a part of its ABI
/// (`arch/x86/include/uapi/asm/ptrace.h`).
pub const USER_REGS_BYTES: usize = 168;
/// Words of it.
pub const USER_REGS_WORDS: usize = USER_REGS_BYTES / 8;

/// Where `struct pt_regs` has the registers in DWARF's order, in words.
const IN_PT_REGS: [u8; REGISTERS] = [10, 12, 11, 5, 13, 14, 4, 19, 9, 8, 7, 6, 3, 2, 1, 0];
const PT_REGS_RIP: usize = 16;
const PT_REGS_CS: usize = 17;
/// Where `struct sigcontext` has them, in words (`arch/x86/include/uapi/asm/sigcontext.h`).
const IN_SIGCONTEXT: [u8; REGISTERS] = [13, 12, 14, 11, 9, 8, 10, 15, 0, 1, 2, 3, 4, 5, 6, 7];
const SIGCONTEXT_RIP: usize = 16;
/// Bytes of a `struct sigcontext` up to `rip`.
pub(super) const SIGCONTEXT_BYTES: usize = 8 * (SIGCONTEXT_RIP + 1);

/// The code segment of 64-bit programs (`__USER_CS`, `arch/x86/include/asm/segment.h`).
const USER_CS: u64 = 0x33;

/// Whether a `struct pt_regs` is of a 64-bit program, not of the kernel or a 32-bit one.
#[inline(always)]
#[must_use]
pub fn in_user_mode(regs: &[u64; USER_REGS_WORDS]) -> bool {
    regs[PT_REGS_CS] & 0xffff == USER_CS
}

/// Registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Registers {
    /// By DWARF's numbers.
    pub general: [u64; REGISTERS],
    /// The instruction.
    pub pc: u64,
    /// Bits of those in `general` that are known.
    pub known: u32,
    /// 1 when `pc` is an instruction that was interrupted, 0 when a call returns to it.
    pub exact: u32,
}

impl Registers {
    /// Nothing known.
    pub const NONE: Self = Self {
        general: [0; REGISTERS],
        pc: 0,
        known: 0,
        exact: 0,
    };

    /// From a `struct pt_regs`.
    #[inline(always)]
    pub fn set_from_pt_regs(&mut self, regs: &[u64; USER_REGS_WORDS]) {
        for (number, at) in IN_PT_REGS.iter().enumerate() {
            self.general[number] = regs[*at as usize];
        }
        self.pc = regs[PT_REGS_RIP];
        self.known = ALL_REGISTERS;
        self.exact = 1;
    }

    /// From a `struct sigcontext`.
    #[inline(always)]
    pub(super) fn set_from_sigcontext(&mut self, bytes: &[u8; SIGCONTEXT_BYTES]) {
        // SAFETY: every word lies in the block; the read has no alignment to keep.
        let word =
            |at: usize| unsafe { core::ptr::read_unaligned(bytes.as_ptr().add(at * 8).cast()) };
        for (number, at) in IN_SIGCONTEXT.iter().enumerate() {
            self.general[number] = word(*at as usize);
        }
        self.pc = word(SIGCONTEXT_RIP);
        self.known = ALL_REGISTERS;
        self.exact = 1;
    }

    /// One of them, if it is known.
    #[inline(always)]
    #[must_use]
    pub fn get(&self, number: u8) -> Option<u64> {
        // For the verifier: the number comes from a map.
        let number = number as u32;
        if number > REGISTERS as u32 - 1 || self.known & (1 << number) == 0 {
            return None;
        }
        // SAFETY: just checked.
        Some(unsafe { *self.general.as_ptr().add(number as usize) })
    }

    /// The stack pointer.
    #[inline(always)]
    #[must_use]
    pub fn sp(&self) -> u64 {
        self.general[REG_RSP as usize]
    }

    /// The frame pointer, if it is known.
    #[inline(always)]
    #[must_use]
    pub fn frame_pointer(&self) -> Option<u64> {
        (self.known & (1 << REG_RBP) != 0).then_some(self.general[REG_RBP as usize])
    }

    /// Goes to the caller.
    #[inline(always)]
    pub(super) fn set_caller(&mut self, pc: u64, sp: u64, frame_pointer: Option<u64>) {
        self.pc = pc;
        self.exact = 0;
        self.general[REG_RSP as usize] = sp;
        self.known = 1 << REG_RSP;
        if let Some(frame_pointer) = frame_pointer {
            self.general[REG_RBP as usize] = frame_pointer;
            self.known |= 1 << REG_RBP;
        }
    }

    /// The address whose rule holds: a call's own, where a return address may lie behind the end
    /// of its function.
    #[inline(always)]
    #[must_use]
    pub fn lookup_pc(&self) -> u64 {
        self.pc.wrapping_sub(1 - (self.exact & 1) as u64)
    }
}
