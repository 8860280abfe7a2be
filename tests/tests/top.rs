//! `pyscry top` on a terminal: what it shows, what keys do, and that the terminal is as it was before,
//! however it ends.

#![allow(clippy::expect_used, reason = "what a test starts has to be there")]

use std::path::{Path, PathBuf};
use std::process::Command;

use pyscry_tests::run::{MINOR, SLEEPS, SPINS, run};
use pyscry_tests::screen::{Left, Screen};
use pyscry_tests::stolen::Stolen;
use pyscry_tests::{Folded, Interpreter, Target, on_one};
use tempfile::TempDir;

const PROGRAM: &str = include_str!("../programs/top.py");
const QUICK: [&str; 2] = ["--delay", "0.2"];

fn on_python(test: impl Fn(&Interpreter)) {
    on_one("top", MINOR, |python| test(python));
}

/// The live view of a process, and where it saves.
fn view(pid: u32, args: &[&str], columns: u16, rows: u16) -> (Screen, TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let pid = pid.to_string();
    let args = [&["top", "--pid", &pid], &QUICK[..], args].concat();
    (
        Screen::start(&args, columns, rows, directory.path()),
        directory,
    )
}

/// A row: shares and times, as far as it has all four, and its label.
#[derive(Clone, Debug)]
struct Row {
    values: Vec<f64>,
    label: String,
}

fn rows(lines: &[String]) -> Vec<Row> {
    let number = |text: &str| -> Option<f64> { text.trim_end_matches(['%', 's']).parse().ok() };
    let row = |line: &String| {
        let mut words = line.split_whitespace();
        let values: Vec<f64> = words.by_ref().take(4).map_while(number).collect();
        let label: Vec<&str> = words.collect();
        (values.len() == 4).then(|| Row {
            values,
            label: label.join(" "),
        })
    };
    lines.iter().filter_map(row).collect()
}

fn find<'a>(rows: &'a [Row], label: &str) -> Option<&'a Row> {
    rows.iter().find(|row| row.label.starts_with(label))
}

/// A value of a row, 0 where there is no such row.
fn value(lines: &[String], label: &str, column: usize) -> f64 {
    find(&rows(lines), label).map_or(0.0, |row| row.values[column])
}

const OWN_TIME: usize = 2;
const TOTAL_TIME: usize = 3;

