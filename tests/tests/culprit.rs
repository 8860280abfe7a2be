//! What a person reads first: the summary of the example service names what makes it slow.

use pyscry_tests::{Recorder, Target, on_each};

const PROGRAM: &str = include_str!("../programs/service.py");

#[test]
fn the_first_lines_name_what_makes_the_service_slow() {
    on_each("culprit of the example service", |python| {
        let target = Target::start(python, "service.py", PROGRAM);
        let pid = target.pid().to_string();
        let ended = Recorder::start(&["--pid", &pid, "--wall", "--duration", "3"]).end();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let first: Vec<&str> = ended.stderr.lines().take(3).collect();
        // It holds the lock while it waits.
        assert!(
            first.iter().any(|line| line.contains("refresh_prices")),
            "Python {}: {}",
            python.version,
            ended.stderr
        );
    });
}
