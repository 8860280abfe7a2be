//! A process that is stopped while it is read: all of its threads, by ptrace.
//!
//! It is let go when [`Stopped`] is dropped. When we are killed, the kernel does it: a tracer's end ends
//! every stop that it asked for (`exit_ptrace` in `kernel/ptrace.c`), and nothing here asks for more
//! (no `PTRACE_O_EXITKILL`).

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use profiler_common::unwind::USER_REGS_WORDS;

use crate::process::proc_file;

/// How long a thread may take to stop. One that takes longer is deep in the kernel (`D`), where it
/// runs no code of the program; before it does, it stops.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is asked whether it has stopped.
const ASK_EVERY: Duration = Duration::from_micros(100);
/// `PTRACE_EVENT_STOP` (`include/uapi/linux/ptrace.h`).
const EVENT_STOP: i32 = 128;

/// Why a process could not be stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// A debugger or the like has it.
    #[error("process {pid} cannot be stopped: process {tracer} traces it already")]
    Traced {
        /// The process.
        pid: u32,
        /// Who has it.
        tracer: u32,
    },
    /// The kernel refused.
    #[error("process {pid} cannot be stopped: {source}")]
    Refused {
        /// The process.
        pid: u32,
        /// Why.
        source: io::Error,
    },
    /// It ended meanwhile.
    #[error("process {pid} has ended")]
    Gone {
        /// The process.
        pid: u32,
    },
}

impl StopError {
    /// Whether we are not allowed to.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::Refused { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// How far a thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// It was asked to stop.
    Asked,
    /// It has stopped; the signal is what it was about to get, 0 for none.
    Done(i32),
}

/// A process whose threads are stopped.
#[derive(Debug)]
pub struct Stopped {
    threads: BTreeMap<u32, Stop>,
}

impl Stopped {
    /// Stops all threads of a process, also those that begin meanwhile.
    ///
    /// # Errors
    /// [`StopError`]; those that had stopped go on then.
    pub fn stop(pid: u32) -> Result<Self, StopError> {
        let mut stopped = Self {
            threads: BTreeMap::new(),
        };
        loop {
            let tids = proc_file::threads(pid).map_err(|_| StopError::Gone { pid })?;
            let mut new = false;
            for tid in tids {
                if !stopped.threads.contains_key(&tid) {
                    new |= stopped.seize(pid, tid)?;
                }
            }
            if !new {
                break;
            }
            // A thread that has not stopped may start another one.
            stopped.wait();
        }
        if stopped.threads.is_empty() {
            return Err(StopError::Gone { pid });
        }
        Ok(stopped)
    }

    /// Asks a thread to stop. Returns whether there is one.
    fn seize(&mut self, pid: u32, tid: u32) -> Result<bool, StopError> {
        if let Err(source) = ptrace(libc::PTRACE_SEIZE, tid, 0) {
            return match source.raw_os_error() {
                Some(libc::ESRCH) => Ok(false),
                _ => Err(match tracer(pid, tid) {
                    Some(tracer) => StopError::Traced { pid, tracer },
                    None => StopError::Refused { pid, source },
                }),
            };
        }
        self.threads.insert(tid, Stop::Asked);
        // One that ended in between is told of by `wait`.
        let _ended = ptrace(libc::PTRACE_INTERRUPT, tid, 0);
        Ok(true)
    }

    /// Waits until all have stopped that were asked to.
    fn wait(&mut self) {
        let begin = Instant::now();
        loop {
            self.threads.retain(|tid, stop| match *stop {
                Stop::Done(_) => true,
                Stop::Asked => match asked(*tid) {
                    Some(found) => {
                        *stop = found;
                        true
                    }
                    None => false,
                },
            });
            let left = self.threads.values().any(|stop| *stop == Stop::Asked);
            if !left || begin.elapsed() > PATIENCE {
                return;
            }
            std::thread::sleep(ASK_EVERY);
        }
    }

    /// The registers of a thread, as `struct pt_regs` has them; `None` where it has not stopped.
    #[must_use]
    pub fn registers(&self, tid: u32) -> Option<[u64; USER_REGS_WORDS]> {
        // What ptrace gives begins with `struct pt_regs` (`struct user_regs_struct`,
        // `arch/x86/include/asm/user_64.h`).
        let mut all = [0u64; size_of::<libc::user_regs_struct>() / 8];
        ptrace(
            libc::PTRACE_GETREGS,
            tid,
            all.as_mut_ptr().expose_provenance(),
        )
        .ok()?;
        all.first_chunk().copied()
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // Those that could not stop yet, perhaps can now.
        if self.threads.values().any(|stop| *stop == Stop::Asked) {
            self.wait();
        }
        for (tid, stop) in &self.threads {
            if let Stop::Done(signal) = stop {
                // One that was killed is gone.
                let _gone = ptrace(libc::PTRACE_DETACH, *tid, *signal as usize);
            }
        }
    }
}

/// What became of a thread that was asked to stop; `None` when it has ended.
fn asked(tid: u32) -> Option<Stop> {
    let mut status = 0;
    // SAFETY: the status is ours.
    let found = unsafe {
        libc::waitpid(
            tid as libc::pid_t,
            &raw mut status,
            libc::__WALL | libc::WNOHANG,
        )
    };
    if found == 0 {
        return Some(Stop::Asked);
    }
    if found < 0 || !libc::WIFSTOPPED(status) {
        return None;
    }
    let signal = match status >> 16 {
        EVENT_STOP => 0,
        // It was about to get it, and gets it when it goes on.
        _ => libc::WSTOPSIG(status),
    };
    Some(Stop::Done(signal))
}

/// Who traces a thread.
fn tracer(pid: u32, tid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"))?;
    line.trim().parse().ok().filter(|tracer| *tracer != 0)
}

fn ptrace(request: libc::c_uint, tid: u32, data: usize) -> io::Result<()> {
    // SAFETY: the requests here take no address, and as data a number or a buffer of ours that is as
    // large as what is asked for.
    let done = unsafe { libc::ptrace(request, tid as libc::pid_t, 0usize, data) };
    match done {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
