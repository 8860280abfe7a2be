//! The walk over synthetic targets: exact stacks, every way to end, and garbage.

#![allow(clippy::unwrap_used, reason = "what a test built is there")]

mod support;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use profiler_common::layout::{
    GilLayout, MappingsRef, NONE, NameLayout, PROCESS_COUNT_OF_INTERPRETER,
    PROCESS_COUNT_OF_PROCESS, PROCESS_READY, ProcessEntry, TstatePath, WalkLayout,
};
use profiler_common::mem::{Fault, Memory};
use profiler_common::walk::{MAX_FRAMES, MAX_STEPS, WITNESS_UNREAD, WalkCache, WalkStatus};
use proptest::prelude::*;
use support::memory::{Garbage, Space, mix};
use support::python::{
    C_STACK, CFRAME_CONTENT, CFRAME_VERSION, CODE, CODE_COUNT, Code, CodeAt, DIRECT_VERSION, ENTRY,
    FRAME_OBJECT, GENERATOR, LAYOUTS, OBJECT, OBJECT_UNITS, SLOT, Spec, THREAD, Target, Walked,
    codes, entry, has_entry_frames, on_each_layout, path, python, walk_over,
};

#[test]
fn frames_come_leaf_first_with_their_instructions() {
    on_each_layout(|name, mut target| {
        let codes = codes(&mut target, 3);
        let unit = i32::from(target.layout().lasti_unit.max(1));
        let specs = [
            python(codes[0].address, 40 * unit),
            python(codes[1].address, 0),
            // Before its first instruction: a generator that was just made.
            python(codes[2].address, -unit),
            python(codes[1].address, 70_000 * unit),
        ];
        target.stack(&specs);
        let walked = target.walk();
        assert_eq!(walked.status, WalkStatus::Complete, "{name}");
        assert_eq!(walked.frames, target.expected(&specs), "{name}");
        assert_eq!(walked.unread, 0, "{name}");
        let witnesses: BTreeSet<u32> = walked.frames.iter().map(|frame| frame.witness).collect();
        assert_eq!(witnesses.len(), 3, "{name}: one for each code object");
        assert!(!witnesses.contains(&WITNESS_UNREAD), "{name}");
    });
}

#[test]
fn a_numbered_code_object_is_witnessed_by_its_number() {
    for layout in [CFRAME_VERSION, DIRECT_VERSION] {
        let mut target = Target::new(layout);
        let code = target.code(&Code {
            version: 0x1234_5678,
            ..CODE
        });
        assert_eq!(target.witness(code), 0x1234_5678);
        // The number that means "not read" is a number like any other.
        target.write_code(
            code,
            &Code {
                version: WITNESS_UNREAD,
                ..CODE
            },
        );
        assert_ne!(target.witness(code), WITNESS_UNREAD);
    }
}

#[test]
fn entry_frames_are_skipped_wherever_they_are() {
    for layout in [CFRAME_VERSION, DIRECT_VERSION] {
        let mut target = Target::new(layout);
        let code = target.code(&CODE).address;
        let c_stack = Spec {
            owner: C_STACK,
            ..entry()
        };
        let specs = [
            entry(),
            python(code, 2),
            c_stack,
            entry(),
            python(code, 4),
            entry(),
        ];
        target.stack(&specs);
        let walked = target.walk();
        assert_eq!(walked.status, WalkStatus::Complete);
        assert_eq!(walked.frames, target.expected(&specs));
        assert_eq!(walked.frames.len(), 2);
    }
}

#[test]
fn generators_and_frame_objects_are_frames() {
    for layout in [CFRAME_VERSION, DIRECT_VERSION] {
        let mut target = Target::new(layout);
        let codes = codes(&mut target, 3);
        let owned = |code: usize, owner| Spec {
            owner,
            ..python(codes[code].address, 6)
        };
        let specs = [
            owned(0, GENERATOR),
            owned(1, FRAME_OBJECT),
            owned(2, THREAD),
        ];
        target.stack(&specs);
        let walked = target.walk();
        assert_eq!(walked.status, WalkStatus::Complete);
        assert_eq!(walked.frames, target.expected(&specs));
        assert_eq!(walked.frames.len(), 3);
    }
}

/// 3.11 has an `owner`, and frames that begin an evaluation; both are Python frames.
#[test]
fn without_entry_frames_no_frame_is_skipped() {
    let mut target = Target::new(CFRAME_CONTENT);
    let code = target.code(&CODE).address;
    let frames = target.stack(&[python(code, 2), python(code, 4)]);
    target.space.put(frames[0] + 0x45, &[C_STACK; 8]);
    assert_eq!(target.walk().frames.len(), 2);
}

#[test]
fn tags_of_code_references_are_no_part_of_the_address() {
    let mut target = Target::new(DIRECT_VERSION);
    let code = target.code(&CODE).address;
    for tag in 0..=3 {
        let specs = [python(code | tag, 10), python(code | tag, -2)];
        target.stack(&specs);
        let walked = target.walk();
        assert_eq!(walked.status, WalkStatus::Complete, "tag {tag}");
        assert_eq!(walked.frames, target.expected(&specs), "tag {tag}");
        assert_eq!(walked.frames[0].code, code, "tag {tag}");
    }
}

