//! Deep stacks: whole up to 1,024 frames, cut at the root side and marked so beyond.

use pyscry_tests::{Target, on_each, record};

const PROGRAM: &str = "
import sys, time
sys.setrecursionlimit(5000)
def deeper(left):
    if left:
        return deeper(left - 1)
    print('ready', flush=True)
    time.sleep(3600)
deeper(int(sys.argv[1]))
";

fn frames(target: &Target) -> (Vec<String>, String) {
    let pid = target.pid().to_string();
    let ended = record(&["--pid", &pid, "--duration", "0.3", "--off-cpu"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let folded = ended.folded.without_causes();
    let (stack, _) = folded
        .stacks
        .iter()
        .max_by_key(|(_, weight)| **weight)
        .expect("one");
    (stack.clone(), ended.stderr)
}

#[test]
fn a_thousand_frames_are_whole() {
    on_each("1,000 frames deep", |python| {
        let target = Target::start_with(python, "deep.py", PROGRAM, &["1000"]);
        let (stack, _) = frames(&target);
        assert_eq!(stack.len(), 1002, "Python {}", python.version);
        assert!(stack[0].starts_with("<module> ("), "{}", stack[0]);
        assert!(
            stack[1..1001]
                .iter()
                .all(|frame| frame.starts_with("deeper ("))
        );
    });
}

#[test]
fn beyond_1024_the_leaf_side_is_kept() {
    on_each("2,000 frames deep", |python| {
        let target = Target::start_with(python, "deep.py", PROGRAM, &["2000"]);
        let (stack, said) = frames(&target);
        assert_eq!(stack.len(), 1025, "Python {}", python.version);
        assert_eq!(stack[0], "[truncated]");
        assert!(stack[1024].ends_with("deep.py:8)"), "{}", stack[1024]);
        assert!(said.contains("Truncated: 1."), "{said}");
    });
}
