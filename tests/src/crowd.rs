//! Many programs at once that report to one pipe.

use std::io::{BufRead, BufReader, PipeReader, PipeWriter};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Programs with one standard input and one standard output; they are killed when this is dropped.
///
/// What they print arrives whole when they print a line with one write of less than a page.
#[derive(Debug)]
pub struct Crowd {
    members: Vec<Child>,
    stdin: PipeReader,
    go: Option<PipeWriter>,
    stdout: PipeWriter,
    lines: BufReader<PipeReader>,
}

impl Default for Crowd {
    fn default() -> Self {
        let (stdin, go) = std::io::pipe().expect("a pipe");
        let (lines, stdout) = std::io::pipe().expect("a pipe");
        Self {
            members: Vec::new(),
            stdin,
            go: Some(go),
            stdout,
            lines: BufReader::new(lines),
        }
    }
}

impl Crowd {
    /// Starts another program, and returns its process.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn add(&mut self, command: &mut Command) -> u32 {
        let stdin = self.stdin.try_clone().expect("a descriptor");
        let stdout = self.stdout.try_clone().expect("a descriptor");
        let child = ending_with_us(command)
            .stdin(stdin)
            .stdout(stdout)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        // The command would keep a writer of the pipe open.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let pid = child.id();
        self.members.push(child);
        pid
    }

    /// The next line that one of them prints.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    /// Waits until as many of them as there are have said `ready`.
    ///
    /// # Panics
    /// When one of them says something else.
    pub fn are_ready(&mut self, count: usize) {
        for _ in 0..count {
            assert_eq!(self.line(), "ready");
        }
    }

    /// Lets the standard input of all of them end.
    pub fn go(&mut self) {
        self.go = None;
    }

    /// Waits for the end of one of them, and returns the CPU time that it has used from its start on.
    ///
    /// # Panics
    /// When it is no member any more, or fails.
    pub fn used(&mut self, pid: u32) -> Duration {
        let used = usage(pid, 0).expect("its end");
        self.members.retain(|child| child.id() != pid);
        used
    }

    /// Those that have ended by now, and the CPU time that each has used: their numbers are free.
    ///
    /// # Panics
    /// When one of them failed.
    pub fn ended(&mut self) -> Vec<(u32, Duration)> {
        let mut ended = Vec::new();
        self.members.retain(|child| {
            let used = usage(child.id(), libc::WNOHANG);
            ended.extend(used.map(|used| (child.id(), used)));
            used.is_none()
        });
        ended
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.members {
            // SAFETY: a group of our own child, which was not waited for.
            unsafe { libc::kill(-(child.id() as libc::pid_t), libc::SIGKILL) };
            let _gone_already = child.kill();
            let _reaped = child.wait();
        }
    }
}

/// Waits for a child; `None` where that has not ended.
fn usage(pid: u32, options: libc::c_int) -> Option<Duration> {
    let mut status = 0;
    // SAFETY: a structure of integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: our own child, which was not waited for, and both pointers are valid.
    let ended = unsafe { libc::wait4(pid as libc::pid_t, &mut status, options, &mut usage) };
    assert_ne!(ended, -1, "no child: {pid}");
    if ended == 0 {
        return None;
    }
    assert_eq!(status, 0, "process {pid} failed");
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    Some(time(usage.ru_utime) + time(usage.ru_stime))
}

/// Lets a command be a process group of its own, of which the first process ends when the thread that
/// starts it does: nothing stays behind of a test that is killed.
pub fn ending_with_us(command: &mut Command) -> &mut Command {
    let end = || {
        // SAFETY: scalar arguments.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        Ok(())
    };
    // SAFETY: only a system call, which may be made between fork and exec.
    unsafe { command.process_group(0).pre_exec(end) }
}