/// A thread state behind one, two and three pointers, above and below what they point to.
#[test]
fn thread_states_behind_pointers() {
    on_each_layout(|name, mut target| {
        let code = target.code(&CODE).address;
        target.stack(&[python(code, 2)]);
        let good = target.walk();
        assert_eq!(good.status, WalkStatus::Complete, "{name}");
        // Nothing may remember the old slot.
        target.space.put_u64(target.fsbase + SLOT, 0);
        let middle = [(); 2].map(|()| target.space.alloc(0x100) + 0x80);

        for offsets in [
            &[0x20][..],
            &[-0x20],
            &[0x28, 0x10],
            &[0x28, -0x10],
            &[-0x28, 0x10],
            &[0x8, 0x10, -0x8],
            &[0x8, -0x10, 0x8],
        ] {
            let mut target = target.clone();
            let pointers = [&[target.fsbase], &middle[..offsets.len() - 1]].concat();
            let slots: Vec<u64> = pointers
                .iter()
                .zip(offsets)
                .map(|(pointer, offset)| pointer.wrapping_add_signed(i64::from(*offset)))
                .collect();
            for (slot, next) in slots.iter().zip(&pointers[1..]) {
                target.space.put_u64(*slot, *next);
            }
            let last = slots[slots.len() - 1];
            target.process.tstate = path(offsets);
            for (found, status) in [
                (target.tstate, WalkStatus::Complete),
                (0, WalkStatus::NoThreadState),
                (0x10, WalkStatus::ThreadStateUnreadable),
            ] {
                target.space.put_u64(last, found);
                let walked = target.walk();
                assert_eq!(walked.status, status, "{name}, {offsets:x?}");
                if status == WalkStatus::Complete {
                    assert_eq!(walked, good, "{name}, {offsets:x?}");
                } else {
                    assert!(walked.frames.is_empty(), "{name}, {offsets:x?}");
                }
            }
        }
    });
}

#[test]
fn a_null_on_the_way_is_no_thread_state_and_a_wild_pointer_is_an_error() {
    let mut target = Target::new(OBJECT);
    let code = target.code(&CODE).address;
    target.stack(&[python(code, 2)]);
    target.process.tstate = path(&[0x28, 0x10, 0x20]);
    let table = target.space.alloc(64);
    for (first, second, status) in [
        (0, 0, WalkStatus::NoThreadState),
        (table, 0, WalkStatus::NoThreadState),
        (0x40, 0, WalkStatus::ThreadStateUnreadable),
        (table, 0x40, WalkStatus::ThreadStateUnreadable),
        (table, u64::MAX, WalkStatus::ThreadStateUnreadable),
    ] {
        target.space.put_u64(target.fsbase + 0x28, first);
        target.space.put_u64(table + 0x10, second);
        assert_eq!(target.walk().status, status, "{first:#x} {second:#x}");
    }
}

/// Thread states at the very end of the address space, where the sums of addresses wrap.
#[test]
fn thread_states_at_the_end_of_memory() {
    on_each_layout(|name, mut target| {
        for tstate in [u64::MAX, u64::MAX - 7, u64::MAX - 15, u64::MAX - 0x80] {
            target.space.put_u64(target.fsbase + SLOT, tstate);
            let walked = target.walk();
            assert_eq!(walked.status, WalkStatus::ThreadStateUnreadable, "{name}");
        }
    });
}

#[test]
fn a_thread_state_of_another_thread_is_foreign() {
    on_each_layout(|name, mut target| {
        let code = target.code(&CODE).address;
        target.stack(&[python(code, 2)]);
        let at = target.tstate + u64::from(target.layout().tstate_thread_id);
        target.space.put_u64(at, target.fsbase + 0x1000);
        let walked = target.walk();
        assert_eq!(walked.status, WalkStatus::ThreadStateForeign, "{name}");
        assert!(walked.frames.is_empty(), "{name}");
    });
}

#[test]
fn threads_without_python() {
    on_each_layout(|name, mut target| {
        // A thread state without a frame.
        let walked = target.walk();
        assert_eq!(walked.status, WalkStatus::NoThreadState, "{name}: no frame");
        assert!(walked.frames.is_empty(), "{name}");

        // No thread pointer yet.
        let mut cache = WalkCache::default();
        let walked = walk_over(&target.space, &target.process, 0, &mut cache);
        assert_eq!(
            walked.status,
            WalkStatus::NoThreadState,
            "{name}: no fsbase"
        );

        if target.layout().cframe_frame != NONE {
            let at = target.tstate + u64::from(target.layout().tstate_frame);
            target.space.put_u64(at, 0);
            let status = target.walk().status;
            assert_eq!(status, WalkStatus::NoThreadState, "{name}: no cframe");
            target.space.put_u64(at, 0x10);
            let status = target.walk().status;
            assert_eq!(status, WalkStatus::ThreadStateUnreadable, "{name}: cframe");
        }
    });
}

