//! The places of Python frames: as the walk notes them, and as the unwind finds them.

use profiler_common::layout::{EntryKind, NONE, WalkLayout};
use profiler_common::mem::Memory;
use profiler_common::unwind::{
    MAX_SEGMENTS, REG_RBP, REG_RSP, Registers, Rule, Segments, TokenKind, UnwindStatus,
};
use profiler_common::walk::{self, Frame, MAX_FRAMES, Walk, WalkCache, WalkStatus};
use proptest::prelude::*;

use crate::support::native::{CALL, FRAMED, Program, Unwinder, by, interrupted, pushed, with};
use crate::support::python::{
    CFRAME_CONTENT, CFRAME_VERSION, CODE, DIRECT_VERSION, LAYOUTS, OBJECT, OBJECT_UNITS, Spec,
    Target, entry, python,
};

#[test]
fn places_come_in_their_order() {
    let mut segments = Segments::EMPTY;
    assert_eq!(segments.next_address(), 0);
    assert_eq!(segments.place(0, u64::MAX), None);
    for (address, end) in [(0x1010, 2), (0x1020, 2), (0x3000, 7)] {
        segments.push(address, end);
    }
    assert_eq!(segments.count, 3);
    assert_eq!(segments.get(1), Some((0x1020, 2)));
    assert_eq!(segments.get(3), None);
    // Not below the frame, not behind its end.
    assert_eq!(segments.place(0x1011, 0x2000), None);
    assert_eq!(segments.place(0x1000, 0x1010), None);
    assert_eq!((segments.next, segments.placed), (0, 0));
    // One at a time, and none twice.
    assert_eq!(segments.place(0x1000, 0x1100), Some(2));
    assert_eq!(segments.place(0x1020, 0x1021), Some(2));
    assert_eq!(segments.place(0x1000, 0x1100), None);
    assert_eq!((segments.next, segments.placed), (2, 2));
    assert_eq!(segments.next_address(), 0x3000);
    assert_eq!(segments.place(0x2000, 0x4000), Some(7));
    assert_eq!((segments.next, segments.placed), (3, 7));
    assert_eq!(segments.next_address(), 0);
    assert_eq!(segments.place(0, u64::MAX), None);

    segments.clear();
    assert_eq!((segments.count, segments.next, segments.placed), (0, 0, 0));
    assert_eq!(segments.get(0), None);
}

#[test]
fn frames_move_on() {
    let mut segments = Segments::EMPTY;
    for end in 0..3 {
        segments.push(0x1000 + u64::from(end), end);
    }
    for (by, ends) in [(0, [0, 1, 2]), (1, [1, 2, 3]), (-1, [0, 0, 1])] {
        segments.shift(by);
        let all = [0, 1, 2].map(|index| segments.get(index).unwrap().1);
        assert_eq!(all, ends, "{by}");
    }
    // A new walk begins without.
    segments.clear();
    segments.push(0x1000, 5);
    assert_eq!(segments.get(0), Some((0x1000, 5)));
}

#[test]
fn no_more_places_than_there_is_room_for() {
    let mut segments = Segments::EMPTY;
    for index in 0..MAX_SEGMENTS as u32 + 10 {
        segments.push(0x1000 + u64::from(index), index);
    }
    assert_eq!(segments.count as usize, MAX_SEGMENTS);
    let last = MAX_SEGMENTS as u32 - 1;
    assert_eq!(segments.get(last), Some((0x1000 + u64::from(last), last)));
    for index in [last + 1, u32::MAX] {
        assert_eq!(segments.get(index), None);
    }
}

/// No stack of a program is there; what is not an address does no harm to what is.
#[test]
fn addresses_in_the_high_half() {
    let mut segments = Segments::EMPTY;
    for address in [u64::MAX, 0xffff_8000_0000_1000, 0x7fff_ffff_fff8] {
        segments.clear();
        segments.push(address, 1023);
        assert_eq!(segments.get(0).unwrap().1, 1023, "{address:#x}");
        assert_eq!(segments.place(0x1000, 0x2000), None, "{address:#x}");
    }
    assert_eq!(segments.place(0x7fff_ffff_f000, u64::MAX), Some(1023));
}

