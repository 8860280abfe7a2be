//! `pyscry record`: checks, records, writes, and says what came of it.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use profiler_common::counter::{Class, Counter};

use super::args::{Format, NativeArg, RecordArgs};
use super::say;
use crate::bpf::LoadError;
use crate::bpf::object::IS_STALE;
use crate::output::file::OutputFile;
use crate::output::{flamegraph, folded, text::one_line};
use crate::privilege;
use crate::record::session::Progress;
use crate::record::target::Target;
use crate::record::{
    Mode, NativeFrames, RecordError, RecordOptions, Recording, Stopped, TargetChoice, record,
};

/// Runs the subcommand. The exit code is that of a launched program that ended by itself.
///
/// # Errors
/// One line that says what is wrong and, where something helps, what.
pub fn main(args: &RecordArgs) -> anyhow::Result<ExitCode> {
    let options = options(args)?;
    if IS_STALE {
        say::message("pyscry: the embedded BPF object is older than its sources: cargo xtask ebpf");
    }
    check_privileges()?;
    let path = args.output.clone().unwrap_or_else(|| default_path(args));
    let mut file = OutputFile::open(&path)?;
    let bar = Bar::new(args);
    let result = record(
        options,
        |target| bar.announce(args, target),
        |progress| bar.update(progress),
    );
    bar.finish();
    let mut recording = result.map_err(explain)?;
    let written = write(args, &recording, &mut file);
    if written.is_ok() {
        say::message(&summary(args, &recording, file.path()));
    }
    // Also when nothing could be written: the program must not be left behind.
    let exit_code = recording.end_launched();
    written?;
    Ok(match exit_code {
        // Codes are 0 to 255.
        Some(code) => ExitCode::from(code as u8),
        None => ExitCode::SUCCESS,
    })
}

fn options(args: &RecordArgs) -> anyhow::Result<RecordOptions> {
    let target = match (args.pid, args.program.is_empty()) {
        (Some(pid), _) => TargetChoice::Pid(pid),
        (None, false) => TargetChoice::Launch(args.program.clone()),
        (None, true) => bail!("say what to record: --pid PID, or -- PROGRAM [ARGUMENTS]"),
    };
    let mode = if args.off_cpu {
        Mode::OffCpu {
            min: args.off_cpu_min.unwrap_or_default(),
        }
    } else {
        Mode::OnCpu {
            rate: args.rate,
            per_thread_events: args.per_thread_events,
        }
    };
    Ok(RecordOptions {
        target,
        mode,
        duration: args.duration,
        threads: args.threads,
        native: match args.native {
            None => NativeFrames::None,
            Some(NativeArg::Folded) => NativeFrames::Folded,
            Some(NativeArg::All) => NativeFrames::All,
        },
        kernel: (args.kernel || args.native.is_some()) && !args.no_kernel,
        tell: say::message,
    })
}

fn check_privileges() -> anyhow::Result<()> {
    if !privilege::can_trace() {
        bail!(
            "recording needs root (or CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE). Run:\n  {}",
            privilege::with_sudo()
        );
    }
    if !privilege::in_initial_pid_namespace() {
        bail!(
            "this is a container with process ids of its own, which the kernel's programs do \
               not know: run pyscry on the host, or see pyscry doctor"
        );
    }
    Ok(())
}

/// Adds what helps to an error.
fn explain(error: RecordError) -> anyhow::Error {
    match &error {
        RecordError::Load(LoadError::NotPermitted) => anyhow::anyhow!(
            "{error}. Run:\n  {}\nIf that is what you did: pyscry doctor",
            privilege::with_sudo()
        ),
        RecordError::Load(_) => anyhow::anyhow!("{error}\nSee also: pyscry doctor"),
        _ => error.into(),
    }
}

/// `PROGRAM-or-PID-TIME.svg`, as py-spy names it.
fn default_path(args: &RecordArgs) -> PathBuf {
    let what = match (args.pid, args.program.first()) {
        (Some(pid), _) => pid.to_string(),
        (None, Some(program)) => Path::new(program).file_name().map_or_else(
            || "program".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        ),
        (None, None) => "pyscry".to_owned(),
    };
    let time = jiff::Zoned::now().strftime("%Y-%m-%dT%H-%M-%S%z");
    PathBuf::from(format!("{what}-{time}.{}", args.format.extension()))
}

/// A bar on a terminal, a line elsewhere.
struct Bar {
    bar: Option<ProgressBar>,
    duration: Option<Duration>,
}

