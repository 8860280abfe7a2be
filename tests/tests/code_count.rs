//! The count by which the kernel knows that no code object took the place of another: it is found
//! on every version that has one, stays while nothing happens, and never stays when code was freed
//! and new code was made.

use profiler_common::layout::{PROCESS_COUNT_OF_INTERPRETER, PROCESS_COUNT_OF_PROCESS};
use profiler_common::mem::Memory;
use pyscry::process::RemoteMemory;
use pyscry::python::inspect::{self, Python};
use pyscry_tests::{Target, on_each};

const PROGRAM: &str = r#"
import marshal
import sys

made = compile("1 + x", "made", "eval")
dumped = marshal.dumps(made)
print("ready", flush=True)
for line in sys.stdin:
    what = line.strip()
    if what == "compile":
        made = None
        made = compile("1 + x", "made", "eval")
    elif what == "load":
        made = None
        made = marshal.loads(dumped)
    elif what == "replace":
        made = made.replace(co_name="other")
    print("done", flush=True)
"#;

/// Where the count of a process is, as the kernel finds it.
fn place(python: &Python) -> Option<u64> {
    let entry = &python.entry;
    if entry.flags & PROCESS_COUNT_OF_INTERPRETER != 0 {
        Some(python.interp + entry.code_count)
    } else if entry.flags & PROCESS_COUNT_OF_PROCESS != 0 {
        Some(entry.code_count)
    } else {
        None
    }
}

#[test]
fn the_count_changes_with_the_code_and_not_without() {
    on_each("count of code objects", |python| {
        let mut target = Target::start(python, "code_count.py", PROGRAM);
        let found = inspect::inspect(target.pid()).unwrap_or_else(|error| panic!("{error}"));
        // Every 3.12 at hand has its symbols.
        let place = place(&found);
        assert_eq!(place.is_some(), python.minor() >= 12, "{found:?}");
        let Some(place) = place else { return };
        let mem = RemoteMemory::new(target.pid());
        let mut count_after = |what: &str| {
            target.tell(what);
            assert_eq!(target.line(), "done");
            mem.read_u32(place).expect("the count")
        };
        // The interpreter gives functions versions from the same numbers as it warms up.
        for _ in 0..100 {
            count_after("nothing");
        }
        let quiet = count_after("nothing");
        assert_ne!(quiet, 0);
        for _ in 0..10 {
            assert_eq!(count_after("nothing"), quiet, "Python {}", python.version);
        }
        let mut last = quiet;
        for what in ["compile", "load", "replace"] {
            for _ in 0..3 {
                let count = count_after(what);
                assert_ne!(count, last, "Python {}: {what}", python.version);
                last = count;
            }
        }
    });
}