#[test]
fn a_process_that_is_not_ready_is_not_read() {
    struct Untouchable;
    impl Memory for Untouchable {
        fn read(&self, addr: u64, _: &mut [u8]) -> Result<(), Fault> {
            panic!("read at {addr:#x}")
        }
    }
    on_each_layout(|name, target| {
        let no_flag = ProcessEntry {
            flags: 0,
            ..target.process
        };
        let no_path = ProcessEntry {
            tstate: TstatePath::default(),
            ..target.process
        };
        for process in [no_flag, no_path] {
            let mut cache = WalkCache::default();
            let walked = walk_over(&Untouchable, &process, target.fsbase, &mut cache);
            assert_eq!(walked.status, WalkStatus::NotReady, "{name}");
            assert!(walked.frames.is_empty(), "{name}");
        }
    });
}

#[test]
fn the_deepest_stack_is_whole_and_one_more_frame_is_cut_at_the_root() {
    on_each_layout(|name, mut target| {
        let codes = codes(&mut target, 7);
        let spec = |index: usize| python(codes[index % 7].address, 2 * index as i32);
        let mut specs: Vec<Spec> = (0..MAX_FRAMES).map(spec).collect();
        target.stack(&specs);
        let whole = target.walk();
        assert_eq!(whole.status, WalkStatus::Complete, "{name}");
        assert_eq!(whole.frames, target.expected(&specs), "{name}");

        specs.push(spec(MAX_FRAMES));
        target.stack(&specs);
        let cut = target.walk();
        assert_eq!(cut.status, WalkStatus::Truncated, "{name}");
        assert_eq!(cut.frames, target.expected(&specs)[..MAX_FRAMES], "{name}");
        assert_ne!(cut.hash, whole.hash, "{name}");
    });
}

#[test]
fn the_deepest_stack_is_whole_with_an_entry_frame_after_every_frame() {
    for layout in [CFRAME_VERSION, DIRECT_VERSION] {
        let mut target = Target::new(layout);
        let code = target.code(&CODE).address;
        let pairs = |count: i32| (0..count).flat_map(|i| [python(code, 2 * i), entry()]);
        let specs: Vec<Spec> = pairs(MAX_FRAMES as i32).collect();
        target.stack(&specs);
        let walked = target.walk();
        assert_eq!(walked.status, WalkStatus::Complete);
        assert_eq!(walked.frames, target.expected(&specs));

        let specs: Vec<Spec> = pairs(MAX_FRAMES as i32 + 1).collect();
        target.stack(&specs);
        let walked = target.walk();
        assert_eq!(walked.status, WalkStatus::Truncated);
        assert_eq!(walked.frames, target.expected(&specs)[..MAX_FRAMES]);
    }
}

#[test]
fn more_entry_frames_than_steps_are_a_truncated_stack() {
    let mut target = Target::new(DIRECT_VERSION);
    let code = target.code(&CODE).address;
    let mut specs = vec![entry(); MAX_STEPS as usize + 10];
    specs[0] = python(code, 2);
    target.stack(&specs);
    let walked = target.walk();
    assert_eq!(walked.status, WalkStatus::Truncated);
    assert_eq!(walked.frames, target.expected(&specs[..1]));
    assert_eq!(walked.steps, MAX_STEPS);
}

#[test]
fn what_is_no_code_object_ends_the_stack() {
    on_each_layout(|name, mut target| {
        let code = target.code(&CODE);
        let foreign = target.code(&CODE);
        let other_type = target.space.alloc(16);
        target.space.put_u64(foreign.address + 8, other_type);
        for wrong in [foreign.address, 0] {
            let leaf = python(code.address, 2);
            target.stack(&[leaf, python(wrong, 4), leaf]);
            let walked = target.walk();
            assert_eq!(walked.status, WalkStatus::CodeInvalid, "{name}, {wrong:#x}");
            assert_eq!(walked.frames, target.expected(&[leaf]), "{name}");
        }
        // Where the type is not known, no object can be told from a code object.
        target.process.code_type = 0;
        let specs = [python(foreign.address, 2), python(code.address, 2)];
        target.stack(&specs);
        let walked = target.walk();
        assert_eq!(walked.status, WalkStatus::Complete, "{name}");
        assert_eq!(walked.frames, target.expected(&specs), "{name}");
    });
}

#[test]
fn a_code_object_that_cannot_be_read_keeps_its_frame() {
    on_each_layout(|name, mut target| {
        let codes = codes(&mut target, 2);
        let gone = codes[1].address;
        let specs = [
            python(codes[0].address, 2),
            python(gone, 4),
            python(codes[0].address, 6),
            python(gone, 8),
        ];
        target.stack(&specs);
        let proven = target.walk();
        target.space.unmap(gone);
        let walked = target.walk();
        assert_eq!(walked.status, WalkStatus::Complete, "{name}");
        assert_eq!(walked.unread, 2, "{name}");
        let mut expected = proven.frames;
        expected[1].witness = WITNESS_UNREAD;
        expected[3].witness = WITNESS_UNREAD;
        assert_eq!(walked.frames, expected, "{name}");
        assert_ne!(walked.hash, proven.hash, "{name}");
    });
}

