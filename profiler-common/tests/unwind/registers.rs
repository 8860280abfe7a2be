//! Registers and tokens: in the order of the kernel's structures, which the C library has, too.

use core::mem::offset_of;

use libc::user_regs_struct as UserRegs;
use profiler_common::unwind::{
    ALL_REGISTERS, REG_RBP, REG_RSP, REGISTERS, Registers, Token, TokenKind, USER_REGS_BYTES,
    USER_REGS_WORDS, in_user_mode,
};

/// DWARF's numbers, from 0 on (System V ABI for x86-64, figure 3.36), where `struct pt_regs` has
/// them.
const IN_PT_REGS: [usize; REGISTERS] = [
    offset_of!(UserRegs, rax),
    offset_of!(UserRegs, rdx),
    offset_of!(UserRegs, rcx),
    offset_of!(UserRegs, rbx),
    offset_of!(UserRegs, rsi),
    offset_of!(UserRegs, rdi),
    offset_of!(UserRegs, rbp),
    offset_of!(UserRegs, rsp),
    offset_of!(UserRegs, r8),
    offset_of!(UserRegs, r9),
    offset_of!(UserRegs, r10),
    offset_of!(UserRegs, r11),
    offset_of!(UserRegs, r12),
    offset_of!(UserRegs, r13),
    offset_of!(UserRegs, r14),
    offset_of!(UserRegs, r15),
];

#[test]
fn registers_of_an_interrupted_thread() {
    // What follows are segments, which `struct pt_regs` does not have.
    assert_eq!(offset_of!(UserRegs, ss) + 8, USER_REGS_BYTES);
    let mut regs = [0; USER_REGS_WORDS];
    for (index, word) in regs.iter_mut().enumerate() {
        *word = 0x1000 + index as u64;
    }
    let mut registers = Registers::NONE;
    registers.set_from_pt_regs(&regs);
    for (number, offset) in IN_PT_REGS.iter().enumerate() {
        assert_eq!(registers.general[number], regs[offset / 8], "{number}");
        assert_eq!(registers.get(number as u8), Some(regs[offset / 8]));
    }
    assert_eq!(registers.pc, regs[offset_of!(UserRegs, rip) / 8]);
    assert_eq!(registers.sp(), regs[offset_of!(UserRegs, rsp) / 8]);
    let rbp = regs[offset_of!(UserRegs, rbp) / 8];
    assert_eq!(registers.frame_pointer(), Some(rbp));
    assert_eq!(registers.lookup_pc(), registers.pc);
}

#[test]
fn only_programs_of_64_bits_have_registers() {
    let cs = offset_of!(UserRegs, cs) / 8;
    // `__USER32_CS`, `__KERNEL_CS`, nothing, `__USER_CS`.
    for (segment, is_user) in [(0x23, false), (0x10, false), (0, false), (0x33, true)] {
        let mut regs = [0; USER_REGS_WORDS];
        assert!(!in_user_mode(&regs));
        regs[cs] = segment;
        assert_eq!(in_user_mode(&regs), is_user, "{segment:#x}");
        // With FRED the kernel keeps other bits above.
        regs[cs] |= 0x1_0002_0000;
        assert_eq!(in_user_mode(&regs), is_user, "{segment:#x}");
    }
}

#[test]
fn registers_that_are_not_known_are_not_given() {
    let mut registers = Registers::NONE;
    registers.general = [5; REGISTERS];
    for number in 0..=u8::MAX {
        assert_eq!(registers.get(number), None, "{number}");
    }
    assert_eq!(registers.frame_pointer(), None);
    registers.known = 1 << REG_RSP;
    assert_eq!(registers.get(REG_RSP), Some(5));
    assert_eq!(registers.get(REG_RBP), None);
    // There are no more, whatever the bits say.
    registers.known = u32::MAX;
    for number in 0..=u8::MAX {
        let known = usize::from(number) < REGISTERS;
        assert_eq!(registers.get(number).is_some(), known, "{number}");
    }
    assert_eq!(ALL_REGISTERS, 0xffff);
}

#[test]
fn a_call_lies_before_where_it_returns_to() {
    let mut registers = Registers::NONE;
    for (exact, pc, lookup) in [
        (0, 0x1000, 0xfff),
        (1, 0x1000, 0x1000),
        (0, 0, u64::MAX),
        (1, 0, 0),
    ] {
        registers.pc = pc;
        registers.exact = exact;
        assert_eq!(registers.lookup_pc(), lookup, "{exact}, {pc:#x}");
    }
}

#[test]
fn tokens_are_what_they_were_made_of() {
    for address in [0, 1, 0x5555_5555_5000, 0x7fff_ffff_ffff, (1 << 56) - 1] {
        let exact = Token::code(address, true);
        assert_eq!(exact.kind(), Some(TokenKind::Exact(address)));
        let returned = Token::code(address, false);
        assert_eq!(returned.kind(), Some(TokenKind::Return(address)));
        assert_ne!(exact, returned);
    }
    assert_eq!(Token::SKIPPED.kind(), Some(TokenKind::Skipped));
    for frames in [0, 1, 1024, u32::MAX] {
        let place = Token::python(frames);
        assert_eq!(place.kind(), Some(TokenKind::Python(frames)));
    }
}

#[test]
fn addresses_of_the_kernel_are_tokens() {
    let four_levels = 0xffff_8000_0000_0000;
    let five_levels = 0xff00_0000_0000_0000;
    for address in [four_levels, five_levels, 0xffff_ffff_8100_0000, u64::MAX] {
        assert_eq!(Token(address).kind(), Some(TokenKind::Kernel(address)));
    }
    // No address of the target becomes one.
    for address in [four_levels, five_levels, u64::MAX] {
        for exact in [false, true] {
            let kind = Token::code(address, exact).kind();
            assert!(!matches!(kind, Some(TokenKind::Kernel(_)) | None));
        }
    }
}

#[test]
fn other_words_are_no_tokens() {
    for kind in 4..0xffu64 {
        assert_eq!(Token(kind << 56 | 0x1234).kind(), None, "{kind:#x}");
    }
}
