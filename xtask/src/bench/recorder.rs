//! Runs pyscry and those that it is held against.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
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
    /// How it is spoken to.
    pub(super) format: Format,
}

/// The ways in which profilers are spoken to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format {
    /// As py-spy: writes folded stacks.
    Folded {
        /// How the line begins that it prints when it begins to sample.
        announces: &'static str,
    },
    /// As perf: writes what nobody here reads, says nothing, and ends by the signal that it is
    /// given.
    Perf,
    /// As bpftrace: gets its arguments and nothing else, says what nobody here reads, and ends by
    /// the signal that it is given.
    Tracer {
        /// What it has open when it traces, as `/proc/PID/fd` shows it.
        holds: &'static str,
    },
}

/// A recording that goes on.
#[derive(Debug)]
pub(super) struct Recorder {
    child: Child,
    format: Format,
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
        Self::start_with_cache(tool, pid, args, None)
    }

    /// Starts to record every process.
    pub(super) fn start_all(tool: &Tool, args: &[&str]) -> Result<Self> {
        Self::begin(tool, &["--all"], args, None)
    }

    /// The same, where the profiler is to keep in `cache` what it keeps between recordings.
    pub(super) fn start_with_cache(
        tool: &Tool,
        pid: u32,
        args: &[&str],
        cache: Option<&Path>,
    ) -> Result<Self> {
        Self::begin(tool, &["--pid", &pid.to_string()], args, cache)
    }

    fn begin(tool: &Tool, target: &[&str], args: &[&str], cache: Option<&Path>) -> Result<Self> {
        let output = NamedTempFile::new().context("cannot make a temporary file")?;
        let (reader, writer) = io::pipe().context("cannot make a pipe")?;
        let begin = Instant::now();
        let mut command = Command::new(&tool.exe);
        if !matches!(tool.format, Format::Tracer { .. }) {
            command.arg("record").args(target);
            command.arg("--output").arg(output.path());
        }
        if matches!(tool.format, Format::Folded { .. }) {
            command.args(["--format", "raw"]);
        }
        command.envs(cache.map(|cache| ("XDG_CACHE_HOME", cache)));
        let child = precedence::give(&mut command)
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
            format: tool.format,
            ended: false,
            lines,
            said: Vec::new(),
            output,
            begin,
            announced: Duration::ZERO,
        };
        match tool.format {
            Format::Folded { announces } => recorder.wait_for_announcement(tool, announces)?,
            Format::Perf => recorder.wait_until_held(tool, "anon_inode:[perf_event]")?,
            Format::Tracer { holds } => recorder.wait_until_held(tool, holds)?,
        }
        Ok(recorder)
    }

    /// Waits until a profiler that says nothing has opened what it samples by.
    fn wait_until_held(&mut self, tool: &Tool, holds: &str) -> Result<()> {
        let dir = format!("/proc/{}/fd", self.child.id());
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let links = fs::read_dir(&dir).into_iter().flatten().flatten();
            let mut links = links.filter_map(|entry| fs::read_link(entry.path()).ok());
            if links.any(|link| link.as_os_str() == holds) {
                self.announced = self.begin.elapsed();
                return Ok(());
            }
            if self.child.try_wait()?.is_some() {
                self.ended = true;
                self.said.extend(self.lines.iter());
                bail!("{} failed: {}", tool.exe.display(), self.said.join("\n"));
            }
            thread::sleep(Duration::from_millis(1));
        }
        bail!("{} does not begin to sample", tool.exe.display())
    }

    fn wait_for_announcement(&mut self, tool: &Tool, announces: &str) -> Result<()> {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    let found = line.contains(announces);
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
        let stacks = match self.format {
            Format::Folded { .. } => fs::read_to_string(self.output.path()),
            Format::Perf | Format::Tracer { .. } => Ok(String::new()),
        };
        Ok(Recording {
            stacks: Folded::parse(&stacks.context("no recording")?)?,
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
                    let exited = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
                    let stopped =
                        libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGINT;
                    let may_be_stopped = !matches!(self.format, Format::Folded { .. });
                    if !(exited || stopped && may_be_stopped) {
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