/// What a name and lines come from can be out of memory when the code object is not.
#[test]
fn a_name_or_a_table_that_cannot_be_read_keeps_the_frame() {
    for layout in [OBJECT, OBJECT_UNITS, CFRAME_CONTENT] {
        let mut target = Target::new(layout);
        let code = target.code(&CODE);
        let specs = [python(code.address, 2)];
        target.stack(&specs);
        for part in [code.name, code.table] {
            let mut target = target.clone();
            target.space.unmap(part);
            let walked = target.walk();
            assert_eq!(walked.status, WalkStatus::Complete);
            assert_eq!(walked.frames[0].witness, WITNESS_UNREAD);
            assert_eq!(walked.unread, 1);
        }
    }
}

#[test]
fn a_frame_that_cannot_be_read_ends_the_stack() {
    on_each_layout(|name, mut target| {
        let code = target.code(&CODE).address;
        let specs = [python(code, 2), python(code, 4)];
        let frames = target.stack(&specs);
        for wild in [0x8, 0x1234_5678, u64::MAX, u64::MAX - 0x40, 1 << 63] {
            target.set_back(frames[1], wild);
            let walked = target.walk();
            assert_eq!(
                walked.status,
                WalkStatus::FrameUnreadable,
                "{name}, {wild:#x}"
            );
            assert_eq!(walked.frames, target.expected(&specs), "{name}");
            target.set_newest(wild);
            let walked = target.walk();
            assert_eq!(walked.status, WalkStatus::FrameUnreadable, "{name}");
            assert!(walked.frames.is_empty(), "{name}");
            target.set_newest(frames[0]);
        }
    });
}

#[test]
fn rings_of_every_length_are_found() {
    on_each_layout(|name, mut target| {
        let codes = codes(&mut target, 5);
        for length in 1..=50 {
            for tail in [0, 1, 2, 3, 7, 20, 100] {
                let spec = |index: usize| python(codes[index % 5].address, 2 * index as i32);
                let specs: Vec<Spec> = (0..tail + length).map(spec).collect();
                let frames = target.stack(&specs);
                target.set_back(frames[tail + length - 1], frames[tail]);
                let walked = target.walk();
                let what = format!("{name}: a ring of {length} behind {tail} frames");
                assert_eq!(walked.status, WalkStatus::Cycle, "{what}");
                // All of it was seen at least once, and nothing that is not in it.
                assert!(walked.frames.len() >= tail + length, "{what}");
                let expected = target.expected(&specs);
                let (before, ring) = expected.split_at(tail);
                let around = before.iter().chain(ring.iter().cycle());
                assert!(
                    walked.frames.iter().eq(around.take(walked.frames.len())),
                    "{what}"
                );
            }
        }
    });
}

#[test]
fn rings_of_entry_frames_are_found() {
    for layout in [CFRAME_VERSION, DIRECT_VERSION] {
        for length in 1..=50 {
            let mut target = Target::new(layout);
            let frames = target.stack(&vec![entry(); length]);
            target.set_back(frames[length - 1], frames[0]);
            let walked = target.walk();
            assert_eq!(walked.status, WalkStatus::Cycle, "{length}");
            assert!(walked.frames.is_empty(), "{length}");
        }
    }
}

/// Every part of a code object that a name or a line comes from, changed at the same address.
#[test]
fn a_content_witness_changes_with_the_content() {
    for layout in [OBJECT, OBJECT_UNITS, CFRAME_CONTENT] {
        let mut target = Target::new(layout);
        let at = target.code(&CODE);
        let changes = [
            ("nothing", CODE),
            (
                "first line",
                Code {
                    first_line: CODE.first_line + 1,
                    ..CODE
                },
            ),
            (
                "file name",
                Code {
                    filename: CODE.filename + 0x40,
                    ..CODE
                },
            ),
            (
                "name",
                Code {
                    name_hash: CODE.name_hash + 1,
                    ..CODE
                },
            ),
            (
                "name's length",
                Code {
                    name_length: CODE.name_length + 1,
                    ..CODE
                },
            ),
            (
                "table's length",
                Code {
                    table: &CODE.table[..CODE.table.len() - 1],
                    ..CODE
                },
            ),
            (
                "table's first byte",
                Code {
                    table:
                        b"\x99\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12",
                    ..CODE
                },
            ),
            (
                "table's 16th byte",
                Code {
                    table:
                        b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x99\x11\x12",
                    ..CODE
                },
            ),
        ];
        let mut seen = BTreeMap::new();
        for (what, change) in changes {
            target.write_code(at, &change);
            let witness = target.witness(at);
            assert_ne!(witness, WITNESS_UNREAD, "{what}");
            let same = seen.insert(witness, what);
            assert_eq!(same, None, "{what} is not witnessed");
        }
        // Objects that are other objects, whatever they say.
        let original = seen
            .into_iter()
            .find(|(_, what)| *what == "nothing")
            .unwrap();
        target.write_code(at, &CODE);
        assert_eq!(target.witness(at), original.0);
        let elsewhere = target.code(&CODE);
        let (name, table) = (elsewhere.name, elsewhere.table);
        for moved in [CodeAt { name, ..at }, CodeAt { table, ..at }] {
            target.write_code(moved, &CODE);
            assert_ne!(target.witness(moved), original.0);
        }
    }
}

