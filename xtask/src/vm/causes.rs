//! What threads waited for, who woke them, and that all of their time is there.

use anyhow::{Context, Result, ensure};

use super::folded::is_call;

/// The part of a function's waits that must be under their cause, in hundredths.
const RIGHT_MIN: f64 = 98.0;

/// The part of them that must end by who ended them. The wait in which a recording begins and the
/// one in which it ends were ended by nobody that was seen: of 250, and of some 100 where others leave
/// the emulated machine half of its CPU.
const WOKEN_MIN: f64 = 95.0;

/// Microseconds that a function waits of the 5 seconds that are recorded.
const WAITED_MIN: u64 = 2_000_000;

/// What of all threads' time may be in no part of it, in hundredths.
const GAP_MAX: f64 = 1.0;

/// What a wait is under when it is over, and the thread waits for a CPU or for the interpreter.
const AFTERWARDS: [&str; 2] = ["[run queue]", "[gil]"];

/// A function that waits, what for, and the function that ends it.
struct Wait {
    function: &'static str,
    cause: &'static str,
    ended_by: Option<&'static str>,
}

const WAITS: [Wait; 6] = [
    Wait {
        function: "sleeps",
        cause: "[sleep]",
        ended_by: None,
    },
    Wait {
        function: "waits_for_lock",
        cause: "[lock]",
        ended_by: Some("ends_lock"),
    },
    Wait {
        function: "waits_for_pipe",
        cause: "[pipe]",
        ended_by: Some("ends_pipe"),
    },
    Wait {
        function: "waits_for_socket",
        cause: "[network]",
        ended_by: Some("ends_socket"),
    },
    Wait {
        function: "waits_for_poll",
        cause: "[poll]",
        ended_by: Some("ends_poll"),
    },
    Wait {
        function: "waits_for_file",
        cause: "[lock]",
        ended_by: Some("ends_file"),
    },
];

/// What was found: the least of all waits, in hundredths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Causes {
    /// Of a function's waits, what is under their cause.
    pub(crate) right: f64,
    /// Of those, what is under the function that ended them.
    pub(crate) woken: f64,
    /// Of waits while others run, what is under the interpreter's lock.
    pub(crate) gil: f64,
    /// Of all threads' time, what is missing.
    pub(crate) gap: f64,
}

/// A line of a profile of waits.
struct Line<'a> {
    /// Where the thread was.
    frames: Vec<&'a str>,
    /// What it waited for; nothing where it ran.
    cause: Option<&'a str>,
    /// The innermost function of who woke it.
    waker: Option<&'a str>,
    weight: u64,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Result<Self> {
        let not = || format!("not a folded stack: {line}");
        let (stack, weight) = line.rsplit_once(' ').with_context(not)?;
        let mut frames: Vec<&str> = stack.split(';').collect();
        let mut waker = None;
        if let Some(woken) = frames.iter().position(|frame| *frame == "[woken by]") {
            waker = frames.get(woken + 1).copied();
            frames.truncate(woken);
        }
        let cause = frames.pop_if(|last| last.starts_with('[') && *last != "[not sampled]");
        Ok(Self {
            frames,
            cause,
            waker,
            weight: weight.parse().with_context(not)?,
        })
    }

    fn is_in(&self, function: &str) -> bool {
        self.frames.iter().any(|frame| is_call(frame, function))
    }
}

fn parse<'a>(profile: &[&'a str]) -> Result<Vec<Line<'a>>> {
    let lines = profile.iter().filter(|line| !line.is_empty());
    lines.map(|line| Line::parse(line)).collect()
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

fn sum<'a>(lines: &[Line<'a>], counts: impl Fn(&Line<'a>) -> bool) -> u64 {
    let counted = lines.iter().filter(|line| counts(line));
    counted.map(|line| line.weight).sum()
}

/// Judges the profile of the threads that wait, and what its recording said; then the same of those
/// that want the interpreter's lock.
pub(crate) fn judge(waits: [&[&str]; 2], gil: [&[&str]; 2]) -> Result<Causes> {
    let [profile, said] = waits;
    let lines = parse(profile)?;
    let mut least = Causes {
        right: 100.0,
        woken: 100.0,
        gil: 0.0,
        gap: gap(&lines, said)?,
    };
    for wait in &WAITS {
        let (right, woken) = judge_wait(wait, &lines)?;
        least.right = least.right.min(right);
        least.woken = least.woken.min(woken.unwrap_or(100.0));
    }
    let [profile, said] = gil;
    let lines = parse(profile)?;
    least.gap = least.gap.max(gap(&lines, said)?);
    let blocked = sum(&lines, |line| {
        line.is_in("spins") && line.cause.is_some_and(|cause| cause != "[run queue]")
    });
    let wanted = sum(&lines, |line| {
        line.is_in("spins") && line.cause == Some("[gil]")
    });
    least.gil = percent(wanted, blocked);
    ensure!(
        least.gil >= RIGHT_MIN && wanted >= WAITED_MIN,
        "of {blocked} us that threads wait for each other's GIL, {wanted} are said to be"
    );
    Ok(least)
}

