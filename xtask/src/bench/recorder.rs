//! Runs pyscry and py-spy.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::NamedTempFile;

use super::folded::Folded;
use super::precedence;

/// Neither takes so long to start or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A profiler.
#[derive(Debug)]
pub(super) struct Tool {
    /// The executable.
    pub(super) exe: PathBuf,
    /// How the line begins that it prints when it begins to sample.
    pub(super) announces: &'static str,
}

/// A recording that goes on.
#[derive(Debug)]
pub(super) struct Recorder {
    child: Child,
    ended: bool,
    lines: Receiver<String>,
    said: Vec<String>,
    output: NamedTempFile,
    begin: Instant,
    announced: Duration,
}

/// A recording that ended.
#[derive(Debug)]
pub(super) struct Recording {
    /// What was recorded.
    pub(super) stacks: Folded,
    /// From the start of the profiler until it said that it samples.
    pub(super) announced: Duration,
    /// From the start of the profiler to its end.
    pub(super) took: Duration,
    /// The most memory that it had, bytes.
    pub(super) peak: u64,
    /// What it said.
    pub(super) said: Vec<String>,
}

impl Recorder {
    /// Starts to record a process as folded stacks, with further arguments; returns once the
    /// profiler samples.
    pub(super) fn start(tool: &Tool, pid: u32, args: &[&str]) -> Result<Self> {
        let output = NamedTempFile::new().context("cannot make a temporary file")?;
        let (reader, writer) = io::pipe().context("cannot make a pipe")?;
        let begin = Instant::now();
        let mut command = Command::new(&tool.exe);
        let child = precedence::give(&mut command)
            .args(["record", "--format", "raw", "--pid", &pid.to_string()])
            .arg("--output")
            .arg(output.path())
            .args(args)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .spawn()
            .with_context(|| format!("cannot run {}", tool.exe.display()))?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                // Nobody listens any more to a profiler that was given up.
                let _gone = sender.send(line);
            }
        });
        let mut recorder = Self {
            child,
            ended: false,
            lines,
            said: Vec::new(),
            output,
            begin,
            announced: Duration::ZERO,
        };
        recorder.wait_for_announcement(tool)?;
        Ok(recorder)
    }

    fn wait_for_announcement(&mut self, tool: &Tool) -> Result<()> {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    let found = line.contains(tool.announces);
                    self.said.push(line);
                    if found {
                        self.announced = self.begin.elapsed();
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("{} failed: {}", tool.exe.display(), self.said.join("\n"))
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("{} does not begin to sample", tool.exe.display())
                }
            }
        }
    }

    /// The profiler's process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the recording.
    pub(super) fn stop(self) -> Result<Recording> {
        // SAFETY: our own child, which was not waited for: its pid is still its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGINT) };
        self.finish()
    }

    /// Waits until the recording ends by itself.
    pub(super) fn finish(mut self) -> Result<Recording> {
        let usage = self.wait()?;
        let took = self.begin.elapsed();
        self.said.extend(self.lines.iter());
        let text = fs::read_to_string(self.output.path()).context("no recording")?;
        Ok(Recording {
            stacks: Folded::parse(&text)?,
            announced: self.announced,
            took,
            peak: usage.ru_maxrss as u64 * 1024,
            said: std::mem::take(&mut self.said),
        })
    }

    fn wait(&mut self) -> Result<libc::rusage> {
        let until = Instant::now() + PATIENCE;
        loop {
            let mut status = 0;
            // SAFETY: a structure of integers.
            let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
            let pid = self.child.id() as libc::pid_t;
            // SAFETY: our own child, and both pointers are valid.
            match unsafe { libc::wait4(pid, &mut status, libc::WNOHANG, &mut usage) } {
                0 if Instant::now() > until => bail!("a profiler does not end: {:?}", self.said),
                0 => thread::sleep(Duration::from_millis(1)),
                -1 => return Err(io::Error::last_os_error()).context("cannot wait"),
                _ => {
                    self.ended = true;
                    if !libc::WIFEXITED(status) || libc::WEXITSTATUS(status) != 0 {
                        self.said.extend(self.lines.iter());
                        bail!("a profiler failed: {}", self.said.join("\n"));
                    }
                    return Ok(usage);
                }
            }
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if !self.ended {
            let _gone = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}