/// What is not the object's own, or may change while it lives, is no part of the witness.
#[test]
fn a_content_witness_holds_while_the_object_lives() {
    for layout in [OBJECT, OBJECT_UNITS, CFRAME_CONTENT] {
        let tables: [&'static [u8]; 5] = [b"", b"\x01", b"\x01\x02\x03", b"12345678", b"123456789"];
        for table in tables {
            let mut target = Target::new(layout);
            let at = target.code(&Code { table, ..CODE });
            let before = target.witness(at);
            // The hash of a `bytes` is filled in when somebody asks for it.
            target.space.put_u64(at.table + 24, 0x77);
            assert_eq!(target.witness(at), before, "the table's hash");
            target
                .space
                .put(at.table + 32 + table.len() as u64, &[0x66; 12]);
            assert_eq!(target.witness(at), before, "what is behind {table:?}");
        }
    }
}

#[test]
fn a_version_witness_changes_with_the_version_alone() {
    for layout in [CFRAME_VERSION, DIRECT_VERSION] {
        let mut target = Target::new(layout);
        let at = target.code(&CODE);
        let before = target.witness(at);
        let lines = Code {
            first_line: 1,
            table: b"",
            ..CODE
        };
        target.write_code(at, &lines);
        assert_eq!(target.witness(at), before);
        target.write_code(
            at,
            &Code {
                version: CODE.version + 1,
                ..CODE
            },
        );
        assert_ne!(target.witness(at), before);
    }
}

/// A cache that is kept from walk to walk, as the kernel keeps it, must not keep what changed.
#[test]
fn a_walk_does_not_believe_an_earlier_one() {
    on_each_layout(|name, mut target| {
        let mut cache = WalkCache::default();
        let at = target.code(&CODE);
        let specs = [python(at.address, 2)];
        target.stack(&specs);
        let old = target.walk_with(&mut cache);
        assert_eq!(target.walk_with(&mut cache), old, "{name}");
        let other = Code {
            version: CODE.version + 1,
            first_line: CODE.first_line + 1,
            ..CODE
        };
        target.count_a_code();
        target.write_code(at, &other);
        let new = target.walk_with(&mut cache);
        assert_eq!(new.frames, target.expected(&specs), "{name}");
        assert_ne!(new.frames, old.frames, "{name}");
        assert_ne!(new.hash, old.hash, "{name}");
    });
}

/// Where the interpreter counts its code objects, one look will do as long as the count stays.
#[test]
fn a_walk_believes_an_earlier_one_while_the_count_stays() {
    for counted in [PROCESS_COUNT_OF_INTERPRETER, PROCESS_COUNT_OF_PROCESS] {
        let mut target = Target::new(DIRECT_VERSION);
        target.process.flags |= counted;
        target.process.code_count = CODE_COUNT;
        if counted == PROCESS_COUNT_OF_PROCESS {
            target.process.code_count += target.interp;
        }
        let mut cache = WalkCache::default();
        let codes = codes(&mut target, 100);
        let specs: Vec<Spec> = codes.iter().map(|code| python(code.address, 2)).collect();
        target.stack(&specs);
        let mut reads = |target: &Target| {
            let counting = Counting::new(&target.space);
            let walked = walk_over(&counting, &target.process, target.fsbase, &mut cache);
            assert_eq!(walked.frames, target.expected(&specs));
            counting.reads.get()
        };
        // The slot, the thread state, the count, and the frames; and their code objects.
        const FRAMES: u32 = 3 + 100;
        const ALL: u32 = FRAMES + 100;
        assert_eq!(reads(&target), ALL);
        // Some share a place in the cache with another, and are read again.
        assert!((FRAMES..FRAMES + 50).contains(&reads(&target)));
        target.count_a_code();
        assert_eq!(reads(&target), ALL);
        // Another program of the process.
        target.process.generation += 1;
        assert_eq!(reads(&target), ALL);
        // Another interpreter.
        let other = target.space.alloc(CODE_COUNT as usize + 8);
        let count = target.space.read_u64(target.interp + CODE_COUNT).unwrap();
        target.space.put_u64(other + CODE_COUNT, count);
        let at = target.tstate + u64::from(target.layout().tstate_interp);
        target.space.put_u64(at, other);
        assert_eq!(reads(&target), ALL);
        // A count that ended, or that cannot be read, is none: each walk looks for itself.
        target.space.put_u64(other + CODE_COUNT, 0);
        target.space.put_u64(target.interp + CODE_COUNT, 0);
        assert_eq!((reads(&target), reads(&target)), (ALL, ALL));
        target.space.unmap(other);
        target.space.unmap(target.interp);
        assert_eq!((reads(&target), reads(&target)), (ALL, ALL));
    }
}

/// Memory that counts how often it is read.
struct Counting<'a> {
    memory: &'a Space,
    reads: Cell<u32>,
}