fn judge_wait(wait: &Wait, lines: &[Line<'_>]) -> Result<(f64, Option<f64>)> {
    let function = wait.function;
    let waited = sum(lines, |line| {
        let waits = line.cause.is_some_and(|cause| !AFTERWARDS.contains(&cause));
        waits && line.is_in(function)
    });
    let right = sum(lines, |line| {
        line.cause == Some(wait.cause) && line.is_in(function)
    });
    let share = percent(right, waited);
    ensure!(
        share >= RIGHT_MIN,
        "{share:.1} % of what {function} waits is under {}",
        wait.cause
    );
    ensure!(
        right >= WAITED_MIN,
        "{function} waits {right} us for {}",
        wait.cause
    );
    let Some(ended_by) = wait.ended_by else {
        return Ok((share, None));
    };
    let woken = sum(lines, |line| {
        line.cause == Some(wait.cause)
            && line.is_in(function)
            && line.waker.is_some_and(|waker| is_call(waker, ended_by))
    });
    let woken = percent(woken, right);
    ensure!(
        woken >= WOKEN_MIN,
        "{woken:.1} % of what {function} waits is ended by {ended_by}"
    );
    Ok((share, Some(woken)))
}

/// How far the parts of all threads' time are from all of it, as the recording says, and as its
/// profile does: hundredths.
fn gap(lines: &[Line<'_>], said: &[&str]) -> Result<f64> {
    let line = said.iter().find(|line| line.starts_with("Threads: "));
    let line = line.context("the recording says nothing of its threads' time")?;
    let times = times(line)?;
    let [all, on, queued, blocked, ..] = times[..] else {
        anyhow::bail!("not the parts of a time: {line}");
    };
    let said = percent_off(on + queued + blocked, all);
    let drawn = percent_off(sum(lines, |_| true) as f64, all);
    ensure!(
        said.max(drawn) <= GAP_MAX,
        "the parts of the time are not all of it, {drawn:.2} % off in the profile: {line}"
    );
    Ok(said.max(drawn))
}

fn percent_off(parts: f64, all: f64) -> f64 {
    100.0 * (parts / all - 1.0).abs()
}

/// The times in a line, in microseconds.
fn times(line: &str) -> Result<Vec<f64>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut times = Vec::new();
    for pair in words.windows(2) {
        let unit = match pair[1].trim_end_matches(',') {
            "s" => 1e6,
            "ms" => 1e3,
            "us" => 1.0,
            _ => continue,
        };
        let number = pair[0].parse::<f64>();
        times.push(unit * number.with_context(|| format!("no time: {line}"))?);
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: [&str; 2] = [
        "Recorded process 7 for 2.0 s.",
        "Threads: 2, 4.00 s in all = 500.0 ms on CPUs + 100 us in run queues + 3.50 s blocked + 0 us \
         not accounted for.",
    ];

    /// Each function waits for three seconds in all.
    fn profile(change: impl Fn(&Wait) -> String) -> Vec<String> {
        WAITS.iter().map(change).collect()
    }

    fn line(wait: &Wait, cause: &str, waker: &str) -> String {
        let function = wait.function;
        format!(
            "run (p.py:1);{function} (p.py:2);{cause};[woken by];{waker} (p.py:3);thread (2) 3000000"
        )
    }

    fn right(wait: &Wait) -> String {
        line(wait, wait.cause, wait.ended_by.unwrap_or("x"))
    }

    fn judged(lines: &[String], gil: &str) -> Result<Causes> {
        let said = |all: usize| {
            format!(
                "Threads: 2, {all}.00 s in all = {all}.00 s on CPUs + 0 us in run queues + 0 us blocked"
            )
        };
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (waits, one) = (said(18), said(3));
        judge([&lines, &[&waits]], [&[gil], &[&one]])
    }

    const GIL: &str = "spins (p.py:1);[gil];[woken by];[interrupt] 3000000";

    #[test]
    fn what_is_right() -> Result<()> {
        let found = judged(&profile(right), GIL)?;
        let expected = Causes {
            right: 100.0,
            woken: 100.0,
            gil: 100.0,
            gap: 0.0,
        };
        assert_eq!(found, expected);
        Ok(())
    }

    #[test]
    fn what_is_wrong() {
        let other = |wait: &Wait| line(wait, "[other]", wait.ended_by.unwrap_or("x"));
        assert!(judged(&profile(other), GIL).is_err());
        let nobody = |wait: &Wait| line(wait, wait.cause, "[interrupt]");
        assert!(judged(&profile(nobody), GIL).is_err());
        let lock = "spins (p.py:1);[lock] 3000000";
        assert!(judged(&profile(right), lock).is_err());
        let mut more = profile(right);
        more.push("run (p.py:1) 300000".to_owned());
        assert!(judged(&more, GIL).is_err(), "more than all");
    }

    #[test]
    fn times_of_a_line() -> Result<()> {
        assert_eq!(times(SAID[1])?, [4e6, 5e5, 100.0, 3.5e6, 0.0]);
        Ok(())
    }
}
