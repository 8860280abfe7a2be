//! The software clock's events, which call the program `on_cpu`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use perf_event_open_sys as sys;
use sys::bindings::{PERF_COUNT_SW_CPU_CLOCK, PERF_FLAG_FD_CLOEXEC, PERF_TYPE_SOFTWARE};

/// What an event watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One CPU, whatever it runs.
    Cpu(u32),
    /// One thread and those it will start, on whatever CPU.
    Thread(u32),
}

/// An event that calls the program; it ends when this is dropped.
#[derive(Debug)]
pub struct Sampler {
    _event: OwnedFd,
}

impl Sampler {
    /// Opens an event that fires `rate` times per second of running time (never for the idle
    /// task), and starts it with the program attached.
    ///
    /// # Errors
    /// The kernel's: `EACCES` without the right, `ESRCH` for a thread that is gone, `ENODEV` for
    /// a CPU that is off-line, `EMFILE`.
    pub fn start(scope: Scope, rate: u32, program: BorrowedFd<'_>) -> io::Result<Self> {
        let mut attr = sys::bindings::perf_event_attr {
            size: size_of::<sys::bindings::perf_event_attr>() as u32,
            type_: PERF_TYPE_SOFTWARE,
            config: u64::from(PERF_COUNT_SW_CPU_CLOCK),
            ..Default::default()
        };
        attr.__bindgen_anon_1.sample_period = 1_000_000_000 / u64::from(rate.max(1));
        attr.set_disabled(1);
        attr.set_exclude_idle(1);
        let (pid, cpu) = match scope {
            Scope::Cpu(cpu) => (-1, cpu as i32),
            Scope::Thread(tid) => {
                attr.set_inherit(1);
                (tid as i32, -1)
            }
        };
        // SAFETY: `attr` is valid and says its size.
        let fd = unsafe {
            sys::perf_event_open(&mut attr, pid, cpu, -1, u64::from(PERF_FLAG_FD_CLOEXEC))
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        let raw = event.as_fd().as_raw_fd();
        // SAFETY: ioctls on our own event, with the arguments that they take.
        let failed = unsafe {
            sys::ioctls::SET_BPF(raw, program.as_raw_fd() as u32) < 0
                || sys::ioctls::ENABLE(raw, 0) < 0
        };
        if failed {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { _event: event })
    }
}
