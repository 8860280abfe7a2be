//! The times of threads: what a profile of all time says, and what the kernel does.

use std::fs::File;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::OnceLock;

use profiler_common::cause::Cause;
use serde_json::Value;

use crate::{Ended, Folded};

/// Between a wait and who ended it.
const WOKEN_BY: &str = "[woken by]";

/// A stack of a profile of waits, with its threads told apart.
#[derive(Clone, Copy, Debug)]
pub struct Stretch<'a> {
    /// The thread.
    pub tid: u32,
    /// Its name.
    pub thread: &'a str,
    /// Its frames, from the root to the leaf.
    pub frames: &'a [String],
    /// Why it did not run; `None` of one that did.
    pub cause: Option<Cause>,
    /// Who ended that, from the leaf to the root and the thread.
    pub waker: Option<&'a [String]>,
}

/// Number and name in `thread (12): name`.
///
/// # Panics
/// When the text is nothing like it.
#[must_use]
pub fn thread(text: &str) -> (u32, &str) {
    let parts = text
        .strip_prefix("thread (")
        .and_then(|rest| rest.split_once(')'));
    let (tid, name) = parts.unwrap_or_else(|| panic!("no thread: {text:?}"));
    let tid = tid.parse().unwrap_or_else(|_| panic!("no tid: {text:?}"));
    (tid, name.trim_start_matches(": "))
}

impl<'a> Stretch<'a> {
    /// Takes a stack apart.
    ///
    /// # Panics
    /// When it does not begin with a thread.
    #[must_use]
    pub fn of(stack: &'a [String]) -> Self {
        let (tid, name) = thread(&stack[0]);
        let woken = stack.iter().position(|text| text == WOKEN_BY);
        let (own, waker) = stack.split_at(woken.unwrap_or(stack.len()));
        let cause = own.last().and_then(|leaf| {
            Cause::ALL
                .into_iter()
                .find(|cause| cause.frame() == leaf.as_str())
        });
        let end = own.len() - usize::from(cause.is_some());
        Self {
            tid,
            thread: name,
            frames: &own[1..end],
            cause,
            waker: woken.map(|_| &waker[1..]),
        }
    }

    /// Whether one of its frames is of a Python function of this name.
    #[must_use]
    pub fn is_in(&self, function: &str) -> bool {
        calls(self.frames, function)
    }
}

/// Whether one of the frames is of a Python function of this name; a qualified name has more in
/// front of it.
#[must_use]
pub fn calls(frames: &[String], function: &str) -> bool {
    frames.iter().any(|frame| {
        let name = frame.split(" (").next().unwrap_or_default();
        name.rsplit('.').next() == Some(function)
    })
}

/// The time of all stretches that fit, in nanoseconds.
#[must_use]
pub fn time(folded: &Folded, fits: impl Fn(&Stretch<'_>) -> bool) -> f64 {
    folded.weight(|stack| fits(&Stretch::of(stack))) as f64 * 1e3
}

/// The time of stretches that fit and of which the kernel did not report the switch, in nanoseconds: what
/// for they were is not known. None, where the recording counted none.
#[must_use]
pub fn not_reported(ended: &Ended, fits: impl Fn(&Stretch<'_>) -> bool) -> f64 {
    if ended.counter("switches_missed") == 0 {
        return 0.0;
    }
    let is_unknown = |stretch: &Stretch<'_>| stretch.frames == ["[stack not known]"];
    time(&ended.folded, |stretch| {
        fits(stretch) && is_unknown(stretch)
    })
}

/// `CLOCK_MONOTONIC`, nanoseconds.
#[must_use]
pub fn now() -> f64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: valid for a write; the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

/// What a thread has run, and how long it could and had no CPU, by the scheduler; nanoseconds. What
/// it runs since the last tick is not in there.
///
/// # Panics
/// When it is gone.
#[must_use]
pub fn schedstat(pid: u32, tid: u32) -> [f64; 2] {
    let path = format!("/proc/{pid}/task/{tid}/schedstat");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut words = text
        .split(' ')
        .map(|word| word.trim().parse().expect("a number"));
    [(); 2].map(|()| words.next().expect("two numbers"))
}

/// What all threads of a process have run, and how long they could and had no CPU: nobody waits longer
/// for the global lock than another thread had it, which is then one of those. Nanoseconds, as in
/// [`schedstat`].
///
/// # Panics
/// When the process is gone.
#[must_use]
pub fn could_run(pid: u32) -> f64 {
    let path = format!("/proc/{pid}/task");
    let threads = std::fs::read_dir(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let of_each = threads.map(|thread| {
        let name = thread.expect("a thread").file_name();
        let tid = name.to_string_lossy().parse().expect("a tid");
        schedstat(pid, tid).into_iter().sum::<f64>()
    });
    of_each.sum()
}

/// A descriptor of /proc that programs inherit, as an argument: a root of an interpreter may have
/// none.
///
/// # Panics
/// When there is none.
pub fn proc_directory() -> &'static str {
    static DIRECTORY: OnceLock<String> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let directory = File::open("/proc").expect("/proc");
        // SAFETY: a descriptor of ours, a scalar argument.
        let failed = unsafe { libc::fcntl(directory.as_raw_fd(), libc::F_SETFD, 0) } != 0;
        assert!(!failed, "a descriptor");
        directory.into_raw_fd().to_string()
    })
}

/// What is at `path` in what a program said, one of the numbers in there.
///
/// # Panics
/// When there is no number.
#[must_use]
pub fn number(said: &Value, path: &str) -> f64 {
    let found = said.pointer(path).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no {path} in {said}"))
}

/// The line of the summary that begins so.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn line<'a>(ended: &'a Ended, start: &str) -> &'a str {
    let found = ended.stderr.lines().find(|line| line.starts_with(start));
    found.unwrap_or_else(|| panic!("no {start:?} in {}", ended.stderr))
}

/// The time in `1.25 s …`, `3.4 ms`, `5 us`: nanoseconds.
///
/// # Panics
/// When it does not begin with one.
#[must_use]
pub fn told(text: &str) -> f64 {
    let mut words = text.split_whitespace();
    let value: f64 = words
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no time: {text:?}"));
    let unit = words.next().unwrap_or_default();
    value
        * match unit.trim_end_matches(['.', ',', ')', ':', ';']) {
            "s" => 1e9,
            "ms" => 1e6,
            "us" => 1e3,
            _ => panic!("no unit: {text:?}"),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_are_taken_apart() {
        let stack = [
            "thread (7): a: b",
            "f (a.py:1)",
            "C.g (a.py:2)",
            "[lock]",
            "[woken by]",
            "h (a.py:3)",
            "thread (8): c",
        ]
        .map(str::to_owned);
        let stretch = Stretch::of(&stack);
        assert_eq!((stretch.tid, stretch.thread), (7, "a: b"));
        assert_eq!(stretch.cause, Some(Cause::Lock));
        assert!(stretch.is_in("f") && stretch.is_in("g") && !stretch.is_in("h"));
        assert_eq!(stretch.waker, Some(&stack[5..]));
        let runs = Stretch::of(&stack[..3]);
        assert!(runs.cause.is_none() && runs.waker.is_none());
        assert_eq!(runs.frames, &stack[1..3]);
    }

    #[test]
    fn times_are_read() {
        for (text, expected) in [
            ("1.25 s in all", 1.25e9),
            ("3.5 ms,", 3.5e6),
            ("5 us.", 5e3),
        ] {
            assert_eq!(told(text), expected);
        }
    }
}
