//! Stacks of native programs that wait: the process's frames are the known chain of calls, and what
//! gdb says; the kernel's, above them, are those of the system call.

use pyscry_tests::agree::{begins_with_chain, is_as_gdb_says};
use pyscry_tests::frames::split_kernel;
use pyscry_tests::{Ended, Frame, Native, Workshop, gdb, record};

const RUN_QUEUE: &str = "[run queue]";
/// The whole stack of what a thread waited in when the recording began, if it went on too soon.
const NOT_KNOWN: &str = "[stack not known]";

/// A way to wait.
struct Way<'a> {
    argument: &'a str,
    /// The function of the program that calls.
    function: &'a str,
    /// The number of the system call.
    call: i64,
    /// What is in the name of a function of the kernel that waits so, on every release.
    kernel: &'a str,
}

const WAYS: [Way<'static>; 3] = [
    // glibc's nanosleep is clock_nanosleep.
    Way {
        argument: "sleep",
        function: "sleeps",
        call: libc::SYS_clock_nanosleep,
        kernel: "nanosleep",
    },
    Way {
        argument: "futex",
        function: "futex",
        call: libc::SYS_futex,
        kernel: "futex_wait",
    },
    Way {
        argument: "poll",
        function: "polls",
        call: libc::SYS_poll,
        kernel: "poll",
    },
];

fn program(workshop: &Workshop) -> std::path::PathBuf {
    workshop.make("gcc", "native/waits.c", &["-O2"], "program")
}

/// Whether one of the kernel's frames has this in its name.
fn in_kernel(stack: &[String], part: &str) -> bool {
    stack
        .iter()
        .any(|text| matches!(Frame::of(text), Frame::Kernel(name) if name.contains(part)))
}

/// A stack without what says that it waited for a CPU, and whether that was said.
fn without_queue(stack: &[String]) -> (&[String], bool) {
    match stack.split_last() {
        Some((leaf, rest)) if leaf == RUN_QUEUE => (rest, true),
        _ => (stack, false),
    }
}

fn is_good(ended: &Ended) {
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_ne!(ended.folded.total(), 0, "no stack: {}", ended.stderr);
}

#[test]
fn waits_that_end_have_their_callers() {
    let workshop = Workshop::default();
    let exe = program(&workshop);
    for way in &WAYS {
        // What a thread waits in for ever is what it waits in again and again.
        let forever = Native::start(&exe, &[way.argument, "long"]).blocked_in(way.call);
        let truth = gdb::stacks(forever.pid());
        let truth = &truth[&forever.pid()];
        let again = Native::start(&exe, &[way.argument, "short"]);
        let pid = again.pid().to_string();
        let ended = record(&["--pid", &pid, "--native", "--off-cpu", "--duration", "0.5"]);
        is_good(&ended);
        let mut blocked = 0;
        for (stack, weight) in &ended.folded.without_causes().stacks {
            let (stack, queued) = without_queue(stack);
            if stack == [NOT_KNOWN] {
                continue;
            }
            begins_with_chain(stack, &["main", "caller", "again"]);
            // A thread that waits for a CPU may have been taken off it anywhere.
            if queued {
                continue;
            }
            is_as_gdb_says(stack, truth);
            assert!(
                in_kernel(stack, way.kernel),
                "no {}: {stack:#?}",
                way.kernel
            );
            let (user, _) = split_kernel(stack);
            let calls = |text: &String| Frame::of(text).native() == Some(way.function);
            assert!(user.iter().any(calls), "{stack:#?}");
            blocked += weight;
        }
        assert_ne!(blocked, 0, "{:#?}", ended.folded.stacks);
    }
}

#[test]
fn waits_without_the_kernels_frames() {
    let workshop = Workshop::default();
    let again = Native::start(&program(&workshop), &["sleep", "short"]);
    let pid = again.pid().to_string();
    let args = [
        "--pid",
        &pid,
        "--native",
        "--no-kernel",
        "--off-cpu",
        "--duration",
        "0.5",
    ];
    let ended = record(&args);
    is_good(&ended);
    let mut blocked = 0;
    for (stack, weight) in &ended.folded.without_causes().stacks {
        let (stack, queued) = without_queue(stack);
        assert_eq!(split_kernel(stack).1, &[] as &[String], "{stack:#?}");
        if !queued && stack != [NOT_KNOWN] {
            begins_with_chain(stack, &["main", "caller", "again", "sleeps"]);
            blocked += weight;
        }
    }
    assert_ne!(blocked, 0, "{:#?}", ended.folded.stacks);
}

#[test]
fn a_wait_that_began_before_the_recording_and_goes_on_behind_it() {
    let workshop = Workshop::default();
    let exe = program(&workshop);
    for way in &WAYS {
        // Not of the same process: gdb interrupts the wait.
        let other = Native::start(&exe, &[way.argument, "long"]).blocked_in(way.call);
        let truth = gdb::stacks(other.pid());
        let program = Native::start(&exe, &[way.argument, "long"]).blocked_in(way.call);
        let pid = program.pid().to_string();
        let args = ["--pid", &pid, "--native", "--off-cpu", "--duration", "0.5"];
        let ended = record(&args);
        is_good(&ended);
        for stack in ended.folded.without_causes().stacks.keys() {
            is_as_gdb_says(stack, &truth[&other.pid()]);
            assert!(
                in_kernel(stack, way.kernel),
                "no {}: {stack:#?}",
                way.kernel
            );
        }
    }
}

/// The main thread waits for others, which run.
#[test]
fn a_thread_that_waits_for_others() {
    let workshop = Workshop::default();
    let exe = workshop.make("gcc", "native/pool.c", &["-O2", "-pthread"], "program");
    let program = Native::start(&exe, &[]).settled();
    let truth = gdb::stacks(program.pid());
    let pid = program.pid().to_string();
    let args = ["--pid", &pid, "--native", "--off-cpu", "--duration", "0.5"];
    let ended = record(&args);
    is_good(&ended);
    let mut blocked = 0;
    for (stack, weight) in &ended.folded.without_causes().stacks {
        if without_queue(stack).1 {
            continue;
        }
        is_as_gdb_says(stack, &truth[&program.pid()]);
        assert!(in_kernel(stack, "futex_wait"), "{stack:#?}");
        blocked += weight;
    }
    assert_ne!(blocked, 0, "{:#?}", ended.folded.stacks);
}
