//! pprof's `profile.proto`, compressed with gzip, for `go tool pprof` and what else reads it.
//!
//! All that a recording knows is in one file: the number of samples and the time on and off the
//! CPUs are types of values; thread, process, cause, system call and the interpreter's lock are
//! labels.

mod proto;

use std::collections::HashMap;
use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message as _;

use self::proto::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};
use super::flamegraph::Subject;
use super::labels;
use super::text::one_line;
use super::view::{EventView, View};

/// Writes the file.
///
/// # Errors
/// Those of `out`.
pub fn write(view: &View, out: &mut impl Write) -> io::Result<()> {
    let profile = Builder::default().profile(view);
    let mut out = GzEncoder::new(out, Compression::default());
    out.write_all(&profile.encode_to_vec())?;
    out.finish()?;
    Ok(())
}

/// What is counted.
#[derive(Clone, Copy)]
enum Value {
    Samples,
    Cpu,
    OffCpu,
    Wall,
}

impl Value {
    /// Those that a recording has. pprof shows the default one first.
    const fn of(subject: Subject) -> &'static [Self] {
        match subject {
            Subject::OnCpu => &[Self::Samples, Self::Cpu],
            Subject::OffCpu => &[Self::OffCpu],
            Subject::Wall => &[Self::Samples, Self::Cpu, Self::OffCpu, Self::Wall],
        }
    }

    const fn default_of(subject: Subject) -> Self {
        match subject {
            Subject::OnCpu => Self::Cpu,
            Subject::OffCpu => Self::OffCpu,
            Subject::Wall => Self::Wall,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Samples => "samples",
            Self::Cpu => "cpu",
            Self::OffCpu => "off-cpu",
            Self::Wall => "wall",
        }
    }

    const fn unit(self) -> &'static str {
        match self {
            Self::Samples => "count",
            Self::Cpu | Self::OffCpu | Self::Wall => "nanoseconds",
        }
    }

    fn of_event(self, event: &EventView) -> i64 {
        let ns = signed(event.ns);
        match (self, event.cause) {
            (Self::Samples, None) => 1,
            (Self::Cpu, None) | (Self::OffCpu, Some(_)) | (Self::Wall, _) => ns,
            (Self::Samples | Self::Cpu, Some(_)) | (Self::OffCpu, None) => 0,
        }
    }
}