/// One activation of the interpreter's loop, and how many functions of C it called before the next
/// one, or up to the leaf.
#[derive(Clone, Copy, Debug)]
struct Activation {
    frames: usize,
    calls: usize,
}

fn activation(frames: usize, calls: usize) -> Activation {
    Activation { frames, calls }
}

/// Bytes of the loop's frame, and where in it what the walk finds is.
const LOOP: u64 = 0x180;
const ENTRY: u64 = 0x40;
/// Bytes of the frame of a function of C.
const CALLED: u64 = 0x30;

/// A thread with both stacks.
#[derive(Clone)]
struct Thread {
    target: Target,
    program: Program,
    registers: Registers,
    /// Frames that the walk finds, leaf first.
    specs: Vec<Spec>,
    /// The `CFrame`s, newest first; behind the last, the thread state's own.
    cframes: Vec<u64>,
    /// The merged stack, leaf first.
    expected: Vec<TokenKind>,
}

impl Thread {
    /// Activations, leaf first.
    fn new(layout: WalkLayout, activations: &[Activation]) -> Self {
        let mut target = Target::new(layout);
        let mut program = Program::new();
        let eval = program.function(pushed(REG_RSP, LOOP as i32)) + CALL;
        let called = program.function(by(REG_RSP, CALLED as i32)) + CALL;
        let main = program.function(FRAMED) + CALL;
        let root = program.function(Rule::END) + CALL;
        let code = target.code(&CODE).address;

        let calls: usize = activations.iter().map(|of| of.calls).sum();
        let loops = activations.len() as u64 * LOOP;
        let bytes = loops + calls as u64 * CALLED + 0x40;
        let stack = target.space.alloc(bytes as usize);
        let top = stack + bytes;
        // What has a frame pointer is called by the outermost function.
        let rbp = top - 0x10;
        target.space.put_u64(rbp, 0);
        target.space.put_u64(rbp + 8, root);
        let mut sp = top - 0x40;
        let mut from = main;
        let mut saved = rbp;
        let mut expected = vec![TokenKind::Return(root), TokenKind::Return(main)];
        let mut entries = Vec::new();
        let mut python_left: usize = activations.iter().map(|of| of.frames).sum();
        for of in activations.iter().rev() {
            target.space.put_u64(sp - 8, from);
            target.space.put_u64(sp - 16, saved);
            saved = 0x77;
            sp -= LOOP;
            entries.push(sp + ENTRY);
            from = eval;
            expected.push(TokenKind::Return(eval));
            if layout.entry_kind != EntryKind::None as u8 {
                expected.push(TokenKind::Python(python_left as u32));
            }
            python_left -= of.frames;
            for _ in 0..of.calls {
                target.space.put_u64(sp - 8, from);
                sp -= CALLED;
                from = called;
                expected.push(TokenKind::Return(called));
            }
        }
        let leaf = expected
            .iter_mut()
            .rfind(|token| matches!(token, TokenKind::Return(_)));
        *leaf.unwrap() = TokenKind::Exact(from);
        expected.reverse();
        entries.reverse();

        // The Python frames, leaf first.
        let mut frames = Vec::new();
        let mut specs = Vec::new();
        let mut newest = Vec::new();
        for (of, at) in activations.iter().zip(&entries) {
            let first = frames.len();
            for index in 0..of.frames {
                let spec = python(code, 2 * (specs.len() as i32 + 1));
                let frame = target.frame(spec);
                if layout.frame_is_entry != NONE {
                    let oldest = u8::from(index + 1 == of.frames);
                    let flag = frame + u64::from(layout.frame_is_entry);
                    target.space.put(flag, &[oldest]);
                }
                frames.push(frame);
                specs.push(spec);
            }
            if layout.entry_kind == EntryKind::EntryFrame as u8 {
                frames.push(target.frame_at(*at, entry()));
            }
            newest.extend(frames.get(first));
        }
        let mut thread = Self {
            target,
            program,
            registers: with(interrupted(from, sp), REG_RBP, saved),
            specs,
            cframes: Vec::new(),
            expected,
        };
        if layout.tstate_cframe != NONE {
            let own = thread.target.cframe;
            let mut cframes = entries;
            if layout.cframe_frame != NONE {
                for (cframe, frame) in cframes.iter().zip(&newest) {
                    let at = cframe + u64::from(layout.cframe_frame);
                    thread.target.space.put_u64(at, *frame);
                }
            }
            cframes.push(own);
            thread.link_cframes(&cframes);
        }
        thread.target.link(&frames);
        thread
    }

