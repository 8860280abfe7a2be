//! `pyscry record`: checks, records, writes, and says what came of it.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::CommandFactory;
use clap::error::ErrorKind;
use indicatif::{ProgressBar, ProgressStyle};
use profiler_common::counter::Counter;

use super::args::{Args, Format, NativeArg, RecordArgs};
use super::choice::{self, ChoiceError};
use super::default_path::default_path;
use super::outputs::{self, Output, Picture, Sums};
use super::say;
use super::summary::{describe, summary};
use crate::bpf::LoadError;
use crate::bpf::object::IS_STALE;
use crate::journal::item::End;
use crate::journal::view::{Choice, view};
use crate::output::flamegraph::Subject;
use crate::output::text::one_line;
use crate::output::view::FrameKind;
use crate::output::weights::Weights;
use crate::privilege;
use crate::python::inspect::InspectError;
use crate::python::locate::LocateError;
use crate::record::launch::Terminal;
use crate::record::log::LogFile;
use crate::record::options::{Sampling, Waits};
use crate::record::processes::Processes;
use crate::record::recording::Progress;
use crate::record::watch::{Go, Look, Watcher};
use crate::record::{
    Mode, NativeFrames, RecordError, RecordOptions, Recording, Show, TargetChoice, record,
};

/// Exit code of options that make no sense, as the parser has it.
const USAGE: u8 = 2;

/// Runs the subcommand. The exit code is that of a launched program that ended by itself.
///
/// # Errors
/// One line that says what is wrong and, where something helps, what.
pub fn main(args: &RecordArgs) -> anyhow::Result<ExitCode> {
    let mut options = match options(args) {
        Ok(options) => options,
        Err(error) => return Ok(usage(&error)),
    };
    let named = |extension: &str| default_path(&options.target, extension);
    let plan = match outputs::plan(&args.output.formats, &args.output.files, named) {
        Ok(plan) => plan,
        Err(error) => return Ok(usage(&error)),
    };
    if IS_STALE {
        say::message("pyscry: the embedded BPF object is older than its sources: cargo xtask ebpf");
    }
    check_privileges()?;
    let mut outputs = outputs::open(plan)?;
    options.log = log_file(&mut outputs)?;
    let terminal = match args.capture {
        true => Terminal::Ours(tempfile::tempfile().context("cannot keep what it prints")?),
        false => Terminal::Shared,
    };
    let choice = options.target.clone();
    let bar = Bar::new(args);
    let announce = |processes: &Processes| bar.announce(args, &choice, processes);
    let mut writing = Writing {
        args,
        outputs,
        log: options.log.as_ref().map(|log| Arc::clone(&log.file)),
        bar: &bar,
    };
    let result = record(options, &terminal, announce, &mut writing);
    let Writing { mut outputs, .. } = writing;
    bar.finish();
    let mut recording = result.map_err(explain)?;
    let written = finish(args, &mut recording, &mut outputs);
    // Also when nothing could be written: the program must not be left behind.
    let exit_code = recording.end_launched();
    written?;
    // Codes are 0 to 255.
    let code = exit_code.map_or(0, |code| code as u8);
    if code != 0
        && let Terminal::Ours(output) = &terminal
    {
        say::message(&captured(output));
    }
    Ok(ExitCode::from(code))
}

/// The file that everything is written to while it is found, where a format needs it.
fn log_file(outputs: &mut [Output]) -> anyhow::Result<Option<LogFile>> {
    if !outputs.iter().any(|output| output.format.has_times()) {
        return Ok(None);
    }
    let mut file = None;
    for output in outputs.iter_mut() {
        if output.format == Format::Pyscry && file.is_none() {
            file = output.file.stream()?;
        }
    }
    let file = match file {
        Some(file) => file,
        None => tempfile::tempfile().context("cannot keep what is recorded")?,
    };
    Ok(Some(LogFile {
        file: Arc::new(file),
        title: title(),
    }))
}

/// What a program printed that ended with an error.
fn captured(output: &File) -> String {
    let again = File::open(format!("/proc/self/fd/{}", output.as_raw_fd()));
    let mut text = Vec::new();
    // What cannot be read is not shown; there is nothing to be done about it.
    let _unread = again.and_then(|mut file| file.read_to_end(&mut text));
    String::from_utf8_lossy(&text).into_owned()
}

/// Looks on, and writes what is there when somebody asks.
struct Writing<'a> {
    args: &'a RecordArgs,
    outputs: Vec<Output>,
    log: Option<Arc<File>>,
    bar: &'a Bar,
}

