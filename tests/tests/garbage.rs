//! Garbage in a target's memory: rings, nulls and wild pointers in the frames, the code and the
//! thread states of threads that do not run Python code any more. Each is a counter and a stack
//! that ends there, and nothing else of the process suffers.

#![allow(clippy::expect_used, reason = "what a test starts has to be there")]

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use profiler_common::layout::NONE;
use profiler_common::mem::Memory;
use pyscry::process::RemoteMemory;
use pyscry::python::inspect::{self, Python};
use pyscry::python::{objects, threads};
use pyscry_tests::{Ended, Folded, Interpreter, Target, on_each, record};

/// A thread for each way to go wrong, in a C function that does not come back: one that uses the
/// CPU, or one that waits again and again. And one thread with which all is well.
const PROGRAM: &str = r#"
import ctypes
import gc
import hashlib
import os
import sys
import threading
import time

# A collection would look at the frames.
gc.disable()
mode, *cases = sys.argv[1:]
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
libc.fread.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p]
known = []
writers = []

VICTIM = """
def leaf_CASE(pipe):
    if mode == "run":
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
    else:
        buffer = ctypes.create_string_buffer(1 << 20)
        libc.fread(buffer, 1, 1 << 20, pipe)


def middle_CASE(pipe):
    leaf_CASE(pipe)


def top_CASE(pipe):
    known.append(("CASE", threading.get_ident(), threading.get_native_id()))
    middle_CASE(pipe)
"""


def healthy_leaf():
    if mode == "run":
        while True:
            pass
    while True:
        for writer in writers:
            os.write(writer, b"x")
        time.sleep(0.01)


def healthy():
    known.append(("healthy", threading.get_ident(), threading.get_native_id()))
    healthy_leaf()


for case in cases:
    exec(VICTIM.replace("CASE", case))
    end, other_end = os.pipe()
    writers.append(other_end)
    pipe = libc.fdopen(end, b"r")
    threading.Thread(target=globals()["top_" + case], args=(pipe,), daemon=True).start()
threading.Thread(target=healthy, daemon=True).start()
while len(known) < len(cases) + 1:
    time.sleep(0.01)
time.sleep(0.3)
print("ready")
for case, ident, tid in known:
    print(case, ident, tid)
sys.stdin.readline()
"#;

/// A recording of a second takes this long at most, on a machine that these threads keep busy.
const PATIENCE: Duration = Duration::from_secs(20);
/// Nobody has anything mapped there.
const WILD: u64 = 0x1234_5678_9000;

