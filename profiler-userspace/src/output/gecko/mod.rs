//! The Firefox Profiler's processed format, for <https://profiler.firefox.com>:
//! `docs-developer/processed-profile-format.md`, `CHANGELOG-formats.md` and `src/types/profile.ts`
//! in <https://github.com/firefox-devtools/profiler>.
//!
//! A sample lasts until the next one of its thread, so a sample without a stack stands where a
//! gap begins. Weights are milliseconds, and waits are markers, too.

mod tables;

use std::io::{self, Write};

use profiler_common::cause::Cause;
use serde::ser::{Serialize, SerializeSeq, Serializer};
use serde_json::{Value, json};

use self::tables::Tables;
use super::flamegraph::Subject;
use super::labels;
use super::text::one_line;
use super::timeline::{self, Span, Timeline};
use super::view::{EventView, FrameKind, View};

/// The version of the format that is written. The program brings older files up to date: this one
/// is the first that has all tables in one place, with sources as they still are.
const VERSION: u32 = 61;
/// The version of the browser's own format that it goes with.
const GECKO_VERSION: u32 = 32;
/// `MarkerPhase` of a marker with a beginning and an end.
const INTERVAL: u32 = 1;

/// Writes the file.
///
/// # Errors
/// Those of `out`.
pub fn write(view: &View, out: &mut impl Write) -> io::Result<()> {
    let timeline = Timeline::of(view);
    let tables = Tables::of(view);
    let file = File {
        meta: meta(view, &timeline),
        libs: [],
        threads: Threads {
            view,
            timeline: &timeline,
            tables: &tables,
        },
        shared: &tables.shared,
    };
    serde_json::to_writer(&mut *out, &file)?;
    out.write_all(b"\n")
}

#[derive(serde::Serialize)]
struct File<'a> {
    meta: Value,
    libs: [(); 0],
    threads: Threads<'a>,
    shared: &'a tables::Shared,
}

/// Index of a kind's category; those of [`categories`].
fn category(kind: FrameKind) -> usize {
    let all = FrameKind::ALL.iter();
    all.take_while(|other| **other != kind).count()
}

/// Colours are names of the program's. The grey one is what has no category; a category's first
/// subcategory is itself.
fn categories() -> Value {
    FrameKind::ALL
        .iter()
        .map(|kind| {
            let color = match kind {
                FrameKind::Python => "yellow",
                FrameKind::Native => "lightblue",
                FrameKind::Kernel => "orange",
                FrameKind::Waiting => "purple",
                FrameKind::Marker => "grey",
            };
            let causes = Cause::ALL.iter().filter(|_| *kind == FrameKind::Waiting);
            let subcategories: Vec<&str> = std::iter::once("Other")
                .chain(causes.map(|cause| labels::cause(*cause)))
                .collect();
            json!({"name": kind.word(), "color": color, "subcategories": subcategories})
        })
        .collect()
}

/// The subcategory of a frame that is a cause; 0 of others.
fn subcategory(name: &str) -> usize {
    let mut causes = Cause::ALL.iter();
    causes
        .position(|cause| cause.frame() == name)
        .map_or(0, |at| at + 1)
}

fn meta(view: &View, timeline: &Timeline) -> Value {
    let about = &view.about;
    let entry = |label: &str, value: &str| json!({"label": label, "format": "string", "value": one_line(value)});
    json!({
        "interval": if about.rate == 0 { 1.0 } else { 1e3 / f64::from(about.rate) },
        "startTime": milliseconds(about.began_unix_ns),
        "profilingStartTime": 0.0,
        "profilingEndTime": milliseconds(timeline.end_ns),
        "processType": 0,
        "product": one_line(&about.title),
        "stackwalk": 1,
        "version": GECKO_VERSION,
        "preprocessedProfileVersion": VERSION,
        "symbolicated": true,
        "symbolicationNotSupported": true,
        "categories": categories(),
        "markerSchema": [{
            "name": "Wait",
            "tooltipLabel": "{marker.name}",
            "tableLabel": "{marker.data.why} {marker.data.syscall}",
            "chartLabel": "{marker.data.syscall}",
            "display": ["marker-chart", "marker-table"],
            "fields": [
                {"key": "why", "label": "Cause", "format": "string"},
                {"key": "syscall", "label": "System call", "format": "string"}
            ],
            "description": "The thread was off the CPUs."
        }],
        "sampleUnits": {"time": "ms", "eventDelay": "ms", "threadCPUDelta": "ns"},
        "importedFrom": format!("pyscry {}", about.version),
        "arguments": one_line(&about.title),
        "usesOnlyOneStackType": true,
        "sourceCodeIsNotOnSearchfox": true,
        "keepProfileThreadOrder": true,
        "extra": [{
            "label": "Recording",
            "entries": [entry("What", &about.subtitle), entry("Host", &about.host)]
        }]
    })
}