fn saved(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("the directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect()
}

#[test]
fn shares_are_true() {
    on_python(|python| {
        let target = Target::start(python, "top.py", PROGRAM);
        let (mut screen, _directory) = view(target.pid(), &["--rate", "999"], 80, 24);
        let both = |lines: &[String]| value(lines, "f ", OWN_TIME) + value(lines, "g ", OWN_TIME);
        // Two thousand samples.
        let lines = screen.until("two seconds", |lines| both(lines) >= 2.0);
        let share = value(&lines, "f ", OWN_TIME) / both(&lines);
        assert!((share - 0.75).abs() < 0.05, "{lines:#?}");
        let table = rows(&lines);
        assert_eq!(table[0].label, "f (top.py)", "{lines:#?}");
        assert_eq!(table[1].label, "g (top.py)", "{lines:#?}");
        let busy = find(&table, "busy (top.py)").expect("busy");
        assert!(busy.values[TOTAL_TIME] >= both(&lines) - 0.02, "{lines:#?}");
        assert!(busy.values[OWN_TIME] < 0.1, "{lines:#?}");
        assert!(
            lines[0].starts_with("Collecting samples from '"),
            "{lines:#?}"
        );
        let version = format!("(python v3.{MINOR}.");
        assert!(lines[0].contains(&version), "{lines:#?}");
        assert!(lines[1].starts_with("Total Samples "), "{lines:#?}");
        assert!(lines[2].starts_with("GIL: "), "{lines:#?}");
        assert!(lines[2].contains("Threads: 2"), "{lines:#?}");
        assert!(
            lines[4].starts_with("  %Own   %Total  OwnTime  TotalTime"),
            "{lines:#?}"
        );
        screen.press("q");
        screen.end().is_restored();
    });
}

#[test]
fn keys() {
    on_python(|python| {
        let target = Target::start(python, "top.py", PROGRAM);
        let (mut screen, directory) = view(target.pid(), &[], 100, 24);
        screen.until_it_says("busy (top.py)");
        // Sorted by total time, a caller comes before what it calls.
        screen.press("4");
        screen.until("sorted", |lines| {
            let table = rows(lines);
            let at = |label| table.iter().position(|row| row.label.starts_with(label));
            at("busy (").is_some_and(|busy| at("f (").is_some_and(|f| busy < f))
        });
        screen.press("L");
        screen.until_it_says("Function (filename:line)");
        screen.until_it_says("f (top.py:1");
        screen.press("L3/g (\r");
        screen.until_it_says("only 'g ('");
        screen.until("one row", |lines| rows(lines).len() == 1);
        // Escape alone is told from a key's code by what does not come behind it.
        screen.press("\u{1b}");
        screen.until("all rows", |lines| {
            rows(lines).len() > 1 && find(&rows(lines), "f (").is_some()
        });
        screen.press("w");
        screen.until_it_says("Time waiting");
        screen.until_it_says("waits (top.py)");
        screen.press("ww");
        screen.until_it_says("Time on the CPUs");
        screen.press("t");
        screen.until_it_says("WaitTime");
        screen.until_it_says("waiter");
        // The waiter's functions: it waits.
        screen.press("/waiter\r");
        screen.until("one thread", |lines| rows(lines).len() == 1);
        screen.press("\u{1b}[B\rww");
        screen.until("of the waiter", |lines| {
            lines
                .iter()
                .any(|line| line.contains("All time, of thread"))
        });
        screen.until("waits", |lines| find(&rows(lines), "waits (").is_some());
        screen.press("P");
        screen.until_it_says("Process");
        screen.press("P");
        screen.press("?");
        screen.until_it_says("Press X to close this help.");
        screen.press("x");
        screen.until_it_says("Function (filename)");
        // All of a function's callers, and what it calls.
        screen.press("w/busy\r");
        screen.until("busy", |lines| rows(lines).len() == 1);
        screen.press("f");
        let lines = screen.until_it_says("to   f (top.py)");
        assert!(
            lines
                .iter()
                .any(|line| line.contains("from <module> (top.py)")),
            "{lines:#?}"
        );
        // Back to where the filter is, and to all.
        screen.press("\u{1b}");
        screen.until("where it was", |lines| rows(lines).len() == 1);
        screen.press("\u{1b}");
        screen.until("all rows", |lines| rows(lines).len() > 1);
        // What is saved is what is shown.
        screen.press("p");
        screen.until_it_says("Paused");
        screen.press("S");
        let shown = screen.until_it_says("Saved ");
        screen.press("s");
        screen.until_it_says(".svg.");
        screen.press("q");
        let left = screen.end();
        left.is_restored();
        assert_eq!(left.code, 0, "{left:?}");
        assert!(left.text.contains("Saved "), "{left:?}");
        let text = saved(directory.path(), "txt").pop().expect("folded stacks");
        let text = std::fs::read_to_string(text).expect("folded stacks");
        let folded = Folded::parse(&text);
        for name in ["f", "g", "busy"] {
            let seconds = folded.in_function(name) as f64 / 1e6;
            let on_screen = value(&shown, &format!("{name} ("), TOTAL_TIME);
            assert!(
                (seconds - on_screen).abs() < 0.01,
                "{name}: {folded:?} {shown:#?}"
            );
        }
        let svg = saved(directory.path(), "svg").pop().expect("a flame graph");
        let svg = std::fs::read_to_string(svg).expect("a flame graph");
        assert!(svg.contains("busy (") && svg.contains("</svg>"));
    });
}

#[test]
fn pause_reset_and_sizes() {
    on_python(|python| {
        let target = Target::start(python, "top.py", PROGRAM);
        let (mut screen, _directory) = view(target.pid(), &[], 80, 24);
        let time = |lines: &[String]| value(lines, "busy (", TOTAL_TIME);
        screen.until("a second", |lines| time(lines) >= 1.0);
        screen.press(" ");
        let paused = screen.until_it_says("Paused");
        // Whatever is drawn again meanwhile is the same.
        screen.resize(60, 20);
        let narrow = screen.until("60 columns", |lines| {
            lines.len() == 20 && lines[19].starts_with("Paused")
        });
        assert_eq!(time(&narrow), time(&paused), "{narrow:#?}");
        assert!(
            narrow.iter().all(|line| line.chars().count() <= 60),
            "{narrow:#?}"
        );
        assert!(
            narrow[4].starts_with("  %Own   %Total  OwnTime  TotalTime  Function"),
            "{narrow:#?}"
        );
        assert!(find(&rows(&narrow), "f (top.py)").is_some(), "{narrow:#?}");
        screen.press("p");
        // What came meanwhile was kept.
        screen.until("more", |lines| time(lines) > time(&paused) + 0.3);
        screen.press("R");
        screen.until("less", |lines| {
            time(lines) < time(&paused) && time(lines) > 0.0
        });
        screen.resize(20, 5);
        screen.until("20 columns", |lines| {
            lines.len() <= 5
                && lines
                    .iter()
                    .any(|line| line.contains("f (top") || line.contains("   f"))
        });
        screen.resize(120, 30);
        screen.until_it_says("Press Control-C to quit");
        screen.press("q");
        screen.end().is_restored();
    });
}

/// Ends a view in some way.
fn ends(how: &str, end: impl Fn(&mut Screen, &mut Target), ended: impl Fn(&Left)) {
    on_python(|python| {
        let mut target = Target::start(python, "spins.py", SPINS);
        let (mut screen, _directory) = view(target.pid(), &[], 80, 24);
        screen.until_it_says("spins (spins.py)");
        end(&mut screen, &mut target);
        let left = screen.end();
        left.is_restored();
        assert_eq!(left.code, 0, "{how}: {left:?}");
        // No message, and no panic.
        assert_eq!(left.text.trim(), "", "{how}: {left:?}");
        ended(&left);
    });
}

#[test]
fn the_terminal_is_given_back() {
    for key in ["q", "\u{3}", "/abc\u{3}", "?q"] {
        ends(key, |screen, _| screen.press(key), |_| ());
    }
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        ends("a signal", |screen, _| screen.signal(signal), |_| ());
    }
}

