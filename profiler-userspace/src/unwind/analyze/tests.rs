use profiler_common::unwind::{CfaKind, REG_RBP, REG_RSP, RaKind, RbpKind};

use super::code::Reader;
use super::flow::Known;
use super::*;

const RAX: u8 = 0;
const RBX: u8 = 3;
const R12: u8 = 12;
const R15: u8 = 15;

/// Where the functions begin.
const START: u64 = 0x1000;
/// Another function.
const OTHER: u64 = 0x4000;

/// The rows of code, and where it goes to nobody knows how.
type Found = (Vec<(u32, Rule)>, Vec<u64>);

fn analyze(hex: &str, unknown: &[u32]) -> Result<Found, Distrust> {
    let bytes: Vec<u8> = hex
        .split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    let mut reader = Reader {
        is_function: &|address| address == OTHER,
        left: 1000,
    };
    let mut roots = vec![0];
    roots.extend_from_slice(unknown);
    let code = reader.read(START, &bytes, &roots)?;
    let mut rows: Vec<(u32, Rule)> = Vec::new();
    let exits = Known::new(code, unknown).tell(|place, state| {
        let rule = state.map_or(Rule::NONE, State::rule);
        if rows.last().is_some_and(|row| row.0 == place) {
            rows.pop();
        }
        if rows.last().is_none_or(|row| row.1 != rule) {
            rows.push((place, rule));
        }
    })?;
    Ok((rows, exits))
}

fn rows(hex: &str) -> Vec<(u32, Rule)> {
    analyze(hex, &[]).unwrap().0
}

fn at(reg: u8, cfa_offset: i32) -> Rule {
    Rule {
        cfa: CfaKind::Register as u8,
        reg,
        rbp: RbpKind::Same as u8,
        ra: RaKind::AtCfa as u8,
        ra_offset: -8,
        cfa_offset,
        ..Rule::NONE
    }
}

/// The same, with the caller's `rbp` in memory.
fn saved(rule: Rule, rbp_offset: i16) -> Rule {
    Rule {
        rbp: RbpKind::AtCfa as u8,
        rbp_offset,
        ..rule
    }
}

/// The same, without the caller's `rbp`.
fn lost(rule: Rule) -> Rule {
    Rule {
        rbp: RbpKind::Unknown as u8,
        ..rule
    }
}

#[test]
fn push_and_pop() {
    // push %rbx; push $1; pop %rax; pop %rbx; ret
    assert_eq!(
        rows("53 6a 01 58 5b c3"),
        [
            (0, at(REG_RSP, 8)),
            (1, at(REG_RSP, 16)),
            (3, at(REG_RSP, 24)),
            (4, at(REG_RSP, 16)),
            (5, at(REG_RSP, 8)),
            (6, Rule::NONE)
        ]
    );
    // pushf; popf; ret
    assert_eq!(
        rows("9c 9d c3"),
        [
            (0, at(REG_RSP, 8)),
            (1, at(REG_RSP, 16)),
            (2, at(REG_RSP, 8)),
            (3, Rule::NONE)
        ]
    );
}

#[test]
fn arithmetic_on_rsp() {
    // sub $0x60,%rsp; lea 0x20(%rsp),%rsp; add $0x40,%rsp; ret
    assert_eq!(
        rows("48 83 ec 60 48 8d 64 24 20 48 83 c4 40 c3"),
        [
            (0, at(REG_RSP, 8)),
            (4, at(REG_RSP, 0x68)),
            (9, at(REG_RSP, 0x48)),
            (13, at(REG_RSP, 8)),
            (14, Rule::NONE)
        ]
    );
}

#[test]
fn alignment_with_rbx() {
    // push %rbx; mov %rsp,%rbx; and $-0x1000,%rsp; mov %rbx,%rsp; pop %rbx; ret
    assert_eq!(
        rows("53 48 89 e3 48 81 e4 00 f0 ff ff 48 89 dc 5b c3"),
        [
            (0, at(REG_RSP, 8)),
            (1, at(REG_RSP, 16)),
            (11, at(RBX, 16)),
            (14, at(REG_RSP, 16)),
            (15, at(REG_RSP, 8)),
            (16, Rule::NONE)
        ]
    );
}

#[test]
fn the_better_register_is_the_base() {
    // mov %rsp,%rax; mov %rax,%r15; and $-16,%rsp; xor %r15d,%r15d; mov %rax,%rsp; ret
    assert_eq!(
        rows("48 89 e0 49 89 c7 48 83 e4 f0 45 31 ff 48 89 c4 c3"),
        [
            (0, at(REG_RSP, 8)),
            (10, at(R15, 8)),
            (13, at(RAX, 8)),
            (16, at(REG_RSP, 8)),
            (17, Rule::NONE)
        ]
    );
    // mov %rsp,%r12; and $-16,%rsp; vaddps: registers of vectors are no matter; ud2
    assert_eq!(
        rows("49 89 e4 48 83 e4 f0 c5 fc 58 c1 0f 0b"),
        [(0, at(REG_RSP, 8)), (7, at(R12, 8)), (13, Rule::NONE)]
    );
}

