//! What an activation with a rule teaches, for code without one.

use profiler_common::unwind::{
    REG_RBP, REG_RSP, RbpKind, Registers, Rule, Segments, TokenKind, UnwindStatus,
};

use crate::support::native::{CALL, Scene, Unwinder, Unwound, by, interrupted, pushed, with};

/// Bytes of the loop's frame, and where in it the walk finds something.
const LOOP: u64 = 0x200;
const ENTRY: u64 = 0xa8;
/// Bytes of what the loop calls.
const CALLED: u64 = 0x60;

/// The interpreter's loop, called by what has a frame pointer, and what the loop calls.
struct Interpreter {
    scene: Scene,
    /// Where the called returns to in the loop.
    eval: u64,
    /// An instruction of a function with a rule.
    called: u64,
    /// An instruction of code without one.
    jit: u64,
    /// Where the loop's frame begins.
    frame: u64,
}

impl Interpreter {
    fn new(eval: Rule) -> Self {
        let mut scene = Scene::new(CALLED + LOOP);
        let eval = scene.program.function(eval) + CALL;
        let called = scene.program.function(by(REG_RSP, CALLED as i32)) + 3;
        let jit = scene.program.function(Rule::NONE) + 3;
        let frame = scene.sp + CALLED;
        scene.space.put_u64(frame - 8, eval);
        scene.space.put_u64(scene.cfa - 16, scene.rbp);
        Self {
            scene,
            eval,
            called,
            jit,
            frame,
        }
    }

    fn segments(&self) -> Segments {
        let mut segments = Segments::EMPTY;
        segments.push(self.frame + ENTRY, 3);
        segments
    }

    fn unwind(&self, registers: &Registers, unwinder: &mut Unwinder) -> Unwound {
        let (program, space) = (&self.scene.program, &self.scene.space);
        program.unwind_with(space, registers, unwinder, &mut self.segments())
    }

    /// Registers in the code that the loop called; the frame pointer is not one.
    fn at(&self, pc: u64) -> Registers {
        interrupted(pc, self.scene.sp)
    }

    /// Learns from a stack on which all code has a rule.
    fn learn(&self, unwinder: &mut Unwinder, rbp: u64) {
        let registers = with(self.at(self.called), REG_RBP, rbp);
        let unwound = self.unwind(&registers, unwinder);
        assert_eq!(unwound.status, UnwindStatus::Complete);
        let expected = [
            TokenKind::Exact(self.called),
            TokenKind::Python(3),
            TokenKind::Return(self.eval),
            TokenKind::Return(self.scene.caller),
            TokenKind::Return(self.scene.root),
        ];
        assert_eq!(unwound.tokens, expected);
        assert_eq!((unwound.by_frame_pointer, unwound.skipped), (0, 0));
    }

    /// The stack from code without a rule, past the loop.
    fn skipped(&self) -> [TokenKind; 5] {
        [
            TokenKind::Exact(self.jit),
            TokenKind::Skipped,
            TokenKind::Python(3),
            TokenKind::Return(self.scene.caller),
            TokenKind::Return(self.scene.root),
        ]
    }
}

const EVAL: Rule = pushed(REG_RSP, LOOP as i32);

#[test]
fn code_without_a_rule_is_left_to_the_next_activation() {
    let interpreter = Interpreter::new(EVAL);
    let mut unwinder = Unwinder::new();
    // Nothing is known yet, and the frame pointer is none.
    let lost = interpreter.unwind(&interpreter.at(interpreter.jit), &mut unwinder);
    assert_ne!(lost.status, UnwindStatus::Complete);
    assert_eq!(lost.tokens, [TokenKind::Exact(interpreter.jit)]);
    assert_eq!(lost.skipped, 0);

    interpreter.learn(&mut unwinder, 0);
    for _ in 0..2 {
        let unwound = interpreter.unwind(&interpreter.at(interpreter.jit), &mut unwinder);
        assert_eq!(unwound.status, UnwindStatus::Complete);
        assert_eq!(unwound.tokens, interpreter.skipped());
        assert_eq!((unwound.by_frame_pointer, unwound.skipped), (0, 1));
    }
}

/// The place in the frame is the same wherever in the loop the rule is taken, and however it
/// counts.
#[test]
fn what_is_learned_does_not_depend_on_the_rule() {
    let interpreter = Interpreter::new(pushed(REG_RBP, 16));
    let mut unwinder = Unwinder::new();
    interpreter.learn(&mut unwinder, interpreter.scene.cfa - 16);
    let unwound = interpreter.unwind(&interpreter.at(interpreter.jit), &mut unwinder);
    assert_eq!(unwound.status, UnwindStatus::Complete);
    assert_eq!(unwound.tokens, interpreter.skipped());
}

#[test]
fn another_state_of_the_mappings_has_to_be_learned() {
    let mut interpreter = Interpreter::new(EVAL);
    let mut unwinder = Unwinder::new();
    interpreter.learn(&mut unwinder, 0);
    interpreter.scene.program.generation += 1;
    let unwound = interpreter.unwind(&interpreter.at(interpreter.jit), &mut unwinder);
    assert_ne!(unwound.status, UnwindStatus::Complete);
    assert_eq!(unwound.skipped, 0);
    // The first one has been forgotten.
    interpreter.scene.program.generation -= 1;
    let unwound = interpreter.unwind(&interpreter.at(interpreter.jit), &mut unwinder);
    assert_eq!(unwound.skipped, 0);
    interpreter.learn(&mut unwinder, 0);
    let unwound = interpreter.unwind(&interpreter.at(interpreter.jit), &mut unwinder);
    assert_eq!(unwound.tokens, interpreter.skipped());
}

