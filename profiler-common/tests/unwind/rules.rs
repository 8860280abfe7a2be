//! Every kind of rule, by what it does to a stack.

use core::mem::offset_of;

use profiler_common::unwind::{
    CfaKind, REG_RBP, REG_RSP, REGISTERS, RbpKind, Registers, Rule, TokenKind, UnwindStatus,
};
use proptest::prelude::*;

use crate::support::memory::Space;
use crate::support::native::{
    BELOW, CALL, FRAMED, FUNCTION, Program, Scene, by, interrupted, pushed, with,
};

/// The registers in a leaf that left the caller's frame pointer alone.
fn leaf(scene: &Scene, pc: u64) -> Registers {
    with(interrupted(pc, scene.sp), REG_RBP, scene.rbp)
}

#[test]
fn frames_counted_from_each_register() {
    for reg in (0..REGISTERS as u8).filter(|reg| *reg != REG_RSP && *reg != REG_RBP) {
        for offset in [0, 8, 0x30, -0x18, 0x12_3456, -0x12_3456] {
            let mut scene = Scene::new(0x40);
            let pc = scene.program.function(by(reg, offset)) + 5;
            let value = scene.cfa.wrapping_sub(offset as i64 as u64);
            let registers = with(leaf(&scene, pc), reg, value);
            scene.check(&format!("register {reg}, {offset}"), &registers);
        }
    }
    let mut scene = Scene::new(0x40);
    let pc = scene.program.function(by(REG_RSP, 0x40)) + 5;
    scene.check("rsp", &leaf(&scene, pc));
}

/// `push rbp; mov rbp, rsp`, interrupted before, between and behind.
#[test]
fn a_leaf_in_its_prologue() {
    let rules = [
        (0, by(REG_RSP, 8)),
        (1, pushed(REG_RSP, 16)),
        (4, FRAMED),
        // And `ret`, when `leave` is done.
        (0x3f, by(REG_RSP, 8)),
    ];
    for (offset, pushes, moved) in [
        (0, 0, false),
        (1, 1, false),
        (3, 1, false),
        (4, 1, true),
        (0x3e, 1, true),
        (0x3f, 0, false),
    ] {
        let mut scene = Scene::new(8 + 8 * pushes);
        let pc = scene.program.function_of(&rules) + offset;
        if pushes == 1 {
            scene.space.put_u64(scene.sp, scene.rbp);
        }
        let rbp = if moved { scene.sp } else { scene.rbp };
        let registers = with(interrupted(pc, scene.sp), REG_RBP, rbp);
        scene.check(&format!("{offset}"), &registers);
    }
}

/// A leaf function may keep what it saves below the stack pointer.
#[test]
fn a_leaf_that_saves_in_the_red_zone() {
    let mut scene = Scene::new(8);
    let rule = Rule {
        rbp: RbpKind::AtCfa as u8,
        rbp_offset: -128,
        ..by(REG_RSP, 8)
    };
    let pc = scene.program.function(rule) + 5;
    scene.space.put_u64(scene.cfa - 128, scene.rbp);
    scene.check("red zone", &interrupted(pc, scene.sp));
    assert!(scene.cfa - 128 >= scene.sp - BELOW);
}

/// A function that aligns its stack keeps where its frame ends (`-mstackrealign`, or large
/// vectors): `CFA = *(rbp - 8)`, and the caller's `rbp` at its own.
#[test]
fn a_function_that_aligned_its_stack() {
    let rule = Rule {
        cfa: CfaKind::Deref as u8,
        rbp: RbpKind::AtRbp as u8,
        rbp_offset: 0,
        ..by(REG_RBP, -8)
    };
    for second in [0, 8, -16] {
        let mut scene = Scene::new(0x100);
        let rule = Rule {
            cfa_second: second,
            ..rule
        };
        let pc = scene.program.function(rule) + 5;
        let own = scene.sp + 0x60;
        scene.space.put_u64(own, scene.rbp);
        let kept = scene.cfa.wrapping_sub(second as u64);
        scene.space.put_u64(own - 8, kept);
        let registers = with(interrupted(pc, scene.sp), REG_RBP, own);
        scene.check(&format!("{second}"), &registers);
        // It cannot be read.
        let registers = with(registers, REG_RBP, 0x10);
        scene.ends("deref", &registers, UnwindStatus::StackUnreadable, 1);
    }
}

