//! Every way to end.

use profiler_common::unwind::{
    self, CfaKind, MAX_TOKENS, REG_RBP, REG_RIP, REG_RSP, RbpKind, Registers, Rule, Segments,
    StackBlock, TABLE_PENDING, Token, TokenKind, Unwind, UnwindStatus,
};

use crate::support::memory::Space;
use crate::support::native::{
    CALL, MAPPINGS, Program, Scene, Unwinder, Words, by, interrupted, mappings_table, pushed, with,
};

fn leaf(scene: &Scene, pc: u64) -> Registers {
    with(interrupted(pc, scene.sp), REG_RBP, scene.rbp)
}

#[test]
fn ends_are_numbered_in_their_order() {
    for (number, status) in UnwindStatus::ALL.into_iter().enumerate() {
        assert_eq!(status as usize, number);
        assert_eq!(UnwindStatus::from_u8(number as u8), status);
    }
    assert_eq!(UnwindStatus::from_u8(200), UnwindStatus::Internal);
}

/// Behind the first frame of a thread without call frame information there is 0, and it has no
/// frame pointer.
#[test]
fn a_return_address_of_0_is_the_end_where_the_frame_pointer_is_0_too() {
    let saved = |rbp| Rule {
        rbp: rbp as u8,
        rbp_offset: -16,
        ..by(REG_RSP, 0x40)
    };
    // In the register, or where the rule says that it was saved.
    for (kind, register, word, end) in [
        (RbpKind::Same, 0, 1, UnwindStatus::Complete),
        (RbpKind::Same, 1, 0, UnwindStatus::NoMapping),
        (RbpKind::AtCfa, 1, 0, UnwindStatus::Complete),
        (RbpKind::AtCfa, 0, 1, UnwindStatus::NoMapping),
        // Not known: what the register still holds says nothing.
        (RbpKind::Unknown, 0, 0, UnwindStatus::NoMapping),
    ] {
        let mut scene = Scene::new(0x40);
        scene.space.put_u64(scene.cfa - 8, 0);
        scene.space.put_u64(scene.cfa - 16, word);
        let pc = scene.program.function(saved(kind)) + 5;
        let registers = with(interrupted(pc, scene.sp), REG_RBP, register);
        scene.ends(&format!("{kind:?}"), &registers, end, 1);
    }
    // A call of a null pointer is none, whatever the frame pointer.
    let scene = Scene::new(0x40);
    for rbp in [0, scene.rbp] {
        let registers = with(interrupted(0, scene.sp), REG_RBP, rbp);
        scene.ends("null", &registers, UnwindStatus::NoMapping, 1);
    }
}

/// Code without a rule whose frame pointer is 0 is the outermost; the interrupted function may have
/// anything in that register.
#[test]
fn a_frame_pointer_of_0_in_code_without_a_rule_is_the_end() {
    let mut scene = Scene::new(0x40);
    let unruled = scene.program.function(Rule::NONE);
    let pc = scene.program.function(by(REG_RSP, 0x40)) + 5;
    scene.space.put_u64(scene.cfa - 8, unruled + CALL);
    let registers = with(interrupted(pc, scene.sp), REG_RBP, 0);
    let unwound = scene.unwind(&registers);
    assert_eq!(unwound.status, UnwindStatus::Complete);
    let both = [TokenKind::Exact(pc), TokenKind::Return(unruled + CALL)];
    assert_eq!(unwound.tokens, both);
    assert_eq!((unwound.by_frame_pointer, unwound.skipped), (0, 0));
    let registers = with(interrupted(unruled + 5, scene.sp), REG_RBP, 0);
    scene.ends("leaf", &registers, UnwindStatus::NotAdvancing, 1);
}

#[test]
fn the_outermost_frame_is_the_end_wherever_it_is() {
    let mut scene = Scene::new(0x40);
    let pc = scene.program.function(Rule::END) + 5;
    scene.ends("leaf", &leaf(&scene, pc), UnwindStatus::Complete, 1);
    // Nothing behind it is read.
    let registers = interrupted(pc, 0x1000);
    scene.ends("anywhere", &registers, UnwindStatus::Complete, 1);
}

