//! A view for the tests of formats: two processes, five threads, all kinds of frames, names that
//! no format takes as they are.

use std::sync::Arc;

use profiler_common::cause::Cause;

use super::flamegraph::Subject;
use super::view::{About, EventView, FrameKind, FrameView, ProcessView, ThreadView, View};

/// Names that no format takes as they are.
pub(crate) const ODD: [&str; 6] = [
    "<script>alert(1)</script>",
    "a;b \"c\" 'd' &amp; \\",
    "line\nbreak\u{0}\u{1b}[31m",
    "🐍 工 \u{202e}",
    "# 12 34",
    "\u{fffd}\u{ffff}",
];

fn frame(kind: FrameKind, name: &str, file: Option<&str>, line: Option<u32>) -> FrameView {
    FrameView {
        kind,
        name: Arc::from(name),
        file: file.map(|file| Arc::from(format!("/srv/{file}").as_str())),
        short_file: file.map(Arc::from),
        line,
    }
}

pub(crate) fn view() -> View {
    named(&ODD.map(str::to_owned))
}

/// The same with other odd names, of which there are at least one.
pub(crate) fn named(odd: &[String]) -> View {
    let mut frames = vec![
        frame(FrameKind::Python, "<module>", Some("app.py"), Some(1)),
        frame(FrameKind::Python, "work", Some("app.py"), Some(10)),
        frame(FrameKind::Python, "work", Some("app.py"), Some(11)),
        frame(FrameKind::Native, "memcpy", Some("libc.so.6"), None),
        frame(FrameKind::Kernel, "do_syscall_64", None, None),
        frame(FrameKind::Waiting, "[gil]", None, None),
        frame(FrameKind::Waiting, "[sleep]", None, None),
        frame(FrameKind::Marker, "[no Python]", None, None),
    ];
    let mut stacks = vec![
        vec![0, 1],
        vec![0, 2, 3],
        vec![0, 2, 3, 4],
        vec![0, 1, 5],
        vec![0, 2, 6],
        vec![7],
        vec![0, 1, 1, 2],
    ];
    for (at, odd) in odd.iter().enumerate() {
        stacks.push(vec![0, frames.len() as u32]);
        frames.push(frame(FrameKind::Python, odd, Some(odd), Some(at as u32)));
    }
    let process = |pid, command: &str| ProcessView {
        pid,
        name: "python".to_owned(),
        command: command.to_owned(),
        label: format!("process {pid}:\"{command}\""),
        python: Some("3.12".to_owned()),
    };
    let thread = |process, tid, name: Option<&str>| ThreadView {
        process,
        tid,
        name: name.map(str::to_owned),
    };
    let mut events = Vec::new();
    let on_cpu = |at_ns, ns, thread, stack, holds_gil| EventView {
        at_ns,
        ns,
        thread,
        stack,
        cause: None,
        syscall: None,
        holds_gil,
    };
    let wait = |at_ns, ns, thread, stack, cause, syscall| EventView {
        cause: Some(cause),
        syscall: Some(syscall),
        ..on_cpu(at_ns, ns, thread, stack, false)
    };
    for at in 0..20_u64 {
        let stacks = [0, 0, 1, 2, 6];
        let stack = stacks[at as usize % stacks.len()];
        events.push(on_cpu(
            5_000_000 + at * 10_000_000,
            10_000_000,
            0,
            stack,
            at % 2 == 0,
        ));
    }
    for (at, odd) in (7..stacks.len() as u32).enumerate() {
        events.push(on_cpu(
            203_000_000 + at as u64 * 10_000_000,
            10_000_000,
            1,
            odd,
            false,
        ));
    }
    for at in 0..10_u64 {
        let begin = at * 30_000_000;
        events.push(wait(begin, 20_000_123, 2, 3, Cause::Gil, "futex"));
        events.push(on_cpu(begin + 24_000_000, 9_999_000, 2, 0, true));
        events.push(wait(
            begin + 1_000,
            29_000_000,
            3,
            4,
            Cause::Sleep,
            "clock_nanosleep",
        ));
        events.push(wait(
            begin + 29_001_000,
            500_000,
            3,
            4,
            Cause::Sleep,
            "select",
        ));
    }
    events.push(on_cpu(250_000_001, 10_000_000, 4, 5, false));
    events.sort_by_key(|event| event.at_ns);
    View {
        about: About {
            title: "pyscry record --wall <x> \"y\"".to_owned(),
            subtitle: "all time, 0.3 s".to_owned(),
            version: "0.1.0".to_owned(),
            host: "host".to_owned(),
            began_unix_ns: 1_700_000_000_000_000_000,
            duration_ns: 300_000_000,
            rate: 100,
            subject: Subject::Wall,
        },
        processes: vec![
            process(100, "python app.py"),
            process(200, odd.first().map_or("", String::as_str)),
        ],
        threads: vec![
            thread(0, 100, Some("MainThread")),
            thread(0, 101, odd.first().map(String::as_str)),
            thread(0, 102, odd.last().map(String::as_str)),
            thread(1, 200, None),
            thread(1, 201, Some("b")),
        ],
        frames,
        stacks,
        events,
    }
}
