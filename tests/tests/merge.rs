//! Python and native frames in one stack: the order of calls is the program's, whoever called whom.

use pyscry_tests::frames::{is_whole, split_kernel};
use pyscry_tests::interpreters::all;
use pyscry_tests::symbol::plain;
use pyscry_tests::{
    Folded, Frame, Interpreter, Target, Workshop, gdb, native, on_each, on_one, record, sampled,
};
use serde_json::Value;

const PROGRAM: &str = include_str!("../programs/merge/kinds.py");
const EVAL: &str = "_PyEval_EvalFrameDefault";

/// A way in which C calls Python.
struct Way {
    name: &'static str,
    /// For each frame that C code of the program's choice calls, from the root on: functions, one
    /// of which is between it and its caller, on interpreters with symbols.
    by: &'static [&'static [&'static str]],
    /// Whether these have symbols on every interpreter.
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

const WAYS: [Way; 20] = [
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
    way("threads", &[]),
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
        Self { frames, leaves }
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

/// A program that has come to its leaf, or leaves, and what it says of them.
struct Running {
    target: Target,
    expected: Vec<Expected>,
    /// What it loaded goes when this does.
    _workshop: Workshop,
}

fn start(python: &Interpreter, way: &Way, mode: &str) -> Running {
    let workshop = Workshop::default();
    let mut args = vec![way.name.to_owned(), mode.to_owned()];
    if way.name == "extending" {
        args.extend(extension(python, &workshop));
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut target = Target::start_with(python, "kinds.py", PROGRAM, &args);
    let threads = if way.name == "threads" { 2 } else { 1 };
    let expected = (0..threads)
        .map(|_| Expected::read(&target.line()))
        .collect();
    match mode {
        "spin" => native::settle(target.pid()),
        _ => native::wait_for_call(target.pid(), libc::SYS_read),
    }
    Running {
        target,
        expected,
        _workshop: workshop,
    }
}

/// An extension module where the interpreter has its headers, else a library for ctypes.
fn extension(python: &Interpreter, workshop: &Workshop) -> [String; 2] {
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

/// Checks every stack of a way, and calls `more` with it and what the program says of it.
fn compare(
    python: &Interpreter,
    way: &Way,
    folded: &Folded,
    expected: &[Expected],
    more: impl Fn(&[String], &Expected),
) {
    let what = format!("Python {}, {}", python.version, way.name);
    let mut seen = vec![false; expected.len()];
    for stack in folded.stacks.keys() {
        assert!(is_whole(stack), "{what}: not whole: {stack:#?}");
        let (user, _) = split_kernel(stack);
        let frames: Vec<&String> = user.iter().filter(|text| is_python(text)).collect();
        let Some(found) = expected.iter().position(|thread| thread.is(&frames)) else {
            let all: Vec<_> = expected.iter().map(|thread| &thread.frames).collect();
            panic!("{what}: Python's frames are not {all:#?}, but {frames:#?}");
        };
        seen[found] = true;
        more(user, &expected[found]);
        if !(way.named || python.is_built_here()) {
            continue;
        }
        let by_c = gaps(user)
            .into_iter()
            .zip(&expected[found].frames)
            .filter(|(_, (_, entry))| *entry == Entry::C)
            // What calls the program itself.
            .skip(1);
        for ((gap, (callee, _)), functions) in by_c.zip(way.by) {
            assert!(
                has(gap, functions),
                "{what}: none of {functions:?} calls {callee}: {stack:#?}"
            );
        }
    }
    assert!(
        seen.iter().all(|seen| *seen),
        "{what}: not all threads: {:#?}",
        folded.stacks
    );
}

/// How many of the Python frames were entered by C: the program must have told all that are
/// looked for.
fn has_all(way: &Way, expected: &[Expected]) {
    let by_c = |thread: &Expected| {
        let entries = thread.frames.iter();
        entries.filter(|(_, entry)| *entry == Entry::C).count()
    };
    assert!(
        way.name == "threads" || by_c(&expected[0]) == way.by.len() + 1,
        "{} has lost calls: {:#?}",
        way.name,
        expected[0].frames
    );
}

#[test]
fn c_functions_are_between_the_python_frames_that_they_connect() {
    on_each("merged order", |python| {
        for way in &WAYS {
            let running = start(python, way, "spin");
            has_all(way, &running.expected);
            let folded = sampled(running.target.pid(), &["--native"]);
            compare(python, way, &folded, &running.expected, |_, _| {});
        }
    });
}

#[test]
fn the_interpreters_own_frames_are_where_python_is_entered() {
    on_each(
        "merged order, with the interpreter's own frames",
        |python| {
            for way in &WAYS {
                let running = start(python, way, "spin");
                let folded = sampled(running.target.pid(), &["--native=all"]);
                compare(python, way, &folded, &running.expected, |user, thread| {
                    entries_are_right(python, way, user, thread);
                });
            }
        },
    );
}

fn entries_are_right(python: &Interpreter, way: &Way, user: &[String], thread: &Expected) {
    let what = format!("Python {}, {}", python.version, way.name);
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

/// Native frames are gdb's, Python's left out, down to the last entry of the interpreter; what that
/// calls changes.
fn is_as_gdb_says(python: &Interpreter, way: &Way) {
    let running = start(python, way, "spin");
    let pid = running.target.pid();
    let truth = gdb::stacks(pid);
    let folded = sampled(running.target.pid(), &["--native=all"]);
    for stack in folded.stacks.keys() {
        let (user, _) = split_kernel(stack);
        let native: Vec<&String> = user.iter().filter(|text| !is_python(text)).collect();
        let is_eval = |text: &&String| Frame::of(text).native().is_some_and(|name| name == EVAL);
        let evals = native.iter().filter(|text| is_eval(text)).count();
        let last = native.iter().rposition(is_eval);
        let last = last.unwrap_or_else(|| panic!("no {EVAL}: {stack:#?}"));
        let fits = |truth: &Vec<gdb::Truth>| {
            let is_entry = |frame: &&gdb::Truth| !frame.inlined && frame.names.contains(EVAL);
            truth.iter().filter(is_entry).count() == evals
                && truth.len() > last
                && native[..=last]
                    .iter()
                    .zip(truth)
                    .all(|(text, frame)| frame.is(text))
        };
        if !truth.values().any(fits) {
            let told: Vec<_> = truth[&pid]
                .iter()
                .map(|frame| (&frame.names, frame.inlined))
                .collect();
            panic!(
                "Python {}, {}: recorded {native:#?}\ngdb: {told:#?}",
                python.version, way.name
            );
        }
    }
}

#[test]
fn native_frames_are_as_gdb_says() {
    let minors: Vec<u8> = all()
        .iter()
        .filter(|python| python.is_built_here())
        .map(Interpreter::minor)
        .collect();
    assert!(!minors.is_empty(), "no interpreter with symbols");
    // Each way on one version, each version for some ways.
    for (way, minor) in WAYS.iter().zip(minors.iter().cycle()) {
        on_one("merged order, against gdb", *minor, |python| {
            is_as_gdb_says(python, way);
        });
    }
}

/// The leaf waits: it goes on into the C function that does, and the kernel.
#[test]
fn stacks_that_wait_are_merged() {
    on_each("merged order, off-CPU", |python| {
        for way in WAYS
            .iter()
            .filter(|way| ["nesting", "comparing"].contains(&way.name))
        {
            let running = start(python, way, "wait");
            let pid = running.target.pid().to_string();
            let args = ["--pid", &pid, "--native", "--off-cpu", "--duration", "0.3"];
            let ended = record(&args);
            assert_eq!(ended.code, 0, "{}", ended.stderr);
            compare(python, way, &ended.folded, &running.expected, |_, _| {});
            for stack in ended.folded.stacks.keys() {
                let (user, kernel) = split_kernel(stack);
                let leaf = user.iter().rposition(|text| is_python(text));
                let called = &user[leaf.expect("compared above") + 1..];
                let waits = |text: &String| matches!(Frame::of(text), Frame::Kernel(name) if name.contains("pipe_read"));
                assert!(
                    has(called, &["read", "__read"]) && kernel.iter().any(waits),
                    "Python {}, {}: does not read: {stack:#?}",
                    python.version,
                    way.name
                );
            }
        }
    });
}