/// The caller of such a function may be one itself, and then its `rbp` is known.
#[test]
fn aligned_stacks_on_top_of_each_other() {
    let mut program = Program::new();
    let rule = Rule {
        cfa: CfaKind::Deref as u8,
        rbp: RbpKind::AtRbp as u8,
        rbp_offset: 0,
        ..by(REG_RBP, -8)
    };
    let inner = program.function(rule);
    let outer = program.function(rule);
    let root = program.function(Rule::END);
    let mut space = Space::default();
    let sp = space.alloc(0x400);
    let (inner_rbp, inner_cfa) = (sp + 0x40, sp + 0x60);
    let (outer_rbp, outer_cfa) = (sp + 0x140, sp + 0x180);
    space.put_u64(inner_rbp, outer_rbp);
    space.put_u64(inner_rbp - 8, inner_cfa);
    space.put_u64(inner_cfa - 8, outer + CALL);
    space.put_u64(outer_rbp, 0);
    space.put_u64(outer_rbp - 8, outer_cfa);
    space.put_u64(outer_cfa - 8, root + CALL);
    let registers = with(interrupted(inner + 9, sp), REG_RBP, inner_rbp);
    let unwound = program.unwind(&space, &registers);
    assert_eq!(unwound.status, UnwindStatus::Complete);
    let calls = [outer, root].map(|function| TokenKind::Return(function + CALL));
    assert_eq!(unwound.tokens[1..], calls);
}

/// What OpenSSL's assembly does: `CFA = *(rsp + 8 * index + offset) + 8`.
#[test]
fn a_frame_end_that_is_kept_at_an_index() {
    for index in [0u64, 1, 5] {
        let mut scene = Scene::new(0x100);
        let rule = Rule {
            cfa: CfaKind::DerefIndexed as u8,
            index: 9,
            cfa_second: 8,
            ..by(REG_RSP, 0x20)
        };
        let pc = scene.program.function(rule) + 5;
        let at = scene.sp + 0x20 + 8 * index;
        scene.space.put_u64(at, scene.cfa - 8);
        let registers = with(leaf(&scene, pc), 9, index);
        scene.check(&format!("{index}"), &registers);
        let registers = with(registers, 9, u64::MAX >> 3);
        scene.ends("wild", &registers, UnwindStatus::StackUnreadable, 1);
    }
}

/// An entry jumps in its first half; in the second it has pushed its number.
#[test]
fn both_halves_of_an_entry_of_a_linkage_table() {
    for pushes_at in [6, 11] {
        for offset in 0..32 {
            let pushed = offset % 16 >= pushes_at;
            let mut scene = Scene::new(if pushed { 16 } else { 8 });
            let rule = Rule {
                cfa: CfaKind::Plt as u8,
                cfa_second: pushes_at as i16,
                ..by(REG_RSP, 8)
            };
            let pc = scene.program.function(rule) + offset;
            scene.check(&format!("{offset}"), &leaf(&scene, pc));
        }
    }
}

#[test]
fn frame_pointers_of_each_kind() {
    for (kind, offset) in [
        (RbpKind::Same, 0),
        (RbpKind::AtCfa, -16),
        (RbpKind::AtCfa, -0x38),
        (RbpKind::AtRbp, 0),
        (RbpKind::AtRbp, 0x10),
        (RbpKind::AtRbp, -0x10),
        (RbpKind::Unknown, 0),
    ] {
        let what = format!("{kind:?}, {offset}");
        let mut scene = Scene::new(0x80);
        let rule = Rule {
            rbp: kind as u8,
            rbp_offset: offset,
            ..by(REG_RSP, 0x80)
        };
        let pc = scene.program.function(rule) + 5;
        let own = scene.sp + 0x20;
        let (own, at) = match kind {
            RbpKind::Same => (scene.rbp, None),
            RbpKind::AtCfa => (1, Some(scene.cfa)),
            RbpKind::AtRbp => (own, Some(own)),
            RbpKind::Unknown => (scene.rbp, None),
        };
        if let Some(at) = at {
            let at = at.wrapping_add(i64::from(offset) as u64);
            scene.space.put_u64(at, scene.rbp);
        }
        let registers = with(interrupted(pc, scene.sp), REG_RBP, own);
        if kind == RbpKind::Unknown {
            // The caller's frame ends where its frame pointer says.
            scene.ends(&what, &registers, UnwindStatus::NoRule, 2);
        } else {
            scene.check(&what, &registers);
        }
    }
}