#[test]
fn a_frame_pointer_and_leave() {
    // push %rbp; mov %rsp,%rbp; sub %rax,%rsp; leave; ret
    assert_eq!(
        rows("55 48 89 e5 48 29 c4 c9 c3"),
        [
            (0, at(REG_RSP, 8)),
            (1, at(REG_RSP, 16)),
            (4, saved(at(REG_RSP, 16), -16)),
            (7, saved(at(REG_RBP, 16), -16)),
            (8, at(REG_RSP, 8)),
            (9, Rule::NONE)
        ]
    );
}

#[test]
fn enter() {
    // enter $0x20,$0; leave; ret
    assert_eq!(
        rows("c8 20 00 00 c9 c3"),
        [
            (0, at(REG_RSP, 8)),
            (4, saved(at(REG_RSP, 0x30), -16)),
            (5, at(REG_RSP, 8)),
            (6, Rule::NONE)
        ]
    );
    // enter $0x20,$1; ret
    assert_eq!(
        rows("c8 20 00 01 c3"),
        [(0, at(REG_RSP, 8)), (4, Rule::NONE)]
    );
}

#[test]
fn rbp_in_memory() {
    // sub $0x18,%rsp; mov %rbp,8(%rsp); xor %ebp,%ebp; mov 8(%rsp),%rbp; add $0x18,%rsp; ret
    assert_eq!(
        rows("48 83 ec 18 48 89 6c 24 08 31 ed 48 8b 6c 24 08 48 83 c4 18 c3"),
        [
            (0, at(REG_RSP, 8)),
            (4, at(REG_RSP, 0x20)),
            (11, saved(at(REG_RSP, 0x20), -0x18)),
            (16, at(REG_RSP, 0x20)),
            (20, at(REG_RSP, 8)),
            (21, Rule::NONE)
        ]
    );
    // push %rbp; xor %ebp,%ebp; mov %eax,4(%rsp): written over in part; pop %rbp; ret
    assert_eq!(
        rows("55 31 ed 89 44 24 04 5d c3"),
        [
            (0, at(REG_RSP, 8)),
            (1, at(REG_RSP, 16)),
            (3, saved(at(REG_RSP, 16), -16)),
            (7, lost(at(REG_RSP, 16))),
            (8, lost(at(REG_RSP, 8))),
            (9, Rule::NONE)
        ]
    );
}

#[test]
fn the_red_zone_keeps_rbp_but_not_over_a_call() {
    // mov %rbp,-0x10(%rsp); xor %ebp,%ebp; mov -0x10(%rsp),%rbp; ret
    assert_eq!(
        rows("48 89 6c 24 f0 31 ed 48 8b 6c 24 f0 c3"),
        [
            (0, at(REG_RSP, 8)),
            (7, saved(at(REG_RSP, 8), -0x18)),
            (12, at(REG_RSP, 8)),
            (13, Rule::NONE)
        ]
    );
    // mov %rbp,-0x10(%rsp); xor %ebp,%ebp; call *%rax; ret
    assert_eq!(
        rows("48 89 6c 24 f0 31 ed ff d0 c3"),
        [
            (0, at(REG_RSP, 8)),
            (7, saved(at(REG_RSP, 8), -0x18)),
            (9, lost(at(REG_RSP, 8))),
            (10, Rule::NONE)
        ]
    );
    // mov %rbp,-0x88(%rsp): below it; xor %ebp,%ebp; ret
    assert_eq!(
        rows("48 89 ac 24 78 ff ff ff 31 ed c3"),
        [
            (0, at(REG_RSP, 8)),
            (10, lost(at(REG_RSP, 8))),
            (11, Rule::NONE)
        ]
    );
}

#[test]
fn a_call_keeps_what_the_callee_preserves() {
    // push %rbx; mov %rsp,%rbx; mov %rsp,%rax; and $-16,%rsp; call *%rcx; mov %rbx,%rsp;
    // pop %rbx; ret
    let found = rows("53 48 89 e3 48 89 e0 48 83 e4 f0 ff d1 48 89 dc 5b c3");
    assert_eq!(
        found[2..],
        [
            (11, at(RBX, 16)),
            (16, at(REG_RSP, 16)),
            (17, at(REG_RSP, 8)),
            (18, Rule::NONE)
        ]
    );
    // mov %rsp,%rax; and $-16,%rsp; call *%rcx; mov %rax,%rsp; ret
    assert_eq!(
        rows("48 89 e0 48 83 e4 f0 ff d1 48 89 c4 c3"),
        [(0, at(REG_RSP, 8)), (7, at(RAX, 8)), (9, Rule::NONE)]
    );
}

