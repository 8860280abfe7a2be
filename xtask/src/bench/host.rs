//! What it costs to record a whole host with a hundred busy interpreters and a thousand idle ones.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

use super::Bench;
use super::bpf_stats::{Enabled, Reading};
use super::kernel;
use super::numbers::{Samples, slowdown, slowdowns};
use super::recorder::{Recorder, Recording};
use super::table::Row;

/// Interpreters that work in turns, and those that sleep.
const BUSY: usize = 100;
const IDLE: usize = 1000;
const ARGS: [&str; 2] = ["--rate", "99"];
const IDLES: &str = "import time; time.sleep(100000)";
/// What the start and the end of a recording may disturb.
const SETTLE: Duration = Duration::from_millis(500);

/// All of them; they end when this is dropped.
struct Crowd {
    members: Vec<Child>,
    counters: NamedTempFile,
}

impl Crowd {
    fn start(bench: &Bench) -> Result<Self> {
        let counters = NamedTempFile::new().context("cannot make a temporary file")?;
        counters.as_file().set_len(BUSY as u64 * 8)?;
        let mut crowd = Self {
            members: Vec::new(),
            counters,
        };
        for _ in 0..IDLE {
            let mut command = Command::new(&bench.python.exe);
            command.args(["-S", "-E", "-c", IDLES]).stdin(Stdio::null());
            crowd.members.push(ending_with_us(&mut command).spawn()?);
        }
        for own in 0..BUSY {
            let mut command = bench.python.program("bench_host.py");
            command.arg(crowd.counters.path()).arg(own.to_string());
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = ending_with_us(&mut command).spawn()?;
            let stdout = child.stdout.take().context("its output")?;
            crowd.members.push(child);
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line)?;
            ensure!(line == "ready\n", "a busy program is not ready: {line:?}");
        }
        // The idle ones have started as well when there is nothing left to read for them.
        thread::sleep(SETTLE);
        Ok(crowd)
    }

    /// What all of them did over the time given.
    fn stretch(&self, time: Duration) -> Result<Stretch> {
        let (begin, before, had) = (Instant::now(), self.count()?, self.cpu()?);
        thread::sleep(time);
        let (end, after, has) = (Instant::now(), self.count()?, self.cpu()?);
        ensure!(after != before, "nobody did any work");
        let units = (after - before) as f64;
        Ok(Stretch {
            speed: units / (end - begin).as_secs_f64(),
            cpu: has.saturating_sub(had) as f64 / units,
        })
    }

    /// CPU time of the busy ones, nanoseconds.
    fn cpu(&self) -> Result<u64> {
        let busy = self.members.iter().skip(IDLE);
        busy.map(|child| Ok(kernel::cpu_times(child.id())?.values().sum::<u64>()))
            .sum()
    }

    fn count(&self) -> Result<u64> {
        let mut bytes = [0; BUSY * 8];
        let file: &File = self.counters.as_file();
        file.read_exact_at(&mut bytes, 0)?;
        let counts = bytes
            .chunks_exact(8)
            .filter_map(|part| part.try_into().ok());
        Ok(counts.map(u64::from_ne_bytes).sum())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.members {
            let _gone = child.kill();
        }
        for child in &mut self.members {
            let _reaped = child.wait();
        }
    }
}

/// A time in which they worked.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    /// Units of work per second.
    speed: f64,
    /// Nanoseconds of CPU time of a unit.
    cpu: f64,
}

/// Says what a recording lacks. Its memory is in no row of the others: those record one process.
fn seen(recording: &Recording) {
    for line in &recording.said {
        if line.starts_with("Missing:") || line.starts_with("Incomplete:") {
            eprintln!("    {line}");
        }
    }
}

fn ending_with_us(command: &mut Command) -> &mut Command {
    let end = || {
        // SAFETY: scalar arguments.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        Ok(())
    };
    // SAFETY: only a system call, which may be made between fork and exec.
    unsafe { command.pre_exec(end) }
}

/// Percent of the machine that the profiler uses, in userspace and in its programs, by the kernel's
/// statistics of them; and what it said at the beginning.
struct Own {
    userspace: Samples,
    programs: Samples,
}