/// A frame pointer that was lost is found again where a caller saved it.
#[test]
fn a_lost_frame_pointer_stays_lost_until_it_is_restored() {
    for (middle, end) in [
        (by(REG_RSP, 16), UnwindStatus::NoRule),
        (pushed(REG_RSP, 16), UnwindStatus::Complete),
        (
            Rule {
                rbp: RbpKind::AtRbp as u8,
                ..by(REG_RSP, 16)
            },
            UnwindStatus::NoRule,
        ),
    ] {
        let mut scene = Scene::new(0x40);
        let lost = Rule {
            rbp: RbpKind::Unknown as u8,
            ..by(REG_RSP, 0x30)
        };
        let pc = scene.program.function(lost) + 5;
        let middle = scene.program.function(middle) + CALL;
        scene.space.put_u64(scene.sp + 0x28, middle);
        scene.space.put_u64(scene.sp + 0x30, scene.rbp);
        let unwound = scene.unwind(&leaf(&scene, pc));
        assert_eq!(unwound.status, end);
        assert_eq!(unwound.tokens[1], TokenKind::Return(middle));
        let all = 3 + usize::from(end == UnwindStatus::Complete);
        assert_eq!(unwound.tokens.len(), all);
    }
}

#[test]
fn return_addresses_elsewhere() {
    for offset in [-8, -16, -0x38, 8, 0] {
        let mut scene = Scene::new(0x40);
        let rule = Rule {
            ra_offset: offset,
            ..by(REG_RSP, 0x40)
        };
        let pc = scene.program.function(rule) + 5;
        scene.space.put_u64(scene.cfa - 8, 0x1234);
        let at = scene.cfa.wrapping_add(i64::from(offset) as u64);
        scene.space.put_u64(at, scene.caller);
        scene.check(&format!("{offset}"), &leaf(&scene, pc));
    }
}

/// A call that does not return may be the last of its function.
#[test]
fn a_call_at_the_end_of_its_function() {
    let mut scene = Scene::new(0x40);
    let pc = scene.program.function(by(REG_RSP, 0x30)) + 5;
    let middle = scene.program.function(by(REG_RSP, 0x10)) + FUNCTION;
    // What is behind it has another rule.
    assert_eq!(scene.program.function(by(REG_RSP, 0x1000)), middle);
    scene.space.put_u64(scene.sp + 0x28, middle);
    let unwound = scene.unwind(&leaf(&scene, pc));
    assert_eq!(unwound.status, UnwindStatus::Complete);
    assert_eq!(unwound.tokens[1], TokenKind::Return(middle));
    // An instruction that is interrupted there is of the other one.
    let registers = leaf(&scene, middle);
    scene.ends("exact", &registers, UnwindStatus::StackUnreadable, 1);
}

#[test]
fn code_without_a_rule_is_passed_by_its_frame_pointer() {
    let mut scene = Scene::new(0x40);
    let own = scene.cfa - 16;
    scene.space.put_u64(own, scene.rbp);
    let pc = scene.program.function(Rule::NONE) + 5;
    let unruled = with(interrupted(pc, scene.sp), REG_RBP, own);
    // In a mapping that has no table, too.
    let anonymous = 0x7777_0000_0000;
    let mut mapping = scene.program.mappings[0];
    mapping.start = anonymous;
    mapping.end = anonymous + 0x1000;
    mapping.table = 0;
    scene.program.mappings.push(mapping);
    let elsewhere = Registers {
        pc: anonymous + 0x123,
        ..unruled
    };
    for registers in [unruled, elsewhere] {
        let unwound = scene.unwind(&registers);
        assert_eq!(unwound.status, UnwindStatus::Complete);
        assert_eq!(unwound.tokens, scene.whole(registers.pc));
        assert_eq!((unwound.by_frame_pointer, unwound.skipped), (1, 0));
    }
}

