//! What a guest's console says, and whether it is right.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::causes::{self, Causes};
use super::folded::{self, Share};
use super::native;
use super::qemu::Run;

/// What the verifier may look at in one program. The kernel's own limit is a million, and it takes
/// about a second per hundred thousand.
const INSTRUCTIONS_MAX: u64 = 100_000;

/// The part of a profile that must be the stack that the program has, in hundredths.
const RIGHT_MIN: f64 = 90.0;

/// The same with native frames, where a stack that is not whole counts as wrong, too.
const NATIVE_RIGHT_MIN: f64 = 99.0;

/// Of the wait in which a recording begins, the native stack is never known, and the Python stack not
/// where the thread ran meanwhile: 10 ms of 2 seconds, or a few more on a slow machine.
const NATIVE_OFF_CPU_RIGHT_MIN: f64 = 98.0;

/// Samples of 2 seconds at 99 Hz, on an emulated machine that may be slow.
const SAMPLES_MIN: u64 = 100;

/// Microseconds off the CPUs of the 2 seconds recorded.
const OFF_CPU_MIN: u64 = 1_600_000;

/// A kernel on which everything is right.
#[derive(Debug)]
pub(crate) struct Outcome {
    kernel: String,
    python: String,
    /// From the start to the first program.
    pub(crate) boot: Duration,
    total: Duration,
    /// Verified instructions by program, where the kernel tells.
    programs: BTreeMap<String, Option<u64>>,
    on_cpu: Share,
    off_cpu: Share,
    native_on_cpu: Share,
    native_off_cpu: Share,
    causes: Causes,
}

/// Reads a console; an error says what is not right.
pub(crate) fn judge(version: &str, python: &str, run: &Run) -> Result<Outcome> {
    let (boot, release) = run
        .lines
        .iter()
        .find_map(|(time, line)| Some((*time, line.strip_prefix("@@up ")?)))
        .context("the kernel did not come to its first program")?;
    ensure!(
        release.starts_with(version),
        "this is kernel {release}, not {version}"
    );

    section(run, "doctor")?;
    let programs = programs(&section(run, "programs")?)?;
    for recording in ["on-cpu", "off-cpu", "native-on-cpu", "native-off-cpu"] {
        section(run, &format!("record-{recording}"))?;
    }
    let on_cpu = folded::share(section(run, "on-cpu")?, &["outer", "middle", "leaf"])?;
    let off_cpu = folded::share_of(section(run, "off-cpu")?, |frames| {
        let place = before_cause(frames);
        folded::ends_in(place, &["outer", "middle", "nap"])
    })?;
    let lines = section(run, "native-on-cpu")?;
    let native_on_cpu = folded::share_of(lines, native::calls_through_c)?;
    let lines = section(run, "native-off-cpu")?;
    let native_off_cpu = folded::share_of(lines, |frames| {
        native::sleeps_in_kernel(before_cause(frames))
    })?;
    for (what, share, right_min) in [
        ("on-CPU", on_cpu, RIGHT_MIN),
        ("on-CPU with native frames", native_on_cpu, NATIVE_RIGHT_MIN),
    ] {
        ensure!(
            share.total >= SAMPLES_MIN,
            "only {} samples {what}",
            share.total
        );
        check(what, share, right_min)?;
    }
    for (what, share, right_min) in [
        ("off-CPU", off_cpu, RIGHT_MIN),
        (
            "off-CPU with native frames",
            native_off_cpu,
            NATIVE_OFF_CPU_RIGHT_MIN,
        ),
    ] {
        ensure!(
            share.total >= OFF_CPU_MIN,
            "only {} microseconds {what}",
            share.total
        );
        check(what, share, right_min)?;
    }
    let causes = causes::judge(
        [&section(run, "causes")?, &section(run, "record-causes")?],
        [&section(run, "gil")?, &section(run, "record-gil")?],
    )?;
    Ok(Outcome {
        kernel: release.to_owned(),
        python: python.to_owned(),
        boot,
        total: run.total,
        programs,
        on_cpu,
        off_cpu,
        native_on_cpu,
        native_off_cpu,
        causes,
    })
}