/// What a case's stack must look like below the thread, from the root.
enum Shape {
    /// Our marker, and frames of the case: those of `middle` and `leaf`.
    Below(&'static str),
    /// Our marker, and `leaf`.
    Leaf(&'static str),
    /// Our marker alone.
    Alone(&'static str),
    /// Our marker, and frames of the case again and again.
    Around(&'static str),
    /// A stack that seems to begin with `middle`.
    Short,
    /// A whole stack, in which `middle` has no name.
    Nameless,
    /// All frames, one of them without a line; without a name where it is read from outside, and where
    /// what spoils the line table spoils the witness (up to 3.11).
    Lineless,
}

struct Case {
    name: &'static str,
    spoil: fn(&Victim<'_>),
    shape: Shape,
    /// The counter that tells of it.
    counter: Option<&'static str>,
}

const CASES: [Case; 16] = [
    Case {
        name: "ring_of_one",
        spoil: |v| v.set_back(v.middle, v.middle),
        shape: Shape::Around("[incomplete: frame cycle]"),
        counter: Some("frame_cycle"),
    },
    Case {
        name: "ring_of_three",
        spoil: |v| v.set_back(v.top, v.leaf),
        shape: Shape::Around("[incomplete: frame cycle]"),
        counter: Some("frame_cycle"),
    },
    Case {
        name: "null_caller",
        spoil: |v| v.set_back(v.middle, 0),
        shape: Shape::Short,
        counter: None,
    },
    Case {
        name: "wild_caller",
        spoil: |v| v.set_back(v.middle, WILD),
        shape: Shape::Below("[incomplete: frame unreadable]"),
        counter: Some("frame_unreadable"),
    },
    Case {
        name: "last_caller",
        spoil: |v| v.set_back(v.middle, u64::MAX),
        shape: Shape::Below("[incomplete: frame unreadable]"),
        counter: Some("frame_unreadable"),
    },
    Case {
        name: "impossible_caller",
        spoil: |v| v.set_back(v.middle, 1 << 63 | WILD),
        shape: Shape::Below("[incomplete: frame unreadable]"),
        counter: Some("frame_unreadable"),
    },
    Case {
        name: "wild_frame",
        spoil: |v| v.set_newest(WILD),
        shape: Shape::Alone("[incomplete: frame unreadable]"),
        counter: Some("frame_unreadable"),
    },
    Case {
        name: "null_code",
        spoil: |v| v.set_code(0),
        shape: Shape::Leaf("[incomplete: code invalid]"),
        counter: Some("code_invalid"),
    },
    Case {
        name: "str_as_code",
        spoil: |v| v.set_code(v.name_of_middle()),
        shape: Shape::Leaf("[incomplete: code invalid]"),
        counter: Some("code_invalid"),
    },
    Case {
        name: "wild_code",
        spoil: |v| v.set_code(WILD),
        shape: Shape::Nameless,
        counter: Some("code_gone"),
    },
    Case {
        name: "wild_name",
        spoil: |v| v.set_names(WILD),
        shape: Shape::Nameless,
        counter: Some("code_gone"),
    },
    Case {
        name: "endless_name",
        spoil: |v| v.set_name_length(u64::MAX >> 1),
        shape: Shape::Nameless,
        counter: Some("code_gone"),
    },
    Case {
        name: "wild_line_table",
        spoil: |v| v.set_line_table(WILD),
        shape: Shape::Lineless,
        counter: Some("code_gone"),
    },
    Case {
        name: "foreign_thread_state",
        spoil: |v| v.set_thread_id(v.ident + 0x100),
        shape: Shape::Alone("[incomplete: foreign thread state]"),
        counter: Some("thread_state_foreign"),
    },
    Case {
        name: "wild_thread_state",
        spoil: |v| v.set_slot(WILD),
        shape: Shape::Alone("[incomplete: thread state unreadable]"),
        counter: Some("thread_state_unreadable"),
    },
    Case {
        name: "last_thread_state",
        spoil: |v| v.set_slot(u64::MAX),
        shape: Shape::Alone("[incomplete: thread state unreadable]"),
        counter: Some("thread_state_unreadable"),
    },
];

/// A target whose memory is written to.
struct Spoiled {
    target: Target,
    python: Python,
    mem: RemoteMemory,
    file: File,
}

impl Spoiled {
    fn new(target: Target) -> Self {
        let pid = target.pid();
        let path = format!("/proc/{pid}/mem");
        Self {
            python: inspect::inspect(pid).unwrap_or_else(|error| panic!("{error}")),
            mem: RemoteMemory::new(pid),
            file: File::options().write(true).open(path).expect("its memory"),
            target,
        }
    }

    fn read(&self, addr: u64) -> u64 {
        let word = self.mem.read_u64(addr);
        word.unwrap_or_else(|_| panic!("{addr:#x} cannot be read"))
    }

    fn write(&self, addr: u64, word: u64) {
        let written = self.file.write_all_at(&word.to_le_bytes(), addr);
        written.unwrap_or_else(|error| panic!("{addr:#x} cannot be written: {error}"));
    }

    fn tstate(&self, ident: u64) -> u64 {
        let runtime = self.python.located.runtime;
        let states = threads::thread_states(&self.mem, &self.python.layout, runtime);
        let states = states.expect("thread states");
        let own = states.iter().find(|state| state.thread_id == ident);
        own.expect("a thread state").address
    }

    /// Where a thread state has its newest frame.
    fn newest_at(&self, tstate: u64) -> u64 {
        let walk = &self.python.layout.walk;
        let at = tstate + u64::from(walk.tstate_frame);
        if walk.cframe_frame == NONE {
            at
        } else {
            self.read(at) + u64::from(walk.cframe_frame)
        }
    }

    fn code(&self, frame: u64) -> u64 {
        self.read(frame + u64::from(self.python.layout.walk.frame_code)) & !3
    }

    fn back(&self, frame: u64) -> u64 {
        self.read(frame + u64::from(self.python.layout.walk.frame_back))
    }

    fn name(&self, frame: u64) -> String {
        let layout = &self.python.layout;
        let name = self.read(self.code(frame) + u64::from(layout.walk.code_name));
        objects::read_str(&self.mem, &layout.objects, name, 100).expect("a name")
    }
}

/// A thread that gets garbage.
struct Victim<'a> {
    all: &'a Spoiled,
    ident: u64,
    tstate: u64,
    leaf: u64,
    middle: u64,
    top: u64,
}

impl<'a> Victim<'a> {
    fn new(all: &'a Spoiled, case: &str, ident: u64) -> Self {
        let tstate = all.tstate(ident);
        let begin = Instant::now();
        let leaf = loop {
            let newest = all.read(all.newest_at(tstate));
            if all.name(newest) == format!("leaf_{case}") {
                break newest;
            }
            let young = begin.elapsed() < Duration::from_secs(10);
            assert!(young, "{case} does not get to its leaf");
            std::thread::sleep(Duration::from_millis(20));
        };
        let middle = all.back(leaf);
        let top = all.back(middle);
        assert_eq!(all.name(middle), format!("middle_{case}"));
        assert_eq!(all.name(top), format!("top_{case}"));
        Self {
            all,
            ident,
            tstate,
            leaf,
            middle,
            top,
        }
    }

    fn set_back(&self, frame: u64, back: u64) {
        let at = frame + u64::from(self.all.python.layout.walk.frame_back);
        self.all.write(at, back);
    }

    fn set_newest(&self, frame: u64) {
        self.all.write(self.all.newest_at(self.tstate), frame);
    }

    fn set_code(&self, code: u64) {
        let at = self.middle + u64::from(self.all.python.layout.walk.frame_code);
        self.all.write(at, code);
    }

    /// Where the code of `middle` has its names.
    fn names(&self) -> Vec<u64> {
        let layout = &self.all.python.layout;
        let code = self.all.code(self.middle);
        let name = code + u64::from(layout.walk.code_name);
        let qualname = layout.code_qualname.map(|offset| code + offset);
        [Some(name), qualname].into_iter().flatten().collect()
    }

    fn name_of_middle(&self) -> u64 {
        self.all.read(self.names()[0])
    }

    fn set_names(&self, name: u64) {
        for at in self.names() {
            self.all.write(at, name);
        }
    }

    fn set_name_length(&self, length: u64) {
        let layout = &self.all.python.layout;
        for at in self.names() {
            self.all
                .write(self.all.read(at) + layout.objects.str_length, length);
        }
    }

    fn set_line_table(&self, table: u64) {
        let code = self.all.code(self.middle);
        let at = code + u64::from(self.all.python.layout.walk.code_line_table);
        self.all.write(at, table);
    }

    fn set_thread_id(&self, ident: u64) {
        let at = self.tstate + u64::from(self.all.python.layout.walk.tstate_thread_id);
        self.all.write(at, ident);
    }

    /// Sets what the thread itself finds its state by.
    fn set_slot(&self, tstate: u64) {
        let path = &self.all.python.entry.tstate;
        let offsets = &path.offsets[..path.len as usize];
        let (last, before) = offsets.split_last().expect("a way");
        let step = |base: u64, offset: &i32| base.wrapping_add_signed(i64::from(*offset));
        let table = before
            .iter()
            .fold(self.ident, |base, offset| self.all.read(step(base, offset)));
        let slot = step(table, last);
        assert_eq!(self.all.read(slot), self.tstate, "not the slot");
        self.all.write(slot, tstate);
    }
}

/// The name of a function in `name (file:line)`.
fn function(frame: &str) -> &str {
    frame.split(" (").next().unwrap_or(frame)
}

/// Stacks of ours that say that a thread's stack was not seen, where it ran while the recording
/// began.
const NOT_SEEN: [&str; 2] = ["[stack not known]", "[no Python]"];

/// The stacks of one thread, without what stands for the thread and for causes of waits.
fn stacks(folded: &Folded, tid: u32) -> Vec<Vec<&str>> {
    let prefix = format!("thread ({tid})");
    let own = folded.stacks.keys().filter_map(|stack| {
        let (root, frames) = stack.split_first().expect("a thread at the root");
        root.starts_with(&prefix).then(|| {
            let frames = frames.iter().map(|frame| function(frame));
            frames.filter(|frame| *frame != "[run queue]").collect()
        })
    });
    own.collect()
}

impl Shape {
    fn fits(&self, case: &str, stack: &[&str]) -> bool {
        let [leaf, middle, top] = ["leaf", "middle", "top"].map(|part| format!("{part}_{case}"));
        let is_whole = |middle: &str| {
            stack
                .first()
                .is_some_and(|root| root.ends_with("_bootstrap"))
                && stack.ends_with(&[&top, middle, &leaf])
        };
        match self {
            Self::Below(marker) => stack == [marker, &*middle, &*leaf],
            Self::Leaf(marker) => stack == [marker, &*leaf],
            Self::Alone(marker) => stack == [*marker],
            Self::Around(marker) => {
                let own = [&*leaf, &*middle, &*top];
                stack.split_first().is_some_and(|(root, frames)| {
                    root == marker
                        && frames.ends_with(&[&middle, &leaf])
                        && frames.iter().all(|frame| own.contains(frame))
                })
            }
            Self::Short => stack == [&*middle, &*leaf],
            Self::Nameless => is_whole("[freed code]"),
            Self::Lineless => is_whole("[freed code]") || is_whole(&middle),
        }
    }
}

fn check(python: &Interpreter, ended: &Ended, tids: &HashMap<String, u32>, took: Duration) {
    let what = format!("Python {}: {}", python.version, ended.stderr);
    assert_eq!(ended.code, 0, "{what}");
    assert!(!ended.stderr.contains("panicked"), "{what}");
    assert!(took < PATIENCE, "{took:?}, {what}");
    let folded = ended.folded.without_causes();
    for case in &CASES {
        let stacks = stacks(&folded, tids[case.name]);
        let seen: Vec<_> = stacks
            .iter()
            .filter(|stack| !matches!(stack[..], [only] if NOT_SEEN.contains(&only)))
            .collect();
        assert!(!seen.is_empty(), "{}: no stack. {what}", case.name);
        for stack in seen {
            assert!(
                case.shape.fits(case.name, stack),
                "{}: {stack:?}. {what}",
                case.name
            );
        }
        if let Some(counter) = case.counter {
            assert!(
                ended.stderr.contains(&format!(" {counter} = ")),
                "{counter}: {what}"
            );
        }
    }
    let healthy = stacks(&folded, tids["healthy"]);
    let healthy = healthy
        .iter()
        .filter(|stack| !matches!(stack[..], [only] if NOT_SEEN.contains(&only)));
    let mut count = 0;
    for stack in healthy {
        let whole = stack
            .first()
            .is_some_and(|root| root.ends_with("_bootstrap"))
            && stack.ends_with(&["healthy", "healthy_leaf"]);
        assert!(whole, "a healthy thread: {stack:?}. {what}");
        count += 1;
    }
    assert_ne!(count, 0, "no stack of the healthy thread. {what}");
}

/// Starts the program and fills it with garbage. Returns its threads by what they are for.
fn spoil(python: &Interpreter, mode: &str) -> (Spoiled, HashMap<String, u32>) {
    let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
    let args = [&[mode], &names[..]].concat();
    let name = format!("garbage-{mode}.py");
    let mut target = Target::start_with(python, &name, PROGRAM, &args);
    let mut idents = HashMap::new();
    let mut tids = HashMap::new();
    for _ in 0..=CASES.len() {
        let line = target.line();
        let words: Vec<&str> = line.split(' ').collect();
        let [case, ident, tid] = words[..] else {
            panic!("not a thread: {line:?}");
        };
        idents.insert(case.to_owned(), ident.parse::<u64>().expect("an ident"));
        tids.insert(case.to_owned(), tid.parse().expect("a tid"));
    }
    let spoiled = Spoiled::new(target);
    // All are looked up before the first is spoiled: nothing is followed through garbage.
    let victims: Vec<_> = CASES
        .iter()
        .map(|case| Victim::new(&spoiled, case.name, idents[case.name]))
        .collect();
    for (case, victim) in CASES.iter().zip(&victims) {
        (case.spoil)(victim);
    }
    drop(victims);
    (spoiled, tids)
}

fn record_spoiled(python: &Interpreter, mode: &str, options: &[&str]) {
    let (spoiled, tids) = spoil(python, mode);
    let pid = spoiled.target.pid().to_string();
    let begin = Instant::now();
    let ended = record(&[&["--pid", &pid, "--duration", "1", "--threads"], options].concat());
    check(python, &ended, &tids, begin.elapsed());
}

#[test]
fn garbage_in_running_threads() {
    on_each("garbage, on-CPU", |python| {
        record_spoiled(python, "run", &["--rate", "999"])
    });
}

#[test]
fn garbage_in_waiting_threads() {
    on_each("garbage, off-CPU", |python| {
        record_spoiled(python, "wait", &["--off-cpu"])
    });
}

/// Lists of thread states and of interpreters that do not end.
#[test]
fn rings_of_thread_states() {
    on_each("rings of thread states", |python| {
        const PROGRAM: &str = "\
import threading
def spins():
    while True:
        pass
threading.Thread(target=spins, daemon=True).start()
print('ready')
input()
";
        let target = Target::start(python, "rings.py", PROGRAM);
        let spoiled = Spoiled::new(target);
        let layout = &spoiled.python.layout;
        let interp = spoiled.python.interp;
        let newest = spoiled.read(interp + layout.interp_threads);
        spoiled.write(newest + layout.tstate_next, newest);
        spoiled.write(interp + layout.interp_next, interp);
        let pid = spoiled.target.pid().to_string();
        let begin = Instant::now();
        let ended = record(&["--pid", &pid, "--duration", "0.5", "--threads"]);
        assert!(begin.elapsed() < PATIENCE, "{}", ended.stderr);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert_ne!(ended.folded.in_function("spins"), 0, "{}", ended.stderr);
    });
}