/// Where the registers of `struct sigcontext` are in `ucontext_t`, in DWARF's order.
const IN_SIGCONTEXT: [libc::c_int; REGISTERS] = [
    libc::REG_RAX,
    libc::REG_RDX,
    libc::REG_RCX,
    libc::REG_RBX,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_RBP,
    libc::REG_RSP,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];
/// A signal handler returns to where `ucontext_t` is on top of the stack.
const SIGCONTEXT: u64 = offset_of!(libc::ucontext_t, uc_mcontext) as u64;

const SIGNAL: Rule = Rule {
    cfa: CfaKind::Signal as u8,
    rbp: RbpKind::Unknown as u8,
    ..by(REG_RSP, SIGCONTEXT as i32)
};

fn put_sigcontext(space: &mut Space, at: u64, registers: &Registers) {
    for (number, index) in IN_SIGCONTEXT.iter().enumerate() {
        space.put_u64(at + 8 * *index as u64, registers.general[number]);
    }
    space.put_u64(at + 8 * libc::REG_RIP as u64, registers.pc);
}

/// A signal's handler runs on the stack that was interrupted, or on one below or above it; the
/// frame of what it interrupted ends where any of the registers says.
#[test]
fn signal_frames() {
    // Bytes of the frame that the kernel builds, without vectors.
    let frame = size_of::<libc::ucontext_t>() as u64 + size_of::<libc::siginfo_t>() as u64;
    for stack in ["the same", "below", "above"] {
        for reg in 0..REGISTERS as u8 {
            let mut scene = Scene::new(0x2000);
            let (handler_sp, sp) = match stack {
                // Below the red zone.
                "the same" => (scene.sp, scene.sp + 0x1000),
                "above" => (scene.space.alloc(0x1000), scene.sp + 0x1000),
                _ => {
                    let mut space = Space::default();
                    let other = space.alloc(0x1000);
                    // The scene's stack is moved: a second one, above.
                    let mut above = Scene::new(0x2000);
                    let moved = space.alloc((BELOW + 0x2080) as usize) + BELOW;
                    above.cfa = moved + 0x2000;
                    above.rbp = above.cfa + 0x50;
                    space.put_u64(above.cfa - 8, above.caller);
                    space.put_u64(above.rbp + 8, above.root);
                    above.sp = moved;
                    above.space = space;
                    scene = above;
                    (other, scene.sp + 0x1000)
                }
            };
            let what = format!("{stack} stack, register {reg}");
            let interrupted_at = scene.program.function(Rule {
                rbp: RbpKind::AtCfa as u8,
                rbp_offset: -0x30,
                ..by(reg, 0x18)
            }) + 7;
            scene.space.put_u64(scene.cfa - 0x30, scene.rbp);
            let mut before = with(interrupted(interrupted_at, sp), reg, scene.cfa - 0x18);
            before.pc = interrupted_at;
            // The handler, and what it returns to.
            let handler = scene.program.function(by(REG_RSP, 0x20)) + 9;
            let restorer = scene.program.function(SIGNAL) + 1;
            scene.space.put_u64(handler_sp + 0x18, restorer);
            let context = handler_sp + 0x20;
            assert!(stack != "the same" || context + frame < sp);
            put_sigcontext(&mut scene.space, context + SIGCONTEXT, &before);

            let unwound = scene.unwind(&interrupted(handler, handler_sp));
            assert_eq!(unwound.status, UnwindStatus::Complete, "{what}");
            let expected = [
                TokenKind::Exact(handler),
                TokenKind::Return(restorer),
                TokenKind::Exact(interrupted_at),
                TokenKind::Return(scene.caller),
                TokenKind::Return(scene.root),
            ];
            assert_eq!(unwound.tokens, expected, "{what}");
        }
    }
}