/// The frames of a stack that waits, without what it waits for.
fn before_cause<'a>(frames: &'a [&'a str]) -> &'a [&'a str] {
    match frames {
        [before @ .., "[sleep]" | "[run queue]"] => before,
        // No other cause is right.
        _ => &[],
    }
}

fn check(what: &str, share: Share, right_min: f64) -> Result<()> {
    let percent = share.percent();
    ensure!(percent >= right_min, "{what}, {percent:.1} % is right");
    Ok(())
}

/// The lines of a section, whose command must have ended well.
fn section<'a>(run: &'a Run, name: &str) -> Result<Vec<&'a str>> {
    let begin = format!("@@begin {name}");
    let end = format!("@@end {name} ");
    let mut lines = run.lines.iter().map(|(_, line)| line.as_str());
    lines
        .by_ref()
        .find(|line| *line == begin)
        .with_context(|| format!("no section {name}"))?;
    let mut found = Vec::new();
    for line in lines {
        if let Some(code) = line.strip_prefix(&end) {
            ensure!(
                code == "0",
                "{name} ended with {code}:\n{}",
                found.join("\n")
            );
            return Ok(found);
        }
        // The kernel's own messages come at any time.
        if !is_of_kernel(line) {
            found.push(line);
        }
    }
    anyhow::bail!("{name} has no end:\n{}", found.join("\n"))
}

/// Whether a line begins with a time in brackets, as the kernel's messages do; other brackets are in
/// profiles.
fn is_of_kernel(line: &str) -> bool {
    line.strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .is_some_and(|(time, _)| time.trim_start().parse::<f64>().is_ok())
}

/// Parses `program NAME verified N instructions`; the kernel may not tell N.
fn programs(lines: &[&str]) -> Result<BTreeMap<String, Option<u64>>> {
    let mut programs = BTreeMap::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["program", name, "verified", count, ..] = words[..] else {
            continue;
        };
        let count = count.parse::<u64>().ok().filter(|count| *count > 0);
        ensure!(
            count.is_none_or(|count| count <= INSTRUCTIONS_MAX),
            "{name} has {count:?} verified instructions, more than {INSTRUCTIONS_MAX}"
        );
        programs.insert(name.to_owned(), count);
    }
    ensure!(!programs.is_empty(), "no program was loaded");
    Ok(programs)
}

/// What was measured, a kernel a line.
pub(crate) fn tables(outcomes: &[Outcome]) -> String {
    let mut rows = vec![
        [
            "kernel",
            "python",
            "boot",
            "total",
            "samples",
            "right",
            "off-CPU",
            "right",
            "native",
            "right",
            "native off-CPU",
            "right",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for outcome in outcomes {
        rows.push(vec![
            outcome.kernel.clone(),
            outcome.python.clone(),
            format!("{:.1} s", outcome.boot.as_secs_f64()),
            format!("{:.1} s", outcome.total.as_secs_f64()),
            outcome.on_cpu.total.to_string(),
            format!("{:.1} %", outcome.on_cpu.percent()),
            format!("{:.3} s", outcome.off_cpu.total as f64 / 1e6),
            format!("{:.1} %", outcome.off_cpu.percent()),
            outcome.native_on_cpu.total.to_string(),
            format!("{:.1} %", outcome.native_on_cpu.percent()),
            format!("{:.3} s", outcome.native_off_cpu.total as f64 / 1e6),
            format!("{:.1} %", outcome.native_off_cpu.percent()),
        ]);
    }
    let mut waits = vec![
        ["waits, the least right", "cause", "waker", "GIL", "missing"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for outcome in outcomes {
        let Causes {
            right,
            woken,
            gil,
            gap,
        } = outcome.causes;
        let mut row = vec![outcome.kernel.clone()];
        row.extend([right, woken, gil].map(|percent| format!("{percent:.1} %")));
        row.push(format!("{gap:.2} %"));
        waits.push(row);
    }
    let names: BTreeSet<&String> = outcomes
        .iter()
        .flat_map(|outcome| outcome.programs.keys())
        .collect();
    let mut head = vec!["verified instructions".to_owned()];
    head.extend(outcomes.iter().map(|outcome| outcome.kernel.clone()));
    let mut verified = vec![head];
    for name in names {
        let mut row = vec![name.clone()];
        row.extend(
            outcomes
                .iter()
                .map(|outcome| match outcome.programs.get(name) {
                    Some(Some(count)) => count.to_string(),
                    Some(None) => "not told".to_owned(),
                    None => "-".to_owned(),
                }),
        );
        verified.push(row);
    }
    if outcomes.is_empty() {
        return String::new();
    }
    let [rows, waits, verified] = [rows, waits, verified].map(|rows| aligned(&rows));
    format!("\n{rows}\n{waits}\n{verified}")
}

/// Rows as lines, columns under each other.
fn aligned(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            if widths.len() == column {
                widths.push(0);
            }
            widths[column] = widths[column].max(cell.len());
        }
    }
    let mut text = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(&format!("{cell:width$}  "));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::is_of_kernel;

    #[test]
    fn messages_of_the_kernel() {
        assert!(is_of_kernel("[   23.437054] reboot: Restarting system"));
        assert!(!is_of_kernel("[stack not known];[other] 5070"));
        assert!(!is_of_kernel("outer (/p.py:1);[sleep] 1"));
    }
}
