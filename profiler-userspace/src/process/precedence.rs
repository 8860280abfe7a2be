//! Precedence of a thread over what else the host runs.

use std::io;

/// The calling thread comes before all that is not real-time, until this is dropped. Whom it starts
/// meanwhile does not.
///
/// A process that lives for a tenth of a second is known too late by somebody who waits for a CPU in
/// line with everybody else: on two CPUs with 30 threads that want them, that takes half a second. A
/// better niceness does not help where the scheduler shares the CPUs among sessions first (`sched(7)`,
/// autogroups).
#[derive(Debug)]
#[must_use = "it ends when this is dropped"]
pub struct Precedence(());

impl Precedence {
    /// Takes it.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_NICE`, and in a control group of version 1 that has no time for
    /// real-time threads.
    pub fn take() -> io::Result<Self> {
        // The lowest of the real-time priorities: others of them, such as the kernel's, come first.
        schedule(libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, 1)?;
        Ok(Self(()))
    }
}

impl Drop for Precedence {
    fn drop(&mut self) {
        let _it_was_allowed = schedule(libc::SCHED_OTHER, 0);
    }
}

/// The calling thread's policy and priority.
fn schedule(policy: libc::c_int, sched_priority: libc::c_int) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority };
    // SAFETY: the pointer is valid for a read.
    match unsafe { libc::sched_setscheduler(0, policy, &parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> libc::c_int {
        // SAFETY: a scalar argument.
        unsafe { libc::sched_getscheduler(0) }
    }

    #[test]
    fn it_is_given_back_and_not_inherited() {
        match Precedence::take() {
            Ok(precedence) => {
                assert_eq!(policy() & !libc::SCHED_RESET_ON_FORK, libc::SCHED_RR);
                let other = std::thread::spawn(policy).join();
                assert_eq!(other.expect("a thread"), libc::SCHED_OTHER);
                drop(precedence);
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
        assert_eq!(policy() & !libc::SCHED_RESET_ON_FORK, libc::SCHED_OTHER);
    }
}