    fn link_cframes(&mut self, cframes: &[u64]) {
        let layout = self.target.layout();
        let previous = |cframe: u64| cframe + u64::from(layout.cframe_previous);
        for pair in cframes.windows(2) {
            self.target.space.put_u64(previous(pair[0]), pair[1]);
        }
        self.target
            .space
            .put_u64(previous(*cframes.last().unwrap()), 0);
        let newest = self.target.tstate + u64::from(layout.tstate_cframe);
        self.target.space.put_u64(newest, cframes[0]);
        if layout.cframe_frame != NONE {
            self.target.cframe = cframes[0];
        }
        self.cframes = cframes.to_vec();
    }

    /// The walk with its segments, and how many frames it found.
    fn walk(&self) -> (Segments, u32) {
        let mut frames = Box::new([Frame::default(); MAX_FRAMES]);
        let mut walked = Walk::NEW;
        let mut cache = WalkCache::default();
        let mut segments = Segments::EMPTY;
        // What another walk left.
        segments.push(0x1234, 5);
        segments.shift(3);
        let target = &self.target;
        walk::run(
            &target.space,
            &target.process,
            1,
            target.fsbase,
            &mut walked,
            &mut cache,
            &mut frames,
            Some(&mut segments),
        );
        assert_eq!(walked.status, WalkStatus::Complete as u32);
        let found = &frames[..walked.depth as usize];
        assert_eq!(found, target.expected(&self.specs));
        // Whether places are asked for or not is nothing to the walk.
        let alone = target.walk();
        assert_eq!(alone.frames, found);
        (segments, walked.depth)
    }

    /// Walks and unwinds.
    fn tokens(&self) -> (Vec<TokenKind>, Segments) {
        let (mut segments, _) = self.walk();
        let unwound = self.program.unwind_with(
            &self.target.space,
            &self.registers,
            &mut Unwinder::new(),
            &mut segments,
        );
        assert_eq!(unwound.status, UnwindStatus::Complete);
        assert_eq!((unwound.by_frame_pointer, unwound.skipped), (0, 0));
        (unwound.tokens, segments)
    }

    /// Both together give the merged stack, and every frame has its place.
    fn check(&self, what: &str) {
        let (tokens, segments) = self.tokens();
        assert_eq!(tokens, self.expected, "{what}");
        if self.target.layout().entry_kind != EntryKind::None as u8 {
            assert_eq!(segments.placed as usize, self.specs.len(), "{what}");
        }
    }
}

/// Those in which an activation runs more than one frame.
const MANY: [WalkLayout; 3] = [CFRAME_CONTENT, CFRAME_VERSION, DIRECT_VERSION];

#[test]
fn each_activation_has_its_frames() {
    for (name, layout) in LAYOUTS {
        for calls in [0, 1, 3] {
            let one = [activation(1, calls)];
            Thread::new(layout, &one).check(name);
            let nested = [activation(1, calls), activation(1, 0), activation(1, 2)];
            Thread::new(layout, &nested).check(name);
        }
    }
    for layout in MANY {
        let nested = [activation(3, 2), activation(1, 0), activation(7, 1)];
        Thread::new(layout, &nested).check("many");
    }
}

