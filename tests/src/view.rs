//! A recording made by hand, for the tests of formats: two processes, five threads, every kind of
//! frame and of event, and names that no format takes as they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use profiler_common::cause::Cause;
use pyscry::output::flamegraph::Subject;
use pyscry::output::view::{About, EventView, FrameKind, FrameView, ProcessView, ThreadView, View};

/// Names that no format takes as they are, as they are shown.
pub const ODD: [(&str, &str); 5] = [
    ("<script>alert(1)</script>", "<script>alert(1)</script>"),
    ("a;b \"c\" 'd' &amp; \\", "a;b \"c\" 'd' &amp; \\"),
    ("line\nbreak\u{0}\u{1b}[31m", "line break  [31m"),
    ("🐍 工", "🐍 工"),
    ("# 12 34", "# 12 34"),
];

/// Nanoseconds in a millisecond.
const MS: u64 = 1_000_000;
/// The period of samples.
const PERIOD: u64 = 10 * MS;

fn frame(kind: FrameKind, name: &str, file: Option<&str>, line: Option<u32>) -> FrameView {
    FrameView {
        kind,
        name: Arc::from(name),
        file: file.map(|file| Arc::from(format!("/srv/app/{file}").as_str())),
        short_file: file.map(Arc::from),
        line,
    }
}

fn process(pid: u32, command: &str) -> ProcessView {
    ProcessView {
        pid,
        name: "python3.12".to_owned(),
        command: command.to_owned(),
        label: format!("process {pid}:\"{command}\""),
        python: Some("3.12".to_owned()),
    }
}

fn thread(process: u32, tid: u32, name: Option<&str>) -> ThreadView {
    ThreadView {
        process,
        tid,
        name: name.map(str::to_owned),
    }
}

fn sample(at_ns: u64, thread: u32, stack: u32, holds_gil: bool) -> EventView {
    EventView {
        at_ns,
        ns: PERIOD,
        thread,
        stack,
        cause: None,
        syscall: None,
        holds_gil,
    }
}

