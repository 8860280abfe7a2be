//! What processes and threads are called in formats that show them one by one, and numbers for
//! them that are used once.

use std::collections::HashSet;

use profiler_common::cause::Cause;

use super::text::one_line;
use super::view::{ProcessView, ThreadView, View};

/// Numbers of processes and threads are less than this (`PID_MAX_LIMIT`, `linux/threads.h`).
const NUMBERS: u64 = 1 << 22;

/// The cause as one word or two, without the frame's brackets.
pub(crate) fn cause(cause: Cause) -> &'static str {
    cause.frame().trim_matches(['[', ']'])
}

/// The process of a thread.
pub(crate) fn process_of<'a>(view: &'a View, thread: &ThreadView) -> Option<&'a ProcessView> {
    view.processes.get(thread.process as usize)
}

/// `python app.py`, or the name where no command line is known.
pub(crate) fn command(process: &ProcessView) -> String {
    let text = if process.command.is_empty() {
        &process.name
    } else {
        &process.command
    };
    one_line(text)
}

/// `Process 12 "python app.py"`; what stands for several has no number.
pub(crate) fn process(process: &ProcessView) -> String {
    match process.pid {
        0 if !process.label.is_empty() => one_line(&process.label),
        0 => format!("\"{}\"", command(process)),
        pid => format!("Process {pid} \"{}\"", command(process)),
    }
}

/// `Thread 12 "name"`; what stands for several has no number.
pub(crate) fn thread(thread: &ThreadView) -> String {
    let name = thread.name.as_deref().map(one_line);
    match (thread.tid, name) {
        (0, None) => "Threads".to_owned(),
        (0, Some(name)) => format!("\"{name}\""),
        (tid, None) => format!("Thread {tid}"),
        (tid, Some(name)) => format!("Thread {tid} \"{name}\""),
    }
}

/// Both, or the thread alone where there is one process.
pub(crate) fn thread_in_process(view: &View, of: &ThreadView) -> String {
    match process_of(view, of) {
        Some(owner) if view.processes.len() > 1 => {
            format!("{} {}", process(owner), thread(of))
        }
        _ => thread(of),
    }
}

/// Numbers that tell things apart in formats that know them by nothing else. A number that the
/// kernel has used twice, and 0, which stands for several, become numbers that it never uses.
pub(crate) fn unique(numbers: impl Iterator<Item = u32>) -> Vec<u64> {
    let mut used = HashSet::new();
    let mut next = NUMBERS;
    numbers
        .map(|number| {
            let mut number = u64::from(number);
            if number == 0 || !used.insert(number) {
                number = next;
                next += 1;
            }
            number
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::sample;

    #[test]
    fn numbers_are_used_once() {
        assert_eq!(
            unique([7, 0, 7, 8].into_iter()),
            [7, NUMBERS, NUMBERS + 1, 8]
        );
    }

    #[test]
    fn a_process_is_named_where_there_are_several() {
        let mut view = sample::view();
        let of = view.threads[0].clone();
        let long = thread_in_process(&view, &of);
        view.processes.truncate(1);
        let short = thread_in_process(&view, &of);
        assert_eq!(short, "Thread 100 \"MainThread\"");
        assert_eq!(long, format!("Process 100 \"python app.py\" {short}"));
    }
}
