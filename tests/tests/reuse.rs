//! A code object that was freed does not lend its name or its lines to the next one at its
//! address.

use pyscry_tests::{Ended, Interpreter, Recorder, Target, on_each};
use serde_json::Value;

const PROGRAM: &str = include_str!("../programs/reuse.py");
const RATE: &str = "999";
const ITERATIONS: u64 = 150;

/// Runs the program under a recording. Returns what it says and what was recorded.
fn run(python: &Interpreter, mode: &str) -> (Value, Ended) {
    let iterations = ITERATIONS.to_string();
    let mut target = Target::start_with(
        python,
        "reuse.py",
        PROGRAM,
        &[mode, &iterations, "0.03", RATE],
    );
    let pid = target.pid().to_string();
    let recorder = Recorder::start(&["--pid", &pid, "--rate", RATE]);
    target.tell("go");
    let said: Value = serde_json::from_str(&target.line()).expect("what it did");
    recorder.signal(libc::SIGINT);
    let ended = recorder.end();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let addresses = said["addresses"].as_u64().expect("a number");
    assert!(
        addresses < ITERATIONS / 2,
        "Python {}: {addresses} addresses: none was used again, and nothing is tested",
        python.version
    );
    (said, ended)
}

/// How many samples the pieces with a key can have at most; 0 where there are none.
fn most(said: &Value, key: &str) -> f64 {
    said["most"][key].as_f64().unwrap_or_default()
}

#[test]
fn names_are_not_lent() {
    on_each("freed code lends no name", |python| {
        let (said, ended) = run(python, "names");
        let mut known = 0;
        for key in said["most"].as_object().expect("what ran").keys() {
            let (weight, most) = (ended.folded.in_function(key), most(&said, key));
            assert!(
                weight as f64 <= most,
                "Python {}: {key} has {weight} samples, at most {most} can be its own",
                python.version
            );
            known += weight;
        }
        assert!(
            known as f64 > ended.folded.total() as f64 * 0.5,
            "Python {}: hardly a name was read: {}",
            python.version,
            ended.stderr
        );
        // Name, file and line are of one piece.
        for stack in ended.folded.stacks.keys() {
            for frame in stack.iter().filter(|frame| frame.starts_with("gen_")) {
                let (name, place) = frame.split_once(" (<gen ").expect("a generated frame");
                let (file, line) = place.split_once(">:").expect("a file and a line");
                assert_eq!(name.strip_prefix("gen_"), Some(file), "{frame}");
                let index: u64 = file.parse().expect("a number");
                let line: u64 = line.trim_end_matches(')').parse().expect("a line");
                let first = index % 50 + 1;
                assert!(
                    (first..first + 3).contains(&line),
                    "Python {}: {frame}",
                    python.version
                );
            }
        }
    });
}

#[test]
fn lines_are_not_lent() {
    on_each("freed code lends no lines", |python| {
        let (said, ended) = run(python, "lines");
        // Each piece loops on two lines, its key and the one below, which is the next piece's key:
        // what is on a line is of two kinds of pieces.
        let mut known = 0;
        for line in 2..=9u64 {
            let leaf = format!("gen (<gen>:{line})");
            let own = ended.folded.weight(|stack| stack.last() == Some(&leaf));
            let most = most(&said, &line.to_string()) + most(&said, &(line - 1).to_string());
            assert!(
                own as f64 <= most,
                "Python {}: line {line} has {own} samples, at most {most} can be its own",
                python.version
            );
            known += own;
        }
        assert!(
            known > 0,
            "Python {}: no line was read: {}",
            python.version,
            ended.stderr
        );
    });
}