/// Where no activation is left above, frame pointers are what there is.
#[test]
fn what_lies_below_is_not_gone_to() {
    let mut interpreter = Interpreter::new(EVAL);
    let mut unwinder = Unwinder::new();
    interpreter.learn(&mut unwinder, 0);
    // On the caller's frame, the activation is passed.
    let scene = &mut interpreter.scene;
    scene.space.put_u64(scene.rbp, 0);
    let registers = with(interrupted(interpreter.jit, scene.cfa), REG_RBP, scene.rbp);
    let unwound = interpreter.unwind(&registers, &mut unwinder);
    assert_eq!(unwound.status, UnwindStatus::Complete);
    let root = TokenKind::Return(interpreter.scene.root);
    assert_eq!(unwound.tokens, [TokenKind::Exact(interpreter.jit), root]);
    assert_eq!((unwound.by_frame_pointer, unwound.skipped), (1, 0));
}

/// An activation without a rule, or one that was skipped, teaches nothing.
#[test]
fn only_a_rule_teaches() {
    let interpreter = Interpreter::new(Rule::NONE);
    let mut unwinder = Unwinder::new();
    let registers = with(
        interpreter.at(interpreter.called),
        REG_RBP,
        interpreter.scene.cfa - 16,
    );
    let unwound = interpreter.unwind(&registers, &mut unwinder);
    assert_eq!(unwound.status, UnwindStatus::Complete);
    assert_eq!(unwound.tokens[1], TokenKind::Python(3));
    assert_eq!(unwound.by_frame_pointer, 1);
    assert_eq!(unwinder.state.anchor.known, 0);
}

/// In code that nothing is known of, `rbp` may be anything: what the loop's rule says of its own
/// does not hold. Only what the loop saved at a known place of its frame does.
#[test]
fn the_frame_pointer_of_code_without_a_rule_is_not_the_loops() {
    for kind in [RbpKind::Same, RbpKind::AtRbp] {
        let mut interpreter = Interpreter::new(Rule {
            rbp: kind as u8,
            rbp_offset: 0,
            ..by(REG_RSP, LOOP as i32)
        });
        let mut unwinder = Unwinder::new();
        let rbp = match kind {
            RbpKind::AtRbp => interpreter.scene.cfa - 16,
            _ => interpreter.scene.rbp,
        };
        interpreter.learn(&mut unwinder, rbp);
        // Somewhere on the stack, where something lies that looks like a frame.
        let scene = &mut interpreter.scene;
        let wrong = scene.cfa + 0x10;
        scene.space.put_u64(wrong, wrong);
        scene.space.put_u64(wrong + 8, scene.caller);
        let registers = with(interpreter.at(interpreter.jit), REG_RBP, wrong);
        let unwound = interpreter.unwind(&registers, &mut unwinder);
        assert_eq!(unwound.status, UnwindStatus::NoRule, "{kind:?}");
        assert_eq!(unwound.tokens, interpreter.skipped()[..4], "{kind:?}");
    }
}

/// From 3.15 on the last that the walk passes is a frame in the thread's own state
/// (`_PyThreadStateImpl.base_frame`): it runs nothing, and lies anywhere.
#[test]
fn what_runs_no_frames_is_not_gone_to() {
    let interpreter = Interpreter::new(EVAL);
    let mut unwinder = Unwinder::new();
    interpreter.learn(&mut unwinder, 0);
    let mut scene = interpreter.scene;
    scene.space.put_u64(scene.rbp, 0);
    // Above all stacks.
    let state = scene.space.alloc(0x1000);
    let mut segments = Segments::EMPTY;
    segments.push(interpreter.frame + ENTRY, 3);
    segments.push(state + 0x100, 3);
    // What the loop's caller is called by has no rule.
    let unruled = scene.program.function(Rule::NONE) + CALL;
    let above = scene.rbp + 16;
    scene.space.put_u64(scene.rbp + 8, unruled);
    scene.space.put_u64(scene.rbp, above);
    scene.space.put_u64(above, 0);
    scene.space.put_u64(above + 8, scene.root);
    let registers = interrupted(interpreter.called, scene.sp);
    let (program, space) = (&scene.program, &scene.space);
    let unwound = program.unwind_with(space, &registers, &mut unwinder, &mut segments);
    let expected = [
        TokenKind::Exact(interpreter.called),
        TokenKind::Python(3),
        TokenKind::Return(interpreter.eval),
        TokenKind::Return(scene.caller),
        TokenKind::Return(unruled),
        TokenKind::Return(scene.root),
    ];
    assert_eq!(unwound.tokens, expected);
    assert_eq!(unwound.status, UnwindStatus::Complete);
    assert_eq!((unwound.by_frame_pointer, unwound.skipped), (1, 0));
}
