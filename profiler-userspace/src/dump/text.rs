//! A dump as text, in py-spy's layout.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::model::{Frame, Parent, ProcessDump, Thread};
use crate::output::text::one_line;
use crate::python::variables::Variable;

const NUMBER: Style = AnsiColor::Yellow.on_default().bold();
const FUNCTION: Style = AnsiColor::Green.on_default();
const FILE: Style = AnsiColor::Cyan.on_default();
const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// A process, with the escape sequences of a terminal.
#[must_use]
pub fn process(dump: &ProcessDump, parent: Option<&Parent>) -> String {
    let mut text = String::new();
    if let Some((file, signal)) = &dump.core {
        let signal = match signal {
            0 => "No signal".to_owned(),
            signal => format!("Signal {signal}"),
        };
        line(&mut text, format_args!("{signal}: {file}"));
    }
    text.push_str(&header(dump.pid, &dump.command));
    let version = styled(BOLD, format_args!("v{}", dump.version));
    let executable = styled(DIM, &dump.executable);
    line(&mut text, format_args!("Python {version} ({executable})"));
    text.push_str(&parent_line(parent));
    text.push('\n');
    for thread in dump.threads.iter().rev() {
        write_thread(&mut text, thread, dump.interpreters > 1);
    }
    text
}

/// A process of which there is nothing to show, and why.
#[must_use]
pub fn nothing(pid: u32, command: &str, parent: Option<&Parent>, why: &str) -> String {
    let mut text = header(pid, command);
    text.push_str(&parent_line(parent));
    text.push('\n');
    line(&mut text, format_args!("    {}", styled(DIM, why)));
    text
}

/// What stands between two processes, on a terminal of so many columns.
#[must_use]
pub fn separator(columns: usize) -> String {
    format!("\n{}\n", styled(DIM, "-".repeat(columns)))
}

fn header(pid: u32, command: &str) -> String {
    let pid = styled(NUMBER, pid);
    format!("Process {pid}: {}\n", one_line(command))
}

fn parent_line(parent: Option<&Parent>) -> String {
    parent.map_or_else(String::new, |parent| {
        let pid = styled(NUMBER, parent.pid);
        format!("Parent Process {pid}: {}\n", one_line(&parent.command))
    })
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Into memory.
    let _never_fails = writeln!(text, "{line}");
}

fn write_thread(text: &mut String, thread: &Thread, several: bool) {
    let number = match thread.tid {
        Some(tid) => tid.to_string(),
        None => format!("{:#x}", thread.id),
    };
    let mut head = format!("Thread {}", styled(NUMBER, number));
    if let Some(words) = thread.state.words() {
        head.push_str(&format!(" ({words})"));
    }
    if let Some(name) = &thread.name {
        head.push_str(&format!(": \"{}\"", one_line(name)));
    }
    if let Some(interpreter) = thread.interpreter.filter(|_| several) {
        head.push_str(&format!(" [interpreter {interpreter}]"));
    }
    line(text, format_args!("{head}"));
    for frame in &thread.frames {
        write_frame(text, frame);
    }
    for note in &thread.notes {
        line(
            text,
            format_args!("    {}", styled(DIM, format_args!("[{note}]"))),
        );
    }
}

fn write_frame(text: &mut String, frame: &Frame) {
    match frame {
        Frame::Python {
            name,
            short,
            line: number,
            variables,
            ..
        } => {
            let name = styled(FUNCTION, one_line(name));
            let file = styled(FILE, one_line(short));
            match number {
                Some(number) => {
                    let number = styled(DIM, number);
                    line(text, format_args!("    {name} ({file}:{number})"));
                }
                None => line(text, format_args!("    {name} ({file})")),
            }
            for (title, arguments) in [("Arguments:", true), ("Locals:", false)] {
                let of_kind = |variable: &&Variable| variable.is_argument == arguments;
                let mut shown = variables.iter().flatten().filter(of_kind).peekable();
                if shown.peek().is_some() {
                    line(text, format_args!("        {}", styled(DIM, title)));
                }
                for variable in shown {
                    let value = one_line(&variable.repr);
                    let name = one_line(&variable.name);
                    line(text, format_args!("            {name}: {value}"));
                }
            }
        }
        Frame::Native(shown) => {
            let (name, place) = split(shown);
            let name = styled(FUNCTION, one_line(name));
            match place {
                Some(place) => {
                    let place = styled(FILE, one_line(place));
                    line(text, format_args!("    {name} ({place})"));
                }
                None => line(text, format_args!("    {name}")),
            }
        }
        Frame::Marker(marker) => line(text, format_args!("    {}", styled(DIM, marker))),
    }
}