/// What makes a sample another one.
type Key = (u32, u32, Option<&'static str>, bool);

#[derive(Default)]
struct Builder {
    strings: Vec<String>,
    string_ids: HashMap<String, i64>,
}

impl Builder {
    /// The index of a text that is shown: without what could be a command to the terminal.
    fn text(&mut self, text: &str) -> i64 {
        let text = one_line(text);
        if let Some(id) = self.string_ids.get(&text) {
            return *id;
        }
        let id = self.strings.len() as i64;
        self.strings.push(text.clone());
        self.string_ids.insert(text, id);
        id
    }

    fn value_type(&mut self, value: Value) -> ValueType {
        ValueType {
            r#type: self.text(value.name()),
            unit: self.text(value.unit()),
        }
    }

    fn profile(mut self, view: &View) -> Profile {
        let about = &view.about;
        self.text("");
        let values = Value::of(about.subject);
        let (period_of, period) = match 1_000_000_000_u64.checked_div(u64::from(about.rate)) {
            Some(period_ns) => (Value::Cpu, period_ns),
            // Nothing is sampled: every nanosecond counts.
            None => (Value::default_of(about.subject), 1),
        };
        let program = view
            .processes
            .first()
            .map_or("python", |process| &process.name);
        let mapping = Mapping {
            id: 1,
            filename: self.text(program),
            has_functions: true,
            has_filenames: true,
            has_line_numbers: true,
        };
        let (location, function) = self.locations(view);
        let mut profile = Profile {
            sample_type: values.iter().map(|value| self.value_type(*value)).collect(),
            sample: self.samples(view, values),
            mapping: vec![mapping],
            location,
            function,
            string_table: Vec::new(),
            time_nanos: signed(about.began_unix_ns),
            duration_nanos: signed(about.duration_ns),
            period_type: Some(self.value_type(period_of)),
            period: signed(period),
            comment: vec![
                self.text(&about.title),
                self.text(&about.subtitle),
                self.text(&format!("pyscry {} on {}", about.version, about.host)),
            ],
            default_sample_type: self.text(Value::default_of(about.subject).name()),
        };
        profile.string_table = self.strings;
        profile
    }

    /// A location per frame, in their order, with ids from 1 on; and the functions.
    fn locations(&mut self, view: &View) -> (Vec<Location>, Vec<Function>) {
        let mut functions: Vec<Function> = Vec::new();
        let mut ids: HashMap<(i64, i64), u64> = HashMap::new();
        let mut locations = Vec::with_capacity(view.frames.len());
        for (index, frame) in view.frames.iter().enumerate() {
            let name = self.text(&frame.name);
            let filename = frame.file.as_deref().map_or(0, |file| self.text(file));
            let function_id = *ids.entry((name, filename)).or_insert_with(|| {
                let id = functions.len() as u64 + 1;
                functions.push(Function { id, name, filename });
                id
            });
            locations.push(Location {
                id: index as u64 + 1,
                mapping_id: 1,
                line: vec![Line {
                    function_id,
                    line: frame.line.map_or(0, i64::from),
                }],
            });
        }
        (locations, functions)
    }

    fn samples(&mut self, view: &View, values: &[Value]) -> Vec<Sample> {
        let mut samples: Vec<Sample> = Vec::new();
        let mut known: HashMap<(Key, Option<u8>), usize> = HashMap::new();
        for event in &view.events {
            let key = (event.thread, event.stack, event.syscall, event.holds_gil);
            let key = (key, event.cause.map(|cause| cause as u8));
            let at = *known.entry(key).or_insert_with(|| {
                samples.push(Sample {
                    location_id: stack(view, event),
                    value: vec![0; values.len()],
                    label: self.labels(view, event),
                });
                samples.len() - 1
            });
            for (sum, value) in samples[at].value.iter_mut().zip(values) {
                *sum = sum.saturating_add(value.of_event(event));
            }
        }
        samples
    }

    fn labels(&mut self, view: &View, event: &EventView) -> Vec<Label> {
        let mut labels = Vec::new();
        let thread = view.threads.get(event.thread as usize);
        if let Some(thread) = thread {
            if let Some(name) = &thread.name {
                labels.push(self.named("thread", name));
            }
            labels.push(self.numbered("tid", thread.tid));
            if let Some(process) = labels::process_of(view, thread) {
                labels.push(self.named("process", &labels::command(process)));
                labels.push(self.numbered("pid", process.pid));
            }
        }
        if let Some(cause) = event.cause {
            labels.push(self.named("cause", labels::cause(cause)));
        }
        if let Some(syscall) = event.syscall {
            labels.push(self.named("syscall", syscall));
        }
        if event.holds_gil {
            labels.push(self.named("gil", "held"));
        }
        labels
    }

    fn named(&mut self, key: &str, text: &str) -> Label {
        Label {
            key: self.text(key),
            str: self.text(text),
            num: 0,
        }
    }

    fn numbered(&mut self, key: &str, number: u32) -> Label {
        Label {
            key: self.text(key),
            str: 0,
            num: i64::from(number),
        }
    }
}

/// Ids of locations, the leaf first.
fn stack(view: &View, event: &EventView) -> Vec<u64> {
    let frames = view.stacks.get(event.stack as usize);
    let frames = frames.map_or(&[][..], Vec::as_slice).iter().rev();
    frames.map(|frame| u64::from(*frame) + 1).collect()
}

/// The format's numbers have a sign: 292 years are the most.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;
    use crate::output::sample;

    fn read(view: &View) -> Profile {
        let mut out = Vec::new();
        write(view, &mut out).expect("written");
        let mut raw = Vec::new();
        flate2::read::GzDecoder::new(&out[..])
            .read_to_end(&mut raw)
            .expect("gzip");
        Profile::decode(&raw[..]).expect("a profile")
    }

    fn sums(profile: &Profile) -> Vec<(&str, i64)> {
        let types = profile.sample_type.iter().enumerate();
        types
            .map(|(at, of)| {
                let sum = profile.sample.iter().map(|sample| sample.value[at]).sum();
                (profile.string_table[of.r#type as usize].as_str(), sum)
            })
            .collect()
    }

    fn ns(view: &View, of: impl Fn(&EventView) -> bool) -> i64 {
        let events = view.events.iter().filter(|event| of(event));
        events.map(|event| event.ns as i64).sum()
    }

    #[test]
    fn all_values_are_in_one_file() {
        let mut view = sample::view();
        let samples = view.events.iter().filter(|e| e.cause.is_none()).count() as i64;
        let on_cpu = ns(&view, |event| event.cause.is_none());
        let off_cpu = ns(&view, |event| event.cause.is_some());
        let profile = read(&view);
        assert_eq!(
            sums(&profile),
            [
                ("samples", samples),
                ("cpu", on_cpu),
                ("off-cpu", off_cpu),
                ("wall", on_cpu + off_cpu)
            ]
        );
        let default = profile.default_sample_type as usize;
        assert_eq!(profile.string_table[default], "wall");
        assert_eq!(profile.period, 10_000_000);
        assert_eq!(profile.string_table[0], "");

        view.about.subject = Subject::OffCpu;
        view.about.rate = 0;
        view.events.retain(|event| event.cause.is_some());
        let profile = read(&view);
        assert_eq!(sums(&profile), [("off-cpu", off_cpu)]);
        assert_eq!(profile.period, 1);
    }

    #[test]
    fn equal_events_are_one_sample() {
        let view = sample::view();
        let mut keys: Vec<_> = view
            .events
            .iter()
            .map(|e| {
                (
                    e.thread,
                    e.stack,
                    e.cause.map(|c| c as u8),
                    e.syscall,
                    e.holds_gil,
                )
            })
            .collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(read(&view).sample.len(), keys.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_index_is_one(odd in proptest::collection::vec(any::<String>(), 1..6)) {
            let profile = read(&sample::named(&odd));
            let strings = profile.string_table.len() as i64;
            for function in &profile.function {
                prop_assert!(function.name < strings && function.filename < strings);
            }
            for sample in &profile.sample {
                prop_assert!(!sample.location_id.is_empty());
                for id in &sample.location_id {
                    let location = &profile.location[*id as usize - 1];
                    prop_assert_eq!(location.id, *id);
                    let function = location.line[0].function_id;
                    prop_assert_eq!(profile.function[function as usize - 1].id, function);
                }
                for label in &sample.label {
                    prop_assert!(label.key < strings && label.str < strings);
                }
            }
        }
    }
}
