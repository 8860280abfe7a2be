//! `cargo xtask soak`: a long recording of a host on which programs come and go, and what it takes:
//! no more of anything in its second half than in its first.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bench::python::Python;
use crate::run;

mod judge;
mod take;

use judge::Said;
use take::Take;

const PROGRAM: &str = "soak.py";
/// Short processes a second.
const A_SECOND: u32 = 20;
/// Long-lived processes.
const LONG: [&str; 8] = [
    "threads", "codes", "forks", "waits", "waits", "waits", "waits", "waits",
];
/// Between two looks at the recorder.
const LOOK: Duration = Duration::from_millis(500);
/// Neither beginning nor end of a recording takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Minutes of the recording.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// pyscry [default: built from the sources here].
    #[arg(long)]
    pyscry: Option<PathBuf>,
    /// Interpreter of the programs [default: python3].
    #[arg(long)]
    python: Option<PathBuf>,
}

pub(crate) fn main(args: &Args) -> Result<()> {
    let pyscry = run::build_then_as_root(args.pyscry.as_deref())?;
    let python = Python::find(args.python.as_deref())?;
    let time = Duration::try_from_secs_f64(args.minutes * 60.0)?;
    soak(&pyscry, &python, time)
}

/// Records for so long, prints what it took, and fails when that was not even.
pub(crate) fn soak(pyscry: &Path, python: &Python, time: Duration) -> Result<()> {
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let output = directory.path().join("out.txt");
    let mut recorder = Recorder::start(pyscry, &output)?;
    let (begin, before) = (Instant::now(), take::busy()?);
    let mut churn = Churn::start(python)?;
    let mut takes = Vec::new();
    while begin.elapsed() < time {
        let until = begin.elapsed() + LOOK;
        while begin.elapsed() < until {
            churn.go_on(begin.elapsed(), python)?;
            thread::sleep(Duration::from_millis(5));
        }
        takes.push(Take::of(
            recorder.child.id(),
            begin.elapsed(),
            u32::try_from(churn.started.len())?,
        )?);
    }
    let started = churn.end()?;
    let (took, after) = (begin.elapsed(), take::busy()?);
    let busy = [0, 1].map(|at| after[at] - before[at]);
    let stderr = recorder.end()?;
    let text = fs::read_to_string(&output).context("no recording")?;
    println!("{}", judge::table(&takes));
    println!("{stderr}");
    let said = Said::of(&stderr, &text)?;
    judge::flat(&takes)?;
    said.adds_up(&started, took, busy)
}

/// What was started.
#[derive(Debug)]
struct Started {
    /// The numbers of short processes.
    short: Vec<u32>,
    /// All programs: a process that executes another is two.
    programs: u64,
}

/// A recording of everything.
struct Recorder {
    child: Child,
    reader: Option<thread::JoinHandle<std::io::Result<String>>>,
}

impl Recorder {
    fn start(pyscry: &Path, output: &Path) -> Result<Self> {
        let mut child = Command::new(pyscry)
            // The recording file is written all of the time, and must not make it grow.
            .args(["record", "--all", "--format", "raw,pyscry", "--output"])
            .arg(output)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", pyscry.display()))?;
        let mut stderr = child.stderr.take().context("a pipe")?;
        let (sender, begun) = std::sync::mpsc::channel();
        let reader = thread::spawn(move || {
            let mut text = Vec::new();
            let mut piece = [0; 4096];
            loop {
                let count = stderr.read(&mut piece)?;
                if count == 0 {
                    return Ok(String::from_utf8_lossy(&text).into_owned());
                }
                text.extend(piece.iter().take(count));
                if String::from_utf8_lossy(&text).contains("Recording ") {
                    // Told more than once; nobody minds.
                    let _told = sender.send(());
                }
            }
        });
        let recorder = Self {
            child,
            reader: Some(reader),
        };
        let begins = begun.recv_timeout(PATIENCE);
        begins.context("pyscry does not begin to record")?;
        Ok(recorder)
    }

    /// Ends it, and returns what it said.
    fn end(&mut self) -> Result<String> {
        // SAFETY: our own child, which was not waited for: its pid is still its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGINT) };
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(begin.elapsed() < PATIENCE, "pyscry does not end");
            thread::sleep(Duration::from_millis(20));
        };
        let reader = self.reader.take().context("it ended before")?;
        let said = reader.join().ok().context("its messages")??;
        ensure!(status.success(), "pyscry failed: {said}");
        Ok(said)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Programs that come and go.
struct Churn {
    long: Vec<Child>,
    short: Vec<Child>,
    /// Short processes that were started, by number.
    started: Vec<u32>,
}

impl Churn {
    fn start(python: &Python) -> Result<Self> {
        let start = |mode: &&str| {
            let mut command = python.program(PROGRAM);
            command.arg(mode).stdin(Stdio::piped());
            command.stdout(Stdio::piped()).spawn()
        };
        Ok(Self {
            long: LONG.iter().map(start).collect::<std::io::Result<_>>()?,
            short: Vec::new(),
            started: Vec::new(),
        })
    }

    /// Starts as many short ones as there have to be by now.
    fn go_on(&mut self, passed: Duration, python: &Python) -> Result<()> {
        let due = (passed.as_secs_f64() * f64::from(A_SECOND)) as usize;
        // Never more at once than a few: a machine that is too slow gets fewer.
        if self.started.len() < due && self.short.len() < 16 {
            let mut command = python.program(PROGRAM);
            let child = command.arg("short").stdin(Stdio::null()).spawn()?;
            self.started.push(child.id());
            self.short.push(child);
        }
        let mut left = Vec::new();
        for mut child in self.short.drain(..) {
            match child.try_wait()? {
                None => left.push(child),
                Some(status) => ensure!(status.success(), "a short process failed"),
            }
        }
        self.short = left;
        Ok(())
    }

    /// Ends all, and says what there was.
    fn end(mut self) -> Result<Started> {
        let mut programs = (self.started.len() + self.long.len()) as u64;
        for child in self.short.iter_mut().chain(&mut self.long) {
            drop(child.stdin.take());
            child.wait()?;
            let mut said = String::new();
            if let Some(mut stdout) = child.stdout.take() {
                stdout.read_to_string(&mut said)?;
            }
            for number in said.split_whitespace() {
                programs += number.parse::<u64>().context("what `forks` says")?;
            }
        }
        Ok(Started {
            short: std::mem::take(&mut self.started),
            programs,
        })
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        for child in self.short.iter_mut().chain(&mut self.long) {
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}
