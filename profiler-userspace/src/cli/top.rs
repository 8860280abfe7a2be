//! `pyscry top`.

use std::fs::File;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use anyhow::{Context, anyhow, bail};

use super::args::TopArgs;
use super::choice::{self, ChoiceError};
use super::default_path::default_path;
use super::record::{check_privileges, explain, usage};
use super::say;
use crate::output::file::OutputFile;
use crate::record::launch::Terminal;
use crate::record::options::{Sampling, Waits};
use crate::record::recording::Watched;
use crate::record::{
    Group, Mode, NativeFrames, RecordError, RecordOptions, TargetChoice, record_for,
};
use crate::top::gather::{Control, Gatherer};
use crate::top::model::{LEAST_DELAY, Setup};
use crate::top::rows::Counted;
use crate::top::view;

/// Runs the subcommand. The exit code is that of a launched program that ended by itself.
///
/// # Errors
/// One line that says what is wrong and, where something helps, what.
pub fn main(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let options = match options(args) {
        Ok(options) => options,
        Err(error) => return Ok(usage(&error)),
    };
    if !std::io::stdout().is_terminal() {
        bail!(
            "top draws on a terminal, and the standard output is none. To write a file instead:\
             \n  {}",
            instead(args)
        );
    }
    check_privileges()?;
    let choice = options.target.clone();
    let setup = setup(args, &options);
    let output = ProgramOutput::open(&choice)?;
    let control = Arc::new(Control::new(setup.delay));
    let (to, readings) = mpsc::channel();
    let gatherer = Gatherer::new(to, Arc::clone(&control));
    let recording = record_beside(options, output.terminal()?, gatherer)?;
    let shown = view::show(setup, &readings, &control, |extension| {
        default_path(&choice, extension)
    });
    control.stop();
    // Whoever waits to be heard is not, and ends.
    drop(readings);
    let recorded = recording.join();
    output.tell();
    let watched = recorded
        .map_err(|_| anyhow!("the recording failed: see above"))?
        .map_err(explain)?;
    for path in shown? {
        say::message(&format!("Saved {}.", path.display()));
    }
    Ok(match watched.exit_code {
        // Codes are 0 to 255.
        Some(code) => ExitCode::from(code as u8),
        None => ExitCode::SUCCESS,
    })
}

/// Records on a thread of its own, which may have another precedence than the view.
fn record_beside(
    options: RecordOptions,
    terminal: Terminal,
    mut gatherer: Gatherer,
) -> anyhow::Result<JoinHandle<Result<Watched, RecordError>>> {
    thread::Builder::new()
        .name("recording".to_owned())
        .spawn(move || record_for(options, &terminal, &mut gatherer))
        .context("cannot start a thread")
}

fn options(args: &TopArgs) -> Result<RecordOptions, ChoiceError> {
    let target = choice::target(&args.which, &args.program)?;
    let sampling = Sampling {
        rate: args.rate,
        per_thread_events: false,
    };
    // What that costs those that were asked for is little; of a whole host it is said.
    let mode = match args.idle || !target.is_host_wide() {
        true => Mode::Wall(sampling),
        false => Mode::OnCpu(sampling),
    };
    Ok(RecordOptions {
        target,
        mode,
        waits: Waits::default(),
        // All is recorded, and shown when a key says so.
        only_gil: false,
        duration: None,
        groups: vec![Group::Process, Group::Thread],
        native: match args.native {
            true => NativeFrames::Folded,
            false => NativeFrames::None,
        },
        kernel: false,
        log: None,
        // The terminal is the view's.
        tell: |_| (),
    })
}

fn setup(args: &TopArgs, options: &RecordOptions) -> Setup {
    Setup {
        subject: options.target.to_string(),
        many: options.target.can_be_many(),
        counted: match args.idle {
            true => Counted::Both,
            false => Counted::OnCpu,
        },
        has_waits: options.mode.has_waits(),
        only_gil: args.gil,
        full_paths: args.full_filenames,
        delay: args.delay.max(LEAST_DELAY),
    }
}

/// What somebody without a terminal runs: ten seconds of the same.
fn instead(args: &TopArgs) -> String {
    let mut words = vec!["pyscry record".to_owned()];
    for pid in &args.which.pid {
        words.push(format!("--pid {pid}"));
    }
    if args.which.all {
        words.push("--all".to_owned());
    }
    if args.which.subprocesses {
        words.push("--subprocesses".to_owned());
    }
    if args.idle {
        words.push("--wall".to_owned());
    }
    if args.program.is_empty() {
        words.push("--duration 10".to_owned());
    } else {
        words.push("--".to_owned());
        let program = args.program.iter();
        words.extend(program.map(|word| word.to_string_lossy().into_owned()));
    }
    words.join(" ")
}

/// Where a launched program writes: the terminal is the view's.
struct ProgramOutput(Option<(File, PathBuf)>);

impl ProgramOutput {
    fn open(choice: &TargetChoice) -> anyhow::Result<Self> {
        let TargetChoice::Launch(..) = choice else {
            return Ok(Self(None));
        };
        let path = default_path(choice, "out");
        let mut file = OutputFile::open(&path)?;
        // It is there from now on, for the program to write to.
        file.write(b"")?;
        let file = File::options().append(true).open(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(Some((file, path))))
    }

    fn terminal(&self) -> anyhow::Result<Terminal> {
        Ok(match &self.0 {
            Some((file, _)) => Terminal::Ours(file.try_clone()?),
            None => Terminal::Shared,
        })
    }

    /// Says where it is; when there is none, there is no file.
    fn tell(self) {
        let Some((file, path)) = self.0 else { return };
        match file.metadata().map(|metadata| metadata.len()) {
            Ok(0) => {
                let _gone_already = std::fs::remove_file(&path);
            }
            _ => say::message(&format!("The program's output is in {}.", path.display())),
        }
    }
}
