//! Python and native frames in one stack: the order of calls is the program's, whoever called whom.

use std::collections::BTreeMap;
use std::time::Duration;

use pyscry_tests::frames::{is_whole, split_kernel};
use pyscry_tests::symbol::plain;
use pyscry_tests::{
    Folded, Frame, Interpreter, Target, Workshop, gdb, native, on_each, on_each_built_here, record,
    sampled,
};
use serde_json::Value;

const PROGRAM: &str = include_str!("../programs/merge/kinds.py");
const EVAL: &str = "_PyEval_EvalFrameDefault";

/// CPU time that all threads together are recorded for: each has some tens of turns.
const A_WHILE: Duration = Duration::from_secs(2);

/// A way in which C calls Python.
struct Way {
    name: &'static str,
    /// For each frame that C code of the way's choice calls, from the root on: functions, one of
    /// which is between it and its caller, on interpreters with symbols.
    by: &'static [&'static [&'static str]],
    /// Whether these have symbols with every interpreter.
    named: bool,
}

const fn way(name: &'static str, by: &'static [&'static [&'static str]]) -> Way {
    Way {
        name,
        by,
        named: false,
    }
}

const SORT: &[&str] = &["list_sort_impl", "list_sort", "builtin_sorted"];
const REDUCE: &[&str] = &[
    "functools_reduce",
    "_functools_reduce",
    "_functools_reduce_impl",
];
const MAP: &[&str] = &[
    "map_next",
    "list_extend",
    "list_vectorcall",
    "list___init__",
];

const WAYS: [Way; 19] = [
    way("sorting", &[SORT]),
    way("reducing", &[REDUCE]),
    way("substituting", &[&["pattern_subx"]]),
    way(
        "dumping",
        &[&[
            "encoder_listencode_obj",
            "encoder_listencode_list",
            "encoder_call",
        ]],
    ),
    way(
        "loading",
        &[&["_parse_object_unicode", "scan_once_unicode", "scanner_call"]],
    ),
    Way {
        name: "comparing",
        by: &[&["qsort", "qsort_r"]],
        named: true,
    },
    Way {
        name: "extending",
        by: &[&["calls_back"]],
        named: true,
    },
    way("generating", &[&["builtin_sum", "builtin_sum_impl"]]),
    way(
        "clearing",
        &[&["dict_clear", "PyDict_Clear", "clear_lock_held"]],
    ),
    way(
        "collecting",
        &[&[
            "gc_collect",
            "gc_collect_impl",
            "gc_collect_main",
            "collect",
        ]],
    ),
    way(
        "adding",
        &[&["slot_nb_add", "PyNumber_Add", "binary_op1", "binary_op"]],
    ),
    way(
        "searching",
        &[&["list_index", "list_index_impl", "slot_tp_richcompare"]],
    ),
    way(
        "looking_up",
        &[&["builtin_getattr", "slot_tp_getattr_hook", "call_attribute"]],
    ),
    way("mapping", &[MAP]),
    way(
        "deriving",
        &[&[
            "builtin___build_class__",
            "type_new",
            "type_new_init_subclass",
        ]],
    ),
    way("executing", &[&["builtin_exec", "builtin_exec_impl"]]),
    way("directly", &[]),
    way("nesting", &[MAP, REDUCE, SORT]),
    way("deep", &[REDUCE; 299]),
];

/// Who called a Python frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    C,
    Python,
    Either,
}

/// The Python frames of a thread, from the root to the leaf, as the program described them.
struct Expected {
    way: &'static Way,
    /// The text of each, and who called it.
    frames: Vec<(String, Entry)>,
    /// The leaf on each line that it can be on.
    leaves: Vec<String>,
}

fn text(parts: &Value, line: &Value) -> String {
    let name = parts[0].as_str().expect("a name");
    let file = parts[1].as_str().expect("a file");
    format!("{name} ({file}:{})", line.as_u64().expect("a line"))
}

fn entry(parts: &Value) -> Entry {
    match parts[3].as_str().expect("an entry") {
        "C" => Entry::C,
        "Python" => Entry::Python,
        "either" => Entry::Either,
        other => panic!("no entry: {other}"),
    }
}

impl Expected {
    fn read(line: &str) -> Self {
        let said: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        let name = said["way"].as_str().expect("a way");
        let way = WAYS.iter().find(|way| way.name == name);
        let leaf = &said["leaf"];
        let leaves: Vec<String> = leaf[2]
            .as_array()
            .expect("lines")
            .iter()
            .map(|line| text(leaf, line))
            .collect();
        let callers = said["stack"].as_array().expect("a stack").iter();
        let mut frames: Vec<_> = callers
            .map(|parts| (text(parts, &parts[2]), entry(parts)))
            .collect();
        frames.push((leaves[0].clone(), entry(leaf)));
        let read = Self {
            way: way.unwrap_or_else(|| panic!("{name} is no way")),
            frames,
            leaves,
        };
        // What calls a thread's first function is C as well.
        let by_c = read.frames.iter().filter(|(_, entry)| *entry == Entry::C);
        assert_eq!(
            by_c.count(),
            read.way.by.len() + 1,
            "{name} has lost calls: {line}"
        );
        read
    }