#[test]
fn three_hundred_switches() {
    for (name, layout) in LAYOUTS {
        let ones: Vec<_> = (0..300).map(|index| activation(1, index % 5)).collect();
        Thread::new(layout, &ones).check(name);
    }
    for layout in MANY {
        let many: Vec<_> = (0..300)
            .map(|index| activation(1 + index % 4, index % 3))
            .collect();
        Thread::new(layout, &many).check("many");
    }
}

/// Up to 3.9 nothing says where the frames are, and nothing is put between native code.
#[test]
fn the_walk_of_3_8_notes_no_places() {
    let thread = Thread::new(OBJECT, &[activation(1, 1), activation(1, 1)]);
    let (segments, frames) = thread.walk();
    assert_eq!((segments.count, frames), (0, 2));
}

/// From 3.12 on an activation that was just entered runs nothing yet.
#[test]
fn an_activation_without_frames() {
    for layout in [CFRAME_VERSION, DIRECT_VERSION] {
        let nested = [activation(0, 1), activation(2, 1), activation(0, 0)];
        let thread = Thread::new(layout, &nested);
        thread.check("none");
        assert_eq!(thread.expected[1], TokenKind::Python(0));
    }
}

/// More than there is room for: the leaf side has its places.
#[test]
fn more_activations_than_places() {
    for (name, layout) in &LAYOUTS[1..] {
        let ones = vec![activation(1, 1); MAX_SEGMENTS + 88];
        let thread = Thread::new(*layout, &ones);
        let (tokens, segments) = thread.tokens();
        assert_eq!(segments.count as usize, MAX_SEGMENTS, "{name}");
        assert_eq!(segments.placed as usize, MAX_SEGMENTS, "{name}");
        let expected = thread.expected.iter().copied().filter(|token| match token {
            TokenKind::Python(frames) => *frames as usize <= MAX_SEGMENTS,
            _ => true,
        });
        assert!(tokens.into_iter().eq(expected), "{name}");
    }
}

fn python_places(tokens: &[TokenKind]) -> Vec<u32> {
    let places = tokens.iter().filter_map(|token| match token {
        TokenKind::Python(frames) => Some(*frames),
        _ => None,
    });
    places.collect()
}

/// 3.10: the newest activation's frame is linked, and its `CFrame` is not (any more).
#[test]
fn one_frame_more_than_cframes() {
    for nested in [1, 2, 5] {
        let mut thread = Thread::new(OBJECT_UNITS, &vec![activation(1, 1); nested + 1]);
        let cframes = thread.cframes.clone();
        thread.link_cframes(&cframes[1..]);
        let (tokens, segments) = thread.tokens();
        // The newest has no place of its own, and stands with its caller.
        let expected: Vec<_> = (2..=nested as u32 + 1).collect();
        assert_eq!(python_places(&tokens), expected);
        assert_eq!(segments.placed as usize, nested + 1);
        // At the loops that they belong to.
        let without = |tokens: &[TokenKind], frames| {
            let kept = tokens.iter().copied();
            let kept = kept.filter(|token| *token != TokenKind::Python(frames));
            kept.collect::<Vec<_>>()
        };
        assert_eq!(tokens, without(&thread.expected, 1));
    }
}

/// The thread state's own `CFrame` lies on no stack, and is no place.
#[test]
fn the_thread_states_own_cframe_is_no_place() {
    let mut thread = Thread::new(OBJECT_UNITS, &[activation(1, 1); 3]);
    let cframes = thread.cframes.clone();
    thread.link_cframes(&cframes[1..]);
    let (segments, _) = thread.walk();
    let places: Vec<_> = (0..segments.count).map(|at| segments.get(at)).collect();
    assert_eq!(places, [Some((cframes[1], 2)), Some((cframes[2], 3))]);
}