/// An instruction that was interrupted is code; what is found on the stack may be none.
#[test]
fn code_in_no_mapping() {
    let mut scene = Scene::new(0x40);
    for pc in [0x1000, 0x5555_5555_5fff, u64::MAX >> 8] {
        scene.ends("leaf", &leaf(&scene, pc), UnwindStatus::NoMapping, 1);
    }
    let pc = scene.program.function(by(REG_RSP, 0x40)) + 5;
    for caller in [0x1000, 0x5555_5555_6000, u64::MAX, 1] {
        scene.space.put_u64(scene.cfa - 8, caller);
        scene.ends("caller", &leaf(&scene, pc), UnwindStatus::NoMapping, 1);
    }
}

#[test]
fn code_whose_table_is_not_there_yet() {
    let mut scene = Scene::new(0x40);
    let pc = scene.program.function(by(REG_RSP, 0x40)) + 5;
    let late = 0x7777_0000_0000;
    let mut mapping = scene.program.mappings[0];
    mapping.start = late;
    mapping.end = late + 0x1000;
    mapping.table = TABLE_PENDING;
    scene.program.mappings.push(mapping);
    let registers = leaf(&scene, late);
    scene.ends("leaf", &registers, UnwindStatus::NotReady, 1);
    scene.space.put_u64(scene.cfa - 8, late + CALL);
    let unwound = scene.unwind(&leaf(&scene, pc));
    assert_eq!(unwound.status, UnwindStatus::NotReady);
    let both = [TokenKind::Exact(pc), TokenKind::Return(late + CALL)];
    assert_eq!(unwound.tokens, both);
}

#[test]
fn a_frame_must_end_above_the_stack_pointer() {
    for below in [0, 8, 0x1000] {
        let mut scene = Scene::new(0x40);
        let pc = scene.program.function(by(REG_RSP, -below)) + 5;
        let registers = leaf(&scene, pc);
        scene.ends("rsp", &registers, UnwindStatus::NotAdvancing, 1);

        let mut scene = Scene::new(0x40);
        let pc = scene.program.function(pushed(REG_RBP, 16)) + 5;
        let rbp = scene.sp - 16 - below as u64;
        let registers = with(leaf(&scene, pc), REG_RBP, rbp);
        scene.ends("rbp", &registers, UnwindStatus::NotAdvancing, 1);
    }
    // Nor may it go around.
    let mut scene = Scene::new(0x40);
    let pc = scene.program.function(by(REG_RSP, 0x40)) + 5;
    let registers = interrupted(pc, u64::MAX - 0x20);
    scene.ends("wraps", &registers, UnwindStatus::NotAdvancing, 1);
}

#[test]
fn a_stack_that_cannot_be_read() {
    let mut scene = Scene::new(0x40);
    let pc = scene.program.function(pushed(REG_RSP, 0x40)) + 5;
    for sp in [0x1000, u64::MAX - 0x100, scene.cfa + 0x48] {
        let registers = interrupted(pc, sp);
        scene.ends("all", &registers, UnwindStatus::StackUnreadable, 1);
    }
    // The return address can be read, the frame pointer cannot.
    for (kind, rbp) in [(RbpKind::AtCfa, 0), (RbpKind::AtRbp, 0x1000)] {
        let mut scene = Scene::new(0x40);
        let rule = Rule {
            rbp: kind as u8,
            rbp_offset: -0x2000,
            ..by(REG_RSP, 0x40)
        };
        let pc = scene.program.function(rule) + 5;
        let registers = with(interrupted(pc, scene.sp), REG_RBP, rbp);
        scene.ends("rbp", &registers, UnwindStatus::StackUnreadable, 1);
    }
}