impl Bar {
    fn new(args: &RecordArgs) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let (length, template) = match args.duration {
                Some(duration) => (duration.as_millis() as u64, "{prefix} [{bar:40}] {msg}"),
                None => (0, "{prefix} {spinner} {msg}"),
            };
            let bar = ProgressBar::new(length);
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Self {
            bar,
            duration: args.duration,
        }
    }

    fn announce(&self, args: &RecordArgs, target: &Target) {
        let what = match target.python() {
            Some(python) => format!("process {} (Python {})", target.pid, python.version),
            None => format!("process {}", target.pid),
        };
        let how = if args.off_cpu {
            "time off the CPUs".to_owned()
        } else {
            format!("{} samples a second of CPU time", args.rate)
        };
        let long = match self.duration {
            Some(duration) => format!("for {} s", duration.as_secs_f64()),
            None => "until it ends or Control-C".to_owned(),
        };
        match &self.bar {
            Some(bar) => bar.set_prefix(format!("Recording {what}")),
            None => say::message(&format!("Recording {what}: {how}, {long}.")),
        }
    }

    fn update(&self, progress: Progress) {
        let Some(bar) = &self.bar else { return };
        let elapsed = progress.elapsed.as_secs_f64();
        match self.duration {
            Some(duration) => {
                bar.set_position(progress.elapsed.min(duration).as_millis() as u64);
                let whole = duration.as_secs_f64();
                bar.set_message(format!(
                    "{elapsed:.1}/{whole:.1} s, {} events",
                    progress.events
                ));
            }
            None => {
                bar.tick();
                bar.set_message(format!("{elapsed:.1} s, {} events", progress.events));
            }
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn write(args: &RecordArgs, recording: &Recording, file: &mut OutputFile) -> anyhow::Result<()> {
    let collector = &recording.collector;
    let lines = collector
        .profile
        .folded(&collector.stacks, |tid| recording.names.get(tid));
    match args.format {
        Format::Raw => file.write(folded::to_text(&lines).as_bytes())?,
        Format::Flamegraph => {
            let title = title();
            let subtitle = subtitle(args, recording);
            let svg = flamegraph::draw(&lines, &title, &subtitle, collector.profile.unit())?;
            file.write(&svg)?;
        }
    }
    Ok(())
}

/// Our own command line, without the directory that we were started from.
fn title() -> String {
    let args = std::env::args_os()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned());
    let words: Vec<_> = std::iter::once("pyscry".to_owned()).chain(args).collect();
    one_line(&words.join(" "))
}

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

fn describe(recording: &Recording) -> String {
    let version = recording
        .version
        .map_or_else(String::new, |version| format!(", Python {version}"));
    format!(
        "process {} ({}){version}",
        recording.pid,
        short(&recording.command)
    )
}

fn subtitle(args: &RecordArgs, recording: &Recording) -> String {
    let how = if args.off_cpu {
        "time off the CPUs".to_owned()
    } else {
        format!("CPU time, {} Hz", args.rate)
    };
    format!(
        "{}, {:.1} s, {how}",
        describe(recording),
        recording.elapsed.as_secs_f64()
    )
}

fn milliseconds(ns: u64) -> String {
    format!("{:.3} ms", ns as f64 / 1e6)
}

/// What is said at the end.
fn summary(args: &RecordArgs, recording: &Recording, path: &Path) -> String {
    let mut text = String::new();
    let counters = &recording.counters;
    let total = recording.collector.profile.total();
    let why = match recording.stopped {
        Stopped::Duration => "",
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
    let lost = counters.get(Counter::SamplesLost) + counters.get(Counter::OffCpuLost);
    let truncated = counters.get(Counter::Truncated);
    if args.off_cpu {
        let _infallible = writeln!(
            text,
            "Stretches: {}, {} off-CPU in all. Lost: {lost}. Truncated: {truncated}.",
            counters.get(Counter::OffCpuStretches),
            milliseconds(total),
        );
        let short = counters.get(Counter::OffCpuShort);
        if short != 0 {
            let _infallible = writeln!(
                text,
                "Left out as too short: {short}, {} in all.",
                milliseconds(counters.get(Counter::OffCpuShortNs)),
            );
        }
    } else {
        let _infallible = writeln!(
            text,
            "Samples: {total}. Lost: {lost}. Truncated: {truncated}."
        );
    }
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
        let reason = if args.off_cpu {
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
    if let Some(error) = &recording.not_ready {
        let _infallible = writeln!(text, "No Python names: {error}.");
    }
    let what = match args.format {
        Format::Flamegraph => "Flame graph",
        Format::Raw => "Folded stacks",
    };
    let _infallible = writeln!(text, "{what}: {}", path.display());
    text
}