impl<'a> Counting<'a> {
    fn new(memory: &'a Space) -> Self {
        Self {
            memory,
            reads: Cell::new(0),
        }
    }
}

impl Memory for Counting<'_> {
    fn read(&self, addr: u64, dst: &mut [u8]) -> Result<(), Fault> {
        self.reads.set(self.reads.get() + 1);
        self.memory.read(addr, dst)
    }
}

/// Frames that lie together are read together.
#[test]
fn neighbours_are_read_in_one_go() {
    for layout in [CFRAME_CONTENT, CFRAME_VERSION, DIRECT_VERSION] {
        let mut target = Target::new(layout);
        let code = target.code(&CODE);
        let specs = vec![python(code.address, 2); 100];
        target.stack_in_chunks(&specs, &[Some(16); 100]);
        let counting = Counting::new(&target.space);
        let mut cache = WalkCache::default();
        let walked = walk_over(&counting, &target.process, target.fsbase, &mut cache);
        assert_eq!(walked.frames, target.expected(&specs));
        assert_eq!(walked.status, WalkStatus::Complete);
        assert!(counting.reads.get() < 40, "{} reads", counting.reads.get());
    }
}

/// More code objects than the cache has places, again and again.
#[test]
fn code_objects_do_not_get_each_others_witness() {
    on_each_layout(|name, mut target| {
        let codes = codes(&mut target, 300);
        let specs: Vec<Spec> = (0..MAX_FRAMES)
            .map(|index| python(codes[index * 7 % 300].address, 2))
            .collect();
        target.stack(&specs);
        assert_eq!(target.walk().frames, target.expected(&specs), "{name}");
    });
}

/// The hash names what a stack shows, not where its frames lie.
#[test]
fn equal_stacks_have_equal_hashes_and_others_do_not() {
    on_each_layout(|name, mut target| {
        let codes = codes(&mut target, 2);
        let (a, b) = (codes[0].address, codes[1].address);
        // Numbers run out, and then all code objects have the same.
        let twin = target.code(&CODE).address;
        let specs = [python(a, 2), python(b, 4), python(a, 6)];
        target.stack(&specs);
        let first = target.walk();
        assert_ne!(first.hash, 0, "{name}");
        target.stack(&specs);
        assert_eq!(target.walk(), first, "{name}: in other frames");

        let mut hashes = BTreeSet::from([first.hash]);
        let mut differs = |what: &str, walked: Walked| {
            assert!(hashes.insert(walked.hash), "{name}: {what}");
        };
        let others = [
            (
                "another instruction",
                vec![python(a, 2), python(b, 4), python(a, 8)],
            ),
            (
                "another code",
                vec![python(a, 2), python(b, 4), python(b, 6)],
            ),
            (
                "another order",
                vec![python(a, 6), python(b, 4), python(a, 2)],
            ),
            ("less deep", vec![python(a, 2), python(b, 4)]),
            (
                "deeper",
                vec![python(a, 2), python(b, 4), python(a, 6), python(a, 6)],
            ),
            ("one frame", vec![python(a, 2)]),
            ("another frame", vec![python(b, 2)]),
            ("a twin", vec![python(twin, 2)]),
        ];
        for (what, specs) in others {
            target.stack(&specs);
            let walked = target.walk();
            assert_eq!(walked.status, WalkStatus::Complete, "{name}: {what}");
            differs(what, walked);
        }

        let frames = target.stack(&specs);
        // The same frames, and another end.
        target.set_back(frames[2], frames[0]);
        differs("a ring", target.walk());
        target.set_back(frames[2], 0x10);
        differs("a frame that cannot be read", target.walk());
        let invalid = target.frame(python(0, 0));
        target.set_back(frames[2], invalid);
        differs("no code object", target.walk());
        target.set_newest(0);
        differs("no frames", target.walk());
        target.set_newest(frames[0]);
        target.set_back(frames[2], 0);
        assert_eq!(target.walk(), first, "{name}: as it was");

        target.process.generation += 1;
        let walked = target.walk();
        assert_eq!(walked.frames, first.frames, "{name}");
        differs("another program", walked);
        target.set_newest(0);
        differs("another program without frames", target.walk());
    });
}

#[test]
fn an_entry_frame_does_not_change_the_hash() {
    let mut target = Target::new(DIRECT_VERSION);
    let code = target.code(&CODE).address;
    target.stack(&[python(code, 2), python(code, 4)]);
    let without = target.walk();
    target.stack(&[python(code, 2), entry(), python(code, 4), entry()]);
    assert_eq!(target.walk().hash, without.hash);
}

