//! What is said at the end of a recording.

use std::fmt::Write as _;

use profiler_common::counter::{Class, Counter};

use super::args::RecordArgs;
use super::report::processes::{self, ProcessLine};
use super::report::{gil, seconds, times, waits};
use crate::kernel::stolen::Stolen;
use crate::output::text::one_line;
use crate::record::{Recording, Stopped};

/// A command line, short enough for a title.
fn short(command: &str) -> String {
    const MOST: usize = 80;
    let mut short = one_line(command);
    if let Some((end, _)) = short.char_indices().nth(MOST) {
        short.truncate(end);
        short.push('…');
    }
    short
}

pub(super) fn describe(recording: &Recording) -> String {
    let Some(single) = &recording.single else {
        return match recording.processes.count() {
            1 => "1 process".to_owned(),
            count => format!("{count} processes"),
        };
    };
    let version = single
        .version
        .map_or_else(String::new, |version| format!(", Python {version}"));
    format!(
        "process {} ({}){version}",
        single.pid,
        short(&single.command)
    )
}

/// The table of processes, where there can be several.
fn processes(recording: &Recording) -> String {
    if recording.single.is_some() {
        return String::new();
    }
    let profile = &recording.collector.profile;
    let lines: Vec<ProcessLine> = recording
        .processes
        .all()
        .map(|(id, known)| {
            let identity = &known.identity;
            ProcessLine {
                pid: identity.pid,
                inner_pid: identity.inner_pid,
                container: identity.container.clone(),
                cgroup: identity.cgroup.clone(),
                user: identity.user.to_string(),
                python: known.version,
                weight: profile.total_of(id),
                running: known.running,
                command: match identity.command.as_str() {
                    "" => identity.comm.clone(),
                    command => command.to_owned(),
                },
            }
        })
        .filter(|line| line.weight != 0)
        .collect();
    processes::lines(&lines)
}

/// What is said at the end.
pub(super) fn summary(args: &RecordArgs, recording: &Recording) -> String {
    let mut text = String::new();
    let counters = &recording.counters;
    if recording.mode.has_waits() {
        text.push_str(&waits::lines(recording, args.gil));
    }
    text.push_str(&gil::lines(recording));
    let total = recording.collector.profile.total();
    let why = match recording.stopped {
        Stopped::Duration | Stopped::Enough | Stopped::NotYet => "",
        Stopped::TargetExited => ", until it ended",
        Stopped::Interrupted => ", until Control-C",
        Stopped::Terminated => ", until SIGTERM",
    };
    // Writing to a string does not fail.
    let _infallible = writeln!(
        text,
        "Recorded {} for {:.1} s{why}.",
        describe(recording),
        recording.elapsed.as_secs_f64()
    );
    text.push_str(&processes(recording));
    let lost = counters.get(Counter::SamplesLost) + counters.get(Counter::OffCpuLost);
    let truncated = counters.get(Counter::Truncated);
    if recording.mode.has_waits() {
        let _infallible = writeln!(
            text,
            "Stretches: {}, {} in all. Lost: {lost}. Truncated: {truncated}.",
            counters.get(Counter::OffCpuStretches),
            seconds(total),
        );
        text.push_str(&times::lines(recording, args.keeps_threads()));
        let short = counters.get(Counter::OffCpuShort);
        if short != 0 {
            let _infallible = writeln!(
                text,
                "Left out as too short: {short}, {} in all.",
                seconds(counters.get(Counter::OffCpuShortNs)),
            );
        }
    } else {
        let _infallible = writeln!(
            text,
            "Samples: {total}{}. Lost: {lost}. Truncated: {truncated}.",
            match args.gil {
                true => format!(
                    ", {} with the GIL",
                    recording.collector.accounts.samples_with_gil()
                ),
                false => String::new(),
            }
        );
    }
    text.push_str(&stolen(recording.stolen));
    for (class, heading) in [(Class::Lost, "Missing"), (Class::Degraded, "Incomplete")] {
        for (counter, value) in counters.of_class(class) {
            let _infallible = writeln!(
                text,
                "{heading}: {} = {value}. {}",
                counter.name(),
                counter.meaning()
            );
        }
    }
    let no_python = counters.get(Counter::NoThreadState);
    if no_python != 0 {
        let name = Counter::NoThreadState.name();
        let _infallible = writeln!(text, "Of threads without Python: {name} = {no_python}.");
    }
    if total == 0 {
        let reason = if recording.mode.has_waits() {
            "no thread of it waited, or none for as long as --off-cpu-min"
        } else {
            "it did not use the CPU for as long as a sampling period. To see where it waits: \
             --off-cpu"
        };
        let _infallible = writeln!(text, "Nothing was recorded: {reason}.");
    }
    if let Some(tables) = &recording.tables {
        let ready = tables.ready_in.map_or_else(String::new, |time| {
            format!(", ready in {:.0} ms", time.as_secs_f64() * 1e3)
        });
        let _infallible = writeln!(
            text,
            "Unwind tables: {} files, {:.1} MB, {} rules{ready}.",
            tables.files,
            tables.bytes as f64 / 1e6,
            tables.rules,
        );
    }
    for note in &recording.notes {
        let _infallible = writeln!(text, "Note: {note}.");
    }
    if let Some(error) = recording
        .single
        .as_ref()
        .and_then(|single| single.not_ready.as_ref())
    {
        let _infallible = writeln!(text, "No Python names: {error}.");
    }
    text
}

/// What a hypervisor took, where it is enough to be seen in shares.
fn stolen(stolen: Stolen) -> String {
    if stolen.share < 0.01 {
        return String::new();
    }
    format!(
        "The hypervisor took {:.1} % of the CPUs, {} in all: who was on one then is shown to run, \
         and did not.\n",
        stolen.share * 100.0,
        seconds(stolen.time.as_nanos() as u64)
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_a_hypervisor_took_is_told_where_it_matters() {
        let told = |millis, share| {
            stolen(Stolen {
                time: Duration::from_millis(millis),
                share,
            })
        };
        assert_eq!(told(10, 0.0099), "");
        assert_eq!(
            told(197, 0.041),
            "The hypervisor took 4.1 % of the CPUs, 0.20 s in all: who was on one then is shown to \
             run, and did not.\n"
        );
    }
}
