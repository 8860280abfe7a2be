//! `pyscry record`: checks, records, writes, and says what came of it.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::CommandFactory;
use clap::error::ErrorKind;
use indicatif::{ProgressBar, ProgressStyle};

use super::args::{Args, Format, NativeArg, RecordArgs};
use super::choice::{self, ChoiceError};
use super::default_path::default_path;
use super::say;
use super::summary::{describe, summary};
use crate::bpf::LoadError;
use crate::bpf::object::IS_STALE;
use crate::output::file::OutputFile;
use crate::output::flamegraph::{self, Subject};
use crate::output::{folded, text::one_line};
use crate::privilege;
use crate::record::options::{Sampling, Waits};
use crate::record::processes::Processes;
use crate::record::recording::Progress;
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
    let options = match options(args) {
        Ok(options) => options,
        Err(error) => return Ok(usage(error)),
    };
    if IS_STALE {
        say::message("pyscry: the embedded BPF object is older than its sources: cargo xtask ebpf");
    }
    check_privileges()?;
    let path = args
        .output
        .clone()
        .unwrap_or_else(|| default_path(&options.target, args.format.extension()));
    let mut file = OutputFile::open(&path)?;
    let bar = Bar::new(args);
    let choice = options.target.clone();
    let result = record(
        options,
        |processes| bar.announce(args, &choice, processes),
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

fn options(args: &RecordArgs) -> Result<RecordOptions, ChoiceError> {
    let target = choice::target(args)?;
    let groups = choice::groups(args, &target)?;
    let sampling = Sampling {
        rate: args.rate,
        per_thread_events: args.per_thread_events,
    };
    let mode = match (args.wall, args.off_cpu) {
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
        duration: args.duration,
        groups,
        native: match args.native {
            None => NativeFrames::None,
            Some(NativeArg::Folded) => NativeFrames::Folded,
            Some(NativeArg::All) => NativeFrames::All,
        },
        kernel: (args.kernel || args.native.is_some()) && !args.no_kernel,
        tell: say::message,
    })
}

/// Says what options make no sense together, as the parser says what makes none by itself.
fn usage(error: ChoiceError) -> ExitCode {
    let error = Args::command().error(ErrorKind::ArgumentConflict, error);
    // Nobody hears it where nothing can be written.
    let _unheard = error.print();
    ExitCode::from(USAGE)
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
        let how = match (args.wall, args.off_cpu) {
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

fn write(args: &RecordArgs, recording: &Recording, file: &mut OutputFile) -> anyhow::Result<()> {
    let collector = &recording.collector;
    let show = Show {
        only_gil: args.gil,
        wakers: args.wakers,
    };
    let lines = collector.profile.folded(
        &collector.stacks,
        show,
        |key| recording.root(key),
        |tid| recording.names.get(tid).map(str::to_owned),
    );
    match args.format {
        Format::Raw => file.write(folded::to_text(&lines).as_bytes())?,
        Format::Flamegraph => {
            let title = title();
            let subtitle = subtitle(args, recording);
            let subject = match recording.mode {
                Mode::OnCpu(_) => Subject::OnCpu,
                Mode::OffCpu => Subject::OffCpu,
                Mode::Wall(_) => Subject::Wall,
            };
            let svg = flamegraph::draw(&lines, &title, &subtitle, subject)?;
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

fn subtitle(args: &RecordArgs, recording: &Recording) -> String {
    let mut how = match (args.wall, args.off_cpu) {
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