#[test]
fn ways_that_agree_and_ways_that_do_not() {
    // test %eax,%eax; je 1f; push %rbx; pop %rbx; 1: ret
    assert_eq!(
        rows("85 c0 74 02 53 5b c3"),
        [
            (0, at(REG_RSP, 8)),
            (5, at(REG_RSP, 16)),
            (6, at(REG_RSP, 8)),
            (7, Rule::NONE)
        ]
    );
    // test %eax,%eax; je 1f; push %rbx; 1: nop; ud2
    assert_eq!(
        rows("85 c0 74 01 53 90 0f 0b"),
        [(0, at(REG_RSP, 8)), (5, Rule::NONE)]
    );
    // mov %rsp,%rbx; test %eax,%eax; je 1f; push %rax; 1: nop; ud2: rbx is as good
    assert_eq!(
        rows("48 89 e3 85 c0 74 01 50 90 0f 0b"),
        [(0, at(REG_RSP, 8)), (8, at(RBX, 8)), (11, Rule::NONE)]
    );
}

#[test]
fn loops() {
    // mov $4,%ecx; 1: nop; dec %ecx; jne 1b; ret
    assert_eq!(
        rows("b9 04 00 00 00 90 ff c9 75 fb c3"),
        [(0, at(REG_RSP, 8)), (11, Rule::NONE)]
    );
    // mov %rsp,%rbx; 1: push %rax; dec %ecx; jne 1b; mov %rbx,%rsp; ret
    assert_eq!(
        rows("48 89 e3 50 ff c9 75 fb 48 89 dc c3"),
        [
            (0, at(REG_RSP, 8)),
            (3, at(RBX, 8)),
            (11, at(REG_RSP, 8)),
            (12, Rule::NONE)
        ]
    );
}

#[test]
fn code_that_nothing_leads_to_has_no_rule() {
    // jmp 1f; nop; nop; 1: ret; nop
    assert_eq!(
        rows("eb 02 90 90 c3 90"),
        [
            (0, at(REG_RSP, 8)),
            (2, Rule::NONE),
            (4, at(REG_RSP, 8)),
            (5, Rule::NONE)
        ]
    );
}

#[test]
fn what_comes_from_elsewhere_knows_nothing() {
    // nop; nop; ret, entered at its second instruction
    let (found, _) = analyze("90 90 c3", &[1]).unwrap();
    assert_eq!(found, [(0, at(REG_RSP, 8)), (1, Rule::NONE)]);
    // call 1f; 1: pop %rax; ret
    let (found, _) = analyze("e8 00 00 00 00 58 c3", &[]).unwrap();
    assert_eq!(found, [(0, at(REG_RSP, 8)), (5, Rule::NONE)]);
}

#[test]
fn the_return_address_is_gone() {
    // pop %rdx; jmp *0(%rip)
    assert_eq!(
        rows("5a ff 25 00 00 00 00"),
        [(0, at(REG_RSP, 8)), (1, Rule::NONE)]
    );
    // mov %rax,(%rsp); nop; ud2
    assert_eq!(
        rows("48 89 04 24 90 0f 0b"),
        [(0, at(REG_RSP, 8)), (4, Rule::NONE)]
    );
}

#[test]
fn other_functions_are_come_to_as_if_they_had_been_called() {
    // jmp OTHER
    let (_, exits) = analyze("e9 fb 2f 00 00", &[]).unwrap();
    assert!(exits.is_empty());
    // push %rax; jmp OTHER
    let (_, exits) = analyze("50 e9 fa 2f 00 00", &[]).unwrap();
    assert_eq!(exits, [OTHER]);
    // call, to where no function is; ret
    let (found, exits) = analyze("e8 00 10 00 00 c3", &[]).unwrap();
    assert_eq!(exits, [START + 0x1005]);
    assert_eq!(found, [(0, at(REG_RSP, 8)), (5, Rule::NONE)]);
}

#[test]
fn what_is_not_trusted() {
    let why = |hex| analyze(hex, &[]).unwrap_err();
    // push %rax; ret
    assert_eq!(why("50 c3"), Distrust::NoReturn);
    // jmp *%rax; jmp *(,%rax,8)
    assert_eq!(why("ff e0"), Distrust::Anywhere);
    assert_eq!(why("ff 24 c5 00 00 00 00"), Distrust::Anywhere);
    // je 1f; lock 1: xadd %eax,(%rdi); ret
    assert_eq!(why("74 01 f0 0f c1 07 c3"), Distrust::Overlap);
    // jmp, to where no function is; nop, and nothing behind it
    assert_eq!(why("e9 00 10 00 00"), Distrust::Elsewhere);
    assert_eq!(why("90"), Distrust::Elsewhere);
    let long = "90 ".repeat(1001);
    assert_eq!(why(&long), Distrust::TooLong);
}

#[test]
fn numbers_that_do_not_fit() {
    // sub $0x7fffffff,%rsp, twice; ud2
    let found = rows("48 81 ec ff ff ff 7f 48 81 ec ff ff ff 7f 0f 0b");
    assert_eq!(found, [(0, at(REG_RSP, 8)), (7, Rule::NONE)]);
}