fn own(bench: &Bench) -> Result<Own> {
    let _enabled = Enabled::new()?;
    let cpus = thread::available_parallelism()?.get() as f64;
    let (mut userspace, mut programs) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let recorder = Recorder::start_all(&bench.pyscry, &ARGS)?;
        thread::sleep(SETTLE);
        let used = || -> Result<u64> { Ok(kernel::cpu_times(recorder.pid())?.values().sum()) };
        let (from, before, ran) = (Instant::now(), used()?, Reading::of(recorder.pid())?);
        thread::sleep(bench.stretch * 2);
        let all = from.elapsed().as_nanos() as f64 * cpus / 100.0;
        userspace.push((used()? - before) as f64 / all);
        programs.push(Reading::of(recorder.pid())?.total_ns(&ran) as f64 / all);
        seen(&recorder.stop()?);
    }
    Ok(Own {
        userspace: Samples::new(userspace),
        programs: Samples::new(programs),
    })
}

/// Stretches with a recording, each held against those without around it.
struct Paired {
    percent: Samples,
    /// Percent more CPU time for the same work: what else the machine does counts less in it.
    cpu: Samples,
    free: Samples,
    announced: Samples,
    /// Megabytes.
    peak: f64,
    /// What the first line said.
    said: String,
}

fn paired(bench: &Bench, crowd: &Crowd) -> Result<Paired> {
    let time = bench.stretch * 4;
    let [mut percent, mut cpu, mut free, mut announced] = [const { Vec::new() }; 4];
    let (mut peak, mut said) = (0.0_f64, String::new());
    let mut without = crowd.stretch(time)?;
    for _ in 0..bench.rounds {
        let recorder = Recorder::start_all(&bench.pyscry, &ARGS)?;
        thread::sleep(SETTLE);
        let recorded = crowd.stretch(time)?;
        let recording = recorder.stop()?;
        seen(&recording);
        announced.push(recording.announced.as_secs_f64() * 1e3);
        peak = peak.max(recording.peak as f64 / 1e6);
        let mut lines = recording.said.into_iter();
        said = lines
            .find(|line| line.contains("Recording "))
            .unwrap_or(said);
        thread::sleep(SETTLE);
        let again = crowd.stretch(time)?;
        let speed = f64::midpoint(without.speed, again.speed);
        percent.push((speed / recorded.speed - 1.0) * 100.0);
        let each = f64::midpoint(without.cpu, again.cpu);
        cpu.push((recorded.cpu / each - 1.0) * 100.0);
        free.push(again.speed);
        without = again;
    }
    Ok(Paired {
        percent: Samples::new(percent),
        cpu: Samples::new(cpu),
        free: Samples::new(free),
        announced: Samples::new(announced),
        peak,
        said,
    })
}

pub(super) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let crowd = Crowd::start(bench)?;
    let of = format!("{BUSY} busy and {IDLE} idle interpreters, host-wide at 99 Hz");
    let paired = paired(bench, &crowd)?;
    let own = own(bench)?;
    let machine = own.userspace.median() + own.programs.median();
    let row = |what: &str, goal: f64, unit: &str, value: f64, pyscry: String, note: String| Row {
        what: format!("{what}, {of}"),
        goal: format!("at most {goal} {unit}"),
        pyscry,
        py_spy: "cannot".to_owned(),
        met: Some(value <= goal),
        note,
    };
    Ok(vec![
        row(
            "own CPU",
            1.0,
            "% of the machine",
            machine,
            format!("{machine:.2} %"),
            format!(
                "{:.2} % in userspace, {:.2} % in the kernel by its statistics of programs; medians \
                 of {}",
                own.userspace.median(),
                own.programs.median(),
                bench.rounds
            ),
        ),
        row(
            "slowdown",
            0.5,
            "%",
            paired.percent.median(),
            slowdown(paired.percent.median()),
            format!(
                "median of {} pairs, {}; half of them lie within {:.2} points; {:.2} % more CPU time of \
                 theirs for a unit of work, {:.0} units a second without",
                bench.rounds,
                slowdowns(&paired.percent),
                paired.percent.middle_half(),
                paired.cpu.median(),
                paired.free.median()
            ),
        ),
        row(
            "time until all are known",
            2000.0,
            "ms",
            paired.announced.median(),
            format!("{:.0} ms", paired.announced.median()),
            format!(
                "{:.0} to {:.0} ms; it said: {}",
                paired.announced.min(),
                paired.announced.max(),
                paired.said
            ),
        ),
        row(
            "peak memory",
            150.0,
            "MB",
            paired.peak,
            format!("{:.1} MB", paired.peak),
            "of its process".to_owned(),
        ),
    ])
}
