//! Trace Event Format, "JSON Object Format", for Perfetto and chrome://tracing:
//! <https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU>.
//!
//! Frames are pairs of `B` and `E` events in microseconds since the recording began. Readers sort
//! by time and keep the order of the file where times are equal, so the file's order is the
//! nesting.

use std::io::{self, Write};

use serde::ser::{Serialize, SerializeSeq, Serializer};
use serde_json::ser::{CharEscape, CompactFormatter, Formatter};

use super::text::one_line;
use super::timeline::Timeline;
use super::view::View;
use super::{labels, nesting};

/// Writes the file.
///
/// # Errors
/// Those of `out`.
pub fn write(view: &View, out: &mut impl Write) -> io::Result<()> {
    let timeline = Timeline::of(view);
    let about = &view.about;
    let file = File {
        trace_events: Events {
            view,
            timeline: &timeline,
        },
        display_time_unit: "ms",
        other_data: Other {
            title: one_line(&about.title),
            recording: one_line(&about.subtitle),
            host: one_line(&about.host),
            exporter: format!("pyscry@{}", about.version),
            began_unix_ns: about.began_unix_ns.to_string(),
            duration_ns: about.duration_ns.to_string(),
        },
    };
    file.serialize(&mut serde_json::Serializer::with_formatter(
        &mut *out,
        Backslashes,
    ))?;
    out.write_all(b"\n")
}

/// JSON in one line. Perfetto (52.0) takes the `\\"` that ends a text with a backslash for a quote
/// within it, and then cannot read the file: here a backslash is `\u005c`.
struct Backslashes;

impl Formatter for Backslashes {
    fn write_char_escape<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        char_escape: CharEscape,
    ) -> io::Result<()> {
        match char_escape {
            CharEscape::ReverseSolidus => out.write_all(b"\\u005c"),
            other => CompactFormatter.write_char_escape(out, other),
        }
    }
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    trace_events: Events<'a>,
    display_time_unit: &'static str,
    other_data: Other,
}

/// Text, since readers show it as it is.
#[derive(serde::Serialize)]
struct Other {
    title: String,
    recording: String,
    host: String,
    exporter: String,
    began_unix_ns: String,
    duration_ns: String,
}

struct Events<'a> {
    view: &'a View,
    timeline: &'a Timeline,
}

#[derive(serde::Serialize)]
struct Metadata<'a, T> {
    ph: &'static str,
    name: &'static str,
    pid: u64,
    tid: u64,
    args: &'a T,
}

#[derive(serde::Serialize)]
struct Name {
    name: String,
}

#[derive(serde::Serialize)]
struct Labels {
    labels: String,
}

#[derive(serde::Serialize)]
struct Position {
    sort_index: usize,
}

#[derive(serde::Serialize)]
struct Begin<'a> {
    ph: &'static str,
    ts: f64,
    pid: u64,
    tid: u64,
    name: &'a str,
    cat: &'static str,
    args: Args<'a>,
}

#[derive(serde::Serialize)]
struct Args<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    syscall: Option<&'static str>,
}

#[derive(serde::Serialize)]
struct End {
    ph: &'static str,
    ts: f64,
    pid: u64,
    tid: u64,
}

/// A frame's texts, made once.
struct Texts {
    name: String,
    file: Option<String>,
}

