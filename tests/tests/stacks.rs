//! Known stacks, on- and off-CPU, on every version: all names and every line are what Python
//! itself says of its frames.

use std::time::Instant;

use pyscry_tests::{Folded, Interpreter, Target, on_each, record};
use serde_json::Value;

const PROGRAM: &str = include_str!("../programs/stacks.py");

/// One thread, as the program described it.
struct Expected {
    thread: String,
    /// All frames but the leaf, as folded stacks write them.
    callers: Vec<String>,
    /// The leaf on each line that it can be on.
    leaves: Vec<String>,
}

fn frame(parts: &Value, line: &Value) -> String {
    let text = |index: usize| parts[index].as_str().expect("a name and a file").to_owned();
    format!(
        "{} ({}:{})",
        text(0),
        text(1),
        line.as_u64().expect("a line")
    )
}

fn expectation(line: &str) -> Expected {
    let said: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
    let stack = said["stack"].as_array().expect("a stack");
    let leaf = &said["leaf"];
    Expected {
        thread: said["thread"].as_str().expect("a thread").to_owned(),
        callers: stack.iter().map(|parts| frame(parts, &parts[2])).collect(),
        leaves: leaf[2]
            .as_array()
            .expect("lines")
            .iter()
            .map(|at| frame(leaf, at))
            .collect(),
    }
}

fn start(python: &Interpreter, mode: &str) -> (Target, Vec<Expected>) {
    let mut target = Target::start_with(python, "stacks.py", PROGRAM, &[mode]);
    let count: usize = target.line().parse().expect("how many threads there are");
    assert!(count >= 20, "the program lost its scenarios");
    let expected = (0..count).map(|_| expectation(&target.line())).collect();
    (target, expected)
}

/// Compares every stack of every thread. `own_leaf` is a frame of ours that may follow the leaf.
fn compare(python: &Interpreter, folded: &Folded, expected: &[Expected], own_leaf: &str) {
    for thread in expected {
        let suffix = format!(": {}", thread.thread);
        let mut weight = 0;
        for (stack, own_weight) in &folded.stacks {
            let (root, mut frames) = stack.split_first().expect("a thread at the root");
            if !root.ends_with(&suffix) {
                continue;
            }
            if frames.last().is_some_and(|leaf| leaf == own_leaf) {
                frames = &frames[..frames.len() - 1];
            }
            let (leaf, callers) = frames.split_last().expect("frames below the thread");
            assert_eq!(
                callers, thread.callers,
                "Python {}, thread {}: the callers differ",
                python.version, thread.thread
            );
            assert!(
                thread.leaves.contains(leaf),
                "Python {}, thread {}: {leaf} is none of {:?}",
                python.version,
                thread.thread,
                thread.leaves
            );
            weight += own_weight;
        }
        assert_ne!(
            weight, 0,
            "Python {}: no stack of thread {}",
            python.version, thread.thread
        );
    }
}

#[test]
fn threads_that_wait_are_where_python_says() {
    on_each("known stacks, off-CPU", |python| {
        let (target, expected) = start(python, "wait");
        let pid = target.pid().to_string();
        let begin = Instant::now();
        let ended = record(&["--pid", &pid, "--duration", "0.5", "--off-cpu", "--threads"]);
        let most = begin.elapsed().as_micros() as u64;
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        compare(
            python,
            &ended.folded.without_causes(),
            &expected,
            "[run queue]",
        );
        // Each of these threads waits for all of the recording.
        for (stack, weight) in &ended.folded.stacks {
            assert!(
                *weight < most,
                "longer than the recording: {stack:?} {weight}"
            );
        }
    });
}

#[test]
fn threads_that_spin_are_where_python_says() {
    on_each("known stacks, on-CPU", |python| {
        let (target, expected) = start(python, "spin");
        let pid = target.pid().to_string();
        let ended = record(&[
            "--pid",
            &pid,
            "--duration",
            "2",
            "--rate",
            "999",
            "--threads",
        ]);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        compare(python, &ended.folded, &expected, "");
    });
}