impl Watcher for Writing<'_> {
    fn tick(&mut self, look: Look<'_>) -> Go {
        self.bar.update(look.progress());
        Go::On
    }

    fn asked(&mut self, so_far: &mut Recording) {
        let written = write(self.args, so_far, &mut self.outputs, self.log.as_deref());
        match written {
            Ok(()) => say::message(&format!(
                "Written after {:.1} s, as SIGUSR1 asks for:\n{}",
                so_far.elapsed.as_secs_f64(),
                outputs::said(&self.outputs)
            )),
            Err(error) => say::message(&format!("pyscry: {error}")),
        }
    }
}

fn options(args: &RecordArgs) -> Result<RecordOptions, ChoiceError> {
    let target = choice::target(&args.which, &args.program)?;
    let groups = choice::groups(args, &target)?;
    let sampling = Sampling {
        rate: args.rate,
        per_thread_events: args.per_thread_events,
    };
    let mode = match (args.wall || args.idle, args.off_cpu) {
        (true, _) => Mode::Wall(sampling),
        (false, true) => Mode::OffCpu,
        (false, false) => Mode::OnCpu(sampling),
    };
    Ok(RecordOptions {
        target,
        mode,
        waits: Waits {
            min: args.off_cpu_min.unwrap_or_default(),
            wakers: args.wakers,
        },
        only_gil: args.gil,
        duration: args.duration(),
        groups,
        native: match args.native {
            None => NativeFrames::None,
            Some(NativeArg::Folded) => NativeFrames::Folded,
            Some(NativeArg::All) => NativeFrames::All,
        },
        kernel: (args.kernel || args.native.is_some()) && !args.no_kernel,
        log: None,
        tell: say::message,
    })
}

/// Says what options make no sense together, as the parser says what makes none by itself.
pub(super) fn usage(error: &dyn std::error::Error) -> ExitCode {
    let error = Args::command().error(ErrorKind::ArgumentConflict, error);
    // Nobody hears it where nothing can be written.
    let _unheard = error.print();
    ExitCode::from(USAGE)
}