impl Serialize for Events<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let view = self.view;
        let pids = labels::unique(view.processes.iter().map(|process| process.pid));
        let tids = labels::unique(view.threads.iter().map(|thread| thread.tid));
        let pid_of = |process: u32| pids.get(process as usize).copied().unwrap_or(0);
        let mut events = serializer.serialize_seq(None)?;

        for (index, (process, pid)) in view.processes.iter().zip(&pids).enumerate() {
            let name = Name {
                name: labels::process(process),
            };
            events.serialize_element(&metadata("process_name", *pid, 0, &name))?;
            let python = process.python.as_deref().map(one_line);
            if let Some(python) = python {
                let labels = Labels {
                    labels: format!("Python {python}"),
                };
                events.serialize_element(&metadata("process_labels", *pid, 0, &labels))?;
            }
            let position = Position { sort_index: index };
            events.serialize_element(&metadata("process_sort_index", *pid, 0, &position))?;
        }
        for (index, (thread, tid)) in view.threads.iter().zip(&tids).enumerate() {
            let pid = pid_of(thread.process);
            let name = Name {
                name: match &thread.name {
                    Some(name) => one_line(name),
                    None => labels::thread(thread),
                },
            };
            events.serialize_element(&metadata("thread_name", pid, *tid, &name))?;
            let position = Position { sort_index: index };
            events.serialize_element(&metadata("thread_sort_index", pid, *tid, &position))?;
        }

        let texts: Vec<Texts> = view
            .frames
            .iter()
            .map(|frame| Texts {
                name: one_line(&frame.name),
                file: frame.file.as_deref().map(one_line),
            })
            .collect();
        for (index, spans) in self.timeline.threads.iter().enumerate() {
            let pid = pid_of(view.threads[index].process);
            let tid = tids[index];
            nesting::edges(view, spans, |edge| {
                let ts = microseconds(edge.at_ns);
                if !edge.opens {
                    return events.serialize_element(&End {
                        ph: "E",
                        ts,
                        pid,
                        tid,
                    });
                }
                let frame = &view.frames[edge.open.frame as usize];
                let text = &texts[edge.open.frame as usize];
                events.serialize_element(&Begin {
                    ph: "B",
                    ts,
                    pid,
                    tid,
                    name: &text.name,
                    cat: frame.kind.word(),
                    args: Args {
                        file: text.file.as_deref(),
                        line: frame.line,
                        cause: edge.open.wait.map(|(cause, _)| labels::cause(cause)),
                        syscall: edge.open.wait.and_then(|(_, syscall)| syscall),
                    },
                })
            })?;
        }
        events.end()
    }
}

fn metadata<'a, T>(name: &'static str, pid: u64, tid: u64, args: &'a T) -> Metadata<'a, T> {
    Metadata {
        ph: "M",
        name,
        pid,
        tid,
        args,
    }
}

fn microseconds(ns: u64) -> f64 {
    ns as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::output::sample;

    fn events(view: &View) -> Vec<Value> {
        let mut out = Vec::new();
        write(view, &mut out).expect("written");
        let mut file: Value = serde_json::from_slice(&out).expect("JSON");
        match file["traceEvents"].take() {
            Value::Array(events) => events,
            other => panic!("{other}"),
        }
    }

    /// Time of each thread with a frame open, nanoseconds, by `tid`. Panics when frames cross.
    fn open_ns(events: &[Value]) -> BTreeMap<u64, u64> {
        let mut threads: BTreeMap<u64, (u64, f64, f64)> = BTreeMap::new();
        for event in events.iter().filter(|event| event["ph"] != "M") {
            let ts = event["ts"].as_f64().expect("ts");
            let tid = event["tid"].as_u64().expect("tid");
            let (depth, last, open) = threads.entry(tid).or_default();
            assert!(ts >= *last);
            if *depth != 0 {
                *open += ts - *last;
            }
            *last = ts;
            *depth = if event["ph"] == "B" {
                *depth + 1
            } else {
                depth.checked_sub(1).expect("open")
            };
        }
        threads
            .into_iter()
            .map(|(tid, (depth, _, open))| {
                assert_eq!(depth, 0);
                (tid, (open * 1000.0).round() as u64)
            })
            .collect()
    }

    fn event_ns(view: &View) -> BTreeMap<u64, u64> {
        let mut threads = BTreeMap::new();
        for event in &view.events {
            let tid = view.threads[event.thread as usize].tid;
            *threads.entry(u64::from(tid)).or_default() += event.ns;
        }
        threads
    }

    #[test]
    fn every_thread_has_the_time_of_its_events() {
        let view = sample::view();
        assert_eq!(open_ns(&events(&view)), event_ns(&view));
    }

    #[test]
    fn waits_say_why() {
        let view = sample::view();
        let events = events(&view);
        let gil = events
            .iter()
            .find(|event| event["name"] == "[gil]")
            .expect("a wait");
        assert_eq!(gil["cat"], "Waiting");
        assert_eq!(gil["args"]["cause"], "gil");
        assert_eq!(gil["args"]["syscall"], "futex");
        let syscalls: Vec<_> = events
            .iter()
            .filter(|event| event["name"] == "[sleep]")
            .map(|event| event["args"]["syscall"].as_str())
            .collect();
        assert_eq!(syscalls[..2], [Some("clock_nanosleep"), Some("select")]);
    }

    #[test]
    fn no_text_ends_with_an_escaped_backslash() {
        let mut out = Vec::new();
        write(&sample::view(), &mut out).expect("written");
        let text = String::from_utf8(out).expect("text");
        assert!(text.contains("\\u005c") && !text.contains("\\\\"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_text_is_json(odd in proptest::collection::vec(any::<String>(), 1..6)) {
            let view = sample::named(&odd);
            prop_assert_eq!(open_ns(&events(&view)), event_ns(&view));
        }
    }
}