    /// Whether these are the Python frames of a stack.
    fn is(&self, frames: &[&String]) -> bool {
        let Some((leaf, callers)) = frames.split_last() else {
            return false;
        };
        let own = &self.frames[..self.frames.len() - 1];
        callers.iter().copied().eq(own.iter().map(|(text, _)| text)) && self.leaves.contains(leaf)
    }
}

/// A program whose threads have come to their leaves, and what it says of them.
struct Running {
    target: Target,
    expected: Vec<Expected>,
}

fn start(python: &Interpreter, mode: &str) -> Running {
    let [kind, library] = library(python);
    let args = [mode, &kind, &library];
    let mut target = Target::start_with(python, "kinds.py", PROGRAM, &args);
    let count: usize = target.line().parse().expect("how many threads there are");
    let expected: Vec<_> = (0..count).map(|_| Expected::read(&target.line())).collect();
    for way in &WAYS {
        let is_there = expected.iter().any(|thread| thread.way.name == way.name);
        assert!(is_there, "the program has lost {}", way.name);
    }
    Running { target, expected }
}

/// An extension module where the interpreter has its headers, else a library for ctypes.
fn library(python: &Interpreter) -> [String; 2] {
    let workshop = Workshop::default();
    let shared = ["-O2", "-g", "-shared", "-fPIC"];
    let (kind, name, built) = if python.is_built_here() {
        let headers = format!("-I{}", python.headers().display());
        let flags = [&shared[..], &[&headers]].concat();
        let built = workshop.make("gcc", "merge/extension.c", &flags, "extension.so");
        ("module", "extension.so", built)
    } else {
        let flags = [&shared[..], &["-nostdlib"]].concat();
        let built = workshop.make("gcc", "merge/library.c", &flags, "library.so");
        ("library", "library.so", built)
    };
    let bytes = std::fs::read(built).expect("what was built");
    let path = python.place(name, bytes).display().to_string();
    [kind.to_owned(), path]
}

fn is_python(text: &str) -> bool {
    matches!(Frame::of(text), Frame::Python(_))
}

/// The frames before each Python frame, up to the one before.
fn gaps(stack: &[String]) -> Vec<&[String]> {
    let mut gaps: Vec<&[String]> = stack.split(|text| is_python(text)).collect();
    // What the leaf called.
    gaps.pop();
    gaps
}

fn has(gap: &[String], functions: &[&str]) -> bool {
    let names = gap.iter().filter_map(|text| Frame::of(text).native());
    names
        .map(plain)
        .any(|name| functions.contains(&name.as_str()))
}

/// Checks every stack of all threads, and calls `more` with it and what the program says of it.
fn compare(
    python: &Interpreter,
    folded: &Folded,
    expected: &[Expected],
    more: impl Fn(&[String], &Expected),
) {
    let version = &python.version;
    let mut seen = vec![false; expected.len()];
    for stack in folded.stacks.keys() {
        // Of a thread that waits for a CPU, too.
        let stack = match stack.split_last() {
            Some((leaf, rest)) if leaf == "[run queue]" => rest,
            _ => stack,
        };
        assert!(is_whole(stack), "Python {version}: not whole: {stack:#?}");
        let (user, _) = split_kernel(stack);
        let frames: Vec<&String> = user.iter().filter(|text| is_python(text)).collect();
        let Some(found) = expected.iter().position(|thread| thread.is(&frames)) else {
            panic!("Python {version}: no thread has {frames:#?}, of {stack:#?}");
        };
        seen[found] = true;
        let thread = &expected[found];
        if thread.way.named || python.is_built_here() {
            functions_are_right(python, user, thread);
        }
        more(stack, thread);
    }
    for (thread, seen) in expected.iter().zip(seen) {
        assert!(seen, "Python {version}: no stack of {}", thread.way.name);
    }
}

fn functions_are_right(python: &Interpreter, user: &[String], thread: &Expected) {
    let frames = gaps(user).into_iter().zip(&thread.frames);
    let by_c = frames.filter(|(_, (_, entry))| *entry == Entry::C);
    // The first one is what calls the thread's first function.
    for ((gap, (callee, _)), functions) in by_c.skip(1).zip(thread.way.by) {
        assert!(
            has(gap, functions),
            "Python {}, {}: none of {functions:?} calls {callee}: {user:#?}",
            python.version,
            thread.way.name
        );
    }
}