/// Reads of one walk at most: the way to the frame, and of each frame itself, alone and with its
/// neighbours, its code, and its code's name and table.
const READS_MAX: u32 = 9 + 5 * MAX_STEPS;

fn check(mem: &Garbage, process: &ProcessEntry, fsbase: u64) -> Walked {
    mem.reads.set(0);
    let mut cache = WalkCache::default();
    let walked = walk_over(mem, process, fsbase, &mut cache);
    assert!(walked.frames.len() <= MAX_FRAMES);
    assert!(walked.steps <= MAX_STEPS);
    assert!(mem.reads.get() <= READS_MAX, "{} reads", mem.reads.get());
    assert_ne!(walked.hash, 0);
    assert_ne!(walked.status, WalkStatus::Running);
    assert_ne!(walked.status, WalkStatus::Internal);
    let mut again = WalkCache::default();
    assert_eq!(walk_over(mem, process, fsbase, &mut again), walked);
    walked
}

// Boxed: what these make would otherwise lie on the stack whole, many times over.

fn offset() -> BoxedStrategy<u16> {
    let offset = prop_oneof![
        2 => Just(NONE),
        6 => (0u16..40).prop_map(|word| word * 8),
        4 => 0u16..0x100,
        1 => any::<u16>(),
        1 => (NONE - 32)..=NONE,
    ];
    offset.boxed()
}

fn kind() -> impl Strategy<Value = u8> {
    prop_oneof![4 => 0u8..2, 1 => any::<u8>()]
}

prop_compose! {
    fn any_layout()(
        kinds in [kind(), kind(), kind(), kind(), kind()],
        offsets in proptest::array::uniform17(offset()),
    ) -> WalkLayout {
        WalkLayout {
            frame_kind: kinds[0],
            witness_kind: kinds[1],
            lasti_unit: kinds[2],
            entry_owner: kinds[3],
            tstate_frame: offsets[0],
            cframe_frame: offsets[1],
            tstate_thread_id: offsets[2],
            frame_back: offsets[3],
            frame_code: offsets[4],
            frame_instr: offsets[5],
            frame_owner: offsets[6],
            code_instrs: offsets[7],
            code_version: offsets[8],
            code_first_line: offsets[9],
            code_filename: offsets[10],
            code_name: offsets[11],
            code_line_table: offsets[12],
            tstate_interp: offsets[13],
            tstate_cframe: offsets[14],
            cframe_previous: offsets[15],
            frame_is_entry: offsets[16],
            entry_kind: kinds[4],
            pad: 0,
        }
    }
}

fn layout() -> BoxedStrategy<WalkLayout> {
    let real = prop::sample::select(LAYOUTS.map(|(_, layout)| layout).to_vec());
    prop_oneof![real, any_layout()].boxed()
}

fn address() -> BoxedStrategy<u64> {
    let address = prop_oneof![
        8 => (0x1_0000u64..1 << 47).prop_map(|addr| addr & !7),
        2 => any::<u64>(),
        1 => (u64::MAX - 0x200)..=u64::MAX,
        1 => 0u64..0x200,
        1 => Just(0),
    ];
    address.boxed()
}

fn tstate_path() -> impl Strategy<Value = TstatePath> {
    let offset = prop_oneof![4 => (0i32..64).prop_map(|word| word * 8), 1 => any::<i32>()];
    let len = prop_oneof![8 => 1u32..=3, 1 => any::<u32>()];
    (proptest::array::uniform3(offset), len).prop_map(|(offsets, len)| TstatePath { offsets, len })
}

fn garbage() -> impl Strategy<Value = Garbage> {
    let words = prop_oneof![
        1 => Just(Vec::new()),
        4 => proptest::collection::vec(address(), 1..12),
    ];
    let holes = prop_oneof![2 => Just(0u8), 1 => 1u8..64, 1 => any::<u8>()];
    (any::<u64>(), words, holes).prop_map(|(seed, words, holes)| Garbage {
        seed,
        words,
        holes,
        fixed: BTreeMap::new(),
        reads: Cell::new(0),
    })
}

/// A thread pointer and a thread state that names it, so that a walk gets as far as the frames.
fn make_thread(mem: &mut Garbage, process: &mut ProcessEntry, fsbase: u64, tstate: u64) {
    process.flags |= PROCESS_READY;
    process.tstate = path(&[0]);
    mem.fixed.insert(fsbase, tstate);
    let id_at = tstate.wrapping_add(u64::from(process.layout.tstate_thread_id));
    mem.fixed.insert(id_at & !7, fsbase);
}

