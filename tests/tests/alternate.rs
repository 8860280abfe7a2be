//! A program that alternates between two chains of calls at full speed never shows a mixture.

use pyscry_tests::{Target, on_each, record};

const PROGRAM: &str = include_str!("../programs/alternate.py");
const SAMPLES: u64 = 100_000;

/// The function of a frame: `name` of `name (file:line)`.
fn function(frame: &str) -> &str {
    frame.split(" (").next().unwrap_or(frame)
}

fn possible(stack: &[String]) -> bool {
    let functions: Vec<&str> = stack.iter().map(|frame| function(frame)).collect();
    matches!(
        functions[..],
        ["<module>"]
            | ["<module>", "main"]
            | ["<module>", "main", "a" | "b"]
            | ["<module>", "main", "a", "leaf_a"]
            | ["<module>", "main", "b", "leaf_b"]
    )
}

#[test]
fn no_stack_is_impossible() {
    on_each("0 impossible stacks in 100,000 samples", |python| {
        let target = Target::start(python, "alternate.py", PROGRAM);
        let pid = target.pid().to_string();
        let mut taken = 0;
        let mut in_leaves = 0;
        while taken < SAMPLES {
            let ended = record(&["--pid", &pid, "--duration", "6", "--rate", "10000"]);
            assert_eq!(ended.code, 0, "{}", ended.stderr);
            for (stack, weight) in &ended.folded.stacks {
                assert!(
                    possible(stack),
                    "Python {}: {weight} x {stack:?}",
                    python.version
                );
            }
            assert!(
                ended.folded.total() > 6_000,
                "hardly sampled: {}",
                ended.stderr
            );
            in_leaves += ended
                .folded
                .in_function("leaf_a")
                .min(ended.folded.in_function("leaf_b"));
            taken += ended.folded.total();
        }
        assert!(
            in_leaves > SAMPLES / 50,
            "Python {}: hardly a leaf was seen",
            python.version
        );
        println!(
            "Python {}: 0 impossible stacks in {taken} samples",
            python.version
        );
    });
}
