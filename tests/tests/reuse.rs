//! A code object that was freed does not lend its name or its lines to the next one at its
//! address.

use pyscry_tests::{Ended, Interpreter, Recorder, Target, on_each};
use serde_json::Value;

const PROGRAM: &str = include_str!("../programs/reuse.py");
const RATE: f64 = 999.0;
const ITERATIONS: u64 = 150;

/// Runs the program under a recording. Returns what it says and what was recorded.
fn run(python: &Interpreter, mode: &str) -> (Value, Ended) {
    let iterations = ITERATIONS.to_string();
    let mut target = Target::start_with(python, "reuse.py", PROGRAM, &[mode, &iterations, "0.03"]);
    let pid = target.pid().to_string();
    let recorder = Recorder::start(&["--pid", &pid, "--rate", "999"]);
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

/// No key may have more weight than its code ran: that would be another one's. `allowance` is
/// for the samples at both ends of each piece.
fn none_has_anothers(
    python: &Interpreter,
    said: &Value,
    pieces_per_key: f64,
    weight_of: impl Fn(&str) -> u64,
) -> u64 {
    let ran = said["ran"].as_object().expect("what ran");
    let mut known = 0;
    for (key, seconds) in ran {
        let most = (seconds.as_f64().expect("seconds") * RATE) * 1.05 + 3.0 * pieces_per_key;
        let weight = weight_of(key);
        assert!(
            weight as f64 <= most,
            "Python {}: {key} has {weight} samples, and ran for {most} at most",
            python.version
        );
        known += weight;
    }
    known
}

#[test]
fn names_are_not_lent() {
    on_each("freed code lends no name", |python| {
        let (said, ended) = run(python, "names");
        let known = none_has_anothers(python, &said, 1.0, |key| ended.folded.in_function(key));
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
        // Each piece loops on two lines of its own: "while" and the one below it.
        let weight_of = |key: &str| {
            let first: u64 = key.parse().expect("a line");
            ended.folded.weight(|stack| {
                [first, first + 1].iter().any(|line| {
                    stack
                        .last()
                        .is_some_and(|leaf| *leaf == format!("gen (<gen>:{line})"))
                })
            })
        };
        // Neighbours share a line: only the sum of all is compared with what ran, and each pair
        // of lines with what may be on it.
        let ran = said["ran"].as_object().expect("what ran");
        let seconds = |line: u64| {
            ran.get(&line.to_string())
                .and_then(Value::as_f64)
                .unwrap_or_default()
        };
        for line in 2..=9u64 {
            let own = ended
                .folded
                .weight(|stack| stack.last() == Some(&format!("gen (<gen>:{line})")));
            let pieces = ITERATIONS as f64 / 7.0;
            let most = (seconds(line) + seconds(line - 1)) * RATE * 1.05 + 6.0 * pieces;
            assert!(
                own as f64 <= most,
                "Python {}: line {line} has {own} samples, at most {most} can be its own",
                python.version
            );
        }
        let known: u64 = (2..=8u64).map(|line| weight_of(&line.to_string())).sum();
        assert!(
            known > 0,
            "Python {}: no line was read: {}",
            python.version,
            ended.stderr
        );
    });
}