prop_compose! {
    fn process()(
        layout in layout(),
        tstate in tstate_path(),
        generation in any::<u32>(),
        flags in prop_oneof![
            8 => (0u32..4).prop_map(|counts| PROCESS_READY | counts << 1),
            1 => any::<u32>(),
        ],
        code_type in prop_oneof![Just(0), address()],
        code_count in prop_oneof![0u64..0x5_0000, address()],
    ) -> ProcessEntry {
        ProcessEntry { generation, flags, code_type, code_count, tstate, layout, names: NameLayout::EMPTY, mappings: MappingsRef::default(), gil: GilLayout::default() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_memory_and_no_layout_hangs_or_panics(
        mut mem in garbage(),
        mut process in process(),
        own_type in any::<bool>(),
        fsbase in address(),
        tstate in address(),
        thread in any::<bool>(),
    ) {
        if let (true, Some(word)) = (own_type, mem.words.first()) {
            process.code_type = *word;
        }
        if thread {
            make_thread(&mut mem, &mut process, fsbase & !7, tstate & !7);
        }
        check(&mem, &process, fsbase & !7);
    }
}

/// The garbage above is only worth something when it gets everywhere.
#[test]
fn garbage_reaches_every_end() {
    let mut ends: BTreeMap<u32, u32> = BTreeMap::new();
    let mut deepest = 0;
    for seed in 0..6000u64 {
        let random = |index: u64| mix(seed, index);
        let (_, layout) = LAYOUTS[seed as usize % LAYOUTS.len()];
        let page = |index: u64| 0x7f00_0000_0000 + (random(index) % 512) * 8;
        let mut words: Vec<u64> = (0..1 + seed % 9).map(page).collect();
        if seed % 4 == 0 {
            words.push(0);
        }
        let mut process = ProcessEntry {
            generation: 1,
            flags: if seed % 11 == 0 {
                0
            } else {
                PROCESS_READY | (seed as u32 % 5) << 1
            },
            code_type: if seed % 2 == 0 { 0 } else { words[0] },
            code_count: words[0],
            tstate: path(&[0, 8][..1 + seed as usize % 2]),
            layout,
            names: NameLayout::EMPTY,
            mappings: MappingsRef::default(),
            gil: GilLayout::default(),
        };
        let mut mem = Garbage {
            seed,
            words: if seed % 13 == 0 {
                Vec::new()
            } else {
                words.clone()
            },
            holes: if seed % 5 == 0 { 40 } else { 0 },
            fixed: BTreeMap::new(),
            reads: Cell::new(0),
        };
        let fsbase = page(100);
        if seed % 3 != 0 {
            make_thread(&mut mem, &mut process, fsbase, page(101) + 0x10_0000);
        }
        // Frames that do not end, one behind the other.
        if seed % 17 == 0 {
            let newest = 0x7e00_0000_0000u64;
            for index in 0..2 * MAX_STEPS as u64 {
                let frame = newest + 0x100 * index;
                let back = frame + u64::from(layout.frame_back);
                mem.fixed.insert(back, frame + 0x100);
                let code = frame + u64::from(layout.frame_code);
                mem.fixed.insert(code, 0x7d00_0000_0000);
            }
            process.code_type = 0;
            mem.words = vec![newest];
        }
        let walked = check(&mem, &process, fsbase);
        deepest = deepest.max(walked.frames.len());
        *ends.entry(walked.status as u32).or_default() += 1;
    }
    let missing: Vec<WalkStatus> = WalkStatus::ALL
        .into_iter()
        .filter(|status| !matches!(status, WalkStatus::Running | WalkStatus::Internal))
        .filter(|status| !ends.contains_key(&(*status as u32)))
        .collect();
    assert!(missing.is_empty(), "never {missing:?}: {ends:?}");
    assert_eq!(deepest, MAX_FRAMES);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever the stack, the walk gives it.
    #[test]
    fn any_stack_comes_out_as_it_is(
        layout in prop::sample::select(LAYOUTS.map(|(_, layout)| layout).to_vec()),
        shape in proptest::collection::vec(
            (0usize..90, -1i32..5000, 0u8..6, prop_oneof![
                1 => Just(None),
                6 => (0u64..40).prop_map(|words| Some(words * 8)),
                1 => (0u64..400).prop_map(|words| Some(words * 8)),
            ]),
            1..300,
        ),
    ) {
        let mut target = Target::new(layout);
        let codes = codes(&mut target, 90);
        let unit = i32::from(layout.lasti_unit.max(2));
        let specs: Vec<Spec> = shape
            .iter()
            .map(|(code, instr, owner, _)| Spec {
                code: codes[*code].address,
                lasti: instr * unit,
                owner: *owner,
            })
            .collect();
        let gaps: Vec<Option<u64>> = shape.iter().map(|(.., gap)| *gap).collect();
        target.stack_in_chunks(&specs, &gaps);
        let walked = target.walk();
        prop_assert_eq!(walked.status, WalkStatus::Complete);
        prop_assert_eq!(&walked.frames, &target.expected(&specs));
        let python = specs.iter().filter(|spec| spec.owner < ENTRY).count();
        let all = if has_entry_frames(&target) { python } else { specs.len() };
        prop_assert_eq!(walked.frames.len(), all);
    }
}
