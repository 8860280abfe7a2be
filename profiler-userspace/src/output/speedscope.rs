//! speedscope's own format: <https://www.speedscope.app/file-format-schema.json>, `FileFormat` in
//! its `src/lib/file-format-spec.ts`.
//!
//! A profile per thread, evented: frames open and close at their times, in seconds since the
//! recording began. All profiles begin and end together, so that they can be compared; where
//! nothing is known of a thread, no frame is open.

use std::io::{self, Write};

use serde::ser::{Error as _, Serialize, SerializeSeq, Serializer};

use super::text::one_line;
use super::timeline::{Span, Timeline};
use super::view::{FrameView, View};
use super::{labels, nesting};

/// Writes the file.
///
/// # Errors
/// Those of `out`.
pub fn write(view: &View, out: &mut impl Write) -> io::Result<()> {
    let timeline = Timeline::of(view);
    let file = File {
        schema: "https://www.speedscope.app/file-format-schema.json",
        name: one_line(&view.about.title),
        active_profile_index: busiest(&timeline),
        exporter: format!("pyscry@{}", view.about.version),
        shared: Shared {
            frames: Frames(&view.frames),
        },
        profiles: Profiles {
            view,
            timeline: &timeline,
        },
    };
    serde_json::to_writer(&mut *out, &file)?;
    out.write_all(b"\n")
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    name: String,
    active_profile_index: usize,
    exporter: String,
    shared: Shared<'a>,
    profiles: Profiles<'a>,
}

#[derive(serde::Serialize)]
struct Shared<'a> {
    frames: Frames<'a>,
}

struct Frames<'a>(&'a [FrameView]);

#[derive(serde::Serialize)]
struct Frame {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

impl Serialize for Frames<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|frame| {
            Frame {
                name: one_line(&frame.name),
                file: frame
                    .short_file
                    .as_deref()
                    .or(frame.file.as_deref())
                    .map(one_line),
                line: frame.line,
            }
        }))
    }
}

struct Profiles<'a> {
    view: &'a View,
    timeline: &'a Timeline,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Profile<'a> {
    r#type: &'static str,
    name: String,
    unit: &'static str,
    start_value: f64,
    end_value: f64,
    events: Events<'a>,
}

/// Threads that did something: their indices.
fn shown(timeline: &Timeline) -> impl Iterator<Item = usize> {
    let threads = timeline.threads.iter().enumerate();
    threads
        .filter(|(_, spans)| !spans.is_empty())
        .map(|(index, _)| index)
}

/// The profile to begin with: of the thread that had most time on the CPUs.
fn busiest(timeline: &Timeline) -> usize {
    let on_cpu = |thread: usize| -> u64 {
        let spans = timeline.threads[thread].iter();
        spans
            .filter(|span| span.cause.is_none())
            .map(Span::ns)
            .sum()
    };
    let shown = shown(timeline).enumerate();
    // Of several that had the same the first.
    let best = shown.max_by_key(|(profile, thread)| (on_cpu(*thread), std::cmp::Reverse(*profile)));
    best.map_or(0, |(profile, _)| profile)
}

impl Serialize for Profiles<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let profile = |name, spans| Profile {
            r#type: "evented",
            name,
            unit: "seconds",
            start_value: 0.0,
            end_value: seconds(self.timeline.end_ns),
            events: Events {
                view: self.view,
                spans,
            },
        };
        let mut profiles = serializer.serialize_seq(None)?;
        let mut any = false;
        for thread in shown(self.timeline) {
            let name = labels::thread_in_process(self.view, &self.view.threads[thread]);
            profiles.serialize_element(&profile(name, &self.timeline.threads[thread]))?;
            any = true;
        }
        if !any {
            // The program cannot show a file without a profile.
            profiles.serialize_element(&profile("Nothing was recorded".to_owned(), &[]))?;
        }
        profiles.end()
    }
}

struct Events<'a> {
    view: &'a View,
    spans: &'a [Span],
}

#[derive(serde::Serialize)]
struct Event {
    r#type: &'static str,
    frame: u32,
    at: f64,
}

impl Serialize for Events<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut events = serializer.serialize_seq(None)?;
        nesting::edges(self.view, self.spans, |edge| {
            if edge.open.frame as usize >= self.view.frames.len() {
                return Err(S::Error::custom("a stack with a frame that is none"));
            }
            events.serialize_element(&Event {
                r#type: if edge.opens { "O" } else { "C" },
                frame: edge.open.frame,
                at: seconds(edge.at_ns),
            })
        })?;
        events.end()
    }
}

/// The nearest number is printed with the nine digits that nanoseconds have, up to 11 days.
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::output::sample;

    fn file(view: &View) -> Value {
        let mut out = Vec::new();
        write(view, &mut out).expect("written");
        serde_json::from_slice(&out).expect("JSON")
    }

    #[test]
    fn every_thread_has_the_time_of_its_events() {
        let view = sample::view();
        let file = file(&view);
        let profiles = file["profiles"].as_array().expect("profiles");
        assert_eq!(profiles.len(), view.threads.len());
        for (index, profile) in profiles.iter().enumerate() {
            assert_eq!(profile["startValue"], 0.0);
            assert_eq!(profile["endValue"], seconds(view.about.duration_ns));
            let (mut depth, mut since, mut total) = (0, 0.0, 0.0);
            for event in profile["events"].as_array().expect("events") {
                let at = event["at"].as_f64().expect("a time");
                if event["type"] == "O" {
                    if depth == 0 {
                        since = at;
                    }
                    depth += 1;
                } else {
                    depth -= 1;
                    if depth == 0 {
                        total += at - since;
                    }
                }
            }
            let events = view.events.iter().filter(|e| e.thread as usize == index);
            let ns: u64 = events.map(|event| event.ns).sum();
            assert!((total - seconds(ns)).abs() < 1e-9, "{total} {ns}");
        }
    }

    #[test]
    fn times_have_nine_digits() {
        let text = serde_json::to_string(&seconds(86_400_123_456_789)).expect("a number");
        assert_eq!(text, "86400.123456789");
    }

    #[test]
    fn nothing_is_a_profile_that_says_so() {
        let mut view = sample::view();
        view.events.clear();
        assert_eq!(file(&view)["profiles"][0]["name"], "Nothing was recorded");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_text_is_json(odd in proptest::collection::vec(any::<String>(), 1..6)) {
            let view = sample::named(&odd);
            let file = file(&view);
            let name = &file["shared"]["frames"][8]["name"];
            let expected = one_line(&odd[0]);
            prop_assert_eq!(name.as_str(), Some(expected.as_str()));
        }
    }
}
