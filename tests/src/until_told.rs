//! Programs that go on when they are told.

/// What is recorded, and how a program spends that time.
pub const WAYS: [(&str, &[&str]); 2] = [("run", &[]), ("wait", &["--off-cpu"])];

/// A program that runs or waits in `before` until it is told to go on with `then`.
pub fn until_told(then: &str) -> String {
    format!(
        "\
import os
import select
import sys
import time
def is_told(seconds):
    return bool(select.select([sys.stdin], [], [], seconds)[0])
def before():
    while not is_told(0 if sys.argv[1] == 'run' else 0.01):
        pass
print('ready')
before()
sys.stdin.readline()
{then}
"
    )
}