fn wait(at_ns: u64, ns: u64, thread: u32, stack: u32, why: (Cause, &'static str)) -> EventView {
    EventView {
        ns,
        cause: Some(why.0),
        syscall: Some(why.1),
        ..sample(at_ns, thread, stack, false)
    }
}

/// The recording, of one second.
#[must_use]
pub fn rich() -> View {
    let mut frames = vec![
        frame(FrameKind::Python, "<module>", Some("app.py"), Some(1)),
        frame(
            FrameKind::Python,
            "Server.work",
            Some("server.py"),
            Some(10),
        ),
        frame(
            FrameKind::Python,
            "Server.work",
            Some("server.py"),
            Some(11),
        ),
        frame(FrameKind::Native, "memcpy", Some("libc.so.6"), None),
        frame(FrameKind::Kernel, "do_syscall_64", None, None),
        frame(FrameKind::Waiting, "[gil]", None, None),
        frame(FrameKind::Waiting, "[sleep]", None, None),
        frame(FrameKind::Marker, "[no Python]", None, None),
        frame(FrameKind::Python, "fib", Some("fib.py"), Some(4)),
        frame(FrameKind::Waiting, "[network]", None, None),
    ];
    let mut stacks = vec![
        vec![0, 1],
        vec![0, 2, 3],
        vec![0, 2, 3, 4],
        vec![0, 1, 5],
        vec![0, 2, 6],
        vec![7],
        vec![0, 8, 8, 8],
        vec![0, 2, 9],
    ];
    let odd_stacks = stacks.len() as u32;
    for (line, (name, _)) in ODD.iter().enumerate() {
        stacks.push(vec![0, frames.len() as u32]);
        frames.push(frame(
            FrameKind::Python,
            name,
            Some(name),
            Some(line as u32 + 1),
        ));
    }

    let mut events = Vec::new();
    for at in 0..80 {
        // The main thread has its 800 ms, and then nothing is known of it.
        let stack = [0, 0, 0, 1, 2, 6, 6, 1][at as usize % 8];
        events.push(sample(PERIOD / 2 + at * PERIOD, 0, stack, at % 4 != 3));
    }
    for at in 0..20 {
        let stack = odd_stacks + at / 4;
        events.push(sample(400 * MS + u64::from(at) * PERIOD, 1, stack, false));
    }
    for at in 0..25 {
        // 40 ms each: waiting for the lock, running, waiting for the network.
        let begin = u64::from(at as u32) * 4 * PERIOD;
        events.push(wait(begin, 20_000_123, 2, 3, (Cause::Gil, "futex")));
        events.push(sample(begin + 25 * MS, 2, 0, true));
        let gone = begin + 20_000_123 + PERIOD;
        events.push(wait(
            gone,
            4 * PERIOD - 20_000_123 - PERIOD,
            2,
            7,
            (Cause::Network, "recvfrom"),
        ));
    }
    for at in 0..9 {
        let begin = u64::from(at as u32) * 100 * MS;
        events.push(wait(
            begin,
            90 * MS,
            3,
            4,
            (Cause::Sleep, "clock_nanosleep"),
        ));
        events.push(wait(
            begin + 90 * MS,
            5 * MS,
            3,
            4,
            (Cause::Sleep, "select"),
        ));
    }
    for at in 0..3 {
        events.push(sample(
            500 * MS + u64::from(at as u32) * 100 * MS,
            4,
            5,
            false,
        ));
    }
    events.sort_by_key(|event| event.at_ns);
    View {
        about: About {
            title: "pyscry record --wall -o \"<out>\"".to_owned(),
            subtitle: "all time, 1 s".to_owned(),
            version: "0.1.0".to_owned(),
            host: "host".to_owned(),
            began_unix_ns: 1_700_000_000_000_000_000,
            duration_ns: 1_000 * MS,
            rate: 100,
            subject: Subject::Wall,
        },
        processes: vec![process(4100, "python app.py"), process(4200, ODD[0].0)],
        threads: vec![
            thread(0, 4100, Some("MainThread")),
            thread(0, 4101, Some(ODD[1].0)),
            thread(0, 4102, Some("pool-0")),
            thread(1, 4200, None),
            thread(1, 4201, Some(ODD[3].0)),
        ],
        frames,
        stacks,
        events,
    }
}

/// Sums that every reader must agree on.
pub trait Sums {
    /// Nanoseconds of the events that `of` chooses.
    fn ns_of(&self, of: impl Fn(&EventView) -> bool) -> u64;

    /// Nanoseconds that each frame has by itself, and with what it calls, of those events: by name
    /// of the function as it is shown, a recursion once.
    fn functions(&self, of: impl Fn(&EventView) -> bool) -> BTreeMap<String, (u64, u64)>;
}

impl Sums for View {
    fn ns_of(&self, of: impl Fn(&EventView) -> bool) -> u64 {
        let events = self.events.iter().filter(|event| of(event));
        events.map(|event| event.ns).sum()
    }

    fn functions(&self, of: impl Fn(&EventView) -> bool) -> BTreeMap<String, (u64, u64)> {
        let mut functions: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for event in self.events.iter().filter(|event| of(event)) {
            let stack = self.stacks[event.stack as usize].iter();
            let mut names: Vec<&str> = stack
                .map(|frame| shown(&self.frames[*frame as usize].name))
                .collect();
            if let Some(leaf) = names.last() {
                functions.entry((*leaf).to_owned()).or_default().0 += event.ns;
            }
            names.sort_unstable();
            names.dedup();
            for name in names {
                functions.entry(name.to_owned()).or_default().1 += event.ns;
            }
        }
        functions
    }
}

/// A name as formats show it.
#[must_use]
pub fn shown(name: &str) -> &str {
    let odd = ODD.iter().find(|(odd, _)| *odd == name);
    odd.map_or(name, |(_, shown)| shown)
}