/// Name, and file or module, of a native frame as it is shown.
pub(super) fn split(shown: &str) -> (&str, Option<&str>) {
    let parts = shown
        .strip_suffix(')')
        .and_then(|shown| shown.rsplit_once(" ("));
    match parts {
        Some((name, place)) => (name, Some(place)),
        None => (shown, None),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use profiler_common::cause::Cause;

    use super::super::model::ThreadState;
    use super::*;
    use crate::python::Version;

    fn variable(name: &str, is_argument: bool) -> Variable {
        Variable {
            name: name.to_owned(),
            address: 0x10,
            is_argument,
            repr: "5".to_owned(),
        }
    }

    #[test]
    fn the_layout() {
        let file: Arc<str> = "/app/th.py".into();
        let thread = Thread {
            id: 0x7f00,
            tid: Some(12),
            name: Some("MainThread".to_owned()),
            state: ThreadState {
                active: Some(false),
                cause: Some(Cause::Sleep),
                ..ThreadState::default()
            },
            interpreter: Some(0),
            frames: vec![
                Frame::Native("clock_nanosleep (libc.so.6)".into()),
                Frame::Python {
                    name: "sleeper".into(),
                    file: Arc::clone(&file),
                    short: "th.py".into(),
                    line: Some(6),
                    is_entry: true,
                    variables: Some(vec![variable("b", false), variable("a", true)]),
                },
                Frame::Marker("[truncated]".into()),
            ],
            consistent: false,
            notes: vec!["changed"],
        };
        let dump = ProcessDump {
            pid: 12,
            command: "python th.py".to_owned(),
            version: Version {
                major: 3,
                minor: 11,
                micro: Some(7),
            },
            executable: "/usr/bin/python3.11".to_owned(),
            core: None,
            interpreters: 1,
            threads: vec![
                Thread {
                    tid: None,
                    name: None,
                    frames: Vec::new(),
                    notes: Vec::new(),
                    state: ThreadState::default(),
                    ..thread.clone()
                },
                thread,
            ],
        };
        let parent = Parent {
            pid: 1,
            command: "init".to_owned(),
        };
        let plain = |text: String| anstream::adapter::strip_str(&text).to_string();
        assert_eq!(
            plain(process(&dump, Some(&parent))),
            "Process 12: python th.py\n\
             Python v3.11.7 (/usr/bin/python3.11)\n\
             Parent Process 1: init\n\
             \n\
             Thread 12 (idle: sleep): \"MainThread\"\n    \
                 clock_nanosleep (libc.so.6)\n    \
                 sleeper (th.py:6)\n        \
                     Arguments:\n            \
                         a: 5\n        \
                     Locals:\n            \
                         b: 5\n    \
                 [truncated]\n    \
                 [changed]\n\
             Thread 0x7f00\n"
        );
        let core = ProcessDump {
            core: Some(("core.12".to_owned(), 6)),
            interpreters: 2,
            ..dump
        };
        let text = plain(process(&core, None));
        assert!(
            text.starts_with("Signal 6: core.12\nProcess 12: "),
            "{text}"
        );
        assert!(
            text.contains(": \"MainThread\" [interpreter 0]\n"),
            "{text}"
        );
    }

    #[test]
    fn parts_of_native_frames() {
        assert_eq!(split("f(int) (a.c:7)"), ("f(int)", Some("a.c:7")));
        assert_eq!(split("libc.so.6+0x12"), ("libc.so.6+0x12", None));
    }
}