#[test]
fn c_functions_are_between_the_python_frames_that_they_connect() {
    on_each("merged order", |python| {
        let running = start(python, "spin");
        let folded = sampled(running.target.pid(), A_WHILE, &["--native"]);
        compare(python, &folded, &running.expected, |_, _| {});
    });
}

#[test]
fn the_interpreters_own_frames_are_where_python_is_entered() {
    on_each(
        "merged order, with the interpreter's own frames",
        |python| {
            let running = start(python, "spin");
            let folded = sampled(running.target.pid(), A_WHILE, &["--native=all"]);
            compare(python, &folded, &running.expected, |stack, thread| {
                entries_are_right(python, split_kernel(stack).0, thread);
            });
        },
    );
}

fn entries_are_right(python: &Interpreter, user: &[String], thread: &Expected) {
    let what = format!("Python {}, {}", python.version, thread.way.name);
    // Before 3.11 each call from Python to Python goes through C.
    let inlines = python.minor() >= 11;
    for (gap, (callee, entry)) in gaps(user).into_iter().zip(&thread.frames) {
        match entry {
            Entry::Python if inlines => {
                assert_eq!(
                    gap,
                    &[] as &[String],
                    "{what}: {callee} is called by Python: {user:#?}"
                );
            }
            Entry::Either if inlines => {}
            _ => {
                let entered = if python.is_built_here() {
                    has(gap, &[EVAL])
                } else {
                    !gap.is_empty()
                };
                assert!(entered, "{what}: nothing enters {callee}: {user:#?}");
            }
        }
    }
}

fn is_eval(text: &str) -> bool {
    Frame::of(text)
        .native()
        .is_some_and(|name| plain(name) == EVAL)
}

/// Native frames are gdb's, Python's left out, down to the last entry of the interpreter; what that
/// calls changes.
#[test]
fn native_frames_are_as_gdb_says() {
    on_each_built_here("merged order, against gdb", |python| {
        let running = start(python, "spin");
        let pid = running.target.pid();
        let truth = gdb::stacks(pid);
        let folded = sampled(pid, A_WHILE, &["--native=all"]);
        compare(python, &folded, &running.expected, |stack, thread| {
            is_as_gdb_says(python, split_kernel(stack).0, thread, &truth);
        });
    });
}

fn is_as_gdb_says(
    python: &Interpreter,
    user: &[String],
    thread: &Expected,
    truth: &BTreeMap<u32, Vec<gdb::Truth>>,
) {
    let native: Vec<&String> = user.iter().filter(|text| !is_python(text)).collect();
    let evals = native.iter().filter(|text| is_eval(text)).count();
    let last = native.iter().rposition(|text| is_eval(text));
    let last = last.unwrap_or_else(|| panic!("no {EVAL}: {user:#?}"));
    let is_entry = |frame: &&gdb::Truth| !frame.inlined && frame.names.contains(EVAL);
    let fits = |truth: &Vec<gdb::Truth>| {
        truth.iter().filter(is_entry).count() == evals
            && truth.len() > last
            && native[..=last]
                .iter()
                .zip(truth)
                .all(|(text, frame)| frame.is(text))
    };
    if truth.values().any(fits) {
        return;
    }
    // The thread that begins most like it is the one that was meant.
    let alike = |truth: &&Vec<gdb::Truth>| {
        let pairs = native.iter().zip(*truth);
        pairs.take_while(|(text, frame)| frame.is(text)).count()
    };
    let nearest = truth.values().max_by_key(alike).expect("threads");
    panic!(
        "Python {}, {}: from {} on it is no more\n{:#?}\nbut {:#?}, with {evals} entries",
        python.version,
        thread.way.name,
        alike(&nearest),
        nearest[alike(&nearest)..]
            .iter()
            .take(5)
            .collect::<Vec<_>>(),
        native[alike(&nearest)..].iter().take(5).collect::<Vec<_>>(),
    );
}

/// The leaf waits: it goes on into the C function that does, and the kernel.
#[test]
fn stacks_that_wait_are_merged() {
    on_each("merged order, off-CPU", |python| {
        let running = start(python, "wait");
        let pid = running.target.pid();
        native::wait_for_call(pid, libc::SYS_read);
        let process = pid.to_string();
        let args = [
            "--pid",
            &process,
            "--native",
            "--off-cpu",
            "--duration",
            "0.5",
        ];
        let ended = record(&args);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let folded = ended.folded.without_causes();
        compare(python, &folded, &running.expected, |stack, _| {
            let (user, kernel) = split_kernel(stack);
            let leaf = user.iter().rposition(|text| is_python(text));
            let called = &user[leaf.expect("compared above") + 1..];
            let waits = |text: &String| matches!(Frame::of(text), Frame::Kernel(name) if name.contains("pipe_read"));
            assert!(
                has(called, &["read", "__read"]) && kernel.iter().any(waits),
                "Python {}: does not read: {stack:#?}",
                python.version
            );
        });
    });
}
