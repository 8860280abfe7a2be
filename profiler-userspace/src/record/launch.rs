//! Launches a program so that nothing of it is missed: it is executed only once the kernel
//! watches it.
//!
//! The child is this very binary, which waits for a word on a pipe and then becomes the program.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The hidden subcommand that the child runs.
pub const SUBCOMMAND: &str = "exec-when-told";
/// How long a child that was asked to end is waited for.
const GRACE: Duration = Duration::from_secs(2);

/// Why a program could not be launched.
#[derive(Debug, thiserror::Error)]
#[error("cannot run {program}: {source}")]
pub struct LaunchError {
    program: String,
    source: io::Error,
}

/// Where a launched program reads and writes.
#[derive(Debug, Default)]
pub enum Terminal {
    /// Where we do.
    #[default]
    Shared,
    /// It reads nothing, and writes to a file: the terminal is ours.
    Ours(File),
}

/// A program that waits to begin.
#[derive(Debug)]
pub struct Launched {
    child: Child,
    program: String,
    begin: Option<io::PipeWriter>,
    failure: io::PipeReader,
}

fn keep_over_exec(fd: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: a descriptor of ours, a scalar argument.
    let failed = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0) } < 0;
    if failed {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

impl Launched {
    /// Starts the child that waits.
    ///
    /// # Errors
    /// [`LaunchError`].
    pub fn prepare(command: &[OsString], terminal: &Terminal) -> Result<Self, LaunchError> {
        let program = command
            .first()
            .map(|word| word.to_string_lossy().into_owned())
            .unwrap_or_default();
        let prepare = || {
            let (wait, begin) = io::pipe()?;
            let (failure, report) = io::pipe()?;
            keep_over_exec(&wait)?;
            keep_over_exec(&report)?;
            let mut starts = Command::new("/proc/self/exe");
            if let Terminal::Ours(output) = terminal {
                starts
                    .stdin(Stdio::null())
                    .stdout(output.try_clone()?)
                    .stderr(output.try_clone()?);
            }
            let child = starts
                .arg(SUBCOMMAND)
                .arg(wait.as_raw_fd().to_string())
                .arg(report.as_raw_fd().to_string())
                .arg("--")
                .args(command)
                .spawn()?;
            Ok((child, begin, failure))
        };
        let (child, begin, failure) = prepare().map_err(|source| LaunchError {
            program: program.clone(),
            source,
        })?;
        Ok(Self {
            child,
            program,
            begin: Some(begin),
            failure,
        })
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets the child become the program.
    ///
    /// # Errors
    /// [`LaunchError`], when there is no such program or it may not be run.
    pub fn begin(&mut self) -> Result<(), LaunchError> {
        let mut tell = || {
            if let Some(mut begin) = self.begin.take() {
                begin.write_all(b"!")?;
            }
            // The other end closes with a successful exec, and brings an error number else.
            let mut errno = [0u8; 4];
            match self.failure.read_exact(&mut errno) {
                Ok(()) => Err(io::Error::from_raw_os_error(i32::from_le_bytes(errno))),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
                Err(error) => Err(error),
            }
        };
        let told = tell();
        told.map_err(|source| {
            let _ended = self.child.wait();
            LaunchError {
                program: self.program.clone(),
                source,
            }
        })
    }

    /// Waits for the program's end and gives the exit code that a shell would: 128 and the
    /// signal's number for one that was killed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&mut self) -> io::Result<i32> {
        self.child.wait().map(exit_code)
    }

    /// Makes the program end: `asked` says that it knows already. It gets a while to do so by
    /// itself, then SIGTERM, then SIGKILL.
    pub fn end(&mut self, asked: bool) {
        if asked && self.ends_within_grace() {
            return;
        }
        // SAFETY: our own child, which was not waited for: its pid is still its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        if !self.ends_within_grace() {
            let _gone = self.child.kill();
            let _reaped = self.child.wait();
        }
    }

    fn ends_within_grace(&mut self) -> bool {
        let until = Instant::now() + GRACE;
        while Instant::now() < until {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                _ => return true,
            }
        }
        false
    }
}

fn exit_code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// What the child does: waits for a word on `wait`, then becomes the program. Returns only when
/// that fails; the error's number goes to `report`.
///
/// # Safety
/// Both descriptors must be open and owned by nobody else.
pub unsafe fn exec_when_told(wait: i32, report: i32, command: &[OsString]) -> i32 {
    // SAFETY: by contract.
    let (wait, report) = unsafe { (OwnedFd::from_raw_fd(wait), OwnedFd::from_raw_fd(report)) };
    // SAFETY: a descriptor of ours. Closed by a successful exec, which is how the parent knows.
    unsafe { libc::fcntl(report.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
    let mut word = [0u8; 1];
    if io::PipeReader::from(wait).read_exact(&mut word).is_err() {
        // The parent is gone, and nobody wants the program any more.
        return 1;
    }
    let Some((program, args)) = command.split_first() else {
        return 1;
    };
    let error = Command::new(program).args(args).exec();
    let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
    let _parent_gone = io::PipeWriter::from(report).write_all(&errno.to_le_bytes());
    127
}