pub(super) fn check_privileges() -> anyhow::Result<()> {
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
pub(super) fn explain(error: RecordError) -> anyhow::Error {
    match &error {
        RecordError::Load(LoadError::NotPermitted) => anyhow::anyhow!(
            "{error}. Run:\n  {}\nIf that is what you did: pyscry doctor",
            privilege::with_sudo()
        ),
        RecordError::NoProcess(_) => {
            anyhow::anyhow!("{error}. These are Pythons:\n  pgrep -af python")
        }
        RecordError::Inspect(InspectError::Locate(LocateError::NotPython { .. })) => {
            anyhow::anyhow!(
                "{error}. If it starts one, add --subprocesses; to see its native code, add --native"
            )
        }
        RecordError::Load(_) => anyhow::anyhow!("{error}\nSee also: pyscry doctor"),
        _ => error.into(),
    }
}

/// A bar on a terminal, a line elsewhere.
struct Bar {
    bar: Option<ProgressBar>,
    duration: Option<Duration>,
}

impl Bar {
    fn new(args: &RecordArgs) -> Self {
        let shown = std::io::stderr().is_terminal() && !args.hideprogress;
        let bar = shown.then(|| {
            let (length, template) = match args.duration() {
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
            duration: args.duration(),
        }
    }

    fn announce(&self, args: &RecordArgs, choice: &TargetChoice, processes: &Processes) {
        let pythons = processes
            .live()
            .filter_map(|process| process.target.python());
        let what = match processes.live().next() {
            _ if choice.can_be_many() => {
                let count = pythons.count();
                let processes = if count == 1 { "Python" } else { "Pythons" };
                format!("{choice} ({count} {processes} now)")
            }
            Some(only) => match only.target.python() {
                Some(python) => format!("process {} (Python {})", python.pid, python.version),
                None => format!("process {}", only.target.pid),
            },
            None => choice.to_string(),
        };
        let how = match (args.wall || args.idle, args.off_cpu) {
            (true, _) => format!("all time, {} samples a second of it on the CPUs", args.rate),
            (false, true) => "time off the CPUs".to_owned(),
            (false, false) => format!("{} samples a second of CPU time", args.rate),
        };
        let long = match self.duration {
            Some(duration) => format!("for {} s", duration.as_secs_f64()),
            None if choice.is_host_wide() => "until Control-C".to_owned(),
            None if choice.can_be_many() => "until they end or Control-C".to_owned(),
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

/// Writes all files, and says what came of it.
fn finish(
    args: &RecordArgs,
    recording: &mut Recording,
    outputs: &mut [Output],
) -> anyhow::Result<()> {
    let summary = summary(args, recording);
    let log = match recording.collector.log.take() {
        Some(log) => {
            let end = End {
                duration_ns: recording.elapsed.as_nanos() as u64,
                subtitle: subtitle(args, recording),
                summary: summary.clone(),
                counters: counters(recording),
            };
            Some(log.finish(end).context("cannot write the recording"))
        }
        None => None,
    };
    // Whatever of the files cannot be written, the others are.
    let (log, logged) = match log {
        Some(Ok((file, _))) => (Some(file), Ok(())),
        Some(Err(error)) => (None, Err(error)),
        None => (None, Ok(())),
    };
    let written = write(args, recording, outputs, log.as_ref());
    logged?;
    written?;
    say::message(&format!("{summary}{}", outputs::said(outputs)));
    Ok(())
}

fn counters(recording: &Recording) -> Vec<(String, u64)> {
    let all = Counter::ALL.iter();
    let all = all.map(|counter| (counter.name().to_owned(), recording.counters.get(*counter)));
    all.filter(|(_, value)| *value != 0).collect()
}

/// Writes all files: sums from the profile, the order of time from the recording file.
fn write(
    args: &RecordArgs,
    recording: &Recording,
    outputs: &mut [Output],
    log: Option<&File>,
) -> anyhow::Result<()> {
    let collector = &recording.collector;
    let naming = args.output.naming.naming();
    let show = Show {
        only_gil: args.gil,
        wakers: args.wakers,
        naming,
    };
    let subtitle = subtitle(args, recording);
    let picture = Picture {
        title: &title(),
        subtitle: &subtitle,
        subject: subject(recording.mode),
    };
    let sums = outputs::write_sums(outputs, &picture, || {
        let lines = collector.profile.folded(
            &collector.stacks,
            show,
            |key| recording.root(key),
            |tid| recording.names.get(tid).map(str::to_owned),
        );
        let mut kinds = collector.stacks.kinds(naming);
        for (key, _) in collector.profile.weights() {
            let roots = recording.root(key).frames.into_iter();
            kinds.extend(roots.map(|frame| (frame, FrameKind::Marker)));
        }
        Sums {
            lines: weights(args).show(lines),
            kinds,
        }
    });
    let Some(log) = log else {
        return Ok(sums?);
    };
    let times = outputs::write_times(outputs, || {
        let choice = Choice {
            only_gil: args.gil,
            wakers: args.wakers,
            naming,
            roots: Vec::new(),
        };
        let mut view = view(&outputs::reread(log)?, &choice);
        view.about.subtitle.clone_from(&subtitle);
        view.about.duration_ns = recording.elapsed.as_nanos() as u64;
        Ok(view)
    });
    Ok(sums.and(times).and(outputs::copy_to_others(log, outputs))?)
}

/// In what sums are shown.
fn weights(args: &RecordArgs) -> Weights {
    match (args.wall || args.off_cpu, args.idle) {
        (true, _) => Weights::Microseconds,
        (false, true) => Weights::AsSamples(args.rate),
        (false, false) => Weights::Samples,
    }
}

fn subject(mode: Mode) -> Subject {
    match mode {
        Mode::OnCpu(_) => Subject::OnCpu,
        Mode::OffCpu => Subject::OffCpu,
        Mode::Wall(_) => Subject::Wall,
    }
}

/// Our own command line, without the directory that we were started from.
fn title() -> String {
    let args = std::env::args_os()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned());
    let words: Vec<_> = std::iter::once("pyscry".to_owned()).chain(args).collect();
    one_line(&words.join(" "))
}

fn subtitle(args: &RecordArgs, recording: &Recording) -> String {
    let mut how = match (args.wall || args.idle, args.off_cpu) {
        (true, _) => format!("all time, {} Hz on the CPUs", args.rate),
        (false, true) => "time off the CPUs".to_owned(),
        (false, false) => format!("CPU time, {} Hz", args.rate),
    };
    if args.gil {
        how.push_str(", with the GIL only");
    }
    format!(
        "{}, {:.1} s, {how}",
        describe(recording),
        recording.elapsed.as_secs_f64()
    )
}