struct Threads<'a> {
    view: &'a View,
    timeline: &'a Timeline,
    tables: &'a Tables,
}

impl Serialize for Threads<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let view = self.view;
        let pids = texts(labels::unique(
            view.processes.iter().map(|process| process.pid),
        ));
        let tids = labels::unique(view.threads.iter().map(|thread| thread.tid));
        let events = timeline::events_by_thread(view);
        let mut threads = serializer.serialize_seq(None)?;
        for (index, thread) in view.threads.iter().enumerate() {
            let process = labels::process_of(view, thread);
            let waits = events[index].iter().filter(|event| event.cause.is_some());
            threads.serialize_element(&Thread {
                process_type: "default",
                process_name: process.map(labels::command),
                process_startup_time: 0.0,
                process_shutdown_time: None,
                register_time: 0.0,
                unregister_time: None,
                paused_ranges: [],
                name: match &thread.name {
                    Some(name) => one_line(name),
                    None => labels::thread(thread),
                },
                is_main_thread: process.is_some_and(|process| process.pid == thread.tid),
                pid: pids
                    .get(thread.process as usize)
                    .map_or("0", String::as_str),
                tid: tids[index],
                samples: Samples::of(view, &self.timeline.threads[index], self.tables),
                markers: Markers::of(waits.copied(), self.tables),
            })?;
        }
        threads.end()
    }
}

fn texts(numbers: Vec<u64>) -> Vec<String> {
    numbers.iter().map(u64::to_string).collect()
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Thread<'a> {
    process_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    process_name: Option<String>,
    process_startup_time: f64,
    process_shutdown_time: Option<f64>,
    register_time: f64,
    unregister_time: Option<f64>,
    paused_ranges: [(); 0],
    name: String,
    is_main_thread: bool,
    pid: &'a str,
    tid: u64,
    samples: Samples,
    markers: Markers,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Samples {
    stack: Vec<Option<usize>>,
    time: Vec<f64>,
    weight: Vec<f64>,
    weight_type: &'static str,
    /// Nanoseconds on a CPU since the sample before.
    #[serde(rename = "threadCPUDelta", skip_serializing_if = "Option::is_none")]
    cpu_delta: Option<Vec<u64>>,
    length: usize,
}

impl Samples {
    fn of(view: &View, spans: &[Span], tables: &Tables) -> Self {
        let mut samples = Self {
            stack: Vec::new(),
            time: Vec::new(),
            weight: Vec::new(),
            weight_type: "tracing-ms",
            // Of a recording of time off the CPUs there would be none, and nothing to see.
            cpu_delta: (view.about.subject != Subject::OffCpu).then(Vec::new),
            length: 0,
        };
        let mut cpu_ns = 0;
        let mut spans = spans.iter().peekable();
        while let Some(span) = spans.next() {
            let stack = tables.rows.get(span.stack as usize).copied().flatten();
            samples.push(span.begin_ns, stack, span.ns(), cpu_ns);
            cpu_ns = if span.cause.is_none() { span.ns() } else { 0 };
            if spans.peek().is_none_or(|next| next.begin_ns != span.end_ns) {
                samples.push(span.end_ns, None, 0, cpu_ns);
                cpu_ns = 0;
            }
        }
        samples
    }

    fn push(&mut self, at_ns: u64, stack: Option<usize>, ns: u64, cpu_ns: u64) {
        self.time.push(milliseconds(at_ns));
        self.stack.push(stack);
        self.weight.push(milliseconds(ns));
        if let Some(deltas) = &mut self.cpu_delta {
            deltas.push(cpu_ns);
        }
        self.length += 1;
    }
}

#[derive(Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Markers {
    data: Vec<Wait>,
    name: Vec<usize>,
    start_time: Vec<f64>,
    end_time: Vec<f64>,
    phase: Vec<u32>,
    category: Vec<usize>,
    length: usize,
}