/// 3.10: the newest activation's `CFrame` is linked, and its frame is not (any more).
#[test]
fn one_cframe_more_than_frames() {
    for nested in [1, 2, 5] {
        let mut thread = Thread::new(OBJECT_UNITS, &vec![activation(1, 1); nested + 1]);
        let newest = thread.target.tstate + u64::from(OBJECT_UNITS.tstate_frame);
        let newest = thread.target.space.read_u64(newest).unwrap();
        let back = newest + u64::from(OBJECT_UNITS.frame_back);
        let back = thread.target.space.read_u64(back).unwrap();
        thread.target.set_newest(back);
        thread.specs.remove(0);
        let (tokens, segments) = thread.tokens();
        let expected: Vec<_> = (0..=nested as u32).collect();
        assert_eq!(python_places(&tokens), expected);
        assert_eq!(segments.placed as usize, nested);
        // All are where they were.
        let shifted = thread.expected.iter().map(|token| match token {
            TokenKind::Python(frames) => TokenKind::Python(frames - 1),
            other => *other,
        });
        assert!(tokens.into_iter().eq(shifted));
    }
}

/// What the thread state's own `CFrame` says of the one before it is not set in every thread.
#[test]
fn the_thread_states_own_cframe_is_the_last_whatever_it_says() {
    let mut thread = Thread::new(OBJECT_UNITS, &[activation(1, 1); 3]);
    let cframes = thread.cframes.clone();
    let own = cframes[3] + u64::from(OBJECT_UNITS.cframe_previous);
    for garbage in [
        0,
        0x10,
        0xa5a5_a5a5_a5a5_a5a5,
        u64::MAX,
        cframes[0],
        cframes[3],
    ] {
        let places = |thread: &mut Thread, newest: usize| {
            thread.link_cframes(&cframes[newest..]);
            thread.target.space.put_u64(own, garbage);
            let (segments, _) = thread.walk();
            let places = (0..segments.count).map(|at| segments.get(at).unwrap());
            places.collect::<Vec<_>>()
        };
        // One for each frame, and one frame more.
        let all = [(cframes[0], 1), (cframes[1], 2), (cframes[2], 3)];
        assert_eq!(places(&mut thread, 0), all, "{garbage:#x}");
        thread.check("garbage");
        assert_eq!(places(&mut thread, 1), all[1..], "{garbage:#x}");
        // One frame less.
        let mut less = thread.clone();
        let at = less.target.tstate + u64::from(OBJECT_UNITS.tstate_frame);
        let newest = less.target.space.read_u64(at).unwrap();
        let back = newest + u64::from(OBJECT_UNITS.frame_back);
        let back = less.target.space.read_u64(back).unwrap();
        less.target.set_newest(back);
        less.specs.remove(0);
        let all = [(cframes[0], 0), (cframes[1], 1), (cframes[2], 2)];
        assert_eq!(places(&mut less, 0), all, "{garbage:#x}");
    }
}

/// It is known by where it lies: what is close to the thread state, and not in it, is a place.
#[test]
fn a_cframe_next_to_the_thread_state_is_a_place() {
    let process = Target::new(OBJECT_UNITS).process;
    for (offset, is_own) in [
        (0, true),
        (0x3ff, true),
        (0x400, false),
        (u64::MAX, false),
        (u64::MAX - 7, false),
    ] {
        let mut segments = Segments::EMPTY;
        segments.push(0x1000, 1);
        let mut state = Walk::NEW;
        state.status = WalkStatus::Complete as u32;
        state.depth = 1;
        state.tstate = 0x7f00_0000_1000;
        state.cframe = state.tstate.wrapping_add(offset);
        walk::align_segments(&process, &state, &mut segments);
        let expected = if is_own { (1, 1) } else { (2, 0) };
        let found = (segments.count, segments.get(0).unwrap().1);
        assert_eq!(found, expected, "{offset:#x}");
    }
}

