//! Precedence over what else the machine does, so that it disturbs little.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Lets a command run before all others of the machine, equal to those that it is measured with.
/// It ends with us, since Control-C does not reach it any more.
pub(super) fn give(command: &mut Command) -> &mut Command {
    // SAFETY: only system calls, which may be made between fork and exec.
    unsafe { command.pre_exec(take) }
}

fn take() -> io::Result<()> {
    const HIGHEST: libc::c_int = -20;
    // SAFETY: scalar arguments. A failure leaves things as they are for everybody.
    unsafe {
        // Where the scheduler shares the CPUs among sessions first (sched(7), autogroups), the
        // priority of a process counts inside of its session only: so it gets one of its own,
        // and the session a priority.
        libc::setsid();
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::setpriority(libc::PRIO_PROCESS, 0, HIGHEST);
    }
    autogroup();
    Ok(())
}

/// Without memory of the heap: another thread may have been inside of it at the fork.
fn autogroup() {
    const VALUE: &[u8] = b"-20";
    // SAFETY: a literal that ends with a zero; a buffer that is valid for its length.
    unsafe {
        let file = libc::open(c"/proc/self/autogroup".as_ptr(), libc::O_WRONLY);
        if file >= 0 {
            libc::write(file, VALUE.as_ptr().cast(), VALUE.len());
            libc::close(file);
        }
    }
}
