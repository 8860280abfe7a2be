//! A file descriptor that becomes readable when a process ends (Linux 5.3).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// Opens a pidfd of `pid`.
///
/// # Errors
/// `ESRCH` when there is no such process.
pub fn open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: a system call with scalar arguments.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