#[test]
fn rules_that_nobody_can_follow() {
    let good = by(REG_RSP, 0x40);
    for rule in [
        Rule { cfa: 6, ..good },
        Rule { cfa: 0xff, ..good },
        by(REG_RIP, 0x40),
        by(0xff, 0x40),
        Rule {
            cfa: CfaKind::DerefIndexed as u8,
            index: 16,
            ..good
        },
    ] {
        let mut scene = Scene::new(0x40);
        let pc = scene.program.function(rule) + 5;
        scene.ends("rule", &leaf(&scene, pc), UnwindStatus::NoRule, 1);
    }
    // Only the interrupted function has other registers than these two.
    for reg in (0..16).filter(|reg| *reg != REG_RBP && *reg != REG_RSP) {
        let mut scene = Scene::new(0x40);
        let pc = scene.program.function(by(REG_RSP, 0x40)) + 5;
        let caller = scene.program.function(by(reg, 0x40)) + CALL;
        scene.space.put_u64(scene.cfa - 8, caller);
        let unwound = scene.unwind(&leaf(&scene, pc));
        assert_eq!(unwound.status, UnwindStatus::NoRule, "{reg}");
        assert_eq!(unwound.tokens[1..], [TokenKind::Return(caller)]);
    }
}

/// A rule that is not in the table of all rules is none.
#[test]
fn numbers_without_a_rule() {
    let mut scene = Scene::new(0x40);
    let pc = scene.program.function(by(REG_RSP, 0x40)) + 5;
    scene.program.words.rules.truncate(1);
    let own = scene.cfa - 16;
    scene.space.put_u64(own, scene.rbp);
    let unwound = scene.unwind(&with(leaf(&scene, pc), REG_RBP, own));
    assert_eq!(unwound.tokens, scene.whole(pc));
    assert_eq!(unwound.status, UnwindStatus::StackUnreadable);
}

#[test]
fn frame_pointers_that_lead_nowhere() {
    let mut scene = Scene::new(0x40);
    let pc = scene.program.function(Rule::NONE) + 5;
    for (rbp, end) in [
        (0, UnwindStatus::NotAdvancing),
        (scene.sp - 16, UnwindStatus::NotAdvancing),
        (u64::MAX - 15, UnwindStatus::NotAdvancing),
        (1 << 62, UnwindStatus::StackUnreadable),
    ] {
        let registers = with(interrupted(pc, scene.sp), REG_RBP, rbp);
        scene.ends("leaf", &registers, end, 1);
    }
}

/// Frames that are counted were passed.
#[test]
fn frame_pointers_that_were_of_no_use_are_not_counted() {
    let mut scene = Scene::new(0x40);
    let unruled = scene.program.function(Rule::NONE);
    let lost = Rule {
        rbp: RbpKind::Unknown as u8,
        ..by(REG_RSP, 0x40)
    };
    let pc = scene.program.function(lost) + 5;
    scene.space.put_u64(scene.cfa - 8, unruled + CALL);
    let unwound = scene.unwind(&leaf(&scene, pc));
    assert_eq!(unwound.status, UnwindStatus::NoRule);
    assert_eq!(unwound.by_frame_pointer, 0);

    let registers = with(interrupted(unruled + 5, scene.sp), REG_RBP, 0);
    let unwound = scene.unwind(&registers);
    assert_eq!(unwound.status, UnwindStatus::NotAdvancing);
    assert_eq!(unwound.by_frame_pointer, 0);
}

/// A function that calls itself so often.
fn recursion(frames: u64) -> (Program, Space, Registers) {
    let mut program = Program::new();
    let function = program.function(by(REG_RSP, 16));
    let root = program.function(Rule::END);
    let mut space = Space::default();
    let sp = space.alloc(frames as usize * 16);
    for frame in 0..frames {
        let from = if frame + 1 == frames { root } else { function };
        space.put_u64(sp + frame * 16 + 8, from + CALL);
    }
    (program, space, interrupted(function + 1, sp))
}

