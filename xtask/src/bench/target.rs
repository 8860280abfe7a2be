//! The programs that are measured.

use std::fs::File;
use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::fs::FileExt;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::NamedTempFile;

use super::precedence;
use super::python::Python;

/// A running program; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Target {
    child: Child,
    name: String,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    /// What it said before it was ready.
    pub(super) said: Vec<String>,
}

impl Target {
    /// Starts one of the programs, and waits until it is ready.
    pub(super) fn start(python: &Python, name: &str, args: &[&str]) -> Result<Self> {
        let mut command = python.program(name);
        let mut child = precedence::give(&mut command)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", python.exe.display()))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("no standard output")?;
        let mut target = Self {
            child,
            name: name.to_owned(),
            stdin,
            lines: BufReader::new(stdout).lines(),
            said: Vec::new(),
        };
        target.said = target.lines_until("ready")?;
        Ok(target)
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it do its work, and returns what it says until it is done.
    pub(super) fn work(&mut self) -> Result<Vec<String>> {
        let stdin = self.stdin.as_mut().context("no standard input")?;
        stdin.write_all(b"go\n")?;
        self.lines_until("done")
    }

    fn lines_until(&mut self, last: &str) -> Result<Vec<String>> {
        let mut said = Vec::new();
        for line in self.lines.by_ref() {
            let line = line?;
            if line == last {
                return Ok(said);
            }
            said.push(line);
        }
        bail!("{} ended before it was {last}", self.name)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _reaped = self.child.wait();
    }
}

/// A program that counts its units of work, without an end.
#[derive(Debug)]
pub(super) struct Worker {
    /// The program.
    pub(super) target: Target,
    counter: NamedTempFile,
}

impl Worker {
    /// Starts one of the programs whose last argument is the file of a counter.
    pub(super) fn start(python: &Python, name: &str, args: &[&str]) -> Result<Self> {
        let counter = NamedTempFile::new().context("cannot make a temporary file")?;
        counter.as_file().set_len(8)?;
        let path = counter.path().to_string_lossy().into_owned();
        let args: Vec<&str> = args.iter().copied().chain([path.as_str()]).collect();
        let target = Target::start(python, name, &args)?;
        Ok(Self { target, counter })
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.target.pid()
    }

    /// Units of work per second, over the time given.
    pub(super) fn speed(&self, time: Duration) -> Result<f64> {
        let (begin, before) = self.count()?;
        thread::sleep(time);
        let (end, after) = self.count()?;
        if after == before {
            bail!("{} did no work", self.target.name);
        }
        Ok((after - before) as f64 / (end - begin).as_secs_f64())
    }

    /// The counter and when it was read: again, when we lost the CPU meanwhile.
    fn count(&self) -> Result<(Instant, u64)> {
        const QUICK: Duration = Duration::from_micros(50);
        const TRIES: u32 = 100;
        let mut tries = 0;
        loop {
            let begin = Instant::now();
            let count = read(self.counter.as_file())?;
            tries += 1;
            if begin.elapsed() < QUICK || tries == TRIES {
                return Ok((begin, count));
            }
        }
    }
}

fn read(counter: &File) -> Result<u64> {
    let mut bytes = [0; 8];
    counter
        .read_exact_at(&mut bytes, 0)
        .context("cannot read a counter")?;
    Ok(u64::from_ne_bytes(bytes))
}
