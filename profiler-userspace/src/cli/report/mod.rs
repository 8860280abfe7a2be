//! What a recording of waits says in words: where threads waited (`waits`), who held the
//! interpreter's lock (`gil`), and that all of the time is there (`times`); and whose time it
//! is, where many processes are recorded ([`processes`]).

pub(super) mod gil;
pub mod processes;
pub(super) mod times;
pub(super) mod waits;

use crate::record::Recording;
use crate::record::frame::{FrameText, Naming};
use crate::record::profile::STACK_LOST;

/// Seconds, with as many digits as say something.
pub(super) fn seconds(ns: u64) -> String {
    let seconds = ns as f64 / 1e9;
    if ns >= 10_000_000_000 {
        format!("{seconds:.1} s")
    } else if ns >= 100_000_000 {
        format!("{seconds:.2} s")
    } else if ns >= 100_000 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{:.0} us", seconds * 1e6)
    }
}

/// A share, in percent.
fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}

/// A thread's name and number.
fn thread(recording: &Recording, tid: u32) -> String {
    match recording.names.get(tid) {
        Some(name) => format!("{name} ({tid})"),
        None => format!("thread {tid}"),
    }
}

/// The function of a stack that a person would look at: the innermost of the program's own, not of
/// the standard library or of what was installed with Python.
fn place(recording: &Recording, stack: u64) -> String {
    let stacks = &recording.collector.stacks;
    let Some(stack) = stacks.get(stack) else {
        return STACK_LOST.to_owned();
    };
    let frames = || stack.frames.iter().rev().filter_map(|id| stacks.frame(*id));
    let python = |frame: &&FrameText| matches!(frame, FrameText::Python { .. });
    let own = frames().find(|frame| match frame {
        FrameText::Python { file, .. } => !is_library(file),
        _ => false,
    });
    let found = own
        .or_else(|| frames().find(python))
        .or_else(|| frames().next());
    found.map_or_else(String::new, |frame| frame.text(Naming::default()))
}

/// Whether a file came with Python: the standard library's, frozen modules included.
fn is_library(file: &str) -> bool {
    let installed = file.contains("/site-packages/") || file.contains("/dist-packages/");
    let standard = file
        .split_once("/lib/python3")
        .is_some_and(|(_, rest)| rest.starts_with(['.', '/']));
    file.starts_with('<') || (standard && !installed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_that_say_something() {
        for (ns, expected) in [
            (12_345_678_901, "12.3 s"),
            (1_234_567_890, "1.23 s"),
            (12_345_678, "12.3 ms"),
            (12_345, "12 us"),
            (0, "0 us"),
        ] {
            assert_eq!(seconds(ns), expected);
        }
    }

    #[test]
    fn what_came_with_python() {
        for (file, expected) in [
            ("/usr/lib/python3.11/threading.py", true),
            ("/opt/py/lib/python3.8/socketserver.py", true),
            ("<frozen importlib._bootstrap>", true),
            ("/usr/lib/python3/dist-packages/app.py", false),
            ("/opt/py/lib/python3.8/site-packages/django/db.py", false),
            ("/srv/app.py", false),
        ] {
            assert_eq!(is_library(file), expected, "{file}");
        }
    }
}