#[test]
fn a_target_that_ends_is_shown_until_a_key_is_pressed() {
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        ends(
            "the target's end",
            |screen, target| {
                pyscry_tests::run::send(target.pid(), signal);
                let said = format!("process {} ended. Press q to quit.", target.pid());
                let lines = screen.until_it_says(&said);
                assert!(
                    find(&rows(&lines), "spins (spins.py)").is_some(),
                    "{lines:#?}"
                );
                // Keys work as before.
                screen.press("L");
                screen.until_it_says("spins (spins.py:");
                screen.press("q");
            },
            |_| (),
        );
    }
    // Nobody presses a key.
    ends(
        "a signal after the target's end",
        |screen, target| {
            pyscry_tests::run::send(target.pid(), libc::SIGKILL);
            screen.until_it_says("ended. Press q");
            screen.signal(libc::SIGTERM);
        },
        |_| (),
    );
}

#[test]
fn a_terminal_that_hangs_up_ends_it() {
    on_python(|python| {
        let target = Target::start(python, "spins.py", SPINS);
        let (mut screen, _directory) = view(target.pid(), &[], 80, 24);
        screen.until_it_says("spins (spins.py)");
        assert_eq!(screen.hang_up(), 0);
    });
}

/// What the test below runs on a terminal.
#[test]
#[ignore = "it panics"]
fn panics() {
    let mut terminal = pyscry::top::terminal::Terminal::take().expect("a terminal");
    let drawn = terminal
        .screen
        .draw(|frame| frame.render_widget("a picture", frame.area()));
    drawn.expect("a picture");
    let one = std::thread::spawn(|| panic!("on purpose"));
    assert!(one.join().is_err());
    assert!(!terminal.is_ours());
}

#[test]
fn a_panic_of_any_thread_gives_the_terminal_back() {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", "panics", "--ignored", "--nocapture", "--quiet"]);
    let directory = tempfile::tempdir().expect("a directory");
    let left = Screen::run(command, 80, 50, directory.path()).end();
    left.is_restored();
    assert_eq!(left.code, 0, "{left:?}");
    assert!(left.text.contains("on purpose"), "{left:?}");
    assert!(!left.text.contains("a picture"), "{left:?}");
}

#[test]
fn stopped_and_continued() {
    on_python(|python| {
        let target = Target::start(python, "spins.py", SPINS);
        let (mut screen, _directory) = view(target.pid(), &[], 80, 24);
        for key in [true, false] {
            screen.until_it_says("spins (spins.py)");
            let shown = screen.modes();
            match key {
                true => screen.press("\u{1a}"),
                false => screen.signal(libc::SIGTSTP),
            }
            screen.until_stopped();
            screen.until("the shell's screen", |lines| {
                lines.iter().all(|line| line.is_empty())
            });
            assert_ne!(screen.modes(), shown);
            screen.signal(libc::SIGCONT);
            screen.until_it_says("spins (spins.py)");
            assert_eq!(screen.modes(), shown);
        }
        screen.press("q");
        screen.end().is_restored();
    });
}