#[test]
fn a_signal_frame_that_cannot_be_read_ends_the_stack() {
    let mut scene = Scene::new(8);
    let pc = scene.program.function(SIGNAL) + 1;
    scene.ends("cut", &leaf(&scene, pc), UnwindStatus::StackUnreadable, 1);
}

/// How a function of a stack keeps its frame.
#[derive(Clone, Copy, Debug)]
enum Keeps {
    /// Nothing: its frame ends so far above the stack pointer.
    Nothing,
    /// The same, but it saves and uses `rbp` for something else.
    Saves,
    /// A frame pointer.
    Pointer,
    /// A frame pointer, and no rule.
    NoRule,
    /// A pointer to the end of its frame.
    Aligned,
}

/// Builds a stack by calling, from the outermost function on, and unwinds it.
fn check_calls(calls: &[(Keeps, u64)]) {
    let mut program = Program::new();
    let root = program.function(Rule::END) + CALL;
    let total: u64 = calls.iter().map(|(_, words)| words * 8).sum();
    let mut space = Space::default();
    // Not a byte more than there is: blocks at the end of what can be read.
    let start = space.alloc(total as usize);
    let mut sp = start + total;
    let mut rbp = 0x1234_5678;
    let mut from = root;
    let mut expected = vec![TokenKind::Return(root)];
    for (keeps, words) in calls {
        let bytes = words * 8;
        let cfa = sp;
        space.put_u64(cfa - 8, from);
        sp -= bytes;
        let rule = match keeps {
            Keeps::Nothing => by(REG_RSP, bytes as i32),
            Keeps::Saves => {
                space.put_u64(cfa - 16, rbp);
                rbp = 0x10;
                pushed(REG_RSP, bytes as i32)
            }
            Keeps::Pointer | Keeps::NoRule => {
                space.put_u64(cfa - 16, rbp);
                rbp = cfa - 16;
                if matches!(keeps, Keeps::Pointer) {
                    FRAMED
                } else {
                    Rule::NONE
                }
            }
            Keeps::Aligned => {
                space.put_u64(sp + 8, rbp);
                space.put_u64(sp, cfa);
                rbp = sp + 8;
                Rule {
                    cfa: CfaKind::Deref as u8,
                    rbp: RbpKind::AtRbp as u8,
                    rbp_offset: 0,
                    ..by(REG_RBP, -8)
                }
            }
        };
        from = program.function(rule) + CALL;
        expected.push(TokenKind::Return(from));
    }
    expected.reverse();
    expected[0] = TokenKind::Exact(from);
    let registers = with(interrupted(from, sp), REG_RBP, rbp);
    let unwound = program.unwind(&space, &registers);
    assert_eq!(unwound.status, UnwindStatus::Complete);
    assert_eq!(unwound.tokens, expected);
    let unruled = calls
        .iter()
        .filter(|(keeps, _)| matches!(keeps, Keeps::NoRule));
    assert_eq!(unwound.by_frame_pointer as usize, unruled.count());
}

/// Frames of each size around those at which the stack is read in another way.
#[test]
fn frames_of_every_size() {
    for words in (3..20).chain(110..140).chain([500, 5000]) {
        for keeps in [
            Keeps::Nothing,
            Keeps::Saves,
            Keeps::Pointer,
            Keeps::NoRule,
            Keeps::Aligned,
        ] {
            let small = (Keeps::Saves, 3);
            let this = (keeps, words);
            check_calls(&[this, small, this, this, small]);
            check_calls(&[this]);
        }
    }
}

const CASES: u32 = if cfg!(miri) { 3 } else { 300 };

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    /// Whatever the stack, the unwind gives it.
    #[test]
    fn any_calls_come_out_as_they_are(
        calls in proptest::collection::vec(
            (
                prop::sample::select(vec![
                    Keeps::Nothing, Keeps::Saves, Keeps::Pointer, Keeps::NoRule, Keeps::Aligned,
                ]),
                prop_oneof![6 => 3u64..30, 2 => 100u64..150, 1 => 3u64..2000],
            ),
            1..if cfg!(miri) { 12 } else { 200 },
        ),
    ) {
        check_calls(&calls);
    }
}
