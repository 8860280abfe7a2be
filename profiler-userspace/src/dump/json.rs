//! A dump as JSON: py-spy's keys, and ours behind them.

use serde::Serialize;

use super::model::{Frame, Parent, ProcessDump, Thread};
use super::text::split;
use crate::python::variables::Variable;

/// A thread. Up to `process_info` the keys are py-spy's (`StackTrace`).
#[derive(Debug, Serialize)]
struct JsonThread<'a> {
    pid: u32,
    thread_id: u64,
    thread_name: Option<&'a str>,
    os_thread_id: Option<u32>,
    active: bool,
    owns_gil: bool,
    frames: Vec<JsonFrame<'a>>,
    process_info: ProcessInfo<'a>,
    /// As the text has it; null in a core file, for a thread without the lock.
    state: Option<String>,
    /// Why it does not run.
    cause: Option<&'static str>,
    /// The system call that it waits in.
    syscall: Option<&'static str>,
    /// The number of its interpreter; null of a thread without Python.
    interpreter: Option<u64>,
    /// The stack is of one moment.
    consistent: bool,
    notes: &'a [&'static str],
}

/// A frame: the keys are py-spy's, and `native`.
#[derive(Debug, Serialize)]
struct JsonFrame<'a> {
    name: &'a str,
    filename: &'a str,
    module: Option<&'a str>,
    short_filename: Option<&'a str>,
    line: u32,
    locals: Option<Vec<JsonVariable<'a>>>,
    is_entry: bool,
    /// Such frames are not shown.
    is_shim_entry: bool,
    native: bool,
}

#[derive(Debug, Serialize)]
struct JsonVariable<'a> {
    name: &'a str,
    addr: u64,
    arg: bool,
    repr: &'a str,
}

#[derive(Debug, Serialize)]
struct ProcessInfo<'a> {
    pid: u32,
    command_line: &'a str,
    parent: Option<ParentInfo<'a>>,
    python_version: String,
}

#[derive(Debug, Serialize)]
struct ParentInfo<'a> {
    pid: u32,
    command_line: &'a str,
}

/// All threads of some processes, each with the process that it came from, in one array.
///
/// # Errors
/// None that is known: all keys are strings.
pub fn processes(dumps: &[(ProcessDump, Option<Parent>)]) -> serde_json::Result<String> {
    let threads: Vec<_> = dumps
        .iter()
        .flat_map(|(dump, parent)| {
            let threads = dump.threads.iter();
            threads.map(|thread| json_thread(dump, parent.as_ref(), thread))
        })
        .collect();
    serde_json::to_string_pretty(&threads)
}

fn json_thread<'a>(
    dump: &'a ProcessDump,
    parent: Option<&'a Parent>,
    thread: &'a Thread,
) -> JsonThread<'a> {
    JsonThread {
        pid: dump.pid,
        thread_id: thread.id,
        thread_name: thread.name.as_deref(),
        os_thread_id: thread.tid,
        active: thread.state.active.unwrap_or(false),
        owns_gil: thread.state.owns_gil,
        frames: thread.frames.iter().map(json_frame).collect(),
        process_info: ProcessInfo {
            pid: dump.pid,
            command_line: &dump.command,
            parent: parent.map(|parent| ParentInfo {
                pid: parent.pid,
                command_line: &parent.command,
            }),
            python_version: dump.version.to_string(),
        },
        state: thread.state.words(),
        cause: thread.state.cause_word(),
        syscall: thread.state.syscall_name(),
        interpreter: thread.interpreter,
        consistent: thread.consistent,
        notes: &thread.notes,
    }
}

fn json_frame(frame: &Frame) -> JsonFrame<'_> {
    const PLAIN: JsonFrame<'_> = JsonFrame {
        name: "",
        filename: "",
        module: None,
        short_filename: None,
        line: 0,
        locals: None,
        is_entry: false,
        is_shim_entry: false,
        native: false,
    };
    match frame {
        Frame::Python {
            name,
            file,
            short,
            line,
            is_entry,
            variables,
        } => JsonFrame {
            name,
            filename: file,
            short_filename: Some(short),
            line: line.unwrap_or(0),
            locals: variables
                .as_ref()
                .map(|all| all.iter().map(json_variable).collect()),
            is_entry: *is_entry,
            ..PLAIN
        },
        Frame::Native(shown) => {
            let (name, place) = split(shown);
            // A file of debug information has a line, or the ending of its language.
            let file = place.and_then(|place| place.rsplit_once(':'));
            let line = file.and_then(|(_, line)| line.parse().ok());
            JsonFrame {
                name,
                filename: match (file, line) {
                    (Some((file, _)), Some(_)) => file,
                    _ => place.unwrap_or(""),
                },
                module: place.filter(|_| line.is_none()),
                line: line.unwrap_or(0),
                native: true,
                ..PLAIN
            }
        }
        Frame::Marker(marker) => JsonFrame {
            name: marker,
            ..PLAIN
        },
    }
}

fn json_variable(variable: &Variable) -> JsonVariable<'_> {
    JsonVariable {
        name: &variable.name,
        addr: variable.address,
        arg: variable.is_argument,
        repr: &variable.repr,
    }
}