#[derive(serde::Serialize)]
struct Wait {
    r#type: &'static str,
    #[serde(rename = "cause")]
    stack: Backtrace,
    why: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    syscall: Option<&'static str>,
}

/// `CauseBacktrace`: where the marker comes from.
#[derive(serde::Serialize)]
struct Backtrace {
    stack: Option<usize>,
    time: f64,
}

impl Markers {
    fn of<'a>(waits: impl Iterator<Item = &'a EventView>, tables: &Tables) -> Self {
        let mut markers = Self::default();
        for wait in waits {
            let Some(cause) = wait.cause else { continue };
            markers.data.push(Wait {
                r#type: "Wait",
                stack: Backtrace {
                    stack: tables.rows.get(wait.stack as usize).copied().flatten(),
                    time: milliseconds(wait.at_ns),
                },
                why: labels::cause(cause),
                syscall: wait.syscall,
            });
            markers.name.push(tables.cause(cause));
            markers.start_time.push(milliseconds(wait.at_ns));
            markers.end_time.push(milliseconds(wait.at_ns + wait.ns));
            markers.phase.push(INTERVAL);
            markers.category.push(category(FrameKind::Waiting));
            markers.length += 1;
        }
        markers
    }
}

/// With all digits that nanoseconds have, up to 11 days.
fn milliseconds(ns: u64) -> f64 {
    ns as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::output::sample;

    fn file(view: &View) -> Value {
        let mut out = Vec::new();
        write(view, &mut out).expect("written");
        serde_json::from_slice(&out).expect("JSON")
    }

    fn column<'a>(table: &'a Value, name: &str) -> &'a Vec<Value> {
        let column = table[name].as_array().expect("a column");
        assert_eq!(
            column.len() as u64,
            table["length"].as_u64().expect("a length"),
            "{name}"
        );
        column
    }

    #[test]
    fn every_thread_has_the_time_of_its_events() {
        let view = sample::view();
        let file = file(&view);
        for (index, thread) in file["threads"]
            .as_array()
            .expect("threads")
            .iter()
            .enumerate()
        {
            let samples = &thread["samples"];
            let ms: f64 = column(samples, "weight")
                .iter()
                .filter_map(Value::as_f64)
                .sum();
            let times = column(samples, "time");
            assert!(
                times
                    .windows(2)
                    .all(|two| two[0].as_f64() < two[1].as_f64())
            );
            let stacks = column(samples, "stack");
            assert_eq!(stacks.last(), Some(&Value::Null));
            let events = || view.events.iter().filter(|e| e.thread as usize == index);
            let ns: u64 = events().map(|event| event.ns).sum();
            assert!((ms - milliseconds(ns)).abs() < 1e-6);
            let cpu: u64 = column(samples, "threadCPUDelta")
                .iter()
                .filter_map(Value::as_u64)
                .sum();
            let on_cpu = events().filter(|event| event.cause.is_none());
            assert_eq!(cpu, on_cpu.map(|event| event.ns).sum::<u64>());
            let waits = events().filter(|event| event.cause.is_some()).count();
            assert_eq!(column(&thread["markers"], "name").len(), waits);
        }
    }

    #[test]
    fn every_index_is_a_row() {
        let view = sample::view();
        let file = file(&view);
        let shared = &file["shared"];
        let rows = |table: &str| shared[table]["length"].as_u64().expect("a length");
        let strings = shared["stringArray"].as_array().expect("texts").len() as u64;
        for (table, name, bound) in [
            ("stackTable", "frame", rows("frameTable")),
            ("stackTable", "prefix", rows("stackTable")),
            ("frameTable", "func", rows("funcTable")),
            ("frameTable", "category", 5),
            ("frameTable", "subcategory", 13),
            ("funcTable", "name", strings),
            ("funcTable", "source", rows("sources")),
            ("resourceTable", "name", strings),
            ("sources", "filename", strings),
        ] {
            let mut indices = column(&shared[table], name)
                .iter()
                .filter_map(Value::as_u64);
            assert!(indices.all(|index| index < bound), "{table} {name}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_text_is_json(odd in proptest::collection::vec(any::<String>(), 1..6)) {
            let view = sample::named(&odd);
            let file = file(&view);
            let name = &file["threads"][1]["name"];
            let expected = one_line(&odd[0]);
            prop_assert_eq!(name.as_str(), Some(expected.as_str()));
        }
    }
}