#[test]
fn the_deepest_stack_is_whole_and_one_more_frame_is_cut_at_the_root() {
    let most = MAX_TOKENS as u64;
    let (program, space, registers) = recursion(most - 1);
    let whole = program.unwind(&space, &registers);
    assert_eq!(whole.status, UnwindStatus::Complete);
    assert_eq!(whole.tokens.len(), MAX_TOKENS);
    let (program, space, registers) = recursion(most);
    let cut = program.unwind(&space, &registers);
    assert_eq!(cut.status, UnwindStatus::Truncated);
    assert_eq!(cut.tokens.len(), MAX_TOKENS);
    assert_eq!(cut.tokens[..MAX_TOKENS - 1], whole.tokens[..MAX_TOKENS - 1]);
}

/// A signal's frame says where to go on, and may say: there.
#[test]
fn a_ring_of_signal_frames_ends() {
    let mut scene = Scene::new(0x400);
    let rule = Rule {
        cfa: CfaKind::Signal as u8,
        ..by(REG_RSP, 0)
    };
    let pc = scene.program.function(rule) + 5;
    scene.space.put_u64(scene.sp + 8 * 15, scene.sp);
    scene.space.put_u64(scene.sp + 8 * 16, pc);
    let unwound = scene.unwind(&interrupted(pc, scene.sp));
    assert_eq!(unwound.status, UnwindStatus::Truncated);
    assert_eq!(unwound.tokens, [TokenKind::Exact(pc); MAX_TOKENS]);
}

/// Frames of the kernel come first, and are part of the hash like all others.
#[test]
fn tokens_that_are_there_already() {
    let (program, space, registers) = recursion(10);
    let kernel = [0xffff_ffff_8100_1234, 0xffff_ffff_8100_5678].map(Token);
    let alone = program.unwind(&space, &registers);
    // What the program's tables are is the program's matter.
    let mut words = Words {
        rules: program.words.rules.clone(),
        ..Words::default()
    };
    let mapping = unwind::Mapping {
        table: 0,
        ..program.mappings[0]
    };
    words.tables.insert(MAPPINGS, mappings_table(&[mapping]));
    let mut unwinder = Unwinder::new();
    let mut block = StackBlock::EMPTY;
    unwind::begin(&mut unwinder.state, &mut block, 1);
    unwinder.tokens[..2].copy_from_slice(&kernel);
    unwinder.state.count = 2;
    unwind::fold_tokens(&mut unwinder.state, &unwinder.tokens, 127);
    let folded = unwinder.state.hash;
    assert_ne!(folded, 0);
    let registers = with(registers, REG_RBP, 0);
    let mut segments = Segments::EMPTY;
    let table = (MAPPINGS, 1);
    let unwound = unwinder.go_on(&space, &words, table, &registers, &mut segments);
    let kernel = kernel.map(|token| TokenKind::Kernel(token.0));
    assert_eq!(unwound.tokens[..2], kernel);
    assert_eq!(unwound.tokens[2], alone.tokens[0]);
    assert_ne!(unwound.hash, folded);

    // As if they had been pushed: the order counts, and each.
    let hash = |tokens: &[u64]| {
        let mut state = Unwind::NEW;
        let mut all = Unwinder::new().tokens;
        for (place, token) in all.iter_mut().zip(tokens) {
            *place = Token(*token);
        }
        state.count = tokens.len() as u32;
        unwind::fold_tokens(&mut state, &all, 127);
        state.hash
    };
    assert_eq!(hash(&[]), 0);
    assert_ne!(hash(&[1, 2]), hash(&[2, 1]));
    assert_ne!(hash(&[1, 2]), hash(&[1]));
    assert_eq!(hash(&[1; 127]), hash(&[1; 128]));
}

#[test]
fn equal_stacks_have_equal_hashes_and_others_do_not() {
    let (program, space, registers) = recursion(10);
    let first = program.unwind(&space, &registers);
    let (program, space, registers) = recursion(10);
    assert_eq!(program.unwind(&space, &registers), first);
    let other = Registers {
        pc: registers.pc + 1,
        ..registers
    };
    assert_ne!(program.unwind(&space, &other).hash, first.hash);
    let (program, space, registers) = recursion(11);
    assert_ne!(program.unwind(&space, &registers).hash, first.hash);
}