/// A walk that did not get to the end knows nothing of the oldest, and moves nothing.
#[test]
fn the_places_of_a_walk_that_was_cut_stay() {
    let thread = Thread::new(OBJECT_UNITS, &[activation(1, 1); 3]);
    let cframes = &thread.cframes;
    let walked = |status: WalkStatus| {
        let mut segments = Segments::EMPTY;
        segments.push(cframes[2], 1);
        segments.push(cframes[3], 2);
        let mut state = Walk::NEW;
        state.status = status as u32;
        state.depth = 2;
        let process = &thread.target.process;
        walk::align_segments(process, &state, &mut segments);
        (segments.count, segments.get(0).unwrap().1)
    };
    assert_eq!(walked(WalkStatus::Complete), (1, 2));
    for status in [
        WalkStatus::Truncated,
        WalkStatus::FrameUnreadable,
        WalkStatus::Cycle,
    ] {
        assert_eq!(walked(status), (2, 1), "{status:?}");
    }
}

/// A compiler may put the loop into itself: one frame, two activations.
#[test]
fn two_activations_in_one_frame() {
    for layout in MANY {
        let mut thread = Thread::new(layout, &[activation(2, 1), activation(3, 1)]);
        let (mut segments, _) = thread.walk();
        let (first, _) = segments.get(0).unwrap();
        segments.clear();
        segments.push(first, 2);
        segments.push(first + 0x50, 5);
        let unwound = thread.program.unwind_with(
            &thread.target.space,
            &thread.registers,
            &mut Unwinder::new(),
            &mut segments,
        );
        assert_eq!(unwound.status, UnwindStatus::Complete);
        let second = thread.expected.remove(4);
        assert_eq!(second, TokenKind::Python(5));
        thread.expected.insert(2, second);
        assert_eq!(unwound.tokens, thread.expected);
    }
}

/// Code without a rule, in place of what the loop called: the frames and all that is further out
/// are the same, also of the activations further out that it passed.
#[test]
fn places_above_code_without_a_rule() {
    for (name, layout) in &LAYOUTS[1..] {
        let nested: Vec<_> = (0..20).map(|index| activation(1, 1 + index % 3)).collect();
        let mut thread = Thread::new(*layout, &nested);
        let mut unwinder = Unwinder::new();
        let mut unwind = |thread: &Thread| {
            let (mut segments, _) = thread.walk();
            let (space, registers) = (&thread.target.space, &thread.registers);
            let program = &thread.program;
            program.unwind_with(space, registers, &mut unwinder, &mut segments)
        };
        let whole = unwind(&thread);
        assert_eq!(whole.tokens, thread.expected, "{name}");
        let jit = thread.program.function(Rule::NONE) + 7;
        thread.registers.pc = jit;
        let skipped = unwind(&thread);
        assert_eq!(skipped.status, UnwindStatus::Complete, "{name}");
        assert_eq!(skipped.skipped, 1, "{name}");
        assert_eq!(skipped.tokens[0], TokenKind::Exact(jit), "{name}");
        assert_eq!(skipped.tokens[1], TokenKind::Skipped, "{name}");
        assert_eq!(skipped.tokens[2], TokenKind::Python(1), "{name}");
        assert_eq!(skipped.tokens[3..], thread.expected[3..], "{name}");
    }
}

const CASES: u32 = if cfg!(miri) { 2 } else { 100 };

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    /// Whatever the two stacks, together they are the merged one.
    #[test]
    fn any_nesting_comes_out_as_it_is(
        layout in prop::sample::select(LAYOUTS.map(|(_, layout)| layout).to_vec()),
        shape in proptest::collection::vec((1usize..12, 0usize..6), 1..if cfg!(miri) { 8 } else { 85 }),
    ) {
        let one = !MANY.contains(&layout);
        let activations: Vec<_> = shape
            .iter()
            .map(|(frames, calls)| activation(if one { 1 } else { *frames }, *calls))
            .collect();
        Thread::new(layout, &activations).check("any");
    }
}