#[test]
fn a_launched_program() {
    on_python(|python| {
        let file = python.place("top.py", PROGRAM);
        let file = file.to_str().expect("text");
        let exe = python.exe.to_str().expect("text");
        let directory = tempfile::tempdir().expect("a directory");
        let args = ["top", "--delay", "0.2", "--", exe, file, "1.5"];
        let stolen = Stolen::from_now();
        let mut screen = Screen::start(&args, 80, 24, directory.path());
        screen.until_it_says("ended. Press q");
        let stolen = stolen.until_now().as_secs_f64();
        screen.press("t");
        let lines = screen.until_it_says("MainThread");
        let shown = rows(&lines);
        let main = shown.iter().find(|row| row.label.ends_with("MainThread"));
        let main = main.expect("the main thread").values[OWN_TIME];
        screen.press("q");
        let left = screen.end();
        left.is_restored();
        assert_eq!(left.code, 5, "{left:?}");
        assert!(
            left.text.contains("The program's output is in "),
            "{left:?}"
        );
        let output = saved(directory.path(), "out").pop().expect("its output");
        let output = std::fs::read_to_string(output).expect("its output");
        let said: Vec<&str> = output.lines().collect();
        assert_eq!(said[0], "ready", "{output}");
        // What the kernel says that it ran; what came after is the interpreter's end. It does not say
        // what a hypervisor took of a running thread.
        let ran: f64 = said[1].parse().expect("a number");
        assert!(
            main > ran - 0.02 && main < ran * 1.1 + stolen,
            "{main} s of {ran} s, {stolen} s stolen: {lines:#?}"
        );
        // One that does not end by itself is ended.
        let mut screen = Screen::start(&args[..6], 80, 24, directory.path());
        screen.until_it_says("f (top.py)");
        screen.press("q");
        let left = screen.end();
        left.is_restored();
        assert_eq!(left.code, 0, "{left:?}");
    });
}

#[test]
fn what_cannot_be_shown() {
    on_python(|python| {
        let target = Target::start(python, "sleeps.py", SLEEPS);
        let pid = target.pid().to_string();
        // No terminal.
        let outcome = run(&mut pyscry_tests::run::command(&["top", "--pid", &pid]));
        let instead = format!("pyscry record --pid {pid} --duration 10");
        outcome.is_error(&["terminal", &instead]);
        let directory = tempfile::tempdir().expect("a directory");
        for (args, words) in [
            (&["top", "--pid", "999999999"][..], "no process 999999999"),
            (&["top", "--", "/no/such/program"], "/no/such/program"),
        ] {
            let left = Screen::start(args, 80, 24, directory.path()).end();
            left.is_restored();
            assert_eq!(left.code, 1, "{left:?}");
            let said = left.text.replace('\n', "");
            assert!(
                said.starts_with("pyscry: ") && said.contains(words),
                "{left:?}"
            );
        }
        let none = std::fs::read_dir(directory.path())
            .expect("the directory")
            .count();
        assert_eq!(none, 0);
    });
}

#[test]
fn many_processes() {
    on_python(|python| {
        let first = Target::start(python, "first.py", &SPINS.replace("spins", "first"));
        let second = Target::start(python, "second.py", &SPINS.replace("spins", "second"));
        let both = format!("{},{}", first.pid(), second.pid());
        let directory = tempfile::tempdir().expect("a directory");
        let args = ["top", "--pid", &both, "--delay", "0.2"];
        let mut screen = Screen::start(&args, 100, 24, directory.path());
        let lines = screen.until("both", |lines| {
            let table = rows(lines);
            find(&table, "first (").is_some() && find(&table, "second (").is_some()
        });
        assert!(lines[2].contains("Processes 2"), "{lines:#?}");
        screen.press("P");
        screen.until("both processes", |lines| {
            [&first, &second].iter().all(|target| {
                let pid = format!("{} ", target.pid());
                find(&rows(lines), &pid).is_some()
            })
        });
        screen.press("\r");
        screen.until_it_says("of process");
        screen.until("one of them", |lines| {
            let table = rows(lines);
            find(&table, "first (").is_some() != find(&table, "second (").is_some()
        });
        drop(first);
        drop(second);
        screen.until_it_says("ended. Press q to quit.");
        screen.press("q");
        screen.end().is_restored();
    });
}
